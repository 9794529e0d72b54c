"""Conditions of items from files and frames."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .columns import as_ids, typed
from .conditions import ItemConditions, pattern
from .reading import _encode
from .sources import Table, _first_line, _paths, _suffix, _text, guess, tables

if TYPE_CHECKING:
    import polars as pl

__all__ = ["read_conditions"]

# What stands in a file for an item without conditions.
_NONE = "(no genres listed)"
_USUAL_NAMES = {
    *("genre", "genres", "class", "classes", "category", "categories", "tag", "tags"),
    *("topic", "topics", "label", "labels", "condition", "conditions"),
}


def read_conditions(
    source: Any,
    *,
    item: str | None = None,
    conditions: str | None = None,
    separator: str | None = None,
) -> ItemConditions:
    """Read which item satisfies which condition, from a file of items.

    Parameters
    ----------
    source : path, glob, list of paths, or frame
        MovieLens' ``movies.dat`` (``id::title::genre|genre``, UTF-8 or Latin-1) and ``movies.csv``,
        RecBole's ``.item``, other text with a header, Parquet, or any object that exports Arrow. An
        item may have several rows.
    item, conditions : str, optional
        Names of columns; guessed from the usual names by default. Conditions are text, integers or,
        in Parquet and frames, lists of them. Ids are read as `read_interactions` reads them.
    separator : str, optional
        What stands between an item's conditions; by default a blank in columns that RecBole calls
        ``token_seq``, ``|`` otherwise.

    Returns
    -------
    ItemConditions
        Items by ascending id, those without a condition included; conditions by ascending name.

    Raises
    ------
    FileNotFoundError
        A file is absent or a glob matches none.
    ValueError, TypeError
        A malformed file, a column that is missing, ambiguous or of the wrong type, or no conditions;
        the message says which.
    """
    import polars as pl

    parts, labels = [], []
    for table in _tables(source):
        parts.append(_read(table, item, conditions, separator))
        labels.append(table.label)
    if len({part["item"].dtype == pl.String for part in parts}) > 1:
        raise ValueError(f"item ids differ in type between {', '.join(labels[:3])}")
    frame = pl.concat(parts, how="vertical_relaxed").drop_nulls("item")
    if not frame["conditions"].list.len().sum():
        raise ValueError(f"{', '.join(labels[:3])}: no item has a condition")
    rows, ids = _encode(frame["item"])
    pairs = frame.select(pl.Series("row", rows), "conditions").explode("conditions").drop_nulls()
    columns, names = _encode(pairs["conditions"])
    return ItemConditions(pattern(pairs["row"], columns, (len(ids), len(names))), names, ids)


def _tables(source: Any) -> Iterator[Table]:
    if not isinstance(source, (str, Path, list, tuple)):
        yield from tables(source)
        return
    for path in _paths(source):
        if _suffix(path) == ".dat" and "::" in _first_line(path):
            yield _between_colons(path)
        elif _suffix(path) == ".item":
            yield _text(path)
        else:
            yield from tables(path)


def _between_colons(path: Path) -> Table:
    """``id::title::genre|genre``; unlike interactions, titles hold single colons."""
    import polars as pl

    fields = _first_line(path).split("::")
    has_header = bool(guess("item", fields[:1]))
    between = [f"column {n}" for n in range(2, len(fields))]
    names = fields if has_header else ["item", *between, "conditions"]

    def load(columns: list[str]) -> pl.DataFrame:
        data = path.read_bytes()
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = data.decode("latin-1")
        lines = [line.rstrip("\r") for line in text.split("\n")[int(has_header) :]]
        rows = pl.Series("", [line for line in lines if line]).cast(pl.String).str.split("::")
        short = rows.filter(rows.list.len() < len(names))
        if len(short):
            raise ValueError(
                f"{path}: expected {len(names)} fields separated by '::', got "
                f"{'::'.join(short[0])[:80]!r}"
            )
        # From the end, but for the first: a title may hold the separator.
        places = {name: n - len(names) if n else 0 for n, name in enumerate(names)}
        return pl.DataFrame([rows.list.get(places[name]).alias(name) for name in columns])

    return Table(str(path), names, load, is_text=True)


def _read(
    table: Table, item: str | None, conditions: str | None, separator: str | None
) -> pl.DataFrame:
    """The columns ``item``, ids, and ``conditions``, lists of strings."""
    import polars as pl

    usual = [name for name in table.columns if _is_usual(name)]
    of_item = _column(table, "item", item, guess("item", table.columns))
    of_conditions = _column(table, "conditions", conditions, usual)
    frame = table.load([of_item, of_conditions])
    try:
        ids = typed(frame[of_item], is_id=True) if table.is_text else frame[of_item]
        return pl.DataFrame(
            {"item": as_ids(ids), "conditions": _lists(frame[of_conditions], separator)}
        )
    except (TypeError, ValueError) as error:
        raise type(error)(f"{table.label}: {error}") from error


def _is_usual(name: str) -> bool:
    return name.split(":")[0].strip().lower() in _USUAL_NAMES


def _column(table: Table, role: str, name: str | None, guessed: list[str]) -> str:
    found = f"columns found: {', '.join(table.columns)}"
    fits = guessed if name is None else [c for c in table.columns if name in (c, c.split(":")[0])]
    if len(fits) == 1:
        return fits[0]
    if name is not None:
        raise ValueError(f"{table.label}: no column {name!r} for {role}; {found}")
    what = "several columns could be" if fits else "no column looks like"
    raise ValueError(f"{table.label}: {what} the {role}; {found}; name it, {role}='...'")


def _lists(column: pl.Series, separator: str | None) -> pl.Series:
    """Lists of the strings that `column` holds, without blanks around them."""
    import polars as pl

    dtype: Any = column.dtype
    inner = dtype.inner if isinstance(dtype, (pl.List, pl.Array)) else dtype
    if not (inner.is_integer() or inner in (pl.String, pl.Categorical, pl.Enum, pl.Null)):
        raise TypeError(f"column {column.name} must hold text, integers or lists of them: {dtype}")
    if inner is dtype:
        usual = " " if column.name.strip().endswith(":token_seq") else "|"
        text = column.cast(pl.String).str.strip_chars().replace(_NONE, None)
        column = text.str.split(separator or usual)
    lists = column.cast(pl.List(pl.String))
    kept = pl.element().str.strip_chars()
    return lists.list.eval(kept.filter(kept.is_not_null() & ~kept.is_in(["", _NONE]))).fill_null([])
