"""Reading ahead, scoring, and writing behind, each in a thread, in bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Condition
from typing import Generic, NamedTuple, TypeVar

from pyrec.files import StrPath
from pyrec.machine import parse_bytes
from pyrec.scoring.blocks import Block
from pyrec.scoring.budget import Budget
from pyrec.scoring.fragments import Users
from pyrec.scoring.output import FragmentReport, Result, write_part
from pyrec.scoring.places import Place
from pyrec.scoring.scorer import Scorer

__all__ = ["Channel", "Part", "score_fragment", "score_parts"]

T = TypeVar("T")


class Part(NamedTuple):
    """A fragment of the users, and the file that its recommendations go to."""

    number: int
    users: Users
    place: Place


def score_fragment(
    scorer: Scorer,
    fragment: Users,
    out: StrPath,
    progress: Callable[[int], object] = lambda n: None,
    *,
    memory: int | str = "2GiB",
) -> FragmentReport:
    """Score the users of one fragment and write one Parquet file, whole or not at all.

    Parameters
    ----------
    scorer : Scorer
    fragment : Fragment
        Where to read; see `fragments_of`.
    out : path or URI
        The file to write, rows in the order of the input.
    progress : callable, optional
        Called with the number of users of each block that is done, from another thread.
    memory : int or str, default "2GiB"
        Bounds what is read ahead and waits to be written; see `score`.

    Returns
    -------
    FragmentReport

    Raises
    ------
    ValueError
        The input cannot be read, or its ids are of another type than the model's.
    OSError
        The output cannot be written.
    MemoryError
        `memory` is too small.
    """
    part = Part(0, fragment, Place.of(out))
    return score_parts(scorer, [part], "", parse_bytes(memory, "memory"), progress)[0]


def score_parts(
    scorer: Scorer,
    parts: Sequence[Part],
    run: str,
    memory: int,
    progress: Callable[[int], object],
) -> list[FragmentReport]:
    """Score parts of a run one after the other; see `score_fragment`.

    After an error the files of the parts before it are there.
    """
    budget = Budget.plan(memory, scorer, [part.users for part in parts])
    blocks: Channel[Block] = Channel(budget.blocks_limit)
    results: Channel[Result] = Channel(budget.results_limit)

    def read() -> None:
        try:
            for part in parts:
                for block in part.users.blocks(scorer, budget):
                    blocks.put(block, block.n_bytes)
        finally:
            blocks.finish()

    def write() -> list[FragmentReport]:
        arriving = iter(results)
        try:
            return [
                write_part(
                    scorer,
                    part.place,
                    part.users.user_type,
                    _until_last(arriving),
                    progress,
                    run=run,
                    number=part.number,
                )
                for part in parts
            ]
        finally:
            results.close()

    with ThreadPoolExecutor(2) as pool:
        reading, writing = pool.submit(read), pool.submit(write)
        try:
            for block in blocks:
                best = scorer.best(block)
                result = Result(block.users, best, block.n_unknown, block.is_last)
                results.put(result, result.n_bytes)
            reading.result()
        except Closed:
            pass  # writing has failed, and says why
        finally:
            blocks.close()
            results.finish()
        return writing.result()


class Closed(Exception):
    """The other end of a channel has gone."""


class Channel(Generic[T]):
    """Hands items from one thread to another, and lets few bytes of them wait.

    Parameters
    ----------
    limit : int
        Bytes that may wait; an item that is larger waits alone.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._items: deque[tuple[T, int]] = deque()
        self._waiting = 0
        self._finished = self._closed = False
        self._changed = Condition()

    def put(self, item: T, n_bytes: int) -> None:
        """Hand over an item, when there is room; raise `Closed` when nobody takes it any more."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed or not self._items or self._waiting + n_bytes <= self._limit
            )
            if self._closed:
                raise Closed
            self._items.append((item, n_bytes))
            self._waiting += n_bytes
            self._changed.notify_all()

    def finish(self) -> None:
        """Say that no more items come."""
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    def close(self) -> None:
        """Say that no more items are taken."""
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._items or self._finished)
                if not self._items:
                    return
                item, n_bytes = self._items.popleft()
                self._waiting -= n_bytes
                self._changed.notify_all()
            yield item


def _until_last(results: Iterator[Result]) -> Iterator[Result]:
    """Yield the results of one part; raise `Closed` when they end too early."""
    for result in results:
        yield result
        if result.is_last:
            return
    raise Closed
