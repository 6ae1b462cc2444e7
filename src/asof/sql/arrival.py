"""Arrival: which of two rows of a log came later, as three whole numbers that compare as it does.

Their names are `era`, `first` and `second`. A row's topic and its stamp make the era, so that rows of a topic that was
made again come after those of the one before, and stamped rows of a topic after those without a stamp:

                                            era                         first       second
    history (a batch source's rows)         TOPIC                       offset      partition
    the topic, made again e times           (e + 2) * TOPIC             offset      partition
    a stamped row of such a push log        (e + 2) * TOPIC + stamp     partition   offset

A replayed dead letter has the arrival of the place that it had as a message. Each era is above all offsets: a process
of an earlier version, which compares offsets with eras, takes every row that has an era for the later one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Literal, NamedTuple

from asof.dtypes import Int64
from asof.sql.dialect import Dialect
from asof.sql.partitions import TOPIC_PARTITIONS, ArchivePartition
from asof.timing import Micros

PUSHED_AT = "asof_pushed_at"
"""The archive's column with a pushed row's stamp in microseconds; null where its message has none."""

ORIGIN_PARTITION, ORIGIN_OFFSET = "asof_origin_partition", "asof_origin_offset"
"""The archive's columns with the place that a replayed dead letter had as a message; null for all other rows."""

PER_PARTITION = 4_503_599_628
"""What one more partition adds to an era, were there no stamps."""

TOPIC = PER_PARTITION * TOPIC_PARTITIONS
"""From one topic to the one that was made again; no stamp is as great, before the year 2112."""


class Arrival(NamedTuple):
    """One row's."""

    era: int
    first: int
    second: int

    @classmethod
    def of(cls, partition: int, offset: int, pushed_at: Micros = 0) -> Arrival:
        """The arrival of a place in the archive's numbering.

        Args:
            pushed_at: the row's stamp; 0 where it has none.
        """
        number = ArchivePartition(partition)
        era = TOPIC if number.is_history else (number.epoch + 2) * TOPIC
        return cls(era + pushed_at, partition, offset) if pushed_at else cls(era, offset, partition)

    @property
    def place(self) -> tuple[int, int]:
        """Partition and offset."""
        return (self.first, self.second) if self.era % TOPIC else (self.second, self.first)


def is_stamp(value: Micros) -> bool:
    """Whether a number can be a stamp."""
    return 0 < value < TOPIC


def order_of(partitions: Iterable[int], *, rows: int, unstamped: int) -> Literal["", "offsets", "stamps"]:
    """The short way in which an archive's rows can be ordered, if there is one (`asof.sources.protocol.ArchiveOrder`).

    Args:
        partitions: those that have rows, or the least and the greatest of them.
        rows, unstamped: how many there are, and how many of them have no stamp.
    """
    numbers = list(map(ArchivePartition, partitions))
    if any(each.is_history or each.is_replayed for each in numbers) or len({each.epoch for each in numbers}) != 1:
        return ""
    return "offsets" if unstamped == rows else "stamps" if not unstamped else ""


def arrival_terms(columns: Collection[str], dialect: Dialect) -> dict[str, str]:
    """The SQL of the three of an archive's rows, under the names by which rows are ordered.

    Args:
        columns: those that the archive has; an earlier version's has no stamps and no origins.
    """
    name = dialect.forms.quote
    partition, offset = name("partition"), name("offset")
    if ORIGIN_PARTITION in columns and ORIGIN_OFFSET in columns:
        partition = f"coalesce({name(ORIGIN_PARTITION)}, {partition})"
        offset = f"coalesce({name(ORIGIN_OFFSET)}, {offset})"
    topic = (
        f"CAST({partition} - {partition} % {TOPIC_PARTITIONS} + {2 * TOPIC_PARTITIONS} AS {dialect.type_name(Int64)})"
    )
    era = f"CASE WHEN {partition} < 0 THEN {TOPIC} ELSE {topic} * {PER_PARTITION} END"
    if PUSHED_AT not in columns:
        return {"era": era, "arrived": offset, "part": partition}
    stamp = name(PUSHED_AT)
    return {
        "era": f"{era} + coalesce({stamp}, 0)",
        "arrived": f"CASE WHEN {stamp} IS NULL THEN {offset} ELSE {partition} END",
        "part": f"CASE WHEN {stamp} IS NULL THEN {partition} ELSE {offset} END",
    }


__all__ = [
    "ORIGIN_OFFSET", "ORIGIN_PARTITION", "PER_PARTITION", "PUSHED_AT", "TOPIC", "Arrival", "arrival_terms", "is_stamp",
    "order_of",
]  # fmt: skip
