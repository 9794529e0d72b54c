"""Item-item weights packed for `topk_dense_weights`."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pyrec import _core
from pyrec.files import StrPath, atomic_write
from pyrec.kernels.arrays import describe
from pyrec.kernels.threads import n_threads as resolve_threads
from pyrec.serialization import release_pages

__all__ = ["PackedWeights", "pack_in_file", "pack_weights"]

# Rows packed by one native call.
_PIECE = 1024

PackedType = Literal["float32", "bfloat16"]


class PackedWeights:
    """Item-item weights in the layout that `topk_dense_weights` reads fastest.

    Parameters
    ----------
    buffer : 1-D uint8 array
        What `pack_weights` filled, or a copy of it: in memory, or mapped from a file by several
        processes. Borrowed and never modified. Starting at a multiple of 64 bytes it is read
        fastest.
    n_items : int
    dtype : "float32" or "bfloat16"
        As they were packed.

    Raises
    ------
    ValueError
        If the buffer has another size than `nbytes`.
    """

    def __init__(
        self, buffer: NDArray[np.uint8], n_items: int, dtype: PackedType = "float32"
    ) -> None:
        wanted = self.nbytes(n_items, dtype)
        if not isinstance(buffer, np.ndarray) or buffer.dtype != np.uint8 or buffer.ndim != 1:
            raise TypeError(f"buffer must be a uint8 array of 1 dimension, got {describe(buffer)}")
        if buffer.size != wanted:
            raise ValueError(
                f"buffer must have {wanted} bytes for {n_items} items in {dtype}, got {buffer.size}"
            )
        self.buffer, self.n_items, self.dtype = buffer, n_items, dtype

    @property
    def shape(self) -> tuple[int, int]:
        """(n_items, n_items), as of the weights."""
        return self.n_items, self.n_items

    @staticmethod
    def nbytes(n_items: int, dtype: PackedType = "float32") -> int:
        """Return the size of the buffer: that of the weights in this type, and 2 or 3 % more."""
        size: int = _core.packed_weights_bytes(n_items, _is_bfloat16(dtype))
        return size


def pack_weights(
    weights: NDArray[np.float32],
    *,
    dtype: PackedType = "float32",
    out: NDArray[np.uint8] | None = None,
    release: bool = False,
    n_threads: int | None = None,
) -> PackedWeights:
    """Pack item-item weights for `topk_dense_weights`.

    Packing takes as long as scoring some ten thousand histories with plain weights: worth it for
    more of them, or where the packed weights are kept.

    Parameters
    ----------
    weights : (m, m) float32 array
        Row i is what item i adds to every item's score.
    dtype : "float32" or "bfloat16"
        float32 gives the very scores of the plain weights. bfloat16 rounds each weight to 8
        significant bits: half the memory, and faster.
    out : 1-D uint8 array of ``PackedWeights.nbytes(m, dtype)``, optional
        Where to, such as a writable ``np.memmap``. By default new memory.
    release : bool
        Let the pages go of weights that are mapped from a file, bit by bit as they are packed, so
        that memory never holds both. What has been written to a private mapping is lost.

    Returns
    -------
    PackedWeights
    """
    w = np.ascontiguousarray(weights, dtype=np.float32)
    bfloat16 = _is_bfloat16(dtype)
    if out is None:
        out = _aligned(PackedWeights.nbytes(len(w), dtype))
    for first in range(0, max(1, len(w)), _PIECE):
        last = min(first + _PIECE, len(w))
        _core.pack_weights(w, out, bfloat16, first, last, resolve_threads(n_threads))
        if release:
            release_pages(w)
    return PackedWeights(out, len(w), dtype)


def pack_in_file(
    weights: NDArray[np.float32],
    path: StrPath,
    *,
    dtype: PackedType = "float32",
    release: bool = False,
    n_threads: int | None = None,
) -> PackedWeights:
    """Pack item-item weights in a file that processes of a machine share, each mapping it.

    The first process makes it, the others wait, and take it as it is: its name must say whose weights
    these are.

    Parameters
    ----------
    weights, dtype, release, n_threads
        As in `pack_weights`.
    path : path
        A second file, with ``.lock`` at its end, is left beside it.
    """
    path = Path(path)
    size = PackedWeights.nbytes(len(weights), dtype)
    with path.with_name(path.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            with atomic_write(path) as temporary:
                _reserve(temporary, size)
                out = np.memmap(temporary, np.uint8, "r+", shape=(size,))
                pack_weights(
                    weights, dtype=dtype, out=np.asarray(out), release=release, n_threads=n_threads
                )
                out.flush()
        if path.stat().st_size != size:
            raise ValueError(
                f"{path} does not hold packed weights of {len(weights)} items in {dtype}"
            )
        buffer = np.asarray(np.memmap(path, np.uint8, "r"))
    return PackedWeights(buffer, len(weights), dtype)


def _reserve(path: Path, size: int) -> None:
    """Take room on the disk: without it writing to a mapped file would end the process."""
    with path.open("wb") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error


def _aligned(size: int) -> NDArray[np.uint8]:
    """Return new memory that starts with a cache line, so that no row straddles more than it fills."""
    memory = np.empty(size + 63, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size]


def _is_bfloat16(dtype: Any) -> bool:
    if dtype not in get_args(PackedType):
        raise ValueError(f"dtype must be 'float32' or 'bfloat16', got {dtype!r}")
    return bool(dtype == "bfloat16")
