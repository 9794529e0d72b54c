"""One Parquet file of users in, one Parquet file of their recommendations out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pyrec.data.sources import guess
from pyrec.files import StrPath, atomic_write
from pyrec.scoring.scorer import BATCH_ROWS, Block, Scorer

__all__ = ["Fragment", "FragmentReport", "has_lists", "score_blocks", "score_fragment"]


class FragmentReport(NamedTuple):
    """What scoring a fragment met.

    Attributes
    ----------
    users : int
        Rows read and scored.
    unknown_items : int
        Items in the histories that the model does not know; they were ignored.
    users_without_history : int
        Users of whose items the model knows none; they got the popular items.
    """

    users: int
    unknown_items: int
    users_without_history: int


class Fragment(NamedTuple):
    """A Parquet file with one row a user, and the columns to read from it.

    Attributes
    ----------
    path : Path
    user, items : str
        Names of the user id column and of the column that holds a list of item ids.
    user_type : pyarrow.DataType
    n_rows : int
    """

    path: Path
    user: str
    items: str
    user_type: Any
    n_rows: int

    @classmethod
    def open(cls, path: StrPath, user: str | None = None, items: str | None = None) -> Fragment:
        """Read the file's schema and find its columns.

        Parameters
        ----------
        path : path
            A Parquet file.
        user, items : str, optional
            Column names; by default the one column with a usual name of a user id (user_id,
            userId, uid, ...) and the one column of lists.

        Raises
        ------
        ValueError
            No Parquet file, or columns that are absent or ambiguous; the message lists them.
        """
        path = Path(path)
        schema, n_rows = _schema_of(path)
        lists = [field.name for field in schema if _is_list(field)]
        users = guess("user", schema.names)
        user = _column(path, schema, user, "user", "the user id", users)
        items = _column(path, schema, items, "items", "the list of item ids", lists)
        if not _is_list(schema.field(items)):
            raise ValueError(
                f"{path}: the column {items!r} must hold lists of item ids, "
                f"it holds {schema.field(items).type}"
            )
        return cls(path, user, items, schema.field(user).type, n_rows)


def score_fragment(
    scorer: Scorer, fragment: Fragment, out: StrPath, progress: Callable[[int], object]
) -> FragmentReport:
    """Score the users of one Parquet file and write one Parquet file, whole or not at all.

    Memory: the model, and a block of ``BATCH_ROWS`` (8,192) users with their histories and lists.

    Parameters
    ----------
    scorer : Scorer
    fragment : Fragment
        Where to read.
    out : path
        The file to write (zstd), rows in the order of the input.
    progress : callable
        Called with the number of users of each block that is done.

    Returns
    -------
    FragmentReport

    Raises
    ------
    ValueError
        The input cannot be read, or its ids are of another type than the model's.
    """
    blocks = (Block(users, *scorer.histories(lists)) for users, lists in _columns_of(fragment))
    return score_blocks(scorer, blocks, fragment.user_type, out, progress)


def score_blocks(
    scorer: Scorer,
    blocks: Iterable[Block],
    user_type: pa.DataType,
    out: StrPath,
    progress: Callable[[int], object],
) -> FragmentReport:
    """Score blocks of users into one Parquet file; see `score_fragment`."""
    users = unknown = without_history = 0
    # Scores hardly repeat: a dictionary of them would be built in vain.
    repeating = ["user_id", "item_id"] if scorer.layout == "long" else ["items.list.element"]
    with (
        atomic_write(out) as temporary,
        pq.ParquetWriter(
            temporary, scorer.schema(user_type), compression="zstd", use_dictionary=repeating
        ) as writer,
    ):
        for block in blocks:
            table, n_empty = scorer.table(block)
            writer.write_table(table)
            users += len(block.users)
            unknown += block.n_unknown
            without_history += n_empty
            progress(len(block.users))
    return FragmentReport(users, unknown, without_history)


def has_lists(path: StrPath) -> bool:
    """Whether a Parquet file has a column of lists: one row a user, not one an interaction."""
    schema, _ = _schema_of(Path(path))
    return any(_is_list(field) for field in schema)


def _schema_of(path: Path) -> tuple[pa.Schema, int]:
    try:
        with pq.ParquetFile(path) as file:
            return file.schema_arrow, file.metadata.num_rows
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} is not a readable Parquet file: {error}") from error


def _columns_of(fragment: Fragment) -> Iterator[tuple[pa.Array, pa.Array]]:
    """Yield the user ids and the lists of each batch of rows."""
    try:
        # Without pre_buffer a row group is read as it is needed, not held as a whole.
        with pq.ParquetFile(fragment.path, pre_buffer=False, buffer_size=1 << 20) as file:
            for batch in file.iter_batches(BATCH_ROWS, columns=[fragment.user, fragment.items]):
                yield batch.column(fragment.user), batch.column(fragment.items)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{fragment.path} cannot be read: {error}") from error


def _column(
    path: Path, schema: pa.Schema, name: str | None, argument: str, what: str, fitting: list[str]
) -> str:
    found = ", ".join(schema.names) or "none"
    if name is not None:
        if schema.names.count(name) != 1:
            raise ValueError(f"{path} has no single column {name!r}; columns found: {found}")
        return name
    if len(fitting) != 1:
        raise ValueError(
            f"{path}: {len(fitting) or 'no'} columns look like {what}; name it with {argument}= "
            f"of pyrec.scoring.score; columns found: {found}"
        )
    return fitting[0]


def _is_list(field: pa.Field) -> bool:
    kind = field.type
    types = pa.types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))
