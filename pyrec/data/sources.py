"""The tables that interactions are read from: text and Parquet files, and frames."""

from __future__ import annotations

import glob
import gzip
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

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
    if hasattr(source, "__arrow_c_stream__"):
        yield _frame(source)
        return
    for path in _paths(source):
        suffix = (path.with_suffix("") if path.suffix == ".gz" else path).suffix.lower()
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
            f"Arrow, got {type(source).__name__}"
        )
    path = Path(source).expanduser()
    if path.is_dir():
        raise ValueError(f"{path} is a folder; pass its files, for example {path / '*.parquet'}")
    if path.exists():
        return [path]
    found = sorted(map(Path, glob.glob(str(path), recursive=True)))
    if not found:
        raise FileNotFoundError(f"{path} does not exist, and as a pattern it matches no file")
    return found


def _frame(source: Any) -> Table:
    import polars as pl

    label = f"{type(source).__module__.split('.')[0]} {type(source).__name__}"

    def to_polars(frame: Any) -> pl.DataFrame:
        try:
            return pl.DataFrame(frame)
        except (TypeError, ValueError, pl.exceptions.PolarsError) as error:
            raise TypeError(f"{label} could not be taken as Arrow columns: {error}") from error

    if hasattr(source, "iloc"):  # pandas converts column by column: only those needed, then
        columns = [name for name in source.columns if isinstance(name, str)]
        return Table(label, columns, lambda names: to_polars(source[names]))
    frame = to_polars(source)
    return Table(label, frame.columns, frame.select)


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
            line = file.readline(1 << 20).decode("utf-8-sig", errors="replace").rstrip("\r\n")
    except (EOFError, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} could not be decompressed: {error}") from error
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


def typed(column: pl.Series, is_id: bool) -> pl.Series:
    """A column of a text file as numbers, where each value is one; an id must also print the same.

    What stays text has no spaces around it.
    """
    numbers = _numbers(column, is_id)
    if numbers is None:
        column = column.str.strip_chars().replace("", None)
        numbers = _numbers(column, is_id)
    return column if numbers is None else numbers


def _numbers(column: pl.Series, is_id: bool) -> pl.Series | None:
    import polars as pl

    for dtype in (pl.Int64,) if is_id else (pl.Int64, pl.Float64):
        numbers = column.cast(dtype, strict=False)
        if numbers.null_count() == column.null_count() and (
            not is_id or (numbers.cast(pl.String) == column).all()
        ):
            return numbers
    return None


@contextmanager
def _naming(path: Path, kind: str) -> Iterator[None]:
    import polars as pl

    try:
        yield
    except pl.exceptions.PolarsError as error:
        cause = str(error).splitlines()[0]
        raise ValueError(f"{path} could not be read as {kind}: {cause}") from error


def _plain(name: str) -> str:
    return name.split(":")[0].lower().translate(str.maketrans("", "", "_- "))


def guess(role: str, columns: Iterable[str]) -> list[str]:
    """Return the columns whose name usually means ``role``."""
    return [column for column in columns if _plain(column) in _USUAL_NAMES[role].split()]
