"""What runs on a GPU, beside plain torch on the same one.

Times are of work that is done, not only queued; memory is that of the device, beside what a way was
given and keeps.
"""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass
from functools import partial
from itertools import cycle

import numpy as np
from contest import Floor, Job
from data import SHAPES, assert_same_lists, simulated

from jobs.likelihood import plain
from jobs.training import ADAM, HIDDEN, LATENT, PRODUCTS, ROWS, batches, check_loss, network
from pyrec.kernels.gpu import networks, selection
from pyrec.kernels.tensors import Csr

DEVICE = "cuda"
K, USERS = 100, 4096
ITEMS = SHAPES["batches"][1]


@dataclass(frozen=True)
class GpuJob(Job):
    """A job of a GPU, whose goal may also be a share of its limit, or a multiple of the yardstick's speed."""

    gpu: bool = True
    least_share: float | None = None
    least_ratio: float | None = None


class OnDevice:
    """A run that ends when the device has done its work, and that knows the device's memory."""

    def __init__(self, run):
        self._run = run

    def timed(self):
        import torch

        torch.cuda.synchronize()
        begin = time.perf_counter()
        answer = self._run()
        torch.cuda.synchronize()
        return time.perf_counter() - begin, answer

    def sample(self, repeats):
        """Queued behind each other: else it is the start of short runs by the processor that is timed."""
        import torch

        torch.cuda.synchronize()
        begin = time.perf_counter()
        for _ in range(repeats):
            self._run()
        torch.cuda.synchronize()
        return (time.perf_counter() - begin) / repeats

    def first(self):
        import torch

        gc.collect()
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
    import torch

    if isinstance(answer, tuple):
        return tuple(here(each) for each in answer)
    return answer.to("cpu") if isinstance(answer, torch.Tensor | Csr) else answer


def kernel_job(name, inputs, pyrec, rival, other, check, why, **amounts):
    """A kernel alone beside one rival; its floor as in `Floor`."""
    ways = {"pyrec": pyrec, rival: other}
    floor = Floor(why, gpu=True, **amounts)
    return GpuJob(f"GPU: {name}", inputs, ways, check, floor, kernel=True)


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

        net = getattr(plain_multvae, name)(ITEMS, HIDDEN, LATENT).to(DEVICE)
        step = plain_multvae.trainer(net, bfloat16=precision == "bf16")
        each = cycle(batches)

        def run():
            x = next(each)
            return step(x), len(x.indices) / ROWS

        return run

    return on_device(make)


def step(precision, **floor):
    name = f"GPU: Mult-VAE step of {ROWS} users"
    return GpuJob(
        name if precision == "fp32" else f"{name}, bfloat16",
        batches,
        {
            "pyrec": pyrec_step(precision),
            "torch, dense batches": torch_step("Dense", precision),
            "careful torch": torch_step("Careful", precision),
        },
        check_loss,
        Floor("products and Adam", copied=ADAM, gpu=True, **floor),
        least_ratio=2.0,
    )


def first_layer():
    x = simulated("batches")[:USERS]
    return x, np.random.default_rng(0).standard_normal((ITEMS, HIDDEN), np.float32)


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


JOBS = [
    GpuJob(
        f"GPU: likelihood and gradient, {USERS:,} rows",
        logits_and_users,
        {"pyrec": on_device(likelihood_in_place), "torch": on_device(likelihood_in_torch)},
        check_likelihood,
        Floor("one read, one write", copied=2 * 4 * USERS * ITEMS, gpu=True),
        least_share=0.7,
    ),
    GpuJob(
        f"GPU: top-{K} of {USERS:,} masked rows",
        scores_and_seen,
        {"pyrec": on_device(best_of_scores), "torch.topk": on_device(best_by_torch)},
        check_best,
        Floor("one read", read=4 * USERS * ITEMS, gpu=True),
        least_share=0.6,
    ),
    step("fp32", flop=PRODUCTS),
    step("bf16", flop_bf16=PRODUCTS),
    GpuJob(
        f"GPU: first layer, {USERS:,} histories to {HIDDEN}",
        first_layer,
        {
            "pyrec": on_device(lambda x, weight: partial(networks.sparse_linear, x, weight)),
            "embedding_bag": on_device(first_layer_in_torch),
        },
        check_first_layer,
        Floor("one read, one write", read=4 * ITEMS * HIDDEN, written=4 * USERS * HIDDEN, gpu=True),
    ),
]
