"""CUDA kernels over addresses on a device; see pyrec.kernels.gpu for who calls them."""

from collections.abc import Sequence
from typing import TypeAlias

# An address of 0 stands for nothing.
Vector: TypeAlias = tuple[int, int]
"""Address, size."""
Matrix: TypeAlias = tuple[int, int, int]
"""Address, rows, columns."""
Csr: TypeAlias = tuple[int, int, int, int, int]
"""Rows, columns, addresses of offsets, items and values."""
Lists: TypeAlias = tuple[bool, int, int, int]
"""Whether there are any; addresses of offsets (0: one list for all rows) and items; how many items."""
Target: TypeAlias = tuple[int, int, int]
"""Addresses of offsets (0: dense), items and values."""
Examples: TypeAlias = tuple[Csr, Csr, Csr, Vector, Vector, Vector, bool]
"""Histories, targets, conditions of items, examples before each row of both kinds, bit masks, same targets."""
Occurrences: TypeAlias = tuple[int, int, int]
"""Addresses of where the list of each item begins, of its entries, and of where their rows end."""
AdmmSettings: TypeAlias = tuple[float, float, float, bool]
"""lambda1, rho, relaxation, nonnegative."""
Queue: TypeAlias = tuple[int, int]
"""Device and stream."""

most_selected: int

