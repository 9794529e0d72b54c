# make demo    install, then train, evaluate and recommend on simulated data, or DATA=path/to/ratings
#              (EPOCHS=n for MultiVAE: small data needs more)
# make test    install, then run the tests against the installed wheel
# make bench   install, then the benchmarks beside SciPy, torch and irspack
# make bench-scoring  a million users from Parquet to Parquet: time and peak memory, model by model
# make bench-memory  MultiVAE with a million items: peak memory beside plain torch (8 GB)
# make quality DATA=folder  published comparisons on real data, three seeds (two hours)
# make lint    formatting, lint and type checks
# make nightly the tests that take minutes or gigabytes
PYTHON ?= python3
VENV ?= .venv
DATA ?=
K ?= 100
EPOCHS ?= 10

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
SOURCES := pyproject.toml CMakeLists.txt constraints.txt README.md \
	$(shell find csrc pyrec -name '*.cpp' -o -name '*.h' -o -name '*.py' -o -name '*.pyi')
RATINGS := $(if $(DATA),$(DATA),demo/data/ratings.parquet)

.PHONY: install demo test nightly bench bench-memory bench-scoring quality lint clean

install: $(VENV)/installed

# The wheel is built from the source distribution, so both are known to build.
$(VENV)/installed: $(SOURCES)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install build
	rm -rf dist
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m build --outdir dist . > $(VENV)/build.log 2>&1 \
		|| { cat $(VENV)/build.log; exit 1; }
	$(PIP) install --force-reinstall --no-deps dist/pyrec-*.whl
	$(PIP) install -c constraints.txt dist/pyrec-*.whl
	touch $@

$(VENV)/installed-%: $(VENV)/installed
	$(PIP) install -c constraints.txt "$$(echo dist/pyrec-*.whl)[$*]"
	touch $@

demo: install
	rm -rf demo/split demo/recommendations
	mkdir -p demo
	$(if $(DATA),,$(BIN)/pyrec simulate --out demo/data --users 20000 --items 5000 --interactions 1000000)
	$(BIN)/pyrec prepare "$(RATINGS)" --out demo/split --min-user 5
	$(BIN)/pyrec train Popularity demo/split --out demo/popularity.safetensors
	$(BIN)/pyrec train EASE demo/split --out demo/ease.safetensors -p lam=200
	$(BIN)/pyrec train MultiVAE demo/split --out demo/vae.safetensors --epochs $(EPOCHS) --batch-size 200 \
		-p latent_dim=64 -p 'hidden_dims=[200]' -p beta=0.2 -p anneal_steps=800 -p learning_rate=0.003
	$(BIN)/pyrec evaluate demo/popularity.safetensors demo/ease.safetensors demo/vae.safetensors demo/split
	$(BIN)/pyrec recommend demo/ease.safetensors demo/split --out demo/recommendations --k $(K)

# Not `python -m pytest`: that would put the sources, which have no compiled module, before the wheel.
test: $(VENV)/installed-test
	$(BIN)/pytest tests

nightly: $(VENV)/installed-test
	$(BIN)/pytest tests -m slow

bench: $(VENV)/installed-bench
	$(BIN)/python bench/table.py

bench-scoring: $(VENV)/installed-bench $(VENV)/installed-ray
	$(BIN)/python bench/bench_scoring.py --ray

bench-memory: $(VENV)/installed-bench
	$(BIN)/pytest -q -s bench/bench_memory.py -m slow -o python_files='bench_*.py' -W default

quality: $(VENV)/installed
	$(BIN)/python bench/quality.py ncf "$(DATA)"
	$(BIN)/python bench/quality.py strong "$(DATA)"
	$(BIN)/python bench/quality.py slim "$(DATA)"
	$(BIN)/python bench/quality.py standard "$(DATA)"
	$(BIN)/python bench/quality_conditioned.py "$(DATA)"
	$(BIN)/python bench/quality_cfgan.py "$(DATA)"
	$(BIN)/python bench/quality_svae.py "$(DATA)"

lint: $(VENV)/installed-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run -Werror $$(find csrc -name '*.cpp' -o -name '*.h')
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist demo
