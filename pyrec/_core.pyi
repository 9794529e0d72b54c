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
U8: TypeAlias = NDArray[np.uint8]
Bools: TypeAlias = NDArray[np.bool_]
# indptr, indices and values of a matrix.
CsrParts: TypeAlias = tuple[I64, I32, F32]
# All of one call are of one type.
Floats: TypeAlias = NDArray[Any]
# float32, float64, or the bits of bfloat16 as uint16; results are then float32.
Logits: TypeAlias = NDArray[Any]
# (indptr, indices, values) of sparse rows, or a dense matrix.
Target: TypeAlias = tuple[I64, I32, Floats] | Floats
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
def slim_columns(
    g: Floats,
    columns: I32,
    indptr: I64,
    indices: I32,
    values: Floats,
    lambda1: float,
    lambda2: float,
    nonnegative: bool,
    tolerance: float,
    max_sweeps: int,
    n_threads: int,
) -> tuple[tuple[I64, I32, Floats], F64, I64]: ...
def admm_rows(p: Floats, columns: int) -> tuple[int, int]: ...
def pack_inverse(p: Floats, n_threads: int) -> None: ...
def admm_step(
    p: Floats,
    columns: I32,
    lambda1: float,
    rho: float,
    relaxation: float,
    nonnegative: bool,
    w: Floats,
    d: Floats,
    b: Floats,
    residuals: F64,
    n_threads: int,
) -> None: ...
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
def packed_weights_bytes(n_items: int, bfloat16: bool) -> int: ...
def pack_weights(
    weights: F32, out: U8, bfloat16: bool, first: int, last: int, n_threads: int
) -> None: ...
def topk_packed_weights(
    indptr: I64,
    indices: I32,
    values: F32,
    packed: U8,
    n_items: int,
    bfloat16: bool,
    offset: F32 | None,
    seen: Lists,
    deny: Lists,
    allow: Lists,
    items: I32,
    best: F32,
    n_threads: int,
) -> None: ...
def topk_sparse_weights(
    indptr: I64,
    indices: I32,
    values: F32,
    weights: tuple[I64, I32, F32],
    offset: F32 | None,
    seen: Lists,
    deny: Lists,
    allow: Lists,
    items: I32,
    best: F32,
    n_threads: int,
) -> None: ...
def sparse_product(
    indptr: I64,
    indices: I32,
    values: F32,
    weights: tuple[I64, I32, F32],
    offset: F32 | None,
    out: F32,
    n_threads: int,
) -> None: ...
def topk_factors(
    h: F32,
    factors: F32,
    bias: F32 | None,
    seen: Lists,
    deny: Lists,
    allow: Lists,
    items: I32,
    best: F32,
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
def sparse_linear(
    indptr: I64,
    indices: I32,
    values: Floats,
    weights: Floats,
    offset: Floats | None,
    out: Floats,
    n_threads: int,
) -> None: ...
def sparse_linear_weight_grad(
    indptr: I64, indices: I32, values: Floats, out_grad: Floats, grad: Floats, n_threads: int
) -> None: ...
def sparse_linear_value_grad(
    indptr: I64,
    indices: I32,
    values: Floats,
    weights: Floats,
    out_grad: Floats,
    grad: Floats,
    n_threads: int,
) -> None: ...
def normalize_rows(indptr: I64, values: Floats, out: Floats, n_threads: int) -> None: ...
def drop(values: Floats, share: float, seed: int, out: Floats, n_threads: int) -> None: ...
def multinomial_forward(
    logits: Logits, target: Target, mask: U8 | None, loss: Floats, lse: Floats, n_threads: int
) -> None: ...
def multinomial_backward(
    logits: Logits,
    target: Target,
    mask: U8 | None,
    lse: Floats,
    scale: Floats,
    grad: Logits,
    n_threads: int,
) -> None: ...
def multinomial_in_place(
    logits: Logits, target: Target, mask: U8 | None, scale: float, loss: Floats, n_threads: int
) -> None: ...
def permuted(n: int, seed: int, epoch: int, first: int, out: I64, n_threads: int) -> None: ...

class Rows:
    def __init__(self, indptr: I64, indices: I32, values: F32, n_cols: int) -> None: ...
    def size_of(self, numbers: I64) -> int: ...
    def take(
        self, numbers: I64, indptr: I64, indices: I32, values: F32, n_threads: int
    ) -> None: ...
    def take_dense(self, numbers: I64, out: F32, n_threads: int) -> None: ...

def count_nonzeros(x: Floats, counts: I64, n_threads: int) -> None: ...
def take_nonzeros(x: Floats, indptr: I64, indices: I32, values: Floats, n_threads: int) -> None: ...

class ConditionedRows:
    def __init__(
        self,
        x: CsrParts,
        targets: CsrParts | None,
        item_conditions: CsrParts,
        n_items: int,
        n_conditions: int,
    ) -> None: ...
    def count(self, n_threads: int) -> None: ...
    def n_examples(self) -> int: ...
    def n_alone(self) -> int: ...
    def counts(self) -> I64: ...
    def before(self) -> tuple[I64, I64]: ...
    def examples(self, numbers: I64, rows: I64, conditions: I32, n_threads: int) -> None: ...
    def inputs(
        self, rows: I64, conditions: I32, indptr: I64, indices: I32, values: F32, n_threads: int
    ) -> None: ...
    def target_offsets(self, rows: I64, conditions: I32, indptr: I64, n_threads: int) -> int: ...
    def targets(
        self, rows: I64, conditions: I32, indptr: I64, indices: I32, values: F32, n_threads: int
    ) -> None: ...
    def balanced(self, n_each: int, seed: int, epoch: int, out: I64) -> None: ...

def negatives(
    indptr: I64,
    indices: I32,
    share: float,
    seed: int,
    step: int,
    with_observed: bool,
    out: Bools,
    n_threads: int,
) -> None: ...
def count_windows(
    offsets: I64,
    items: I32,
    n_items: int,
    users: I64,
    first: I64,
    k: int,
    sizes: I64,
    n_threads: int,
) -> None: ...
def take_windows(
    offsets: I64,
    items: I32,
    n_items: int,
    users: I64,
    first: I64,
    k: int,
    weighted: bool,
    indptr: I64,
    inputs: I32,
    indices: I32,
    values: F32,
    n_threads: int,
) -> None: ...
