"""Files of arrays: one ``.safetensors`` file with a JSON header, written whole or not at all.

Nothing here is ever unpickled: a file holds numbers and JSON, and loading it runs no code from it.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyrec.files import StrPath, atomic_write
from pyrec.machine import require_memory

__all__ = [
    "FORMAT_VERSION",
    "decode_ids",
    "encode_ids",
    "read_tensors",
    "release_pages",
    "write_tensors",
]

FORMAT_VERSION = 1
_METADATA_KEY = "pyrec"
# What safetensors calls the types that `write_tensors` takes.
_DTYPES = {
    **{f"{kind.upper()}{8 * n}": f"{kind}{n}" for kind in "iuf" for n in (1, 2, 4, 8)},
    "BOOL": "bool",
}


def write_tensors(
    path: StrPath, tensors: Mapping[str, NDArray[Any]], header: Mapping[str, Any]
) -> None:
    """Write arrays and a JSON header as one safetensors file, whole or not at all.

    Contiguous arrays are written from where they lie: no second copy is made in memory.

    Parameters
    ----------
    path : path
        The file; its folder must exist.
    tensors : dict of str to array
        Any shapes; integer, float and bool dtypes.
    header : dict
        JSON values (NumPy scalars allowed); ``format`` names the kind of file. ``version`` is
        added, ``FORMAT_VERSION``.

    Raises
    ------
    FileNotFoundError, IsADirectoryError, PermissionError
        The file cannot be written (see `atomic_write`).
    TypeError
        A header value that JSON cannot hold, or an array of strings or objects.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    # safetensors takes the address and the size of an array and ignores its strides: a transposed
    # array would be stored wrongly, without an error.
    arrays = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf":
            raise TypeError(f"{name} must be an array of numbers, got dtype {array.dtype}")
    complete = {"version": FORMAT_VERSION, **header}
    metadata = {_METADATA_KEY: json.dumps(complete, default=_plain_value)}
    with atomic_write(path) as temporary:
        try:
            save_file(arrays, temporary, metadata=metadata)
        except SafetensorError as error:  # its name for a full disk
            raise OSError(f"cannot write {path}: {error}") from error


