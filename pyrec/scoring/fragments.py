"""The users to score, in fragments: each is read block by block, and gives one file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pyrec.data.sources import guess
from pyrec.files import StrPath
from pyrec.scoring.blocks import BATCH_ROWS, Block
from pyrec.scoring.budget import Budget
from pyrec.scoring.places import Place
from pyrec.scoring.scorer import Scorer

__all__ = ["FRAGMENT_ROWS", "Fragment", "Users", "fragments_of", "has_lists", "parquet_files"]

FRAGMENT_ROWS = 262_144
"""Row groups of a file are taken together up to so many users."""

_LOCAL_BUFFER = 1 << 20
_REMOTE_BUFFER = 8 << 20  # a request of an object store takes tens of milliseconds


class Users(Protocol):
    """Some users, and how to read them."""

    @property
    def n_rows(self) -> int: ...

    @property
    def user_type(self) -> Any:
        """The type of the user ids."""

    @property
    def values_per_row(self) -> float:
        """List entries that a user has, in the mean of the part that has most."""

    def blocks(self, scorer: Scorer, budget: Budget) -> Iterator[Block]:
        """Yield the users in blocks of some times `BATCH_ROWS`, at least one block."""

    def describe(self) -> dict[str, Any]:
        """Return what tells these users from others, as JSON values."""


class Fragment(NamedTuple):
    """Row groups of a Parquet file with one row a user, and the columns to read from it.

    Attributes
    ----------
    place : Place
    user, items : str
        Names of the user id column and of the column that holds a list of item ids.
    allow, deny : str or None
        Names of columns with lists of item ids: the only ones to recommend to the user, and those
        never to recommend to the user.
    user_type : pyarrow.DataType
    list_types : tuple of pyarrow.DataType
        Of the ids in the lists.
    n_rows : int
    row_groups : (int, int)
        The first, and the one after the last.
    values_per_row : float
    size : int
        Bytes of the whole file.
    """

    place: Place
    user: str
    items: str
    allow: str | None
    deny: str | None
    user_type: Any
    list_types: tuple[Any, ...]
    n_rows: int
    row_groups: tuple[int, int]
    values_per_row: float
    size: int

    @property
    def lists(self) -> list[str]:
        return [name for name in (self.items, self.allow, self.deny) if name is not None]

    def describe(self) -> dict[str, Any]:
        return {
            "file": self.place.base_name,
            "bytes": self.size,
            "row_groups": list(self.row_groups),
            "rows": self.n_rows,
            "columns": [self.user, self.items, self.allow, self.deny],
        }

    def check(self, scorer: Scorer) -> None:
        """Raise a ValueError when the ids cannot be ids of the scorer's items."""
        for name, kind in zip(self.lists, self.list_types, strict=True):
            scorer.check_type(kind, name)

    def blocks(self, scorer: Scorer, budget: Budget) -> Iterator[Block]:
        """Read, and look up the ids of `budget.depth` blocks at a time."""
        row = 0
        for table in _gathered(_grid(self._batches()), budget.raw_limit):
            budget.check(table.nbytes, f"{self.place}, from row {row:,}")
            users = table.column(self.user)
            histories, n_unknown = scorer.histories(table.column(self.items), "items")
            allow, deny = (
                None if name is None else scorer.histories(table.column(name), name)[0]
                for name in (self.allow, self.deny)
            )
            free = None if self.allow is None else np.asarray(table.column(self.allow).is_null())
            row += len(table)
            del table
            step = budget.together * BATCH_ROWS
            for begin in range(0, max(1, len(users)), step):
                rows = slice(begin, begin + step)
                yield Block(
                    users[rows],
                    histories[rows],
                    n_unknown if begin == 0 else 0,
                    None if allow is None else allow[rows],
                    None if deny is None else deny[rows],
                    None if free is None else free[rows],
                    is_last=row == self.n_rows and begin + step >= len(users),
                )
        if row != self.n_rows:
            raise ValueError(f"{self.place} holds {row:,} rows where it says {self.n_rows:,}")

    def _batches(self) -> Iterator[pa.Table]:
        columns = [self.user, *self.lists]
        try:
            # Without pre_buffer a row group is read as it is needed, not held as a whole.
            buffer = _LOCAL_BUFFER if self.place.is_local else _REMOTE_BUFFER
            with pq.ParquetFile(self.place.source(), pre_buffer=False, buffer_size=buffer) as file:
                first, stop = self.row_groups
                rows = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
                if len(rows) < stop or sum(rows[first:stop]) != self.n_rows:
                    raise ValueError(f"{self.place} has changed since the run began")
                yield file.schema_arrow.empty_table().select(columns)
                for group in range(first, stop):
                    # One by one: lists of dictionaries cannot be read across row groups.
                    for batch in file.iter_batches(BATCH_ROWS, [group], columns):
                        yield pa.Table.from_batches([batch])
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{self.place} cannot be read: {error}") from error


