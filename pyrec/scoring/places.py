"""Where users are read from and recommendations go: folders of this machine, or an object store."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from pyrec.files import StrPath, atomic_write

__all__ = ["Place"]


class Place(NamedTuple):
    """A file or a folder, of this machine or of an object store.

    Of an object store only text is kept, so a place can be sent to other machines, which use their
    own credentials.

    Attributes
    ----------
    root : str
        A local path, or a URI (``s3://bucket/folder``, ``gs://...``) with what its query says.
    name : str
        A file in the folder `root`; empty for `root` itself.
    """

    root: str
    name: str = ""

    @classmethod
    def of(cls, place: StrPath) -> Place:
        """Return the place that a path or a URI means; ``file://`` is a local path."""
        text = str(place)
        if not re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text):
            return cls(text)
        uri = urlsplit(text)
        return cls(unquote(uri.path)) if uri.scheme == "file" else cls(text)

    @property
    def is_local(self) -> bool:
        return "://" not in self.root

    @property
    def path(self) -> Path:
        """The local path."""
        return Path(self.root, self.name)

    @property
    def base_name(self) -> str:
        if self.name:
            return self.name
        return PurePosixPath(self.root if self.is_local else urlsplit(self.root).path).name

    def absolute(self) -> Place:
        """Return the same place in words that do not depend on the current folder."""
        return self._replace(root=os.path.abspath(self.root)) if self.is_local else self

    def __str__(self) -> str:
        if self.is_local:
            return str(self.path)
        uri = urlsplit(self.root)  # without user, password and query, which may hold keys
        path = PurePosixPath(uri.netloc.rpartition("@")[2] + uri.path, self.name)
        return f"{uri.scheme}://{path}"

    def __truediv__(self, name: str) -> Place:
        return self._replace(name=str(PurePosixPath(self.name, name)))

    def size(self) -> int | None:
        """Return the bytes of the file; None when there is no file here."""
        if self.is_local:
            return self.path.stat().st_size if self.path.is_file() else None
        info = self._info()
        return int(info.size) if info.is_file else None

    def is_folder(self) -> bool:
        return self.path.is_dir() if self.is_local else self._info().type.name == "Directory"

    def names(self, pattern: str) -> list[str]:
        """Return the sorted names of the files in this folder that fit `pattern`."""
        if self.is_local:
            found = [path.name for path in self.path.glob(pattern)]
        else:
            from pyarrow.fs import FileSelector

            filesystem, path = self._opened()
            entries = filesystem.get_file_info(FileSelector(path, allow_not_found=True))
            found = [e.base_name for e in entries if e.is_file and fnmatch(e.base_name, pattern)]
        return sorted(found)

    def matches(self) -> list[Place]:
        """Return the sorted files that this place, a pattern such as ``folder/*.parquet``, fits.

        In an object store the last part of the path only may be a pattern.
        """
        if self.is_local:
            return [Place(name) for name in sorted(glob.glob(str(self.path)))]
        uri = urlsplit(self.root)
        folder, _, pattern = uri.path.rpartition("/")
        parent = Place(uri._replace(path=folder).geturl())
        return [parent / name for name in parent.names(pattern)]

    def make_folder(self) -> None:
        """Make this folder unless it is there; the folder that a local one lies in must exist."""
        if not self.is_local:
            filesystem, path = self._opened()
            filesystem.create_dir(path, recursive=True)
            return
        if self.path.exists() and not self.path.is_dir():
            raise NotADirectoryError(f"{self} must be a folder, it is a file")
        if not self.path.parent.is_dir():
            parent = self.path.parent
            raise FileNotFoundError(f"cannot make the folder {self}: {parent} does not exist")
        self.path.mkdir(exist_ok=True)

    def source(self) -> Any:
        """Return what `pyarrow.parquet.ParquetFile` reads this file from."""
        if self.is_local:
            return str(self.path)
        filesystem, path = self._opened()
        return filesystem.open_input_file(path)

    def read(self) -> bytes:
        """Return the content of this small file."""
        if self.is_local:
            return self.path.read_bytes()
        with self.source() as file:
            return bytes(file.read())

    @contextmanager
    def writing(self) -> Iterator[Any]:
        """Yield what `pyarrow.parquet.ParquetWriter` writes to; the file is there when the block ends.

        A local file is written under a temporary name and renamed. An object store shows an object
        when its upload has ended; where that is not so, a reader must recognise the whole file.
        """
        if self.is_local:
            with atomic_write(self.path) as temporary:
                yield str(temporary)
            return
        filesystem, path = self._opened()
        stream = filesystem.open_output_stream(path)
        try:
            yield stream
            stream.close()
        except BaseException:
            # To end an upload is the only way to be rid of it.
            with suppress(OSError):
                stream.close()
            with suppress(OSError):
                filesystem.delete_file(path)
            raise

    def write(self, data: bytes) -> None:
        """Write this small file whole or not at all."""
        with self.writing() as sink:
            if self.is_local:
                Path(sink).write_bytes(data)
            else:
                sink.write(data)

    def _opened(self) -> tuple[Any, str]:
        filesystem, path = _filesystem(self.root)
        return filesystem, str(PurePosixPath(path, self.name))

    def _info(self) -> Any:
        filesystem, path = self._opened()
        return filesystem.get_file_info(path)


@lru_cache(maxsize=64)
def _filesystem(root: str) -> tuple[Any, str]:
    """Return pyarrow's file system for a URI, and the path in it."""
    from pyarrow.fs import FileSystem

    filesystem, path = FileSystem.from_uri(root)
    return filesystem, path
