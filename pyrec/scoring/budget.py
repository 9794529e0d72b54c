"""How much of the input and of the output may be in memory at the same time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from pyrec.machine import format_bytes, require_memory
from pyrec.scoring.blocks import BATCH_ROWS
from pyrec.scoring.scorer import Scorer

if TYPE_CHECKING:
    from pyrec.scoring.fragments import Users

__all__ = ["Budget"]

# More in flight would hide no more waiting.
_MOST_DEPTH = 8


class Budget(NamedTuple):
    """What the blocks in flight may take; nothing that is written depends on it.

    Attributes
    ----------
    memory : int
        Bytes for all of it.
    depth : int
        Blocks that may wait at each place: looked up together, read ahead, scored and not written.
    together : int
        Blocks that are scored as one.
    raw_limit : int
        Bytes of lists of ids that are looked up together.
    blocks_limit, results_limit : int
        Bytes of blocks read ahead, and of results that wait to be written.
    value_bytes, k, group_bytes : int
        Of a list entry, the run's lists, a row group.
    """

    memory: int
    depth: int
    together: int
    raw_limit: int
    blocks_limit: int
    results_limit: int
    value_bytes: int
    k: int
    group_bytes: int

    @classmethod
    def plan(cls, memory: int, scorer: Scorer, users: Iterable[Users]) -> Budget:
        """Choose how much is read ahead and may wait for writing.

        Parameters
        ----------
        memory : int
            Bytes.
        scorer : Scorer
        users : fragments
            The longest histories decide.

        Raises
        ------
        MemoryError
            Not even one block fits, or the machine or the control group has less left than what
            is to be used; the message says how much is wanted.
        """
        values = BATCH_ROWS * max((part.values_per_row for part in users), default=0.0)
        value_bytes = scorer.id_bytes + 4
        raw = int(16 * BATCH_ROWS + values * value_bytes)
        group = scorer.group_blocks * scorer.table_bytes
        for depth in range(_MOST_DEPTH, 0, -1):
            together = min(depth, scorer.blocks_at_once)
            needed = _need(raw, values, scorer.k, group, depth, together)
            if needed <= memory:
                break
        else:
            raise MemoryError(
                f"memory must be at least {format_bytes(needed)} for blocks of {BATCH_ROWS:,} "
                f"users with {scorer.k} items each, got {format_bytes(memory)}"
            )
        require_memory(needed, f"the blocks of {BATCH_ROWS:,} users in flight need memory")
        blocks = int(depth * (4 * values + 24 * BATCH_ROWS))
        results = depth * BATCH_ROWS * (8 * scorer.k + 16)
        limits = depth * raw, blocks, results
        return cls(memory, depth, together, *limits, value_bytes, scorer.k, group)

    def check(self, raw: int, where: str) -> None:
        """Raise a MemoryError when a block's lists of `raw` bytes do not fit even alone."""
        needed = _need(raw, raw / self.value_bytes, self.k, self.group_bytes, 1, 1)
        if raw > self.raw_limit and needed > self.memory:
            raise MemoryError(
                f"memory must be at least {format_bytes(needed)} for the long histories of "
                f"{BATCH_ROWS:,} users in {where}, got {format_bytes(self.memory)}"
            )


def _need(raw: float, values: float, k: int, group: float, depth: int, together: int) -> int:
    """Bytes with `depth` blocks of `raw` bytes and `values` list entries at each place."""
    reading = 3 * raw  # the lists, their ids in the model's type, the numbers
    waiting = 4 * values + 24 * BATCH_ROWS + BATCH_ROWS * (8 * k + 16)
    scoring = together * (40 * values + BATCH_ROWS * 16 * k)  # histories as CSR, the lists twice
    # What is joined and cut up again beside what waits, and what the kernel keeps of a user, at most
    # 64 MiB of it for lists; for one block that is the room which depth leaves.
    more = (together - 1) * BATCH_ROWS
    scoring += (together - 1) * 4 * values + more * (8 * k + 1340) + min(more * 12 * k, 2**26)
    writing = 2.5 * group  # a row group, and what it is encoded to
    return int(depth * (reading + waiting) + scoring + writing)