def fragments_of(
    users: StrPath | Place,
    *,
    user: str | None = None,
    items: str | None = None,
    allow: str | None = None,
    deny: str | None = None,
) -> list[Fragment]:
    """Return the fragments of a file, a folder or a pattern; they depend on the files alone.

    Parameters
    ----------
    users : path or URI
    user, items : str, optional
        Column names; by default the one column with a usual name of a user id (user_id, userId,
        uid, ...) and the one column of lists that `allow` and `deny` do not name.
    allow, deny : str, optional
        Names of columns with lists of item ids.

    Raises
    ------
    FileNotFoundError
        There is no such file, or no Parquet file in the folder.
    ValueError
        No Parquet file, or columns that are absent or ambiguous; the message lists them.
    """
    files = parquet_files(users)
    with ThreadPoolExecutor(8) as pool:  # for object stores, where each file takes a while
        found = pool.map(lambda file: _fragments_in(file, user, items, allow, deny), files)
        return [fragment for fragments in found for fragment in fragments]


def parquet_files(users: StrPath | Place) -> list[Place]:
    """Return the files that a file, a folder of Parquet or a pattern means, sorted by name."""
    place = users if isinstance(users, Place) else Place.of(users)
    if place.is_folder():
        # Names that begin with _ or . are other programs' metadata.
        found = [place / name for name in place.names("*.parquet") if name[0] not in "._"]
        if not found:
            raise FileNotFoundError(f"{place} holds no *.parquet files")
        return found
    if place.size() is not None:
        return [place]
    found = place.matches()
    if not found:
        raise FileNotFoundError(f"{place} does not exist")
    return found


def has_lists(place: Place) -> bool:
    """Whether a Parquet file has a column of lists: one row a user, not one an interaction."""
    return any(_is_list(field) for field in _footer_of(place)[0])


def _fragments_in(
    place: Place, user: str | None, items: str | None, allow: str | None, deny: str | None
) -> list[Fragment]:
    schema, metadata = _footer_of(place)
    lists = [field.name for field in schema if _is_list(field)]
    others = [name for name in (allow, deny) if name is not None]
    user = _column(place, schema, user, "user", "the user id", guess("user", schema.names))
    fitting = [name for name in lists if name not in others]
    items = _column(place, schema, items, "items", "the list of item ids", fitting)
    columns = [items, *(_column(place, schema, n, "", "", []) for n in others)]
    for name in columns:
        if not _is_list(schema.field(name)):
            raise ValueError(
                f"{place}: the column {name!r} must hold lists of item ids, "
                f"it holds {schema.field(name).type}"
            )
    size = place.size() or 0
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    fragments = []
    for first, stop in _ranges([group.num_rows for group in groups]):
        chosen = groups[first:stop]
        fragments.append(
            Fragment(
                place,
                user,
                items,
                allow,
                deny,
                schema.field(user).type,
                tuple(schema.field(name).type.value_type for name in columns),
                sum(group.num_rows for group in chosen),
                (first, stop),
                max(
                    (_values(group, columns) / max(1, group.num_rows) for group in chosen),
                    default=0,
                ),
                size,
            )
        )
    return fragments


def _ranges(lengths: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Take neighbours together while they have at most `FRAGMENT_ROWS` rows in all."""
    first = rows = 0
    for i, length in enumerate(lengths):
        if i > first and rows + length > FRAGMENT_ROWS:
            yield first, i
            first, rows = i, 0
        rows += length
    yield first, len(lengths)


def _values(group: Any, columns: list[str]) -> int:
    """List entries of a row group, null and empty lists counted as one."""
    chunks = [group.column(i) for i in range(group.num_columns)]
    starts = tuple(f"{name}." for name in columns)
    return sum(chunk.num_values for chunk in chunks if chunk.path_in_schema.startswith(starts))


def _footer_of(place: Place) -> tuple[pa.Schema, pq.FileMetaData]:
    try:
        with pq.ParquetFile(place.source()) as file:
            return file.schema_arrow, file.metadata
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{place} is not a readable Parquet file: {error}") from error


def _grid(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Cut and join tables into tables of `BATCH_ROWS` rows; the last may be shorter."""
    waiting: list[pa.Table] = []
    n = 0
    for table in tables:
        waiting.append(table)
        n += len(table)
        while n > BATCH_ROWS:
            joined = pa.concat_tables(waiting)
            yield joined[:BATCH_ROWS]
            waiting, n = [joined[BATCH_ROWS:]], n - BATCH_ROWS
    yield pa.concat_tables(waiting)


def _gathered(tables: Iterable[pa.Table], limit: int) -> Iterator[pa.Table]:
    """Join tables up to `limit` bytes; few at first, because somebody waits for them."""
    waiting: list[pa.Table] = []
    most = 1
    for table in tables:
        too_large = sum(t.nbytes for t in [*waiting, table]) > limit
        if len(waiting) == most or (waiting and too_large):
            yield pa.concat_tables(waiting)
            waiting, most = [], 2 * most
        waiting.append(table)
    yield pa.concat_tables(waiting)


def _column(
    place: Place, schema: pa.Schema, name: str | None, argument: str, what: str, fitting: list[str]
) -> str:
    found = ", ".join(schema.names) or "none"
    if name is not None:
        if schema.names.count(name) != 1:
            raise ValueError(f"{place} has no single column {name!r}; columns found: {found}")
        return name
    if len(fitting) != 1:
        raise ValueError(
            f"{place}: {len(fitting) or 'no'} columns look like {what}; name it with {argument}= "
            f"(--{argument}-column); columns found: {found}"
        )
    return fitting[0]


def _is_list(field: pa.Field) -> bool:
    kind = field.type
    types = pa.types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))
