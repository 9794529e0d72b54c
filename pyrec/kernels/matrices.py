"""What networks take and give that is not dense: sparse rows, sequences, logits not multiplied out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyrec.kernels.batches import nonzeros

if TYPE_CHECKING:
    import scipy.sparse as sp

__all__ = ["Csr", "Logits", "Sequences"]


class _Lazy:
    """Something that torch functions see as the dense matrix it stands for."""

    def dense(self) -> Tensor:
        raise NotImplementedError

    @classmethod
    def __torch_function__(
        cls, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        def matrix(value: Any) -> Any:
            if isinstance(value, _Lazy):
                return value.dense()
            return type(value)(map(matrix, value)) if type(value) in (list, tuple) else value

        return function(*matrix(args), **{k: matrix(v) for k, v in (kwargs or {}).items()})

    def __getattr__(self, name: str) -> Any:
        """Methods of tensors are those of the matrix."""
        if name.startswith("_") or not hasattr(Tensor, name):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return getattr(self.dense(), name)


def _operator(name: str) -> Callable[..., Tensor]:
    def method(self: _Lazy, *others: Any) -> Tensor:
        others = tuple(o.dense() if isinstance(o, _Lazy) else o for o in others)
        result: Tensor = getattr(self.dense(), name)(*others)
        return result

    return method


# Python looks operators up in the class, not by __getattr__.
for _name in ("add", "sub", "mul", "truediv", "pow", "matmul"):
    for _prefix in ("", "r"):
        setattr(_Lazy, f"__{_prefix}{_name}__", _operator(f"__{_prefix}{_name}__"))
for _name in ("neg", "abs", "getitem", "lt", "le", "gt", "ge", "ne"):
    setattr(_Lazy, f"__{_name}__", _operator(f"__{_name}__"))


class Csr(_Lazy):
    """Sparse rows as tensors: a batch of histories.

    Parameters
    ----------
    indptr : (n + 1,) int64
        Row ``i`` has the entries ``indptr[i]..indptr[i + 1]``.
    indices : (nnz,) int32
        Columns, ascending within a row without duplicates.
    values : (nnz,) float32 or float64
        May require a gradient.
    n_cols : int
    """

    __slots__ = ("indices", "indptr", "n_cols", "values")

    def __init__(self, indptr: Tensor, indices: Tensor, values: Tensor, n_cols: int) -> None:
        self.indptr, self.indices, self.values = indptr, indices, values
        self.n_cols = int(n_cols)

    @classmethod
    def from_scipy(cls, x: sp.csr_array) -> Csr:
        """Take a canonical CSR matrix (see `pyrec.data.as_csr`); arrays are shared unless read-only."""
        indptr = torch.from_numpy(x.indptr.astype(np.int64))
        indices = _tensor(x.indices.astype(np.int32, copy=False))
        return cls(indptr, indices, _tensor(x.data), int(x.shape[1]))

    @classmethod
    def from_dense(cls, x: Tensor) -> Csr:
        """Take the non-zeros of an (n, n_cols) matrix, of which no gradient is asked for."""
        if x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64):
            parts = nonzeros(x.detach().contiguous().numpy())
            indptr, indices, values = map(torch.from_numpy, parts)
            return cls(indptr, indices, values, x.shape[1])
        taken = x != 0
        indptr = torch.zeros(len(x) + 1, dtype=torch.int64, device=x.device)
        torch.cumsum(taken.sum(1), 0, out=indptr[1:])
        return cls(indptr, taken.nonzero()[:, 1].int(), x[taken], x.shape[1])

    @property
    def shape(self) -> torch.Size:
        """(n, n_cols)"""
        return torch.Size((len(self), self.n_cols))

    @property
    def device(self) -> torch.device:
        return self.values.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the values."""
        return self.values.dtype

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def __repr__(self) -> str:
        return f"Csr({len(self):,} x {self.n_cols:,}, {len(self.indices):,} entries, {self.device})"

    def to(self, device: torch.device | str) -> Csr:
        """Return the same rows on a device."""
        indptr, indices, values = (t.to(device) for t in (self.indptr, self.indices, self.values))
        return Csr(indptr, indices, values, self.n_cols)

    def with_values(self, values: Tensor) -> Csr:
        """Return the same pattern with other values."""
        return Csr(self.indptr, self.indices, values, self.n_cols)

    def rows(self) -> Tensor:
        """Return the (nnz,) int64 row of each entry."""
        numbers = torch.arange(len(self), device=self.device)
        return torch.repeat_interleave(numbers, self.indptr.diff(), output_size=len(self.indices))

    def dense(self) -> Tensor:
        """Return the (n, n_cols) matrix, differentiable in the values."""
        out = torch.zeros(self.shape, dtype=self.dtype, device=self.device)
        return out.index_put((self.rows(), self.indices.long()), self.values)

    def to_csr(self) -> sp.csr_array:
        """Return a SciPy matrix; `pyrec.data.as_csr` takes a Csr by this."""
        import scipy.sparse as sp

        parts = (t.detach().cpu().numpy() for t in (self.values, self.indices, self.indptr))
        return sp.csr_array(tuple(parts), shape=(len(self), self.n_cols))


