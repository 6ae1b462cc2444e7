"""Apply a log's rows to a view's online rows: read the touched rows, merge, write back if unchanged."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from asof.aggregation import Events, FoldCounts, RowLayout, StateRows, decode, encode, fold
from asof.definitions import FeatureView, LogSource
from asof.flows.generations.layout import GRACE, expiry_of, inputs_of, layout_of
from asof.flows.generations.names import keeps_arrival
from asof.flows.generations.progress import TableProgress, write_progress
from asof.flows.rows.batch import BatchKeys, RowBatch, keyed, with_keys
from asof.flows.rows.newest import LatestRows, NewestPackedRows
from asof.flows.rows.pages import pages_of
from asof.flows.rows.pushed import AppendedRows
from asof.flows.rows.retries import write_until_kept
from asof.flows.rows.tombstones import deletions
from asof.flows.stores import Stores, table_of
from asof.online.protocol import NO_ROW, Lookup, Row, Unchanged, state_rows
from asof.timing import Micros
from asof.values.packing import ARRIVAL_FORMAT, FORMAT, Version, merge_versions, newest_time, plain_values

_ROWS_AT_ONCE = 20_000


class _LargeKey(NamedTuple):
    """A key that is folded piece by piece: its state so far, and the key itself, once there was a row."""

    state: StateRows
    keys: Sequence[bytes] = ()


class GenerationWriter:
    """Writes one generation of one view.

    Args:
        generation: its name; its table must be prepared.

    Attributes:
        incomplete: keys whose rows a late event has made incomplete, to be recomputed.
        has_marked: whether keys were added since `Ingest` last looked.
        incarnation: the online store's incarnation before the first read; rows are written to no other.
    """

    def __init__(self, stores: Stores, view: FeatureView, generation: str) -> None:
        self.stores = stores
        self.view = view
        self.table = table_of(stores.project, view, generation)
        self.incarnation = stores.online.incarnation()
        self.counts: Counter[str] = Counter()
        self.incomplete: set[bytes] = set()
        self.has_marked = False
        self._tried = b""
        self._marked: set[int] = set()
        self._large: _LargeKey | None = None
        self._picked: tuple[LogSource, FeatureView, LatestRows | None] | None = None
        self._layout = layout_of(view, generation) if view.is_aggregated else None
        self._format = ARRIVAL_FORMAT if keeps_arrival(generation, view) else FORMAT

    def apply(self, batch: RowBatch, *, clock: Micros) -> int:
        """Merge a batch into the view's rows; a row ignores events that it has seen.

        Returns:
            Number of rows written.
        """
        batch = with_keys(self.view, batch)
        if not len(batch):
            return 0
        due = clock - self.view.delay
        gone = deletions(self.stores, self.view.source, batch.rows)
        if self._layout:
            batch = self.without(batch, gone)
            return self._apply_state(batch, keyed(self.view, batch.rows), due) if len(batch) else 0
        return self._apply_latest(batch, keyed(self.view, batch.rows), due, gone)

    def apply_of_key(self, batch: RowBatch, *, clock: Micros, goes_on: bool) -> int:
        """The same in a bulk build, where a batch has all rows of its keys, or some of those of one key.

        A key with too many rows for one batch is folded piece by piece, and written with the last one.

        Args:
            batch: a key's rows are in the order of their event times.
            goes_on: the next batch has more rows of this batch's only key.

        Returns:
            Number of rows written.
        """
        if not goes_on and self._large is None or self._layout is None:
            # Of latest values, one piece after the other is merged.
            return self.apply(batch, clock=clock)
        layout, due = self._layout, clock - self.view.delay
        self._large = self._large or _LargeKey(decode(layout, [None]))
        batch = with_keys(self.view, batch)
        batch = self.without(batch, deletions(self.stores, self.view.source, batch.rows))
        if len(batch):
            distinct = keyed(self.view, batch.rows)
            columns = inputs_of(self.stores, self.view, layout, batch.rows)
            state, counts = fold(
                layout, self._large.state, _events(layout, batch, distinct.rows, columns), clock_us=due, unseen=True
            )
            self._large = _LargeKey(state, distinct.keys)
            self._count(counts)
        if goes_on:
            return 0
        (state, keys), self._large = self._large, None
        blobs = encode(layout, state, max_row_bytes=self.stores.max_row_bytes)

        def write(todo: Sequence[int]) -> Sequence[int]:
            # A row that is there is of a build that ended before it was complete: this one has all of its events.
            found = state_rows(*self.stores.online.read([Lookup(self.table, keys)]))
            (kept,) = self.stores.online.write(
                self.table, keys, blobs, expires_at=expiry_of(self.view, layout, state, now=due),
                condition=Unchanged([row[1] if row else NO_ROW for row in found], within=self.incarnation),
            )  # fmt: skip
            return [] if kept else todo

        if keys:
            self._write_until_kept([0], write)
        return len(keys)

    def without(self, batch: RowBatch, gone: npt.NDArray[np.bool_] | None) -> RowBatch:
        """The batch without tombstones, which aggregations ignore."""
        if gone is None:
            return batch
        self.counts["tombstones ignored"] += int(gone.sum())
        return batch.take(np.flatnonzero(~gone))

    def _apply_state(self, batch: RowBatch, distinct: BatchKeys, due: Micros) -> int:
        layout = self._layout
        assert layout is not None
        columns = inputs_of(self.stores, self.view, layout, batch.rows)
        all_events = _events(layout, batch, distinct.rows, columns)

        def write(todo: Sequence[int]) -> list[int]:
            lost: list[int] = []
            for start in range(0, len(todo), _ROWS_AT_ONCE):
                part = np.array(todo[start : start + _ROWS_AT_ONCE], dtype=np.int64)
                place = np.full(len(distinct.keys), -1, dtype=np.int64)
                place[part] = np.arange(len(part))
                rows = place[distinct.rows]
                chosen = rows >= 0
                arrival = all_events.arrival
                events = Events(
                    rows[chosen], batch.event_time[chosen], batch.created[chosen], batch.partition[chosen],
                    batch.offset[chosen], [_taken(column, chosen) for column in columns],
                    None if arrival is None else [column[chosen] for column in arrival],
                )  # fmt: skip
                lost += part[self._fold(layout, [distinct.keys[i] for i in part.tolist()], events, due)].tolist()
            return lost

        # In key order, so that rows that are read and written together are adjacent.
        self._write_until_kept(sorted(range(len(distinct.keys)), key=distinct.keys.__getitem__), write)
        return len(distinct.keys)

    def _fold(self, layout: RowLayout, keys: list[bytes], events: Events, due: Micros) -> Sequence[int]:
        """Fold events into the rows of `keys`; returns the indexes of keys whose write lost a race."""
        found = state_rows(*self.stores.online.read([Lookup(self.table, keys)]))
        state = decode(layout, [row[0] if row else None for row in found])
        state, counts = fold(layout, state, events, clock_us=due)
        if state.incomplete.any():
            self._mark(keys, state, events)
        blobs = encode(layout, state, max_row_bytes=self.stores.max_row_bytes)
        expiry = expiry_of(self.view, layout, state, now=due)
        tokens = [row[1] if row else NO_ROW for row in found]
        changed: Sequence[int] = range(len(keys))
        if counts.replayed:
            # On a replay few rows change, or none.
            changed = [i for i, row in enumerate(found) if row is None or row[0] != blobs[i]]
            keys, blobs = [keys[i] for i in changed], [blobs[i] for i in changed]
            tokens = [tokens[i] for i in changed]
            expiry = [expiry[i] for i in changed] if expiry is not None else None
        kept = self.stores.online.write(
            self.table, keys, blobs, expires_at=expiry,
            condition=Unchanged(tokens, within=self.incarnation),
        )  # fmt: skip
        self._count(counts)
        return [i for i, was in zip(changed, kept, strict=True) if not was]

    def _apply_latest(
        self, batch: RowBatch, distinct: BatchKeys, due: Micros, gone: npt.NDArray[np.bool_] | None
    ) -> int:
        view = self.view
        # Only the newest due row of a key can become its value: the older ones of this batch need no look.
        arrival = reversed(batch.arrival.columns) if self._format == ARRIVAL_FORMAT else (batch.partition, batch.offset)
        order = np.lexsort((*arrival, batch.created, batch.event_time, distinct.rows))
        rows = distinct.rows[order]
        is_due = batch.event_time[order] <= due
        newest = np.ones(len(order), dtype=bool)
        newest[:-1] = (rows[1:] != rows[:-1]) | ~is_due[1:]
        index = order[newest | ~is_due]
        picked = batch.take(index)
        is_gone = [False] * len(index) if gone is None else gone[index].tolist()
        columns = [plain_values(picked.rows[field.name].combine_chunks(), field.dtype) for field in view.features]
        plain: Iterator[list[Any]] = map(list, zip(*columns)) if columns else ([] for _ in is_gone)
        versions: dict[int, list[Version]] = {}
        for key, gone_now, mine, *place in zip(
            distinct.rows[index].tolist(), is_gone, plain, picked.event_time.tolist(), picked.created.tolist(),
            *self._positions(picked), strict=True,
        ):  # fmt: skip
            time, created, arrived, within = place
            versions.setdefault(key, []).append(Version(time, created, arrived, within, None if gone_now else mine))
        written = 0

        def write(todo: Sequence[int]) -> list[int]:
            nonlocal written
            found = state_rows(*self.stores.online.read([Lookup(self.table, [distinct.keys[key] for key in todo])]))
            changed, values, tokens = list[int](), list[bytes](), list[int]()
            expiry: list[Micros | None] = []
            for key, row in zip(todo, found, strict=True):
                merged = merge_versions(
                    row[0] if row else None, versions[key], width=len(columns), clock=due, format=self._format
                )
                if merged is not None:
                    changed.append(key)
                    values.append(merged)
                    tokens.append(row[1] if row else NO_ROW)
                    expiry.append(self._expiry(newest_time(merged, len(columns))) if view.ttl else None)
            if not changed:
                return []
            keys = [distinct.keys[key] for key in changed]
            condition = Unchanged(tokens, within=self.incarnation)
            kept = self.stores.online.write(self.table, keys, values, condition=condition, expires_at=expiry)
            written += sum(kept)
            return [key for key, was in zip(changed, kept, strict=True) if not was]

        self._write_until_kept(sorted(versions, key=distinct.keys.__getitem__), write)
        return written

    def _positions(self, batch: RowBatch) -> tuple[list[int], list[Any]]:
        """`arrived` and `within` of each row's `Version`."""
        if self._format != ARRIVAL_FORMAT:
            return batch.offset.tolist(), batch.partition.tolist()
        era, first, second = (column.tolist() for column in batch.arrival.columns)
        if batch.origin is None:
            return era, list(map(list, zip(first, second)))
        # Partition and offset in the archive, too: they tell which messages the row has seen.
        return era, list(map(list, zip(first, second, batch.partition.tolist(), batch.offset.tolist())))

    def newest(self, rows: LatestRows, arrived: AppendedRows, keys: list[bytes]) -> NewestPackedRows:
        """Pushed rows as the newest of their keys, as the generation has them; all must be due."""
        return rows.newest(arrived, keys, format=self._format)

    def pick(self, source: LogSource) -> LatestRows | None:
        """The view's columns in the source, if its rows are only a selection of columns; else None."""
        picked = self._picked
        if picked is None or picked[0] is not source or picked[1] is not self.view:
            picked = self._picked = (source, self.view, LatestRows.between(source, self.view))
        return picked[2]

    def apply_newest(self, newest: NewestPackedRows, *, clock: Micros, found: list[Row | None] | None = None) -> int:
        """Merge pushed rows into the view's rows, like `apply`; no event may be after the clock.

        Args:
            found: the stored rows of their keys, if they are read already.

        Returns:
            Number of rows written.
        """
        due = clock - self.view.delay
        written = 0

        def write(todo: Sequence[int]) -> Sequence[int]:
            nonlocal found, written
            mine = newest if len(todo) == len(newest.keys) else newest.of(list(todo))
            if found is None:
                (found,) = self.stores.online.read([Lookup(self.table, mine.keys)])
            tokens = [NO_ROW if row is None else row[1] for row in state_rows(found)]
            values = mine.after([row and row[0] for row in found], clock=due)
            found = None
            changed: list[Any] = values
            if None in values:
                stays = [i for i, value in enumerate(values) if value is not None]
                mine, tokens, changed = mine.of(stays), [tokens[i] for i in stays], [values[i] for i in stays]
                todo = [todo[i] for i in stays]
            if not changed:
                return ()
            expiry = None
            if self.view.ttl:
                width = len(self.view.features)
                # A merged row may also have a later, pending version.
                expiry = [
                    self._expiry(time if value is own else newest_time(value, width))
                    for time, own, value in zip(mine.times, mine.packed, changed, strict=True)
                ]
            kept = self.stores.online.write(
                self.table, mine.keys, changed, condition=Unchanged(tokens, within=self.incarnation),
                expires_at=expiry,
            )  # fmt: skip
            written += sum(kept)
            return () if all(kept) else [i for i, was in zip(todo, kept, strict=True) if not was]

        self._write_until_kept(range(len(newest.keys)), write)
        return written

    def _expiry(self, time: Micros) -> Micros:
        return time + self.view.ttl + self.view.delay + GRACE

    def _mark(self, keys: Sequence[bytes], state: StateRows, events: Events) -> None:
        """Record incomplete rows; the partition's flag is written first, for the successor after a crash."""
        flagged = state.incomplete
        news = {keys[i] for i in np.flatnonzero(flagged).tolist()} - self.incomplete
        if news:
            partitions = set(np.unique(events.partition[flagged[events.rows]]).tolist())
            if partitions - self._marked:
                change = TableProgress(incomplete=dict.fromkeys(partitions, True))
                write_progress(self.stores.online, self.table, change)
            self._marked |= partitions
            self.incomplete |= news
            self.has_marked = True
            self.counts["rows marked incomplete"] += len(news)

    def find_incomplete(self, partition: int) -> None:
        """Scan all rows for incomplete ones that the partition's former owner has not recomputed."""
        assert self._layout is not None
        self._marked.add(partition)
        for page in pages_of(self.stores, self.table):
            flagged = decode(self._layout, [row[1] for row in page]).incomplete
            self.incomplete.update(page[i][0] for i in np.flatnonzero(flagged).tolist())

    def next_incomplete(self, most: int) -> list[bytes]:
        """Incomplete rows to be recomputed now: others than at the last time, as long as there are others."""
        waiting = sorted(self.incomplete)
        start = bisect_right(waiting, self._tried)
        chosen = (waiting[start:] + waiting[:start])[:most]
        self._tried = chosen[-1] if chosen else b""
        return chosen

    def completed(self, keys: Sequence[bytes]) -> None:
        """Record that these rows are recomputed."""
        self.incomplete.difference_update(keys)
        if not self.incomplete and self._marked:
            change = TableProgress(incomplete=dict.fromkeys(self._marked, False))
            write_progress(self.stores.online, self.table, change)
            self._marked.clear()

    def _count(self, counts: FoldCounts) -> None:
        for name in ("replayed", "late", "session_late", "pending", "overflowed"):
            if found := getattr(counts, name):
                self.counts[name.replace("_", " ")] += found

    def _write_until_kept(self, todo: Sequence[int], write: Callable[[Sequence[int]], Sequence[int]]) -> None:
        write_until_kept(
            todo, write, whose=f"feature view {self.view.name!r}", what="row",
            hint="check for other workers on this view with `asof stream status`",
        )  # fmt: skip


def _events(
    layout: RowLayout, batch: RowBatch, rows: npt.NDArray[np.int64], columns: list[tuple[Any, npt.NDArray[np.bool_]]]
) -> Events:
    """The batch as events of these rows of a state, with the layout's inputs."""
    return Events(
        rows, batch.event_time, batch.created, batch.partition, batch.offset, columns,
        batch.arrival.columns if layout.keeps_arrival else None,
    )  # fmt: skip


def _taken(
    column: tuple[Any, npt.NDArray[np.bool_]], chosen: npt.NDArray[np.bool_]
) -> tuple[Any, npt.NDArray[np.bool_]]:
    values, mask = column
    return (None if values is None else values.filter(pa.array(chosen)), mask[chosen])
