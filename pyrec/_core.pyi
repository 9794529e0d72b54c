"""CPU kernels over borrowed NumPy buffers; see pyrec.kernels for the public face."""

from collections.abc import Mapping
from enum import Enum
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

F32: TypeAlias = NDArray[np.float32]
F64: TypeAlias = NDArray[np.float64]
I32: TypeAlias = NDArray[np.int32]
I64: TypeAlias = NDArray[np.int64]
# One list for all rows (None, items), or a list a row (offsets, items).
Lists: TypeAlias = tuple[I64 | None, I32] | None

__version__: str

class Metric(Enum):
    ndcg = ...
    recall = ...
    full_recall = ...
    hit = ...
    mrr = ...
    map = ...
    precision = ...

def instruction_set() -> str: ...
def gram(
    indptr: I64, indices: I32, values: F32, out: F32 | F64, mirror: bool, n_threads: int
) -> None: ...
def spd_inverse(
    a: F32 | F64,
    block: int,
    mirror: bool,
    blas: Mapping[str, Any],
    lapack: Mapping[str, Any],
    n_threads: int,
) -> int: ...
def ease_weights(p: F32, n_threads: int) -> None: ...
def topk(
    scores: F32, seen: Lists, deny: Lists, allow: Lists, items: I32, best: F32, n_threads: int
) -> None: ...
def topk_dense_weights(
    indptr: I64,
    indices: I32,
    values: F32,
    weights: F32,
    offset: F32 | None,
    seen: Lists,
    deny: Lists,
    allow: Lists,
    items: I32,
    best: F32,
    n_threads: int,
) -> None: ...
def scores_dense_weights(
    indptr: I64,
    indices: I32,
    values: F32,
    weights: F32,
    offset: F32 | None,
    out: F32,
    n_threads: int,
) -> None: ...
def ranking(
    items: I32,
    indptr: I64,
    indices: I32,
    n_items: int,
    measures: list[tuple[Metric, int]],
    out: F64,
    n_threads: int,
) -> None: ...
