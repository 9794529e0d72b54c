"""`as_csr`, the one gate by which models take data, and the checks of CSR arrays behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import scipy.sparse as sp

INT32_MAX = np.iinfo(np.int32).max


def as_csr(x: Any, n_items: int | None = None, name: str = "x") -> sp.csr_array:
    """Return ``x`` as a canonical CSR matrix: the one gate by which models take data.

    Parameters
    ----------
    x : (n, n_items) Interactions, Histories, SciPy sparse, dense array or dense torch tensor
        Never modified. What is canonical already is returned without a copy.
    n_items : int, optional
        The number of columns that ``x`` must have.
    name : str, default "x"
        What error messages call ``x``.

    Returns
    -------
    csr_array
        float32 values; ``indptr`` and ``indices`` int32, or both int64 beyond 2^31 - 1 entries, as
        SciPy's own routines need them; every row sorted by column, duplicates summed, explicit
        zeros removed.

    Raises
    ------
    TypeError
        If ``x`` is of another kind, or its values are not real numbers.
    ValueError
        If ``x`` has not two dimensions or not ``n_items`` columns, if its offsets or column numbers
        are corrupt, or if a value is NaN, infinite or beyond float32.
    """
    import scipy.sparse as sp  # loading it takes longer than all of pyrec

    # By what they offer: Interactions and Histories are built on this module, and torch stays away.
    if hasattr(x, "matrix"):
        x = x.matrix
    elif hasattr(x, "to_csr"):
        x = x.to_csr()
    elif hasattr(x, "detach"):
        x = _from_torch(x, name)
    sparse = is_sparse(x)
    if not sparse and not isinstance(x, np.ndarray):
        # Tables, which pandas and polars offer to others by these.
        is_table = hasattr(x, "__arrow_c_stream__") or hasattr(x, "__dataframe__")
        raise TypeError(
            f"{name} must be Interactions, Histories, a SciPy sparse matrix, a 2-D array or a "
            f"dense torch tensor, got {kind_of(x)}"
            + (": use pyrec.read_interactions for tables" if is_table else "")
        )
    if x.ndim != 2:
        raise ValueError(f"{name} must have 2 dimensions (users x items), got shape {x.shape}")
    if x.dtype.kind not in "buif":
        raise TypeError(f"{name} must hold real numbers, got dtype {x.dtype}")
    if n_items is not None and x.shape[1] != n_items:
        raise ValueError(f"{name} has {x.shape[1]} columns, expected n_items = {n_items}")
    if x.shape[1] > INT32_MAX:
        raise ValueError(f"{name} has {x.shape[1]} columns, at most {INT32_MAX} are possible")
    if not sparse or x.format != "csr":
        x = _from_other(x, name)
    # SciPy's has_sorted_indices and has_canonical_format are caches that callers can leave wrong:
    # the arrays themselves decide.
    nnz = check_offsets(x.indptr, x.shape[0], min(len(x.indices), len(x.data)), name)
    indices, data = (a if len(a) == nnz else a[:nnz] for a in (x.indices, x.data))
    check_range(indices, x.shape[1], f"{name}: column numbers")
    result = canonical(
        _float32(data),
        np.ascontiguousarray(indices),
        np.ascontiguousarray(x.indptr),
        x.shape,
    )
    # min and max carry NaN: every value is seen, and nothing is allocated.
    if result.nnz and not np.isfinite([result.data.min(), result.data.max()]).all():
        raise ValueError(f"{name} holds values that are NaN, infinite or beyond float32")
    same = result.data is x.data and result.indices is x.indices and result.indptr is x.indptr
    canonical_already: sp.csr_array = x if same and isinstance(x, sp.csr_array) else result
    return canonical_already


def is_sparse(x: Any) -> bool:
    """Whether `x` is a SciPy sparse matrix or array."""
    import scipy.sparse as sp

    return bool(sp.issparse(x))


def kind_of(x: Any) -> str:
    """What an error says came: "list", "pandas DataFrame"."""
    kind = type(x)
    module = kind.__module__.split(".")[0]
    return kind.__name__ if module == "builtins" else f"{module} {kind.__name__}"


def csr(
    data: NDArray[np.float32],
    indices: NDArray[Any],
    indptr: NDArray[Any],
    shape: tuple[int, int],
) -> sp.csr_array:
    """Wrap canonical arrays without SciPy's checks and copies."""
    import scipy.sparse as sp

    # Many of SciPy's routines fail when the two index arrays have different types.
    index_type = np.int32 if len(indices) <= INT32_MAX else np.int64
    matrix: Any = sp.csr_array(shape, dtype=np.float32)
    matrix.data = data
    matrix.indices = indices.astype(index_type, copy=False)
    matrix.indptr = indptr.astype(index_type, copy=False)
    matrix.has_sorted_indices = matrix.has_canonical_format = True
    result: sp.csr_array = matrix
    return result


