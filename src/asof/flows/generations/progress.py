"""How far an online table is, as the store keeps it beside the rows: the names, the values, and what they mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from asof.online.protocol import Facts, OnlineStore, OnlineTable
from asof.timing import Micros

_REACHED, _LIVE, _INCOMPLETE = "partition", "live", "incomplete"
_BUILT, _MATERIALIZED, _RESTORED = "built", "materialized", "restored"


@dataclass(frozen=True)
class TableProgress:
    """What is known of an online table's rows, or what a write changes about it.

    Partitions are numbered as in the archive.

    Args:
        reached: partition → the last offset; all events up to it are in the rows.
        live: partition → whether a worker feeds the rows from it as events come in.
        incomplete: partition → whether an event of it has made rows incomplete, which its owner recomputes.
        built: when the base was written, so that events may follow; None before.
        materialized: when the last run of `materialize` began whose rows the table has; None where it never ran.
        restored_in: the store's incarnation into which event ids were restored from the archive; None before.
    """

    reached: Mapping[int, int] = field(default_factory=dict)
    live: Mapping[int, bool] = field(default_factory=dict)
    incomplete: Mapping[int, bool] = field(default_factory=dict)
    built: Micros | None = None
    materialized: Micros | None = None
    restored_in: str | None = None

    @classmethod
    def of(cls, kept: Facts) -> TableProgress:
        """What the store keeps, read; names that this version does not know say nothing to it."""
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
        """The same as the store keeps it, by name."""
        kept: dict[str, str | int] = {f"{_REACHED} {each}": int(offset) for each, offset in self.reached.items()}
        kept |= {f"{_LIVE} {each}": int(flag) for each, flag in self.live.items()}
        kept |= {f"{_INCOMPLETE} {each}": int(flag) for each, flag in self.incomplete.items()}
        if self.built is not None:
            kept[_BUILT] = self.built
        if self.materialized is not None:
            kept[_MATERIALIZED] = self.materialized
        if self.restored_in is not None:
            # A store may name its incarnation "".
            kept[_RESTORED] = f"in {self.restored_in}"
        return kept

    @property
    def is_built(self) -> bool:
        """Whether the base was written, so that events may follow."""
        return self.built is not None

    def offset_of(self, partition: int) -> int:
        """The last offset of a partition that is in the rows; -1 where none is."""
        return self.reached.get(partition, -1)

    def is_live(self, partition: int) -> bool:
        """Whether a worker feeds the rows from a partition as events come in."""
        return self.live.get(partition, False)

    def is_incomplete(self, partition: int) -> bool:
        """Whether an event of a partition has made rows incomplete, which are not recomputed yet."""
        return self.incomplete.get(partition, False)


def progress_of(online: OnlineStore, table: OnlineTable) -> TableProgress:
    """How far a table is; one that does not exist is nowhere."""
    return TableProgress.of(online.progress(table))


def write_progress(online: OnlineStore, table: OnlineTable, change: TableProgress, *, within: str = "") -> None:
    """Keep what `change` says of a table, all or none, and leave what it does not say.

    Args:
        within: the store's incarnation that the rows were written to; see `OnlineStore.write_progress`.
    """
    online.write_progress(table, change.content(), within=within)


__all__ = ["TableProgress", "progress_of", "write_progress"]
