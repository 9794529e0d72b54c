"""What runs on a GPU, beside plain torch on the same one.

Times are of work that is done, not only queued; memory is that of the device.
"""

from __future__ import annotations

import time
from functools import cache, partial
from itertools import cycle

import numpy as np
from contest import Floor, Job
from data import SHAPES, assert_same_lists, simulated

from jobs.ease import LAM, check_weights
from jobs.likelihood import plain
from jobs.training import PARAMETERS, PRODUCTS, ROWS, batches, check_loss, network
from pyrec.kernels.gpu import networks, selection, solvers
from pyrec.kernels.tensors import Csr

DEVICE = "cuda"
K, USERS, SCORED = 100, 4096, 1_000_000
ITEMS = SHAPES["batches"][1]


class OnDevice:
    """A run that ends when the device has done its work, and that knows the device's memory."""

    def __init__(self, run):
        self._run = run

    def __call__(self):
        import torch

        answer = self._run()
        torch.cuda.synchronize()
        return answer

    def timed(self):
        import torch

        torch.cuda.synchronize()
        begin = time.perf_counter()
        answer = self()
        return time.perf_counter() - begin, answer

    def first(self):
        import torch

        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        seconds, answer = self.timed()
        return seconds, answer, (torch.cuda.max_memory_allocated() - before) // 1024


def on_device(make):
    """The way whose inputs are copied to the device before the clock starts."""

    def made(*inputs):
        return OnDevice(make(*map(moved, inputs)))

    return made


def moved(x):
    """To the device: arrays as tensors, sparse matrices as Csr; a list stays a list."""
    import torch

    if isinstance(x, list):
        return [moved(each) for each in x]
    if isinstance(x, torch.Tensor):
        return x.to(DEVICE)
    return (
        torch.from_numpy(x).to(DEVICE)
        if isinstance(x, np.ndarray)
        else Csr.from_scipy(x).to(DEVICE)
    )


def here(answer):
    """To where the checks are."""
    if isinstance(answer, tuple):
        return tuple(here(each) for each in answer)
    return answer.cpu() if hasattr(answer, "cpu") else answer


def logits_and_users():
    import torch

    x = simulated("batches")[:USERS]
    return torch.randn(x.shape, generator=torch.Generator().manual_seed(0)), x


def likelihood_in_place(logits, x):
    kept = logits.clone()

    def run():
        return networks.nll_in_place(kept, x, None, 1 / USERS), kept

    return run


def likelihood_in_torch(logits, x):
    """log_softmax times a dense target, and autograd."""
    logits, target = logits.clone().requires_grad_(), x.dense()

    def run():
        import torch

        logits.grad = None
        loss = -(torch.log_softmax(logits, 1) * target).sum(1)
        loss.mean().backward()
        return loss.detach(), logits.grad

    return run


def check_likelihood(inputs, answer, way):
    import torch

    some = inputs[0][:ROWS], inputs[1][:ROWS]
    loss, grad = here(answer)
    expected, expected_grad = plain(*some)()
    torch.testing.assert_close(loss[:ROWS], expected, rtol=1e-4, atol=1e-6)
    scaled = grad[:ROWS] * (USERS / ROWS)  # the mean is over more rows
    torch.testing.assert_close(scaled, expected_grad, rtol=1e-4, atol=1e-6)


def scores_and_seen():
    x = simulated("batches")[:USERS]
    return np.random.default_rng(0).standard_normal(x.shape).astype(np.float32), x


def best_of_scores(scores, x):
    return lambda: selection.topk(scores, K, x)[0]


def best_by_torch(scores, x):
    """The mask in place: the cheapest there is."""
    import torch

    rows, items = x.rows(), x.indices.long()
    scores = scores.clone()

    def run():
        scores[rows, items] = -np.inf
        return torch.topk(scores, K).indices

    return run


def check_best(inputs, items, way):
    scores, x = inputs
    masked = scores[:ROWS].copy()
    masked[x[:ROWS].nonzero()] = -np.inf
    expected = np.argsort(-masked, axis=1, kind="stable")[:, :K]
    assert_same_lists(here(items)[:ROWS].numpy(), expected, masked)


def pyrec_step(precision):
    def make(batches):
        from pyrec.models import MultiVAE

        model = MultiVAE(network(), beta=0.2)
        model.to(DEVICE)
        model.precision = precision
        model.network.train()
        each = cycle(batches)

        def run():
            x = next(each)
            return model.train_batch(x), len(x.indices) / ROWS

        return run

    return on_device(make)


def torch_step(name, precision):
    def make(batches):
        import plain_multvae

        net = getattr(plain_multvae, name)(ITEMS, 600, 200).to(DEVICE)
        step = plain_multvae.trainer(net, bfloat16=precision == "bf16")
        each = cycle(batches)

        def run():
            x = next(each)
            return step(x), len(x.indices) / ROWS

        return run

    return on_device(make)


def step(precision, **floor):
    name = "GPU: Mult-VAE step of 500 users"
    return Job(
        name if precision == "fp32" else f"{name}, bfloat16",
        batches,
        {
            "pyrec": pyrec_step(precision),
            "torch, dense batches": torch_step("Dense", precision),
            "careful torch": torch_step("Careful", precision),
        },
        check_loss,
        Floor("products and Adam", copied=28 * PARAMETERS, gpu=True, **floor),
        gpu=True,
    )


def first_layer():
    x = simulated("batches")[:USERS]
    return x, np.random.default_rng(0).standard_normal((ITEMS, 600), np.float32)


