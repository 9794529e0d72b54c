"""Interactions from files and frames: polars reads, Arrow numbers the ids, NumPy groups."""

from __future__ import annotations

from math import isfinite
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from .columns import as_ids, as_ratings, as_times, typed
from .csr import csr, offsets_of
from .interactions import Interactions
from .report import ReadReport
from .sources import ROLES, Table, guess, tables

if TYPE_CHECKING:
    import polars as pl

__all__ = ["read_interactions"]


def read_interactions(
    source: Any,
    *,
    user: str | None = None,
    item: str | None = None,
    rating: str | None = None,
    timestamp: str | None = None,
    min_rating: float | None = None,
    duplicates: Literal["binarize", "sum", "error"] = "binarize",
) -> Interactions:
    """Read who interacted with what.

    Users and items are numbered by ascending id, whatever the order of the rows. Only the columns
    needed are read. Memory: about five times that of the result.

    Parameters
    ----------
    source : path, glob, list of paths, or frame
        Parquet (``.parquet``, ``.pq``); text with or without header, separated by comma, tab,
        semicolon, space or MovieLens' ``::`` (``.csv``, ``.tsv``, ``.txt``, ``.dat``, ``.data``,
        RecBole's ``.inter``, ...; also with ``.gz``); or any object that exports Arrow (pandas,
        polars, pyarrow, duckdb). A text file has no header when its first two fields are integers;
        its columns then are user, item, rating, timestamp.
    user, item, rating, timestamp : str, optional
        Names of columns; guessed from the usual names by default. Ids are integers (also whole
        floats below 2^53) or text, and rows with a null or empty id are dropped; a text file's ids,
        without the spaces around them, are integers where each of them prints as it stands there,
        and text otherwise (007 and 7 are two users). Numeric timestamps are kept as
        they are, dates and times (also as text) become seconds since 1970; when one is null, or
        when several columns could be the timestamp, or when the column guessed holds something
        else, timestamps are left unknown, with a note in the report.
    min_rating : float, optional
        Drop rows with a lower or no rating.
    duplicates : {"binarize", "sum", "error"}, default "binarize"
        Rows of the same user and item become one interaction of value 1; or of the sum of their
        ratings (of 1 each, without a rating column), dropped when that is 0; or they are an error.
        The earliest timestamp stays.

    Returns
    -------
    Interactions
        With ``report``; timestamps are int64, or float64 where fractional.

    Raises
    ------
    FileNotFoundError
        If a file is absent or a glob matches none.
    ValueError, TypeError
        If a file is malformed, a column is missing, ambiguous or of the wrong type, or nothing is
        left; the message says which and what was expected.
    """
    if duplicates not in ("binarize", "sum", "error"):
        raise ValueError(f"duplicates must be 'binarize', 'sum' or 'error', got {duplicates!r}")
    least: Any = min_rating
    if least is not None and not (isinstance(least, Real) and isfinite(least)):
        raise ValueError(f"min_rating must be a finite number, got {min_rating!r}")
    given = dict(zip(ROLES, (user, item, rating, timestamp), strict=True))
    sources: list[str] = []
    parts: list[pl.DataFrame] = []
    were_text: list[bool] = []
    notes: list[str] = []
    columns: dict[str, str] = {}
    for table in tables(source):
        roles = _choose_columns(table, given, min_rating is not None, duplicates == "sum", notes)
        parts.append(_read_part(table, roles, timestamp is None, notes))
        sources.append(table.label)
        were_text.append(table.is_text)
        columns = columns or roles
    frame = _concat(parts, sources, were_text, notes)
    del parts
    n_rows = len(frame)
    frame, dropped = _drop_rows(frame, min_rating)
    if not len(frame):
        reasons = ", ".join(f"{count:,} dropped: {reason}" for reason, count in dropped.items())
        raise ValueError(
            f"no interactions left of {n_rows:,} rows of {', '.join(sources[:3])}"
            + (f" ({reasons})" if reasons else "")
        )
    if "timestamp" in frame.columns and frame["timestamp"].null_count():
        nulls = frame["timestamp"].null_count()
        notes.append(f"timestamps left unknown: {columns['timestamp']} is null in {nulls:,} rows")
        frame = frame.drop("timestamp")
    used = {role: name for role, name in columns.items() if role in frame.columns}
    result, n_merged, n_zero = _assemble(frame, duplicates)
    if n_zero:
        dropped["interactions whose ratings sum to 0"] = n_zero
    result.report = ReadReport(
        sources=sources,
        columns=used,
        rows=n_rows,
        dropped=dropped,
        duplicates=n_merged,
        users=result.n_users,
        items=result.n_items,
        interactions=result.n_interactions,
        notes=list(dict.fromkeys(notes)),
    )
    return result


