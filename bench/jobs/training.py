"""A training step of Mult-VAE [20,108 - 600 - 200 - 600 - 20,108], batch 500, and recommending with it."""

from __future__ import annotations

from functools import cache
from itertools import cycle

import numpy as np
from contest import Floor, Job
from data import simulated
from peers import peer

from jobs.evaluation import METRICS, numpy_metrics
from pyrec import kernels
from pyrec.kernels.tensors import Csr, fast_float32

HIDDEN, LATENT, ROWS, STEPS, K, USERS = 600, 200, 500, 8, 100, 8192
BATCHES = "batches"


def batches():
    x = simulated(BATCHES)
    order = kernels.permuted(0, x.shape[0], x.shape[0], 0, 0)
    return ([x[order[b * ROWS : (b + 1) * ROWS]] for b in range(STEPS)],)


def network():
    import torch

    from pyrec.nets import MultiVAE_net

    torch.manual_seed(0)
    return MultiVAE_net([LATENT, HIDDEN, simulated(BATCHES).shape[1]])


def steps(step):
    """One step a run, each on the next batch; the loss comes back, and how many interactions it is of."""

    def make(batches):
        each, take = cycle(batches), step()

        def run():
            x = next(each)
            return take(x), x.nnz / ROWS

        return run

    return make


def pyrec_step(precision):
    def make():
        from pyrec.models import MultiVAE

        model = MultiVAE(network(), beta=0.2)
        model.precision = precision
        model.network.train()

        def step(x):
            with fast_float32():  # as train does
                return model.train_batch(Csr.from_scipy(x))

        return step

    return steps(make)


def torch_step(name, precision="fp32"):
    def make():
        import plain_multvae

        net = getattr(plain_multvae, name)(simulated(BATCHES).shape[1], HIDDEN, LATENT)
        step = plain_multvae.trainer(net, bfloat16=precision == "bf16")
        return quick_products(step) if name == "Careful" else step

    return steps(make)


def quick_products(step):
    """float32 products by the quicker of torch's libraries, as its users set it who have measured."""

    def run(x):
        with fast_float32():
            return step(x)

    return run


def check_loss(inputs, answer, way):
    """Of an interaction, and untrained: about that of guessing among all items."""
    loss, interactions = answer
    n_items = inputs[0][0].shape[1]
    assert 0.5 < loss / (interactions * np.log(n_items)) < 1.2


# Forward, gradient of the input and of the weights, but no gradient of the sparse input of the first layer.
PRODUCTS = 2 * ROWS * (3 * HIDDEN * 20_108 + 3 * HIDDEN * 3 * LATENT)
PARAMETERS = 2 * HIDDEN * 20_108 + HIDDEN * 3 * LATENT
ADAM = 28 * PARAMETERS  # reads of weight, gradient and two moments, writes of three


@cache
def trained():
    from pyrec.models import MultiVAE

    model = MultiVAE(network(), beta=0.2)
    model.train(simulated(BATCHES)[: 4 * ROWS], num_epochs=1, verbose=0)
    model.network.eval()
    return model


def last_users():
    return (simulated(BATCHES)[-USERS:],)


def recommend(x):
    model = trained()
    return lambda: model.recommend(x, K).items


def torch_recommend(x):
    """Sparse input, the decoder's product by the quicker library, torch.topk."""
    import torch

    model = trained()

    @torch.no_grad()
    def run():
        found = []
        for begin in range(0, x.shape[0], ROWS):
            some = x[begin : begin + ROWS]
            with fast_float32():
                scores = model.network(Csr.from_scipy(some))[0].numpy()
            scores[some.nonzero()] = -np.inf
            found.append(torch.topk(torch.from_numpy(scores), K).indices.numpy())
        return np.concatenate(found)

    return run


def check_recommended(inputs, items, way):
    (x,) = inputs
    assert (items[:ROWS] == torch_recommend(x[:ROWS])()).mean() > 0.999


def validation_users():
    """2,500 histories, a fifth of each held out."""
    held_out = simulated(BATCHES)[-2500:]
    te = held_out.copy()
    te.data = (np.random.default_rng(0).random(te.nnz) < 0.2).astype(np.float32)
    te.eliminate_zeros()
    return held_out - te, te


def validate(tr, te):
    from pyrec.evaluation import evaluate

    return lambda: evaluate(trained(), (tr, te), METRICS)["ndcg@100"]


def torch_validate(tr, te):
    lists = torch_recommend(tr)
    return lambda: numpy_metrics(lists(), te)["ndcg@100"]


def check_validation(inputs, values, way):
    np.testing.assert_allclose(np.nanmean(values), np.nanmean(torch_validate(*inputs)()), rtol=1e-3)


JOBS = [
    Job(
        "Mult-VAE step of 500 users",
        batches,
        {
            "pyrec": pyrec_step("fp32"),
            "careful torch": torch_step("Careful"),
            "torch, dense batches": torch_step("Dense"),
            "recbole": peer("recbole", "multvae", hidden=HIDDEN, latent=LATENT),
            "irspack": peer("irspack", "multvae", hidden=HIDDEN, latent=LATENT),
        },
        check_loss,
        Floor("products and Adam", flop=PRODUCTS, copied=ADAM),
        goal=0.235,
    ),
    Job(
        "Mult-VAE step of 500 users, bfloat16",
        batches,
        {"pyrec": pyrec_step("bf16"), "careful torch": torch_step("Careful", "bf16")},
        check_loss,
        Floor("products and Adam", flop_bf16=PRODUCTS, copied=ADAM),
        goal=0.15,
    ),
    Job(
        f"Mult-VAE: {USERS:,} histories to top-100",
        last_users,
        {"pyrec": recommend, "torch": torch_recommend},
        check_recommended,
        Floor("products", flop=2 * USERS * (HIDDEN * 20_108 + HIDDEN * 3 * LATENT)),
        goal=1.147,
    ),
    Job(
        "Mult-VAE: validation with 2,500 users",
        validation_users,
        {"pyrec": validate, "torch": torch_validate},
        check_validation,
        Floor("products", flop=2 * 2500 * (HIDDEN * 20_108 + HIDDEN * 3 * LATENT)),
    ),
]
