"""What was taken out of a log and waits for its flush to the archive."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby

import pyarrow as pa
import pyarrow.compute as pc

from asof.flows.rows.pushed import Arrived, archived_rows

LOOSE_ROWS, LOOSE_PUSHES = 20_000, 1000
"""With so many pushed rows, or pushes, those that are not in a table yet become one."""


@dataclass
class Buffer:
    """What is not archived yet.

    Args:
        loose: pushed rows that come behind `rows`; a table of each push would take most of a small push's time.
    """

    rows: list[pa.Table] = field(default_factory=list)
    letters: list[pa.Table] = field(default_factory=list)
    through: dict[int, int] = field(default_factory=dict)
    size: int = 0
    loose: list[Arrived] = field(default_factory=list)
    loose_rows: int = 0

    def add(self, arrived: Arrived) -> None:
        """Take pushed rows; their offsets come behind those of all that is here."""
        self.loose.append(arrived)
        self.loose_rows += arrived.rows.count
        self.size += arrived.rows.count
        self.through[arrived.partition] = arrived.first + arrived.rows.count - 1
        if self.loose_rows >= LOOSE_ROWS or len(self.loose) >= LOOSE_PUSHES:
            self.settle()

    def settle(self) -> None:
        """Make tables of loose rows."""
        for _, pieces in groupby(self.loose, key=lambda each: id(each.rows.source)):
            self.rows.append(archived_rows(list(pieces)))
        self.loose, self.loose_rows = [], 0

    def followed_by(self, later: Buffer) -> Buffer:
        if later.rows:
            self.settle()
        return Buffer(
            self.rows + later.rows, self.letters + later.letters, {**self.through, **later.through},
            self.size + later.size, self.loose + later.loose, self.loose_rows + later.loose_rows,
        )  # fmt: skip

    def without(self, partitions: set[int]) -> Buffer:
        def left(table: pa.Table) -> pa.Table:
            return table.filter(pc.invert(pc.is_in(table["partition"], pa.array(sorted(partitions), pa.int32()))))

        self.settle()
        rows, letters = [left(each) for each in self.rows], [left(each) for each in self.letters]
        through = {each: offset for each, offset in self.through.items() if each not in partitions}
        return Buffer(rows, letters, through, sum(each.num_rows for each in rows + letters))