def _choose_columns(
    table: Table, given: dict[str, str | None], need: bool, want: bool, notes: list[str]
) -> dict[str, str]:
    """Which column is what; the rating's only where it is needed, or wanted if there is one."""
    found = f"columns found: {', '.join(table.columns)}"
    roles: dict[str, str] = {}
    for role, name in given.items():
        required = role in ("user", "item") or (role == "rating" and need)
        if name is not None:
            fits = [c for c in table.columns if name in (c, c.split(":")[0])]
            if not fits:
                raise ValueError(f"{table.label}: no column {name!r} for {role}; {found}")
        else:
            fits = guess(role, table.columns)
        if role == "rating" and not (need or want):
            continue
        if len(fits) > 1 and role == "timestamp":
            notes.append(f"timestamps left unknown: {', '.join(fits)} could be meant, name one")
        elif len(fits) > 1 or (required and not fits):
            what = "several columns could be" if fits else "no column looks like"
            needs = "min_rating needs a rating column: " if role == "rating" and need else ""
            raise ValueError(
                f"{table.label}: {needs}{what} the {role}; {found}; name it, {role}='...'"
            )
        elif fits:
            roles[role] = fits[0]
    if len(set(roles.values())) < len(roles):
        raise ValueError(f"{table.label}: one column in two roles: {roles}; {found}")
    return roles


def _read_part(
    table: Table, roles: dict[str, str], time_is_guessed: bool, notes: list[str]
) -> pl.DataFrame:
    import polars as pl

    convert = {"user": as_ids, "item": as_ids, "rating": as_ratings, "timestamp": as_times}
    frame = table.load(list(roles.values()))
    columns = []
    for role, name in roles.items():
        column = frame.drop_in_place(name)
        try:
            if table.is_text:
                column = typed(column, is_id=role in ("user", "item"))
            columns.append(convert[role](column).alias(role))
        except (TypeError, ValueError, pl.exceptions.PolarsError) as error:
            cause = str(error).splitlines()[0]
            if role == "timestamp" and time_is_guessed:
                notes.append(f"timestamps left unknown: column {name}: {cause}")
                continue
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"{table.label}: column {name} as {role}: {cause}") from error
    return pl.DataFrame(columns)


def _concat(
    parts: list[pl.DataFrame], sources: list[str], were_text: list[bool], notes: list[str]
) -> pl.DataFrame:
    import polars as pl

    # A file without rows says nothing about the type of its columns.
    full = [read for read in zip(parts, sources, were_text, strict=True) if len(read[0])]
    parts = [part for part, _, _ in full] or parts[:1]
    for role in ("user", "item"):
        if len({part[role].dtype == pl.String for part in parts}) == 1:
            continue
        # Numbers from a text file print as they stood there.
        parts = [
            part.cast({role: pl.String}) if text else part
            for part, (_, _, text) in zip(parts, full, strict=True)
        ]
        kinds = {
            "text" if part[role].dtype == pl.String else "integers": source
            for part, (_, source, _) in zip(parts, full, strict=True)
        }
        if len(kinds) > 1:
            which = ", ".join(f"{kind} in {source}" for kind, source in kinds.items())
            raise ValueError(f"{role} ids differ in type: {which}")
    for role in ("rating", "timestamp"):
        have = [role in part.columns for part in parts]
        if any(have) and not all(have):
            notes.append(f"{role} ignored: not every file has that column")
            parts = [part.drop(role, strict=False) for part in parts]
    return pl.concat(parts, how="vertical_relaxed")


