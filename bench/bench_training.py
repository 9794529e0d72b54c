"""A training step of Mult-VAE [20,108 - 600 - 200 - 600 - 20,108], batch 500; and what follows a training."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import THREADS, Replayed, simulated
from plain_multvae import Careful, Dense, trainer

from pyrec import kernels
from pyrec.evaluation import evaluate
from pyrec.kernels.tensors import Csr, fast_float32
from pyrec.models import MultiVAE
from pyrec.nets import MultiVAE_net

HIDDEN, LATENT, ROWS, STEPS, K = 600, 200, 500, 6, 100
RECBOLE = os.environ.get("RECBOLE_PYTHON")


@pytest.fixture(scope="module")
def batches():
    x = simulated("20M")
    order = kernels.permuted(0, x.shape[0], x.shape[0], 0, 0)
    return [x[order[b * ROWS : (b + 1) * ROWS]] for b in range(STEPS + 2)]


def pyrec_step(precision):
    torch.manual_seed(0)
    model = MultiVAE(MultiVAE_net([LATENT, HIDDEN, simulated("20M").shape[1]]), beta=0.2)
    model.precision = precision
    model.network.train()

    def step(x):
        with fast_float32():  # as train does
            return model.train_batch(Csr.from_scipy(x))

    return step


WAYS = {
    "pyrec": lambda: pyrec_step("fp32"),
    "torch_dense": lambda: trainer(Dense(simulated("20M").shape[1], HIDDEN, LATENT)),
    "torch_careful": lambda: trainer(Careful(simulated("20M").shape[1], HIDDEN, LATENT)),
}


def run_steps(benchmark, step, batches):
    losses = [step(x) for x in batches[:2]]
    rest = iter(batches[2:])
    benchmark.pedantic(lambda: losses.append(step(next(rest))), rounds=STEPS)
    assert np.isfinite(losses).all()
    # Of an interaction: batches differ in size.
    assert losses[-1] / batches[-1].nnz < losses[0] / batches[0].nnz


@pytest.mark.benchmark(group="Mult-VAE step of 500 users")
@pytest.mark.parametrize("way", WAYS)
def test_step(benchmark, batches, way):
    run_steps(benchmark, WAYS[way](), batches)


@pytest.mark.benchmark(group="Mult-VAE step of 500 users, bfloat16")
@pytest.mark.parametrize("way", ["pyrec", "torch_careful"])
def test_step_bfloat16(benchmark, batches, way):
    if way == "pyrec":
        run_steps(benchmark, pyrec_step("bf16"), batches)
        return
    net = Careful(simulated("20M").shape[1], HIDDEN, LATENT)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)

    def step(x):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = net.loss(x, 0.2)
        loss.backward()
        optimizer.step()
        return loss.item()

    run_steps(benchmark, step, batches)


@pytest.mark.benchmark(group="Mult-VAE step of 500 users")
@pytest.mark.skipif(RECBOLE is None, reason="RECBOLE_PYTHON names no interpreter with recbole")
@pytest.mark.parametrize("way", ["recbole"])
def test_step_of_recbole(benchmark, batches, way, tmp_path):
    """In its own environment, in this run: its pins exclude ours."""
    np.savez(
        tmp_path / "batches.npz",
        **{f"{b}.{n}": getattr(x, n) for b, x in enumerate(batches) for n in ("indptr", "indices")},
        n_items=batches[0].shape[1],
    )
    script = Path(__file__).parent / "peers" / "recbole_multivae.py"
    command = [RECBOLE, str(script), str(tmp_path / "batches.npz"), str(HIDDEN), str(LATENT)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(THREADS)}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert result.returncode == 0, result.stderr
    times = iter(json.loads(result.stdout.splitlines()[-1])["seconds"][2:])
    # The figures of the other process take the place of the clock's.
    benchmark._timer = Replayed(times)
    benchmark.pedantic(lambda: None, rounds=STEPS)


@pytest.fixture(scope="module")
def model():
    x = simulated("20M")
    model = MultiVAE(MultiVAE_net([LATENT, HIDDEN, x.shape[1]]), beta=0.2)
    model.train(x[: 4 * ROWS], num_epochs=1, verbose=0)
    return model


@pytest.mark.benchmark(group="Mult-VAE: 8,192 histories to top-100")
@pytest.mark.parametrize("way", ["pyrec", "torch"])
def test_recommend(measured, model, way):
    x = simulated("20M")[-8192:]

    @torch.no_grad()
    def plain(x):
        """Sparse input, the decoder's product by the quicker library, torch.topk."""
        found = []
        for begin in range(0, x.shape[0], ROWS):
            some = x[begin : begin + ROWS]
            with fast_float32():
                scores = model.network(Csr.from_scipy(some))[0].numpy()
            scores[some.nonzero()] = -np.inf
            found.append(torch.topk(torch.from_numpy(scores), K).indices.numpy())
        return np.concatenate(found)

    model.network.eval()
    items = measured(
        {"pyrec": lambda x: model.recommend(x, K).items, "torch": plain}[way], x, rounds=5
    )
    assert (items == plain(x)).mean() > 0.999


@pytest.mark.benchmark(group="Mult-VAE: an epoch and its validation, 10,000 and 2,500 users")
@pytest.mark.parametrize("way", ["epoch", "validation"])
def test_validation(measured, model, way):
    """A quarter as many users as are trained on: more than any usual split validates with."""
    x = simulated("20M")
    held_out = x[-2500:]
    te = held_out.copy()
    te.data = (np.random.default_rng(0).random(te.nnz) < 0.2).astype(np.float32)
    te.eliminate_zeros()
    if way == "epoch":
        measured(lambda: model.train(x[:10_000], num_epochs=1, verbose=0), rounds=2, warmup=0)
    else:
        measured(evaluate, model, (held_out - te, te), ["ndcg@100"], rounds=3)