def canonical(
    data: NDArray[np.float32],
    indices: NDArray[Any],
    indptr: NDArray[Any],
    shape: tuple[int, int],
) -> sp.csr_array:
    """Sort, sum duplicates and remove zeros, each only where needed and never in place."""
    import scipy.sparse as sp

    increases = indices[1:] > indices[:-1]
    ends = indptr[1:-1]
    increases[ends[(ends > 0) & (ends < len(indices))] - 1] = True
    if not increases.all():
        summed = sp.csr_array((data, indices, indptr), shape=shape, copy=True)
        summed.sum_duplicates()
        data, indices, indptr = summed.data, summed.indices, summed.indptr
    if np.count_nonzero(data) < len(data):
        nonzero = data != 0
        data, indices, indptr = data[nonzero], indices[nonzero], offsets_of(nonzero)[indptr]
    return csr(data, indices, indptr, shape)


def _from_other(x: Any, name: str) -> sp.csr_array:
    """A dense array or another sparse format as CSR, checked before SciPy's C loops trust it."""
    import scipy.sparse as sp

    if not is_sparse(x):
        x = np.asarray(x)
        rows, columns = np.nonzero(x)
        values = x[rows, columns]
    else:
        if x.format == "csc":
            check_offsets(x.indptr, x.shape[1], len(x.indices), name)
            check_range(x.indices, x.shape[0], f"{name}: row numbers")
        elif x.format == "bsr":
            height, width = x.blocksize
            check_offsets(x.indptr, x.shape[0] // height, len(x.indices), name)
            check_range(x.indices, x.shape[1] // width, f"{name}: column numbers of blocks")
        x = x.tocoo()
        rows, columns, values = x.row, x.col, x.data
    check_range(rows, x.shape[0], f"{name}: row numbers")
    check_range(columns, x.shape[1], f"{name}: column numbers")
    return sp.csr_array((_float32(values), (rows, columns)), shape=x.shape)


def _from_torch(x: Any, name: str) -> NDArray[np.float32]:
    try:
        return np.asarray(x.detach().cpu().float().numpy())
    except TypeError as error:
        raise TypeError(f"{name}: torch tensors must be dense, got layout {x.layout}") from error


def _float32(values: NDArray[Any]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # what overflows becomes infinite, and that is refused by name
        return np.ascontiguousarray(values, np.float32)


def offsets_of(lengths: NDArray[Any]) -> NDArray[np.int64]:
    """0, then the running sum of ``lengths``."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def rows_of(offsets: NDArray[Any]) -> NDArray[np.int64]:
    """The row of each entry of rows divided by ``offsets``."""
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))


def check_offsets(offsets: NDArray[Any], n_rows: int, n_entries: int, name: str) -> int:
    """Raise unless ``offsets`` divide at most ``n_entries`` entries; return how many."""
    if len(offsets) != n_rows + 1 or not len(offsets):
        raise ValueError(f"{name}: expected {n_rows + 1} row offsets, got {len(offsets)}")
    if offsets[0] != 0 or np.any(offsets[1:] < offsets[:-1]):
        raise ValueError(f"{name}: row offsets must start at 0 and never fall")
    if offsets[-1] > n_entries:
        raise ValueError(f"{name}: row offsets end at {offsets[-1]}, beyond {n_entries} entries")
    return int(offsets[-1])


def check_range(numbers: NDArray[Any], stop: int, name: str) -> None:
    if len(numbers) and not (numbers.min() >= 0 and numbers.max() < stop):
        raise ValueError(
            f"{name} must lie in 0..{stop - 1}, got {numbers.min()} to {numbers.max()}"
        )