def _drop_rows(
    frame: pl.DataFrame, min_rating: float | None
) -> tuple[pl.DataFrame, dict[str, int]]:
    import polars as pl

    known = pl.all_horizontal(
        pl.col(role).is_not_null()
        & (pl.col(role) != "" if frame[role].dtype == pl.String else pl.lit(True))
        for role in ("user", "item")
    )
    tests = {"null user or item id": known}
    if "rating" in frame.columns:
        tests["null or infinite rating"] = pl.col("rating").is_finite().fill_null(False)
    if min_rating is not None:
        tests[f"rating below {min_rating:g}"] = pl.col("rating") >= min_rating
    dropped = {}
    for reason, test in tests.items():
        keep = frame.select(test).to_series()
        if not keep.all():
            dropped[reason] = len(keep) - int(keep.sum())
            frame = frame.filter(keep)
    return frame, dropped


def _encode(column: pl.Series) -> tuple[NDArray[np.int32], NDArray[Any]]:
    """Number the ids of a column in ascending order."""
    encoded = column.to_arrow().dictionary_encode()
    ids = encoded.dictionary.to_numpy(zero_copy_only=False)
    order = np.argsort(ids)
    place = np.empty(len(ids), np.int32)
    place[order] = np.arange(len(ids), dtype=np.int32)
    return place[encoded.indices.to_numpy()], ids[order]


def _assemble(frame: pl.DataFrame, duplicates: str) -> tuple[Interactions, int, int]:
    """Group the rows by user and item; also count the rows merged and the sums that were 0."""
    import polars as pl

    # Taken out of the frame and let go at once: this is where reading needs most memory.
    keys, users = _encode(frame.drop_in_place("user"))
    columns, items = _encode(frame.drop_in_place("item"))
    keys = keys.astype(np.int64)
    keys *= len(items)
    keys += columns
    del columns
    order: Any = slice(None)
    if np.any(keys[1:] < keys[:-1]):
        order = pl.Series(keys).arg_sort().to_numpy()
        keys = keys[order]
    is_first = np.concatenate(([True], keys[1:] != keys[:-1]))
    starts = np.flatnonzero(is_first)
    n_merged = len(keys) - len(starts)
    if n_merged and duplicates == "error":
        row, column = divmod(int(keys[np.argmin(is_first)]), len(items))
        raise ValueError(
            f"{n_merged:,} rows repeat a user and item, the first of them user {users.item(row)!r} "
            f"and item {items.item(column)!r}; expected none with duplicates='error'"
        )
    row_of, column_of = np.divmod(keys[starts], len(items))
    if duplicates != "sum":
        values = np.ones(len(starts), np.float32)
    elif "rating" in frame.columns:
        ratings = frame["rating"].cast(pl.Float64).to_numpy()
        values = np.add.reduceat(ratings[order], starts).astype(np.float32)
    else:
        values = np.diff(starts, append=len(keys)).astype(np.float32)
    times = None
    if "timestamp" in frame.columns:
        times = np.minimum.reduceat(frame["timestamp"].to_numpy()[order], starts)
    nonzero = values != 0
    n_zero = len(values) - int(np.count_nonzero(nonzero))
    if n_zero:
        row_of, column_of, values = row_of[nonzero], column_of[nonzero], values[nonzero]
        times = None if times is None else times[nonzero]
    indptr = offsets_of(np.bincount(row_of, minlength=len(users)))
    matrix = csr(values, column_of.astype(np.int32), indptr, (len(users), len(items)))
    result = Interactions(matrix, users, items, times)
    return (result.filter(min_user=1, min_item=1) if n_zero else result), n_merged, n_zero