def read_tensors(
    path: StrPath, expected_format: str, *, memory_map: bool = False
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Read a file that `write_tensors` wrote.

    Memory: the arrays themselves.

    Parameters
    ----------
    path : path
        The file.
    expected_format : str
        The ``format`` that the header must name.
    memory_map : bool, default False
        Map the file instead of reading it: processes that map the same file share one copy in
        memory, and a page is loaded when it is first used.

    Returns
    -------
    tensors : dict of str to array
        Writable arrays in memory of their own; mapped ones take it page by page as they are
        written to, and the file never changes.
    header : dict
        The JSON header, ``format`` and ``version`` included.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        The file is truncated, not written by pyrec, of another format or of a newer version; the
        message names the file and says which.
    MemoryError
        The arrays are larger than the memory that is available.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    if path.is_dir():
        raise ValueError(f"{path} is a folder, not a pyrec file")
    try:
        # pread, because a memory map would count every page of the file a second time.
        with safe_open(path, framework="np", backend="pread") as file:
            header = _parse_header(path, (file.metadata() or {}).get(_METADATA_KEY))
            _check_format(path, header, expected_format)
            if memory_map:
                return _mapped(path), header
            require_memory(path.stat().st_size, f"{path} needs memory for its arrays")
            return {name: file.get_tensor(name) for name in file.keys()}, header  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(_unreadable(path, str(error))) from error


def release_pages(array: NDArray[Any]) -> None:
    """Let the memory of an array go that is mapped from a file: its pages are read again when used.

    What has been written to a private mapping, such as that of `read_tensors`, is lost. Nothing
    happens to arrays in memory of their own.
    """
    owner: Any = array
    while isinstance(owner, np.ndarray) and owner.base is not None:
        owner = owner.base
    if isinstance(owner, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        owner.madvise(mmap.MADV_DONTNEED)


def encode_ids(name: str, ids: NDArray[Any] | None) -> dict[str, NDArray[Any]]:
    """Turn an id array into arrays of numbers that `write_tensors` takes.

    Parameters
    ----------
    name : str
        What the arrays are called: ``name`` for integers; ``name.bytes`` (UTF-8) and
        ``name.offsets`` (int64, n + 1) for strings.
    ids : (n,) integers or strings, or None
        None gives no arrays.

    Raises
    ------
    TypeError
        Ids that are neither integers nor strings.
    """
    if ids is None:
        return {}
    ids = np.asarray(ids)
    if ids.ndim != 1:
        raise ValueError(f"{name} must have one dimension, got shape {ids.shape}")
    if ids.dtype.kind in "iu":
        if ids.dtype == np.uint64 and len(ids) and ids.max() > np.iinfo(np.int64).max:
            raise ValueError(f"{name} must fit in int64, got {ids.max()}")
        return {name: ids.astype(np.int64, copy=False)}
    if ids.dtype.kind not in "OUT":
        raise TypeError(f"{name} must hold integers or strings, got dtype {ids.dtype}")

    import pyarrow as pa

    try:
        strings = pa.array(ids.astype(object), pa.large_string())
    except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
        raise TypeError(f"{name} must hold integers or strings: {error}") from error
    if strings.null_count:
        raise TypeError(f"{name} must hold integers or strings, got {strings.null_count} nulls")
    _, offsets, data = strings.buffers()
    n_bytes = 0 if data is None else data.size
    return {
        f"{name}.bytes": np.frombuffer(data, np.uint8) if n_bytes else np.empty(0, np.uint8),
        f"{name}.offsets": np.frombuffer(offsets, np.int64, count=len(ids) + 1),
    }


def decode_ids(name: str, tensors: Mapping[str, NDArray[Any]]) -> NDArray[Any] | None:
    """Return the ids that `encode_ids` stored under ``name``, or None where there are none.

    Returns
    -------
    (n,) int64, or (n,) object array of str, or None

    Raises
    ------
    ValueError
        The arrays are not what `encode_ids` writes.
    """
    if name in tensors:
        ids = tensors[name]
        if ids.dtype != np.int64 or ids.ndim != 1:
            raise ValueError(f"{name} must be (n,) int64, got {ids.dtype} of shape {ids.shape}")
        return ids
    if f"{name}.offsets" not in tensors or f"{name}.bytes" not in tensors:
        return None
    offsets, data = tensors[f"{name}.offsets"], tensors[f"{name}.bytes"]
    if offsets.dtype != np.int64 or data.dtype != np.uint8 or offsets.ndim != 1 or len(offsets) < 1:
        raise ValueError(f"{name} must be UTF-8 bytes (uint8) with int64 offsets")
    if offsets[0] != 0 or offsets[-1] != len(data) or np.any(np.diff(offsets) < 0):
        raise ValueError(f"{name}.offsets must rise from 0 to the number of bytes, {len(data)}")

    import pyarrow as pa

    strings = pa.LargeStringArray.from_buffers(
        len(offsets) - 1, pa.py_buffer(offsets), pa.py_buffer(data)
    )
    try:
        strings.validate(full=True)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{name}.bytes must be UTF-8: {error}") from error
    return np.asarray(strings.to_numpy(zero_copy_only=False), dtype=object)


def _mapped(path: Path) -> dict[str, NDArray[Any]]:
    """Map the arrays of a file whose header safetensors has checked."""
    with path.open("rb") as file:
        begin = 8 + int.from_bytes(file.read(8), "little")
        entries = json.loads(file.read(begin - 8))
    data = np.empty(0, np.uint8)
    if path.stat().st_size > begin:
        # "c": private to this process where it writes; torch takes no read-only arrays.
        data = np.asarray(np.memmap(path, np.uint8, "c", begin))
    tensors = {}
    for name, entry in entries.items():
        if name != "__metadata__":
            first, stop = entry["data_offsets"]
            array = data[first:stop].view(_DTYPES[entry["dtype"]]).reshape(entry["shape"])
            tensors[name] = np.require(array, requirements="A")
    return tensors


def _parse_header(path: Path, text: str | None) -> dict[str, Any]:
    header = None
    with suppress(json.JSONDecodeError):
        header = json.loads(text or "null")
    if isinstance(header, dict):
        return header
    raise ValueError(f"{path} is a safetensors file that pyrec did not write: no pyrec header")


def _check_format(path: Path, header: dict[str, Any], expected: str) -> None:
    found, version = header.get("format"), header.get("version")
    if found != expected:
        raise ValueError(f"{path} is a file of the format {found!r}, expected {expected!r}")
    if not isinstance(version, int) or version < 1:
        raise ValueError(f"{path} has the format version {version!r}, expected a number from 1")
    if version > FORMAT_VERSION:
        raise ValueError(
            f"{path} has the format version {version}; this pyrec reads versions up to "
            f"{FORMAT_VERSION}: install a newer pyrec"
        )


def _unreadable(path: Path, reason: str) -> str:
    with path.open("rb") as file:
        start = file.read(9)
    # Eight bytes of length, then the JSON header: what starts like that was cut off later.
    if len(start) <= 8 or (start[8:] == b"{" and int.from_bytes(start[:8], "little") < 1 << 27):
        return f"{path} is truncated: it ends after {path.stat().st_size:,} bytes ({reason})"
    return f"{path} is not a pyrec file: it has no safetensors header ({reason})"


def _plain_value(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a header holds JSON values only, got {type(value).__name__}")
