# make demo    install, then train, evaluate and recommend on simulated data, or DATA=path/to/ratings
#              (EPOCHS=n for MultiVAE: small data needs more)
#              (CUDA=ON, here and below: with the kernels for GPUs, minutes of nvcc)
# make test    install, then run the tests against the installed wheel
# make peers   environments of irspack, implicit, RecPack and RecBole, for the benchmarks (Python 3.11)
# make bench   install, then the benchmarks beside plain code and, where `make peers` was run, the peers
# make bench-full    the same with MovieLens-20M's size too: half an hour, 8 GB
# make bench-check   has a ratio fallen below the stored one, or a kernel's instructions grown?
# make bench-accept  store this machine's ratios and instructions
# make bench-planted is a slowdown of a half in any kernel seen by bench-check?
# make bench-scaling   curves over threads, items, batch size and users
# make bench-scoring  a million users from Parquet to Parquet: time and peak memory, model by model
# make gpu-check    on a machine with a GPU and nvcc: build, tests, compute-sanitizer, benchmarks
#              (GPU_PYTHON=python3: with that interpreter, and nothing installed but pyrec: it has a torch
#              that knows the GPU, pyrec's other dependencies, scikit-build-core, pybind11, CMake, and the
#              packages of the extras test and bench)
# make bench-memory  whole processes: EASE on [20M], MultiVAE with a million items beside plain torch (13 GB)
# make quality DATA=folder  published comparisons on real data, SEEDS=3 (two hours)
# make lint    formatting, lint and type checks
# make nightly the tests that take minutes or gigabytes
PYTHON ?= python3
VENV ?= .venv
DATA ?=
K ?= 100
EPOCHS ?= 10
OUT ?= bench-out
SEEDS ?= 3
GPU_PYTHON ?=
FOR_THIS_GPU := --config-settings=cmake.define.PYREC_CUDA=ON --config-settings=cmake.define.CMAKE_CUDA_ARCHITECTURES=native
CUDA ?= OFF

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -q
SOURCES := pyproject.toml CMakeLists.txt constraints.txt README.md \
	$(shell find csrc pyrec -name '*.cpp' -o -name '*.cu' -o -name '*.h' -o -name '*.py' -o -name '*.pyi')
RATINGS := $(if $(DATA),$(DATA),demo/data/ratings.parquet)

.PHONY: install demo test nightly peers bench bench-full bench-check bench-accept bench-planted \
	bench-scaling bench-memory bench-scoring gpu-check quality lint clean

install: $(VENV)/installed

# The wheel is built from the source distribution, so both are known to build.
$(VENV)/installed: $(SOURCES) $(VENV)/cuda-$(CUDA)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install build
	rm -rf dist
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m build -Ccmake.define.PYREC_CUDA=$(CUDA) --outdir dist . > $(VENV)/build.log 2>&1 \
		|| { cat $(VENV)/build.log; exit 1; }
	$(PIP) install --force-reinstall --no-deps dist/pyrec-*.whl
	$(PIP) install -c constraints.txt dist/pyrec-*.whl
	touch $@

# Another CUDA= than before is another wheel.
$(VENV)/cuda-$(CUDA):
	mkdir -p $(VENV)
	rm -f $(VENV)/cuda-*
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

peers:
	$(PYTHON) bench/peers/install.py

bench: $(VENV)/installed-bench
	$(BIN)/python bench/table.py --out "$(OUT)"

bench-full: $(VENV)/installed-bench
	$(BIN)/python bench/table.py --out "$(OUT)" --full
	$(BIN)/python bench/admm_iterations.py

bench-check: $(VENV)/installed-bench
	$(BIN)/python bench/check.py

bench-accept: $(VENV)/installed-bench
	$(BIN)/python bench/check.py --accept

bench-planted: $(VENV)/installed-bench
	$(BIN)/python bench/planted.py

bench-scaling: $(VENV)/installed-bench
	$(BIN)/python bench/scaling.py --out docs/scaling

bench-scoring: $(VENV)/installed-bench $(VENV)/installed-ray
	$(BIN)/python bench/scoring.py --ray

# Apart from $(VENV): torch with CUDA is gigabytes, and constraints.txt asks for one without.
gpu-check:
	@nvidia-smi -L || { echo "make gpu-check needs an NVIDIA GPU and its driver: nvidia-smi finds none" >&2; exit 1; }
ifeq ($(GPU_PYTHON),)
	test -x .venv-gpu/bin/python || $(PYTHON) -m venv .venv-gpu
	.venv-gpu/bin/python -m pip -q install ".[test,bench]" $(FOR_THIS_GPU)
	.venv-gpu/bin/python bench/gpu_check.py --out bench/results
else
	$(GPU_PYTHON) -m pip -q install --no-build-isolation --no-deps . $(FOR_THIS_GPU)
	$(GPU_PYTHON) bench/gpu_check.py --out bench/results
endif

bench-memory: $(VENV)/installed-bench
	$(BIN)/python bench/memory.py

quality: $(VENV)/installed
	$(BIN)/python bench/quality.py ncf "$(DATA)" --seeds $(SEEDS)
	$(BIN)/python bench/quality.py strong "$(DATA)" --seeds $(SEEDS)
	$(BIN)/python bench/quality.py slim "$(DATA)" --seeds $(SEEDS)
	$(BIN)/python bench/quality.py standard "$(DATA)" --seeds $(SEEDS)
	$(BIN)/python bench/quality_conditioned.py "$(DATA)" --seeds $(SEEDS)
	$(BIN)/python bench/quality_cfgan.py "$(DATA)" --seeds $(SEEDS)
	$(BIN)/python bench/quality_svae.py "$(DATA)" --seeds $(SEEDS)

lint: $(VENV)/installed-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run -Werror $$(find csrc -name '*.cpp' -o -name '*.cu' -o -name '*.h')
	$(BIN)/mypy

clean:
	rm -rf $(VENV) .venv-peers .venv-gpu build dist demo bench-out
