"""The tables that interactions are read from: text and Parquet files, and frames."""

from __future__ import annotations

import glob
import gzip
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .csr import kind_of

if TYPE_CHECKING:
    import polars as pl

ROLES = ("user", "item", "rating", "timestamp")
# Compared in lower case, without "_", "-" and spaces, and without RecBole's ":type".
_USUAL_NAMES = {
    "user": "user users userid uid u customer customerid visitor visitorid member memberid "
    "reviewer reviewerid account accountid",
    "item": "item items itemid iid i sid movie movieid product productid asin article articleid "
    "artist artistid track trackid song songid book bookid isbn game gameid",
    "rating": "rating ratings score stars overall weight count plays playcount",
    "timestamp": "timestamp time ts t date datetime createdat eventtime unixreviewtime",
}
_TEXT = {".csv", ".tsv", ".txt", ".dat", ".data", ".inter", ".base", ".test", ".rating"}
_PARQUET = {".parquet", ".pq"}


class Table(NamedTuple):
    """Something with columns; ``load`` reads those named, all as text from a text file."""

    label: str
    columns: list[str]
    load: Callable[[list[str]], pl.DataFrame]
    is_text: bool = False


def tables(source: Any) -> Iterator[Table]:
    """Yield the tables of a path, a glob, a list of them, or a frame."""
    if hasattr(source, "__arrow_c_stream__") and len(getattr(source, "shape", "nm")) == 2:
        yield _frame(source)
        return
    for path in _paths(source):
        suffix = _suffix(path)
        if suffix in _PARQUET:
            yield _parquet(path)
        elif suffix in _TEXT:
            yield _text(path)
        else:
            raise ValueError(
                f"{path}: unknown extension {suffix!r}; expected one of "
                f"{', '.join(sorted(_PARQUET | _TEXT))}"
            )


def _paths(source: Any) -> list[Path]:
    if isinstance(source, (list, tuple)) and source:
        return [path for entry in source for path in _paths(entry)]
    if not isinstance(source, (str, Path)):
        raise TypeError(
            "source must be a path, a glob, a non-empty list of them, or a frame that exports "
            f"Arrow, got {kind_of(source)}"
        )
    path = Path(source).expanduser()
    if path.is_dir():
        raise ValueError(f"{path} is a folder; {_advice(path)}")
    if path.exists():
        return [path]
    found = sorted(map(Path, glob.glob(str(path), recursive=True)))
    if not found:
        raise FileNotFoundError(f"{path} does not exist, and as a pattern it matches no file")
    return found


def _suffix(path: Path) -> str:
    return (path.with_suffix("") if path.suffix == ".gz" else path).suffix.lower()


def _advice(folder: Path) -> str:
    """Which of its files to read."""
    for path in sorted(folder.iterdir()):
        if _suffix(path) in _PARQUET | _TEXT:
            ends = path.suffixes[-2:] if path.suffix == ".gz" else [path.suffix]
            return f"pass its files, for example {folder / ('*' + ''.join(ends))}"
    return f"none of its files ends in one of {', '.join(sorted(_PARQUET | _TEXT))}"


def _frame(source: Any) -> Table:
    import polars as pl

    label = kind_of(source)
    if hasattr(source, "iloc"):  # pandas converts column by column: only those needed, then
        columns = [name for name in source.columns if isinstance(name, str)]
        return Table(
            label, columns, lambda names: pl.DataFrame([_from_pandas(source, n) for n in names])
        )
    try:
        frame = pl.DataFrame(source)
    except (TypeError, ValueError, pl.exceptions.PolarsError) as error:
        raise TypeError(f"{label} could not be taken as Arrow columns: {error}") from error
    return Table(label, frame.columns, frame.select)


def _from_pandas(frame: Any, name: str) -> pl.Series:
    import polars as pl

    try:
        return pl.DataFrame(frame[[name]]).to_series()
    except (TypeError, ValueError, pl.exceptions.PolarsError):  # values of several types
        return pl.Series(name, list(frame[name]), pl.Object)


