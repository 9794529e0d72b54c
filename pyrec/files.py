"""Writing a file or a folder whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["StrPath", "atomic_folder", "atomic_write", "check_place"]

StrPath = str | os.PathLike[str]


@contextmanager
def atomic_write(path: StrPath) -> Iterator[Path]:
    """Yield a temporary name in the folder of ``path``; rename it to ``path`` when the block ends.

    The data and the folder's entry are flushed to the disk (fsync), so after a crash ``path`` is
    the old file or the new one. When the block raises, the temporary file is removed and ``path``
    stays as it was.

    Parameters
    ----------
    path : path
        The file to write; its folder must exist. Of a symbolic link, the file that it leads to.

    Yields
    ------
    Path
        An existing empty file, to be written to or replaced inside the block.

    Raises
    ------
    FileNotFoundError
        The folder does not exist.
    IsADirectoryError, FileExistsError
        ``path`` is a folder, or a device or the like.
    OSError
        The folder cannot be written to.
    """
    path = _regular(path)
    temporary, descriptor = _create_beside(path)
    mode = os.fstat(descriptor).st_mode
    os.close(descriptor)
    try:
        yield temporary
        # A library may have put a file of its own (mode 0600) in the place of the one made here.
        os.chmod(temporary, mode & 0o777)
        _fsync(temporary)
        os.replace(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            temporary.unlink()
        raise
    _fsync(path.parent)


def check_place(path: StrPath) -> None:
    """Raise the error that `atomic_write` would, before the work that makes the file's content.

    Raises
    ------
    FileNotFoundError, IsADirectoryError, FileExistsError, OSError
        As `atomic_write`.
    """
    temporary, descriptor = _create_beside(_regular(path))
    os.close(descriptor)
    temporary.unlink()


def _regular(path: StrPath) -> Path:
    """Return where `path` leads in the end, or raise an error unless a file is or can be there."""
    place = Path(os.path.realpath(path))
    if not place.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: the folder {place.parent} does not exist")
    if place.is_dir():
        raise IsADirectoryError(f"cannot write {path}: it is a folder")
    if place.exists() and not place.is_file():
        raise FileExistsError(f"cannot write {path}: it is a device or the like, no file")
    return place


def _create_beside(path: Path) -> tuple[Path, int]:
    """Make an empty file of a temporary name in the folder of `path`; return it, open."""
    temporary = path.with_name(f".{path.name[:100]}.{secrets.token_hex(6)}.tmp")
    try:
        return temporary, os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    except OSError as error:
        message = (
            f"cannot write {path}: the folder {path.parent} is not writable ({error.strerror})"
        )
        raise type(error)(error.errno, message) from error


@contextmanager
def atomic_folder(path: StrPath) -> Iterator[Path]:
    """Yield a new folder beside ``path``; rename it to ``path`` when the block ends.

    When the block raises, the folder and all that is in it are removed.

    Parameters
    ----------
    path : path
        Does not exist or is an empty folder; the folder that it is in must exist.

    Raises
    ------
    FileExistsError
        ``path`` is a file or a folder that is not empty.
    FileNotFoundError, PermissionError
        The folder cannot be made.
    """
    path = Path(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise FileExistsError(f"{path} already exists: give a new or an empty folder")
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"cannot make the folder {path}: the folder {path.parent} does not exist"
        )
    temporary = path.with_name(f".{path.name[:100]}.{secrets.token_hex(6)}.tmp")
    temporary.mkdir()
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _fsync(path.parent)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