def admm_advance_float32(
    columns: Vector,
    settings: AdmmSettings,
    product: Matrix,
    w: Matrix,
    residuals: Vector,
    queue: Queue,
) -> None: ...
def admm_advance_float64(
    columns: Vector,
    settings: AdmmSettings,
    product: Matrix,
    w: Matrix,
    residuals: Vector,
    queue: Queue,
) -> None: ...
def admm_aim_float32(
    p: Matrix, columns: Vector, settings: AdmmSettings, w: Matrix, d: Matrix, queue: Queue
) -> None: ...
def admm_aim_float64(
    p: Matrix, columns: Vector, settings: AdmmSettings, w: Matrix, d: Matrix, queue: Queue
) -> None: ...
def conditioned_inputs(
    examples: Examples,
    rows: Vector,
    conditions: Vector,
    indptr: Vector,
    indices: Vector,
    values: Vector,
    queue: Queue,
) -> None: ...
def conditioned_targets(
    examples: Examples,
    rows: Vector,
    conditions: Vector,
    indptr: Vector,
    indices: Vector,
    values: Vector,
    queue: Queue,
) -> None: ...
def count_targets(
    examples: Examples, rows: Vector, conditions: Vector, sizes: Vector, queue: Queue
) -> None: ...
def count_windows(
    offsets: Vector,
    items: Vector,
    users: Vector,
    first: Vector,
    k: int,
    sizes: Vector,
    workspace: Vector,
    queue: Queue,
) -> None: ...
def device_count() -> int: ...
def drop_float32(values: Vector, share: float, seed: int, out: Vector, queue: Queue) -> None: ...
def drop_float64(values: Vector, share: float, seed: int, out: Vector, queue: Queue) -> None: ...
def find_examples(
    examples: Examples, numbers: Vector, rows: Vector, conditions: Vector, queue: Queue
) -> None: ...
def gram_float32(x: Csr, where: Occurrences, ones: bool, out: Matrix, queue: Queue) -> None: ...
def gram_float64(x: Csr, where: Occurrences, ones: bool, out: Matrix, queue: Queue) -> None: ...
def mirror_upper_float32(a: Matrix, queue: Queue) -> None: ...
def mirror_upper_float64(a: Matrix, queue: Queue) -> None: ...
def multinomial_backward_bfloat16(
    logits: Matrix,
    target: Target,
    mask: Vector,
    lse: Vector,
    scale: Vector,
    grad: Matrix,
    queue: Queue,
) -> None: ...
def multinomial_backward_float32(
    logits: Matrix,
    target: Target,
    mask: Vector,
    lse: Vector,
    scale: Vector,
    grad: Matrix,
    queue: Queue,
) -> None: ...
def multinomial_backward_float64(
    logits: Matrix,
    target: Target,
    mask: Vector,
    lse: Vector,
    scale: Vector,
    grad: Matrix,
    queue: Queue,
) -> None: ...
def multinomial_forward_bfloat16(
    logits: Matrix, target: Target, mask: Vector, loss: Vector, lse: Vector, queue: Queue
) -> None: ...
def multinomial_forward_float32(
    logits: Matrix, target: Target, mask: Vector, loss: Vector, lse: Vector, queue: Queue
) -> None: ...
def multinomial_forward_float64(
    logits: Matrix, target: Target, mask: Vector, loss: Vector, lse: Vector, queue: Queue
) -> None: ...
def multinomial_in_place_bfloat16(
    logits: Matrix, target: Target, mask: Vector, scale: float, loss: Vector, queue: Queue
) -> None: ...
def multinomial_in_place_float32(
    logits: Matrix, target: Target, mask: Vector, scale: float, loss: Vector, queue: Queue
) -> None: ...
def multinomial_in_place_float64(
    logits: Matrix, target: Target, mask: Vector, scale: float, loss: Vector, queue: Queue
) -> None: ...
def negatives(
    x: Csr,
    share: float,
    seed: int,
    step: int,
    with_observed: bool,
    out: Matrix,
    workspace: Vector,
    queue: Queue,
) -> None: ...
def negatives_workspace(n_rows: int, n_items: int) -> int: ...
def normalize_rows_float32(indptr: Vector, values: Vector, out: Vector, queue: Queue) -> None: ...
def normalize_rows_float64(indptr: Vector, values: Vector, out: Vector, queue: Queue) -> None: ...
def ranking(
    items: Matrix,
    relevant: Lists,
    measures: Sequence[tuple[int, int]],
    discounts: Vector,
    discount_sums: Vector,
    hits: Matrix,
    n_hits: Vector,
    out: Matrix,
    queue: Queue,
) -> None: ...
def sparse_linear_float32(
    x: Csr, weights: Matrix, offset: Vector, out: Matrix, queue: Queue
) -> None: ...
def sparse_linear_float64(
    x: Csr, weights: Matrix, offset: Vector, out: Matrix, queue: Queue
) -> None: ...
def sparse_linear_value_grad_float32(
    x: Csr, weights: Matrix, out_grad: Matrix, grad: Vector, queue: Queue
) -> None: ...
def sparse_linear_value_grad_float64(
    x: Csr, weights: Matrix, out_grad: Matrix, grad: Vector, queue: Queue
) -> None: ...
def sparse_linear_weight_grad_float32(
    transposed: Csr, out_grad: Matrix, grad: Matrix, queue: Queue
) -> None: ...
def sparse_linear_weight_grad_float64(
    transposed: Csr, out_grad: Matrix, grad: Matrix, queue: Queue
) -> None: ...
def sparse_product(x: Csr, weights: Csr, offset: Vector, out: Matrix, queue: Queue) -> None: ...
def take_rows(
    x: Csr, numbers: Vector, indptr: Vector, indices: Vector, values: Vector, queue: Queue
) -> None: ...
def take_rows_dense(x: Csr, numbers: Vector, out: Matrix, queue: Queue) -> None: ...
def take_windows(
    offsets: Vector,
    items: Vector,
    users: Vector,
    first: Vector,
    k: int,
    weighted: bool,
    indptr: Vector,
    inputs: Vector,
    indices: Vector,
    values: Vector,
    workspace: Vector,
    queue: Queue,
) -> None: ...
def topk(
    scores: Matrix,
    seen: Lists,
    deny: Lists,
    allow: Lists,
    items: Matrix,
    best: Matrix,
    partial: Matrix,
    queue: Queue,
) -> None: ...
def topk_parts(rows: int, cols: int) -> int: ...
def windows_workspace(n_users: int, n_steps: int, k: int) -> int: ...
