"""`ReadReport`: what reading interactions found, dropped and merged."""

from __future__ import annotations

import dataclasses
from typing import Any

__all__ = ["ReadReport"]


@dataclasses.dataclass
class ReadReport:
    """What reading found, dropped and merged.

    Attributes
    ----------
    sources : list of str
        Files, or the type of the frame.
    columns : dict
        The column used as user, item, rating and timestamp.
    rows : int
        Rows read.
    dropped : dict
        Reason and number of rows (of interactions, for later filters).
    duplicates : int
        Rows merged into an earlier row of the same user and item.
    users, items, interactions : int
        What is left.
    notes : list of str
        Anything else to know.
    """

    sources: list[str]
    columns: dict[str, str]
    rows: int
    dropped: dict[str, int]
    duplicates: int
    users: int
    items: int
    interactions: int
    notes: list[str]

    def __str__(self) -> str:
        more = f" and {len(self.sources) - 3} more" if len(self.sources) > 3 else ""
        columns = ", ".join(f"{role}={column}" for role, column in self.columns.items())
        lines = [
            f"read {self.rows:,} rows of {', '.join(self.sources[:3])}{more} ({columns})",
            *(f"dropped {count:,}: {reason}" for reason, count in self.dropped.items()),
            *([f"merged {self.duplicates:,} duplicates"] if self.duplicates else []),
            *self.notes,
            f"{self.users:,} users, {self.items:,} items, {self.interactions:,} interactions",
        ]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return dataclasses.asdict(self)