def first_layer_in_torch(x, weight):
    import torch

    offsets = x.indptr[:-1].int()

    def run():
        return torch.nn.functional.embedding_bag(
            x.indices, weight, offsets, mode="sum", per_sample_weights=x.values
        )

    return run


def check_first_layer(inputs, answer, way):
    x, weight = inputs
    np.testing.assert_allclose(here(answer)[:ROWS].numpy(), x[:ROWS] @ weight, rtol=1e-3, atol=1e-3)


def fit(x):
    """From a matrix on the host to weights on the host."""

    def run():
        from pyrec.models import EASE

        model = EASE(LAM)
        model.train(x, device=DEVICE)
        return model.weights

    return OnDevice(run)


def fit_in_torch(x):
    """The Gram matrix from dense blocks of users, a general inverse."""
    import torch

    def run():
        n = x.shape[1]
        g = torch.zeros(n, n, device=DEVICE)
        for begin in range(0, x.shape[0], USERS):
            block = Csr.from_scipy(x[begin : begin + USERS]).to(DEVICE).dense()
            g.addmm_(block.T, block)
        g.diagonal().add_(LAM)
        p = torch.linalg.inv(g)
        p.div_(-p.diagonal().clone()).fill_diagonal_(0)
        return p.cpu().numpy()

    return OnDevice(run)


def ease(shape, **options):
    return Job(
        f"GPU: EASE [{shape}]",
        lambda: (simulated(shape),),
        {"pyrec": fit, "torch": fit_in_torch},
        check_weights,
        Floor("n³ operations", flop=SHAPES[shape][1] ** 3, gpu=True),
        gpu=True,
        **options,
    )


def check_gram(inputs, gram, way):
    (x,) = inputs
    np.testing.assert_array_equal(here(gram)[:20].numpy(), (x[:, :20].T @ x).toarray())


def gram_in_torch(x):
    def run():
        dense = x.dense()
        return dense.T @ dense

    return run


@cache
def a_million():
    x = simulated("20M")
    rows = np.random.default_rng(0).integers(0, x.shape[0], SCORED)
    return x[rows]


@cache
def weights():
    x = simulated("20M")
    return np.random.default_rng(0).standard_normal((x.shape[1],) * 2, dtype=np.float32) * np.sqrt(
        np.asarray(x.sum(0), dtype=np.float32) + 1
    )


def recommend(x, w):
    """Histories on the host, lists on the host; weights stay on the device."""
    from pyrec.models import EASE

    model = EASE(LAM)
    model.weights, model.n_items = w, x.shape[1]
    model.to(DEVICE)
    return OnDevice(lambda: model.recommend(x, K).items)


def recommend_in_torch(x, w):
    """embedding_bag and torch.topk, block by block."""
    import torch

    on_gpu = torch.from_numpy(w).to(DEVICE)

    def run():
        found = []
        for begin in range(0, x.shape[0], USERS):
            some = Csr.from_scipy(x[begin : begin + USERS]).to(DEVICE)
            scores = first_layer_in_torch(some, on_gpu)()
            scores[some.rows(), some.indices.long()] = -np.inf
            found.append(torch.topk(scores, K).indices.cpu().numpy())
        return np.concatenate(found)

    return OnDevice(run)


def check_recommended(inputs, items, way):
    x, w = inputs
    some = slice(0, x.shape[0], x.shape[0] // 100)
    scores = x[some] @ w
    scores[x[some].nonzero()] = -np.inf
    found = np.take_along_axis(scores, items[some].astype(np.int64), 1)
    best = -np.sort(-scores, axis=1)[:, :K]
    np.testing.assert_allclose(found, best, rtol=0, atol=1e-5 * best.max())


JOBS = [
    Job(
        f"GPU: likelihood and gradient, {USERS:,} rows",
        logits_and_users,
        {"pyrec": on_device(likelihood_in_place), "torch": on_device(likelihood_in_torch)},
        check_likelihood,
        Floor("one read, one write", copied=2 * 4 * USERS * ITEMS, gpu=True),
        gpu=True,
    ),
    Job(
        f"GPU: top-100 of {USERS:,} masked rows",
        scores_and_seen,
        {"pyrec": on_device(best_of_scores), "torch.topk": on_device(best_by_torch)},
        check_best,
        Floor("one read", read=4 * USERS * ITEMS, gpu=True),
        gpu=True,
    ),
    step("fp32", flop=PRODUCTS),
    step("bf16", flop_bf16=PRODUCTS),
    Job(
        f"GPU: first layer, {USERS:,} histories to 600",
        first_layer,
        {
            "pyrec": on_device(lambda x, weight: partial(networks.sparse_linear, x, weight)),
            "embedding_bag": on_device(first_layer_in_torch),
        },
        check_first_layer,
        gpu=True,
    ),
    Job(
        "GPU: Gram [1M]",
        lambda: (simulated("1M"),),
        {
            "pyrec": on_device(lambda x: partial(solvers.gram, x)),
            "torch, dense": on_device(gram_in_torch),
        },
        check_gram,
        gpu=True,
    ),
    ease("1M"),
    ease("20M", goal=2.0, full=True),
    Job(
        f"GPU: EASE: {SCORED:,} histories to top-100 of {SHAPES['20M'][1]:,}",
        lambda: (a_million(), weights()),
        {"pyrec": recommend, "torch": recommend_in_torch},
        check_recommended,
        goal=5.0,
        full=True,
        gpu=True,
    ),
]
