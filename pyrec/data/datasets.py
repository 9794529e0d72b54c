"""Data sets by name, found on this machine or fetched from their publisher, and simulated ones."""

from __future__ import annotations

import logging
import os
import re
import shutil
from pathlib import Path
from typing import Any

from pyrec.files import atomic_write

from .interactions import Interactions
from .reading import read_interactions
from .simulation import simulate, simulated_genres

__all__ = ["load", "simulate", "simulated_genres"]

_NAMES = ("ml-100k", "ml-1m", "ml-10m", "ml-20m", "ml-25m", "ml-32m", "ml-latest-small")
_GROUPLENS = "https://files.grouplens.org/datasets/movielens"
_RATINGS = ("ratings.parquet", "ratings.csv", "ratings.dat", "u.data")
_ITEMS = ("movies.csv", "movies.dat", "u.item")
_TERMS = (
    "GroupLens lends MovieLens data for research: no redistribution without permission, no "
    "commercial use; the README inside %s has the terms"
)
_TIMEOUT_S = 30

_log = logging.getLogger(__name__)


def load(
    name: str, min_rating: float | None = None, *, url: str = _GROUPLENS, **options: Any
) -> Interactions:
    """Read a MovieLens data set, and download it first where this machine does not have it.

    The ratings file (``ratings.parquet``, ``ratings.csv``, ``ratings.dat``, ``u.data`` or
    ``<name>.inter``) is looked for in the folder ``<name>`` of ``$PYREC_DATA``, then of
    ``$XDG_CACHE_HOME/pyrec`` (``~/.cache/pyrec``). A download goes there, after its MD5 was
    compared with the publisher's.

    Parameters
    ----------
    name : {"ml-100k", "ml-1m", "ml-10m", "ml-20m", "ml-25m", "ml-32m", "ml-latest-small"}
    min_rating : float, optional
        Drop lower ratings.
    url : str, optional
        Where ``<name>.zip`` and ``<name>.zip.md5`` lie.
    **options
        What else `read_interactions` takes.

    Raises
    ------
    ValueError
        If the name is unknown.
    FileNotFoundError
        If the data set is neither here nor can be fetched; says which file to put where.
    OSError
        If what was fetched is not what the publisher's checksum names; nothing is kept.
    """
    if name not in _NAMES:
        raise ValueError(f"name must be one of {', '.join(_NAMES)}; got {name!r}")
    folders = _folders(name)
    path = _find(name, folders)
    if path is None:
        _fetch(name, folders, url)
        path = _find(name, folders[-1:])
    assert path is not None
    return read_interactions(path, min_rating=min_rating, **options)


def _folders(name: str) -> list[Path]:
    """Where the data set may lie; the last one is where it is kept."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    given = os.environ.get("PYREC_DATA")
    return [*([Path(given) / name] if given else []), cache / "pyrec" / name]


def _find(name: str, folders: list[Path]) -> Path | None:
    files = (folder / file for folder in folders for file in (*_RATINGS, f"{name}.inter"))
    return next((path for path in files if path.is_file()), None)


def _fetch(name: str, folders: list[Path], url: str) -> None:
    from http.client import HTTPException  # the network's modules are slow to import

    address, target = f"{url}/{name}.zip", folders[-1]
    target.parent.mkdir(parents=True, exist_ok=True)
    archive = target.parent / f".{name}.{os.getpid()}.zip.part"
    try:
        try:
            with _get(f"{address}.md5") as response:
                expected = _checksum(response.read(10_000).decode("ascii", "replace"))
            got = _download(address, archive)
        except (OSError, HTTPException) as error:
            raise FileNotFoundError(
                f"{name} is not on this machine and {address} cannot be fetched ({error}). Put its "
                f"ratings file, {' or '.join(_RATINGS)}, into "
                f"{' or '.join(str(folder) for folder in folders)}; or set PYREC_DATA to the "
                f"folder that holds {name}/"
            ) from error
        if got != expected:
            raise OSError(
                f"{address} came damaged or incomplete ({archive.stat().st_size:,} bytes): its MD5 "
                f"is {got}, the publisher's {address}.md5 says {expected}. Nothing was kept; try "
                "again"
            )
        _unpack(archive, target, address)
    finally:
        archive.unlink(missing_ok=True)
    _log.warning(_TERMS, address)


def _get(address: str) -> Any:
    from urllib.error import HTTPError
    from urllib.request import urlopen

    try:
        return urlopen(address, timeout=_TIMEOUT_S)
    except HTTPError as error:
        error.close()  # it holds the connection
        raise


def _download(address: str, path: Path) -> str:
    """Write what lies at ``address`` to ``path``; return its MD5."""
    from hashlib import md5

    from tqdm import tqdm

    digest = md5(usedforsecurity=False)
    with _get(address) as response, path.open("wb") as file:
        size = int(response.headers.get("Content-Length") or 0) or None
        # disable=None: no bar where nobody watches a terminal.
        with tqdm(total=size, unit="B", unit_scale=True, desc=address, disable=None) as bar:
            while chunk := response.read(1 << 20):
                file.write(chunk)
                digest.update(chunk)
                bar.update(len(chunk))
    return digest.hexdigest()


def _checksum(text: str) -> str:
    """The MD5 in "hash  file" or "MD5 (file) = hash"."""
    found = re.search(r"\b[0-9a-fA-F]{32}\b", text)
    if not found:
        raise OSError(f"its .md5 file holds no MD5: {text[:80]!r}")
    return found.group().lower()


def _unpack(archive: Path, target: Path, address: str) -> None:
    """Write the files wanted, by their own names only, the ratings last: they mean "complete"."""
    from zipfile import ZipFile

    with ZipFile(archive) as opened:
        members = {Path(member).name: member for member in opened.namelist()}
        ratings = [file for file in _RATINGS if file in members]
        if not ratings:
            raise OSError(f"{address} holds none of {', '.join(_RATINGS)}")
        target.mkdir(exist_ok=True)
        for file in [*(file for file in _ITEMS if file in members), ratings[0]]:
            with (
                atomic_write(target / file) as temporary,
                opened.open(members[file]) as source,
                temporary.open("wb") as sink,
            ):
                shutil.copyfileobj(source, sink, 1 << 20)