def _parquet(path: Path) -> Table:
    import polars as pl

    with _naming(path, "Parquet"):
        scan = pl.scan_parquet(path, glob=False)
        columns = scan.collect_schema().names()

    def load(names: list[str]) -> pl.DataFrame:
        with _naming(path, "Parquet"):
            return scan.select(names).collect()

    return Table(str(path), columns, load)


def _text(path: Path) -> Table:
    import polars as pl

    first = _first_line(path)
    separator = next((s for s in ("::", "\t", ",", ";", " ") if s in first), ",")
    fields = [field.strip("\"' ") for field in first.split(separator)]
    named = all(guess(role, fields) for role in ("user", "item"))
    # A "::" file has no header unless it says user and item; others have one unless they count.
    header = named or not (separator == "::" or all(f.isdecimal() for f in fields[:2]))
    names = fields if header else [*ROLES, *(f"column {n}" for n in range(5, 99))][: len(fields)]
    kind = f"text separated by {separator!r}"

    def scan() -> pl.LazyFrame:
        # All as text: a column is judged by all of its rows, and the id 007 is not 7.
        options: Any = {"infer_schema": False, "encoding": "utf8-lossy", "glob": False}
        if separator == "::":
            frame = pl.scan_csv(
                path, separator=":", has_header=False, skip_rows=int(header), **options
            )
            return _between_colons(frame, path, names)
        frame = pl.scan_csv(path, separator=separator, has_header=header, **options)
        return _renamed(frame, names if not header else None)

    def load(columns: list[str]) -> pl.DataFrame:
        with _naming(path, kind):
            return scan().select(columns).collect()

    if header and separator != "::":
        with _naming(path, kind):
            names = scan().collect_schema().names()
    return Table(str(path), names, load, is_text=True)


def _first_line(path: Path) -> str:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            head, first = file.peek(1024), file.readline(1 << 20)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} could not be decompressed: {error}") from error
    if re.search(rb"[\0-\x08\x0e-\x1f]", first) or b"\0" in head:
        kind = " but UTF-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
        raise ValueError(f"{path} is not UTF-8 text{kind}: it starts with {head[:16]!r}")
    line = first.decode("utf-8-sig", errors="replace").rstrip("\r\n")
    if not line.strip():
        raise ValueError(f"{path} is empty or starts with an empty line; expected interactions")
    return line


def _renamed(frame: pl.LazyFrame, names: list[str] | None = None) -> pl.LazyFrame:
    """By default only without the spaces around the names."""
    old = frame.collect_schema().names()
    return frame.rename(dict(zip(old, names or map(str.strip, old), strict=False)))


def _between_colons(frame: pl.LazyFrame, path: Path, names: list[str]) -> pl.LazyFrame:
    """``a::b`` as polars sees it with ``:`` as separator: every second column must be empty."""
    import polars as pl

    columns = frame.collect_schema().names()
    gaps = [pl.col(column).is_not_null().any() for column in columns[1::2]]
    if len(columns) != 2 * len(names) - 1 or any(frame.select(gaps).collect().row(0)):
        raise ValueError(f"{path}: expected fields separated by '::', without ':' inside them")
    return _renamed(frame.select(columns[::2]), names)


@contextmanager
def _naming(path: Path, kind: str) -> Iterator[None]:
    import polars as pl

    try:
        yield
    except (pl.exceptions.PolarsError, OSError) as error:
        # What the system refuses, unlike what does not decompress, has a number and stays as it is.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        cause = str(error).splitlines()[0]
        raise ValueError(f"{path} could not be read as {kind}: {cause}") from error


def _plain(name: str) -> str:
    return name.split(":")[0].lower().translate(str.maketrans("", "", "_- "))


def guess(role: str, columns: Iterable[str]) -> list[str]:
    """Return the columns whose name usually means ``role``."""
    return [column for column in columns if _plain(column) in _USUAL_NAMES[role].split()]
