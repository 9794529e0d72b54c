"""One file of recommendations: written whole, and known again by what its footer says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pyrec.scoring.blocks import BATCH_ROWS, Best
from pyrec.scoring.places import Place
from pyrec.scoring.scorer import Scorer

__all__ = ["FragmentReport", "Result", "read_report", "write_part"]

_KEY = b"pyrec"


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


class Result(NamedTuple):
    """A block of users with their items; see `Block` and `Best`."""

    users: pa.Array | pa.ChunkedArray
    best: Best
    n_unknown: int
    is_last: bool

    @property
    def n_bytes(self) -> int:
        """The memory that the result takes."""
        return int(self.users.nbytes + self.best.items.nbytes + self.best.scores.nbytes)


def write_part(
    scorer: Scorer,
    place: Place,
    user_type: pa.DataType,
    results: Iterable[Result],
    progress: Callable[[int], object],
    *,
    run: str = "",
    number: int = 0,
) -> FragmentReport:
    """Write one Parquet file, whole or not at all.

    Parameters
    ----------
    scorer : Scorer
    place : Place
        The file to write (zstd), rows in the order of the results.
    user_type : pyarrow.DataType
        Of the user ids.
    results : iterable of Result
    progress : callable
        Called with the number of users of each block.
    run, number : str and int
        Which part of which run this is; kept in the footer with the report.

    Raises
    ------
    OSError
        The file cannot be written, for example because the disk is full; the message names it.
    """
    users = unknown = without_history = 0
    waiting: list[pa.Table] = []
    is_long = scorer.layout == "long"
    with place.writing() as sink:
        try:
            writer = pq.ParquetWriter(
                sink,
                scorer.schema(user_type),
                compression="zstd",
                # Scores hardly repeat: a dictionary of them would be built in vain.
                use_dictionary=["user_id", "item_id"] if is_long else ["items.list.element"],
                # The least and the greatest of the items tell nothing of a row group.
                write_statistics=["user_id"],
            )
            try:
                for result in results:
                    items, scores, n_empty = result.best
                    # Row groups are cut by blocks, so that the file does not tell how many were
                    # scored as one.
                    for begin in range(0, max(1, len(items)), BATCH_ROWS):
                        rows = slice(begin, begin + BATCH_ROWS)
                        waiting.append(scorer.table(result.users[rows], items[rows], scores[rows]))
                        if len(waiting) == scorer.group_blocks:
                            _flush(writer, waiting)
                    users += len(result.users)
                    unknown += result.n_unknown
                    without_history += n_empty
                    progress(len(result.users))
                _flush(writer, waiting)
                report = FragmentReport(users, unknown, without_history)
                about = {"run": run, "part": number, **report._asdict()}
                writer.add_key_value_metadata({_KEY: json.dumps(about)})
                writer.close()
            finally:
                writer.is_open = False  # it would write a footer when it is forgotten
        except (pa.ArrowException, OSError) as error:
            raise OSError(f"cannot write {place}: {error}") from error
    return report


def read_report(place: Place, run: str, number: int) -> FragmentReport | None:
    """Return the report in the footer of a finished file; None where no whole file is.

    Raises
    ------
    FileExistsError
        The file is whole, but of another run.
    """
    try:
        with pq.ParquetFile(place.source()) as file:
            about = json.loads((file.metadata.metadata or {}).get(_KEY, b"{}"))
    except (pa.ArrowException, OSError):
        return None
    if about.pop("run", None) != run or about.pop("part", None) != number:
        raise FileExistsError(f"{place} is not of the run in its folder: remove it")
    return FragmentReport(**about)


def _flush(writer: pq.ParquetWriter, tables: list[pa.Table]) -> None:
    """Write the tables as one row group."""
    table = pa.concat_tables(tables) if tables else None
    tables.clear()
    if table:
        writer.write_table(table, row_group_size=len(table))
