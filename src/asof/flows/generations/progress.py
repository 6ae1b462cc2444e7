"""Progress of an online table, which the store keeps with its rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from asof.online.protocol import Facts, OnlineStore, OnlineTable
from asof.timing import Micros

_REACHED, _LIVE, _INCOMPLETE = "partition", "live", "incomplete"
_BUILT, _MATERIALIZED, _RESTORED = "built", "materialized", "restored"


@dataclass(frozen=True)
class TableProgress:
    """Progress of an online table, or a change of it.

    Partitions have the archive's numbers.

    Args:
        reached: partition → last offset; all events up to it are in the rows.
        live: partition → whether a worker applies its events as they arrive.
        incomplete: partition → whether a late event of it has made rows incomplete; its owner recomputes them.
        built: when the base was written, after which events may be applied; None before.
        materialized: start of the last run of `materialize` whose rows the table has; None if it never ran.
        restored_in: the store's incarnation that event IDs were restored into; None before.
    """

    reached: Mapping[int, int] = field(default_factory=dict)
    live: Mapping[int, bool] = field(default_factory=dict)
    incomplete: Mapping[int, bool] = field(default_factory=dict)
    built: Micros | None = None
    materialized: Micros | None = None
    restored_in: str | None = None

    @classmethod
    def of(cls, kept: Facts) -> TableProgress:
        """Parse the stored facts; unknown names are ignored."""
        by_partition: dict[str, dict[int, int]] = {_REACHED: {}, _LIVE: {}, _INCOMPLETE: {}}
        for name, value in kept.items():
            word, _, partition = name.partition(" ")
            if word in by_partition and partition:
                by_partition[word][int(partition)] = int(value)
        built, materialized, restored = kept.get(_BUILT), kept.get(_MATERIALIZED), kept.get(_RESTORED)
        return cls(
            reached=by_partition[_REACHED],
            live={each: bool(flag) for each, flag in by_partition[_LIVE].items()},
            incomplete={each: bool(flag) for each, flag in by_partition[_INCOMPLETE].items()},
            built=None if built is None else int(built),
            materialized=None if materialized is None else int(materialized),
            restored_in=None if restored is None else str(restored).removeprefix("in "),
        )

    def content(self) -> Facts:
        """The facts to store, by name."""
        kept: dict[str, str | int] = {f"{_REACHED} {each}": int(offset) for each, offset in self.reached.items()}
        kept |= {f"{_LIVE} {each}": int(flag) for each, flag in self.live.items()}
        kept |= {f"{_INCOMPLETE} {each}": int(flag) for each, flag in self.incomplete.items()}
        if self.built is not None:
            kept[_BUILT] = self.built
        if self.materialized is not None:
            kept[_MATERIALIZED] = self.materialized
        if self.restored_in is not None:
            # An incarnation may be the empty string.
            kept[_RESTORED] = f"in {self.restored_in}"
        return kept

    @property
    def is_built(self) -> bool:
        """Whether the base is written, so that events may be applied."""
        return self.built is not None

    def offset_of(self, partition: int) -> int:
        """The last offset of a partition that is in the rows; -1 for none."""
        return self.reached.get(partition, -1)

    def is_live(self, partition: int) -> bool:
        """Whether a worker applies a partition's events as they arrive."""
        return self.live.get(partition, False)

    def is_incomplete(self, partition: int) -> bool:
        """Whether late events of a partition have made rows incomplete that are not recomputed yet."""
        return self.incomplete.get(partition, False)


def progress_of(online: OnlineStore, table: OnlineTable) -> TableProgress:
    """Progress of a table; empty if it does not exist."""
    return TableProgress.of(online.progress(table))


def write_progress(online: OnlineStore, table: OnlineTable, change: TableProgress, *, within: str = "") -> None:
    """Update a table's progress with `change`, atomically; other facts stay.

    Args:
        within: the store's incarnation that the rows were written to; see `OnlineStore.write_progress`.
    """
    online.write_progress(table, change.content(), within=within)


class PartitionStart(NamedTuple):
    """How the last owner of a partition of a log began it.

    Args:
        position: the offset from which it went on.
        deaths: number of owners before it that died since that offset was reached.
        is_open: whether it has not left the partition alive.
    """

    position: int = -1
    deaths: int = 0
    is_open: bool = False


def start_of(online: OnlineStore, table: OnlineTable, partition: int) -> PartitionStart:
    """How the last owner of a partition began it, by a table that is kept for this."""
    kept = online.progress(table)
    position, deaths, is_open = (int(kept.get(f"{name} {partition}", -1)) for name in _START)
    return PartitionStart(position, max(deaths, 0), is_open == 1)


def write_start(online: OnlineStore, table: OnlineTable, partition: int, start: PartitionStart) -> None:
    """Keep how the owner of a partition began it, or that it has left it."""
    online.write_progress(table, {f"{name} {partition}": int(value) for name, value in zip(_START, start, strict=True)})


_START = ("position", "deaths", "begun")


__all__ = ["PartitionStart", "TableProgress", "progress_of", "start_of", "write_progress", "write_start"]
