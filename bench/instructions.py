"""Instructions that each kernel executes, counted by valgrind: a signal without noise beside the ratios.

    python bench/instructions.py

One process under valgrind's cachegrind prepares small inputs; for each kernel it forks two children, one
that ends at once and one that runs the kernel first, with one thread. The difference is the kernel's.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any


def count(run: str = "--run") -> dict[str, Any] | None:
    """Instructions kernel by kernel, and what the module was built with; None without valgrind.

    With ``--planted``: those of "kernel: native function", see `planted`.
    """
    if shutil.which("valgrind") is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        command = ["valgrind", "--tool=cachegrind", "--cache-sim=no"]
        command += [f"--cachegrind-out-file={folder}/%p", sys.executable]
        command += [str(Path(__file__).resolve()), run]
        environment = {**os.environ, "PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1"}
        run = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        if run.returncode != 0:
            raise RuntimeError(f"valgrind ended with {run.returncode}:\n{run.stderr[-2000:]}")
        children = [line.split(" ", 1) for line in run.stdout.splitlines()]
        totals = [(name, _total(Path(folder) / process)) for process, name in children]
    # A child's count begins with its parent's.
    pairs = zip(totals[::2], totals[1::2], strict=True)
    counts = {name: total - nothing for (_, nothing), (name, total) in pairs}
    return {"built with": compiler(), "counts": counts}


def _total(path: Path) -> int:
    found = re.search(r"^summary: (\d+)", path.read_text(), re.MULTILINE)
    if found is None:
        raise RuntimeError(f"valgrind's file {path.name} has no summary")
    return int(found[1])


def compiler() -> str:
    """What the compiled module says that it was built by."""
    from pyrec import _core

    found = re.search(
        rb"GCC: \([^)]*\) [\d.]+|clang version [\d.]+", Path(_core.__file__).read_bytes()
    )
    return found[0].decode() if found else "unknown"


def run() -> None:
    for name, kernel in kernels().items():
        kernel()  # what is done once, such as the first call's look-ups
        children(name, kernel)


def children(name: str, kernel: Callable[[], Any]) -> None:
    """Two children, one of which runs the kernel: their numbers are printed, each with the name."""
    for do in (lambda: None, kernel):
        child = os.fork()
        if child == 0:
            do()
            os._exit(0)
        if os.waitpid(child, 0)[1] != 0:
            raise RuntimeError(f"{name} failed")
        print(child, name)


def planted() -> None:
    """As `run`, but kernels run twice, and each native function that one calls works half as much again.

    It is called three times for twice, one function at a time.
    """
    from planted import kernels as natives

    for name, kernel in kernels().items():
        called = set()
        for native, (owner, attribute) in natives().items():
            function = getattr(owner, attribute)
            setattr(owner, attribute, _noted(function, native, called))
            try:
                kernel()
            finally:
                setattr(owner, attribute, function)
        for native in sorted(called):
            owner, attribute = natives()[native]
            function = getattr(owner, attribute)
            setattr(owner, attribute, _half_again(function))
            try:
                children(f"{name}: {native}", lambda kernel=kernel: (kernel(), kernel()))
            finally:
                setattr(owner, attribute, function)


def _noted(function: Callable[..., Any], name: str, called: set[str]) -> Callable[..., Any]:
    def noted(*args: Any, **options: Any) -> Any:
        called.add(name)
        return function(*args, **options)

    return noted


def _half_again(function: Callable[..., Any]) -> Callable[..., Any]:
    calls = cycle([1, 2])

    def repeated(*args: Any, **options: Any) -> Any:
        for _ in range(next(calls)):
            result = function(*args, **options)
        return result

    return repeated


def kernels() -> dict[str, Callable[[], Any]]:
    """Functions without arguments, on inputs that take some ten million instructions."""
    import numpy as np

    from pyrec import _core
    from pyrec import kernels as k
    from pyrec.data import datasets
    from pyrec.kernels.slim import PackedInverse, admm, coordinate_descent

    users, items, top = 200, 2000, 20
    x = datasets.simulate(users, items, 15_000, seed=0).matrix
    csr = x.indptr.astype(np.int64), x.indices.astype(np.int32), x.data.astype(np.float32)
    small = datasets.simulate(400, 100, 6_000, seed=0).matrix
    rng = np.random.default_rng(0)
    scores, weights = (rng.standard_normal((n, items), np.float32) for n in (users, items))
    sparse = _sparse(weights)
    h, factors, layer = (rng.standard_normal((n, 64), np.float32) for n in (users, items, items))
    packed = {dtype: k.pack_weights(weights, dtype=dtype) for dtype in ("float32", "bfloat16")}
    buffer = np.empty_like(packed["float32"].buffer)
    lists = k.topk(scores, top).items
    gram = k.gram(small, n_threads=1)
    p = PackedInverse.memory(items)
    p[:] = 1
    inverse = PackedInverse(np.eye(100, dtype=np.float32), n_threads=1)
    positive = 0.5 * np.eye(300, dtype=np.float32) + 0.5
    vectors = [np.empty(users, np.float32) for _ in range(2)]
    grad, hidden, entries = np.empty_like(scores), np.empty((users, 64), np.float32), csr[2].copy()
    masks, rows = np.empty((users, items), bool), k.RowSampler(x)
    order = np.arange(users)[::-1].copy()
    conditions = _sparse(rng.standard_normal((items, 18), np.float32))
    conditioned = k.ConditionedRows(x, conditions)
    of_items = (
        conditions.indptr.astype(np.int64),
        conditions.indices.astype(np.int32),
        conditions.data,
    )
    counted = _core.ConditionedRows(csr, None, of_items, items, 18)
    examples = np.arange(conditioned.n_examples)
    chosen = conditioned.examples(examples, n_threads=1)
    one = {"n_threads": 1}
    return {
        "gram": lambda: k.gram(x, **one),
        "spd_inverse": lambda: k.spd_inverse(positive.copy(), **one),
        "ease_weights": lambda: k.ease_weights(weights.copy(), **one),
        "slim_columns": lambda: list(coordinate_descent(gram, lambda1=5, lambda2=100, **one)),
        "pack_inverse": lambda: _core.pack_inverse(p.base, 1),
        "admm_step": lambda: list(admm(inverse, lambda1=1, rho=1, num_iter=5, tol=0, **one)),
        "topk": lambda: k.topk(scores, top, x, **one),
        "topk_dense_weights": lambda: k.topk_dense_weights(x, weights, top, x, **one),
        "topk_packed_weights": lambda: k.topk_dense_weights(x, packed["float32"], top, x, **one),
        "topk_packed_weights, bfloat16": lambda: k.topk_dense_weights(
            x, packed["bfloat16"], top, x, **one
        ),
        "topk_sparse_weights": lambda: k.topk_sparse_weights(x, sparse, top, x, **one),
        "topk_factors": lambda: k.topk_factors(h, factors, top, x, **one),
        "pack_weights": lambda: k.pack_weights(weights, out=buffer, **one),
        "sparse_product": lambda: k.scores_sparse_weights(x, sparse, **one),
        "sparse_linear": lambda: _core.sparse_linear(*csr, layer, None, hidden, 1),
        "sparse_linear_weight_grad": lambda: _core.sparse_linear_weight_grad(
            *csr, h, np.empty_like(layer), 1
        ),
        "sparse_linear_value_grad": lambda: _core.sparse_linear_value_grad(
            *csr, layer, h, entries, 1
        ),
        "normalize_rows": lambda: _core.normalize_rows(csr[0], csr[2], entries, 1),
        "drop": lambda: _core.drop(csr[2], 0.5, 0, entries, 1),
        "multinomial_forward": lambda: _core.multinomial_forward(scores, csr, None, *vectors, 1),
        "multinomial_backward": lambda: _core.multinomial_backward(
            scores, csr, None, *vectors, grad, 1
        ),
        "multinomial_in_place": lambda: _core.multinomial_in_place(
            scores.copy(), csr, None, 1.0, vectors[0], 1
        ),
        "ranking": lambda: k.ranking(lists, x, ["ndcg@20", "recall@10"], **one),
        "permuted": lambda: k.permuted(0, 20_000, 20_000, 0, 0, **one),
        "Rows.take": lambda: rows.rows(order, **one),
        "Rows.take_dense": lambda: rows.dense(order, grad, **one),
        "count_nonzeros": lambda: _core.count_nonzeros(scores, np.empty(users, np.int64), 1),
        "nonzeros": lambda: k.nonzeros(scores, **one),
        "ConditionedRows.count": lambda: counted.count(1),
        "ConditionedRows.examples": lambda: conditioned.examples(examples, **one),
        "ConditionedRows.inputs": lambda: conditioned.inputs(*chosen, **one),
        "ConditionedRows.targets": lambda: conditioned.targets(*chosen, **one),
        "ConditionedRows.balanced": lambda: conditioned.balanced(100, 0, 0),
        "negatives": lambda: k.negatives(*csr[:2], items, 0.5, 0, 0, masks, **one),
        "windows": lambda: k.windows(*csr[:2], items, np.arange(users), 4, True, **one),
    }


def _sparse(weights: Any) -> Any:
    """One of some twenty entries."""
    import scipy.sparse as sp

    return sp.csr_array(weights * (weights > 1.65))


if __name__ == "__main__":
    if "--run" in sys.argv:
        run()
    elif "--planted" in sys.argv:
        planted()
    elif (found := count()) is None:
        print("valgrind is not on this machine")
    else:
        print(found["built with"])
        for name, number in found["counts"].items():
            print(f"{number / 1e6:10.3f} million  {name}")
