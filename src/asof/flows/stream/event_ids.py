"""Event IDs: the first message with an ID is kept; later ones are dropped and counted.

A message claims its event ID in the online store before anything is written. Duplicates never enter the archive, so
neither training nor serving has to handle them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from asof.definitions import LogSource
from asof.flows.generations.layout import GRACE
from asof.flows.generations.progress import TableProgress, progress_of, write_progress
from asof.flows.rows.retries import write_until_kept
from asof.flows.stores import Stores
from asof.offline.pruning import rows_within
from asof.online.protocol import NO_ROW, Lookup, OnlineTable, Unchanged, state_rows
from asof.sql import archive as statements
from asof.sql.partitions import HISTORY
from asof.values.fit import event_micros
from asof.values.packing import key_bytes, key_values, plain_values

EVENTS = "__events"
"""Suffix of a source's name, for its table of event IDs; no view can have such a name."""

_ROWS_AT_ONCE = 50_000

Place = tuple[int, int]
"""Partition and offset of a message, in the archive's numbering."""


class EventIdClaims:
    """The claimed event IDs of one source, in the online store.

    Args:
        source: a source with an `event_id`.
    """

    def __init__(self, stores: Stores, source: LogSource) -> None:
        self.stores, self.source = stores, source
        self.table = OnlineTable(stores.project, f"{source.name}{EVENTS}", "ids", "state")
        self.restore()

    def restore(self) -> None:
        """Restore event IDs from the archive if the store may lack some: it is new, lost data, or failed over."""
        incarnation = self.stores.online.incarnation()
        if progress_of(self.stores.online, self.table).restored_in == incarnation:
            return
        self.stores.online.prepare(self.table)
        rows = self.stores.offline.rows(self.stores.archive_of(self.source))
        if rows is not None:
            since = self.stores.clock() - self.source.event_id_horizon
            rows = rows_within(rows, {"ingested_at": (since, None)})
            text = statements.event_ids_since(self.source.event_id, since, dialect=self.stores.offline.dialect)
            for batch in self.stores.offline.sql(text, {"archive": rows}).reader(_ROWS_AT_ONCE):
                self._restore(pa.Table.from_batches([batch]))
        restored = TableProgress(restored_in=incarnation)
        write_progress(self.stores.online, self.table, restored, within=incarnation)

    def _restore(self, rows: pa.Table) -> None:
        positions = list(zip(rows["partition"].to_pylist(), rows["offset"].to_pylist(), strict=True))
        times = event_micros(rows["ingested_at"].combine_chunks()).to_pylist()
        untils = [time + self.source.event_id_horizon for time in times]
        self.stores.online.write(
            self.table, self._keys(rows["id"]), [_packed(place, until) for place, until in zip(positions, untils)],
            condition=Unchanged([NO_ROW] * len(positions)), expires_at=[until + GRACE for until in untils],
        )  # fmt: skip

    def first(
        self, rows: pa.Table, *, partition: npt.NDArray[np.int32], offset: npt.NDArray[np.int64], now: int
    ) -> npt.NDArray[np.bool_]:
        """Claim the rows' IDs; returns which rows hold their ID. A row without an ID is always kept."""
        column = rows[self.source.event_id].combine_chunks()
        firsts = column.is_null().to_numpy(zero_copy_only=False).copy()
        keys = self._keys(column)
        wanted: dict[bytes, list[int]] = {}
        for row in np.flatnonzero(~firsts).tolist():
            wanted.setdefault(keys[row], []).append(row)
        positions: list[Place] = list(zip(partition.tolist(), offset.tolist(), strict=True))
        until = now + self.source.event_id_horizon

        def claim(todo: Sequence[bytes]) -> list[bytes]:
            found = state_rows(*self.stores.online.read([Lookup(self.table, list(todo))]))
            free: list[tuple[bytes, int, int]] = []
            for key, stored in zip(todo, found, strict=True):
                its_rows = wanted[key]
                if stored is None:
                    # Within one batch, the first row with an ID claims it.
                    free.append((key, its_rows[0], NO_ROW))
                    continue
                holder, held_until = _unpacked(stored[0])
                mine = [row for row in its_rows if positions[row] == holder]
                if mine:
                    firsts[mine] = True
                elif held_until <= now and self._is_archived(holder):
                    free.append((key, its_rows[0], stored[1]))
            kept = self.stores.online.write(
                self.table, [key for key, _, _ in free], [_packed(positions[row], until) for _, row, _ in free],
                condition=Unchanged([token for _, _, token in free]), expires_at=[until + GRACE] * len(free),
            ) if free else []  # fmt: skip
            for (_, row, _), was in zip(free, kept, strict=True):
                firsts[row] |= was
            return [key for (key, _, _), was in zip(free, kept, strict=True) if not was]

        write_until_kept(
            list(wanted), claim, whose=f"source {self.source.name!r}", what="event ID",
            hint="see which other workers read this source; `asof stream status` lists them",
        )  # fmt: skip
        return firsts

    def first_of_history(self, rows: pa.Table, *, offset: npt.NDArray[np.int64], now: int) -> npt.NDArray[np.bool_]:
        """Claim the IDs of a batch source's rows that the archive lacks; returns which rows hold their ID.

        A claim of another load holds nothing: only one of two loads can append its rows, and the other one then sees
        them in the archive. The rows must have different IDs, or none.
        """
        partition = np.full(rows.num_rows, HISTORY, dtype=np.int32)
        firsts = self.first(rows, partition=partition, offset=offset, now=now)
        column = rows[self.source.event_id].combine_chunks()
        keys = self._keys(column)
        positions = dict(zip(keys, zip(partition.tolist(), offset.tolist(), strict=True), strict=True))
        numbers = dict(zip(keys, range(len(keys)), strict=True))
        until = now + self.source.event_id_horizon

        def take_over(todo: Sequence[bytes]) -> list[bytes]:
            found = state_rows(*self.stores.online.read([Lookup(self.table, list(todo))]))
            mine = [
                (key, row[1])
                for key, row in zip(todo, found, strict=True)
                if row is not None and _unpacked(row[0])[0][0] == HISTORY
            ]
            kept = self.stores.online.write(
                self.table, [key for key, _ in mine], [_packed(positions[key], until) for key, _ in mine],
                condition=Unchanged([token for _, token in mine]), expires_at=[until + GRACE] * len(mine),
            ) if mine else []  # fmt: skip
            firsts[[numbers[key] for (key, _), was in zip(mine, kept, strict=True) if was]] = True
            return [key for (key, _), was in zip(mine, kept, strict=True) if not was]

        others = [keys[i] for i in np.flatnonzero(~firsts).tolist()]
        write_until_kept(
            others, take_over, whose=f"source {self.source.name!r}", what="event ids",
            hint="see which other programs load its batch source",
        )  # fmt: skip
        return firsts

    def _is_archived(self, place: Place) -> bool:
        """Whether the message that holds an ID is archived; before that, the same message may be read again."""
        partition, offset = place
        return self.stores.offline.offsets(self.stores.archive_of(self.source), [partition])[partition] >= offset

    def _keys(self, column: pa.Array | pa.ChunkedArray) -> list[bytes]:
        dtype = next(field.dtype for field in self.source.schema if field.name == self.source.event_id)
        return [key_bytes((value,)) for value in plain_values(column, dtype)]


def _packed(place: Place, until: int) -> bytes:
    return key_bytes((*place, until))


def _unpacked(packed: bytes) -> tuple[Place, int]:
    partition, offset, until = key_values(packed)
    return (partition, offset), until


__all__ = ["EventIdClaims"]