class Sequences:
    """Item numbers of each user in order, as tensors: a batch for networks to which order counts.

    Parameters
    ----------
    items : (steps,) int64
        One user's items after the other's; a number may come again.
    offsets : (n + 1,) int64
        User ``u`` has ``items[offsets[u]:offsets[u + 1]]``.
    n_items : int
    """

    __slots__ = ("items", "n_items", "offsets")

    def __init__(self, items: Tensor, offsets: Tensor, n_items: int) -> None:
        self.items, self.offsets = items, offsets
        self.n_items = int(n_items)

    @classmethod
    def from_arrays(cls, offsets: NDArray[Any], items: NDArray[Any], n_items: int) -> Sequences:
        """Take offsets and items as `pyrec.Histories` has them."""
        tensors = [_tensor(np.asarray(array, np.int64)) for array in (items, offsets)]
        return cls(tensors[0], tensors[1], n_items)

    @classmethod
    def from_dense(cls, items: Tensor, n_items: int) -> Sequences:
        """Take the item numbers of users who have the same number each, (n, steps)."""
        n, steps = items.shape
        offsets = torch.arange(n + 1, device=items.device) * steps
        return cls(items.reshape(-1).long(), offsets, n_items)

    @property
    def shape(self) -> torch.Size:
        """(n, n_items), as of the histories' matrix."""
        return torch.Size((len(self), self.n_items))

    @property
    def device(self) -> torch.device:
        return self.items.device

    @property
    def n_steps(self) -> int:
        """How many items the users have together."""
        return len(self.items)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __repr__(self) -> str:
        return (
            f"Sequences({len(self):,} users, {self.n_steps:,} of {self.n_items:,} items, "
            f"{self.device})"
        )

    def to(self, device: torch.device | str) -> Sequences:
        """Return the same sequences on a device."""
        return Sequences(self.items.to(device), self.offsets.to(device), self.n_items)

    def __getitem__(self, users: slice) -> Sequences:
        """Return the sequences of consecutive users; views of the items."""
        first, stop, step = users.indices(len(self))
        if step != 1:
            raise ValueError(f"sequences are sliced in steps of 1, got {step}")
        offsets = self.offsets[first : max(first, stop) + 1]
        items = self.items[int(offsets[0]) : int(offsets[-1])]
        return Sequences(items, offsets - offsets[0], self.n_items)

    def parts(self, most: int) -> list[slice]:
        """Divide the users: each part has at most so many items, or is one user."""
        ends = self.offsets.cpu().numpy()
        parts, begin = [], 0
        while begin < len(self):
            end = int(np.searchsorted(ends, ends[begin] + most, "right")) - 1
            parts.append(slice(begin, max(end, begin + 1)))
            begin = parts[-1].stop
        return parts or [slice(0, 0)]


def _tensor(array: NDArray[Any]) -> Tensor:
    """Share the array, unless it is read-only, as those are that lie in Arrow's memory."""
    return torch.from_numpy(array if array.flags.writeable else array.copy())


class Logits(_Lazy):
    """Logits ``h @ weight.T + bias``, not yet multiplied out.

    Parameters
    ----------
    h : (n, r) tensor
    weight : (n_items, r) tensor
    bias : (n_items,) tensor, optional
    """

    __slots__ = ("bias", "h", "weight")

    def __init__(self, h: Tensor, weight: Tensor, bias: Tensor | None = None) -> None:
        self.h, self.weight, self.bias = h, weight, bias

    @property
    def shape(self) -> torch.Size:
        """(n, n_items)"""
        return torch.Size((len(self.h), len(self.weight)))

    def __len__(self) -> int:
        return len(self.h)

    def __repr__(self) -> str:
        return f"Logits({len(self):,} x {len(self.weight):,}, rank {self.weight.shape[1]:,})"

    def dense(self) -> Tensor:
        """Return the (n, n_items) matrix."""
        return torch.nn.functional.linear(self.h, self.weight, self.bias)
