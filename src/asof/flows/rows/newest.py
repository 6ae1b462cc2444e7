"""Packs pushed rows as the newest rows of their keys, without an Arrow table; for latest-value views."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

from asof.definitions import FeatureView, LogSource
from asof.flows.rows.pushed import AppendedRows
from asof.sql.arrival import Arrival
from asof.timing import Micros
from asof.values.packing import ARRIVAL_FORMAT, Version, key_bytes, merge_versions, pack_keys, pack_values, unpack_row


@dataclass
class NewestPackedRows:
    """n rows of n keys, packed as for a key without a stored row.

    Args:
        positions: of each its created time, and what says when it arrived (`asof.values.packing.Version`).
        format: of the rows.
    """

    keys: list[bytes]
    times: list[Micros]
    positions: list[list[Any]]
    packed: list[bytes]
    format: int

    def of(self, index: Sequence[int]) -> NewestPackedRows:
        """The rows at these indexes."""
        return NewestPackedRows(
            [self.keys[i] for i in index], [self.times[i] for i in index], [self.positions[i] for i in index],
            [self.packed[i] for i in index], self.format,
        )  # fmt: skip

    def after(self, stored: Sequence[bytes | None], *, clock: Micros) -> list[bytes | None]:
        """Each key's row after the write, given the stored one; None if the stored row stays."""
        merged: list[bytes | None] = list(self.packed)
        for i, (time, place, before) in enumerate(zip(self.times, self.positions, stored, strict=True)):
            if before is None:
                continue
            row = unpack_row(before)
            at = row[1]
            # Nothing is pending there, the key was not gone, and what is stored comes before: the most frequent case.
            if (
                at is not None
                and not row[-1]
                and (at < time or (at == time and row[-2] < place and row[0] == self.format))
            ):
                continue
            width = len(row) - 4
            values = unpack_row(self.packed[i])[2 : 2 + width]
            created, arrived, within = place
            version = Version(time, created, arrived, within, values)
            merged[i] = merge_versions(before, [version], width=width, clock=clock, format=self.format)
        return merged


@dataclass(frozen=True)
class LatestRows:
    """The source columns of a view whose rows are the source's rows, unchanged.

    Args:
        keys, features: the columns' names in the source.
    """

    view: FeatureView
    source: LogSource
    keys: tuple[str, ...]
    features: tuple[str, ...]

    @classmethod
    def between(cls, source: LogSource, view: FeatureView) -> LatestRows | None:
        """The view's columns in the source; None if its rows take more than selecting columns."""
        its = view.source
        if view.is_aggregated or not isinstance(its, LogSource) or its != source:
            return None
        if source.stream_from is not None or source.delete_when or source.has_tombstones:
            return None
        declared = {source.renamed(field.name): field for field in source.schema}
        fields = [*view.key_fields, *view.features]
        if len(view.key_fields) != len(view.join_keys):
            return None
        if any(each.name not in declared or declared[each.name].dtype != each.dtype for each in fields):
            return None
        names = [declared[each.name].name for each in fields]
        return cls(view, source, tuple(names[: len(view.key_fields)]), tuple(names[len(view.key_fields) :]))

    def keys_of(self, arrived: AppendedRows) -> list[bytes]:
        """Each row's key."""
        rows = arrived.rows
        if not self.keys:
            return [key_bytes(())] * rows.count
        return pack_keys([rows.columns[name].plain for name in self.keys])

    def newest(self, arrived: AppendedRows, keys: list[bytes], *, format: int) -> NewestPackedRows:
        """The newest of the rows of each key, in the order in which the keys first come; all rows must be due.

        Args:
            keys: those of the rows.
            format: of the rows of the view's generation.
        """
        rows = arrived.rows
        times, created = rows.event_time, rows.created
        offsets = range(arrived.first, arrived.first + rows.count)
        if format == ARRIVAL_FORMAT:
            era = Arrival.of(arrived.partition, 0, arrived.pushed_at).era
            positions: list[list[Any]] = [
                [at, era, [arrived.partition, offset] if arrived.pushed_at else [offset, arrived.partition]]
                for at, offset in zip(created, offsets, strict=True)
            ]
        else:
            positions = list(map(list, zip(created, offsets, repeat(arrived.partition))))
        features = [rows.columns[name].plain for name in self.features]
        packed = pack_values(repeat(format), times, *features, positions, repeat(()))
        found = NewestPackedRows(keys, times, positions, packed, format)
        last: dict[bytes, int] = dict.fromkeys(keys, -1)
        if len(last) == len(keys):
            return found
        for i, key in enumerate(keys):
            j = last[key]
            # Offsets ascend, so among rows with equal times the last one is the newest.
            if j < 0 or (times[j], created[j]) <= (times[i], created[i]):
                last[key] = i
        return found.of(list(last.values()))


__all__ = ["LatestRows", "NewestPackedRows"]
