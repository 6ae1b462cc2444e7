"""Write a batch source's rows to one generation of a view: the newest row per key, or recomputed windows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeGuard

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from asof.aggregation import NEVER, Events, RowLayout, StateRows, decode, encode, fold
from asof.definitions import FeatureView
from asof.errors import SourceError, StorageError
from asof.flows.generations.layout import GRACE, expiry_of, inputs_of, layout_of
from asof.flows.offline.inputs import rows_of
from asof.flows.rows.batch import input_schema
from asof.flows.rows.checks import refuse_misfits
from asof.flows.rows.retries import write_until_kept
from asof.flows.rows.whole_keys import READ_ROWS, by_key, starts
from asof.flows.stores import Progress, Stores, silent
from asof.offline.protocol import DistributedResult, QueryResult
from asof.online.protocol import NO_ROW, Lookup, Newest, OnlineTable, Unchanged, state_rows
from asof.sources.protocol import Batches, Input
from asof.sql.query import OWN, WANTED, NewestRows, RowFilter, RowsOfKeys, TouchedKeys
from asof.timing import Micros
from asof.values.fit import fit
from asof.values.packing import key_bytes, pack_rows, plain_values

Ints = npt.NDArray[np.int64]

ROWS_AT_ONCE = 50_000
EVENTS_AT_ONCE = 200_000
KEYS_AT_ONCE = 500_000
COUNTED_AFTER = 200_000
"""After so many rows a run of latest values counts its keys; that is a tenth of its time, so a short one does not."""
_TOKENS_AT_ONCE = 10_000
_SIGN = np.uint64(1 << 63)


@dataclass(frozen=True)
class WriteCounts:
    """Numbers of online rows of a run.

    Args:
        rows: rows written.
        overflowed: rows above `max_row_bytes`, which return null.
        expired: rows that were older than the view's ttl when they were written, which return null.
    """

    rows: int = 0
    overflowed: int = 0
    expired: int = 0

    def __add__(self, other: WriteCounts) -> WriteCounts:
        return WriteCounts(self.rows + other.rows, self.overflowed + other.overflowed, self.expired + other.expired)


class StoredRow(NamedTuple):
    """A key's row before its recomputation: its token, and the latest event time in it."""

    token: int
    newest: Micros


_NOTHING = StoredRow(NO_ROW, NEVER)


class BuildDelegate(Protocol):
    """What packs and writes rows where the engine has them."""

    def take(self, result: QueryResult) -> TypeGuard[DistributedResult]:
        """Whether they can for these rows."""
        ...

    def newest(self, run: ViewRun, result: DistributedResult) -> WriteCounts:
        """Write the newest row of each key."""
        ...

    def windows(
        self, run: ViewRun, result: DistributedResult, stored: Mapping[bytes, StoredRow], lost: set[bytes]
    ) -> Iterator[WriteCounts]:
        """Fold these rows, all rows of a key together, and write them; see `ViewRun.fold`."""
        ...


@dataclass(frozen=True)
class ViewRun:
    """One run over a view's source.

    Args:
        as_of: windows are computed as of this time, not before `chosen.latest`. A row that has a later event is
            computed as of that event, so that no row goes back in time.
        executors: where else than here rows can be packed and written, if anywhere.
    """

    stores: Stores
    view: FeatureView
    table: OnlineTable
    chosen: RowFilter
    as_of: Micros
    progress: Progress = silent
    executors: BuildDelegate | None = None

    def inputs(self) -> dict[str, Input | pa.Table | None]:
        """The source as it is now: asked for again by each query that must not read an older state."""
        return {self.view.source.name: rows_of(self.stores, self.view.source, [self.view])}

    def report(self, done: int, total: int | None = None) -> None:
        self.progress(f"materialize {self.view.name}", done, total)

    def newest(self) -> WriteCounts:
        """Write the newest row per key; the store ignores rows older than the stored one."""
        query = NewestRows(self.view, self.chosen)
        result = self.stores.offline.run(query, self.inputs())
        if self.executors is not None and self.executors.take(result):
            return self.executors.newest(self, result)
        done = WriteCounts()
        seen, total, is_counted = 0, None, self.progress is silent
        for batch, is_last in _with_last(result.reader(ROWS_AT_ONCE)):
            done += self.write_batch(pa.Table.from_batches([batch]))
            seen += batch.num_rows
            if is_last:
                total = seen
            elif not is_counted and seen >= COUNTED_AFTER:
                total, is_counted = self._keys_to_write(), True
            self.report(seen, None if total is None else max(total, seen))
        return done

    def write_batch(self, batch: pa.Table) -> WriteCounts:
        """Write some of the newest rows."""
        view = self.view
        rows, keys = keyed_rows(view, batch)
        times, created, arrived = (_ints(rows[name]) for name in ("ts", "created", "arrived"))
        refuse_misfits(view, {field.name: (rows[f"f{i}"], field.dtype) for i, field in enumerate(view.features)})
        columns = [plain_values(rows[f"f{i}"], field.dtype) for i, field in enumerate(view.features)]
        kept = write_newest(
            self.stores, view, self.table, keys, columns, event_time=times, created=created, offset=arrived,
            gone=rows["gone"].to_pylist() if "gone" in rows.column_names else None,
        )  # fmt: skip
        oldest = self.stores.clock() - view.delay - view.ttl if view.ttl else NEVER
        return WriteCounts(sum(kept), expired=int(np.count_nonzero(np.array(kept, dtype=bool) & (times < oldest))))

    def _keys_to_write(self) -> int | None:
        """Number of keys with a selected row; None where the source's rows would be fetched once more for that."""
        inputs = self.inputs()
        if any(isinstance(each, Batches) for each in inputs.values()):
            return None
        return sum(
            batch.num_rows for batch in self.stores.offline.run(TouchedKeys(self.view, self.chosen), inputs).reader()
        )

    def windows(self) -> WriteCounts:
        """Recompute the rows of all touched keys from all of their source rows, and replace them.

        Stored rows are replaced, not added to, so a run is idempotent, and late rows need no special case.
        """
        done = WriteCounts()
        for touched, is_last in self._touched():
            # How many keys there are is known once the query for them has ended.
            total = done.rows + touched.num_rows if is_last else None
            done += self._replace(touched, before=done.rows, total=total)
        return done

    def _touched(self) -> Iterator[tuple[pa.Table, bool]]:
        """The touched keys (columns k0…) in chunks that fit into memory, and whether no other follows."""
        held: list[pa.RecordBatch] = []
        for batch in self.stores.offline.run(TouchedKeys(self.view, self.chosen), self.inputs()).reader():
            held.append(batch)
            if sum(each.num_rows for each in held) >= KEYS_AT_ONCE:
                yield pa.Table.from_batches(held), False
                held = []
        if sum(each.num_rows for each in held):
            yield pa.Table.from_batches(held), True

    def _replace(self, touched: pa.Table, *, before: int, total: int | None) -> WriteCounts:
        touched, keys = keyed_rows(self.view, touched)
        done = WriteCounts()

        def write(todo: Sequence[bytes]) -> list[bytes]:
            nonlocal done
            mine = touched
            if len(todo) < len(keys):
                again = set(todo)
                mine = touched.filter(pa.array([key in again for key in keys]))
            # Read tokens before the source: if another writer changes a row after that, the write fails and is retried.
            stored = self._stored(todo)
            up_to = max([self.as_of, *(each.newest for each in stored.values())])
            lost: set[bytes] = set()
            result = self.stores.offline.run(
                RowsOfKeys(self.view, RowFilter(up_to)), {**self.inputs(), WANTED: mine}
            )  # fmt: skip
            if self.executors is not None and self.executors.take(result):
                written = self.executors.windows(self, result, stored, lost)
            else:
                written = (kept for kept, _ in self.fold(_read(result), stored, lost))
            for kept in written:
                done += kept
                self.report(before + done.rows, total)
            return [key for key in todo if key in lost] if lost else []

        write_until_kept(
            keys, write, whose=f"feature view {self.view.name!r}", what="row",
            hint="check for other programs that materialize this view at the same time",
        )  # fmt: skip
        return done

    def _stored(self, keys: Sequence[bytes]) -> dict[bytes, StoredRow]:
        layout = layout_of(self.view, None)
        stored: dict[bytes, StoredRow] = {}
        for start in range(0, len(keys), _TOKENS_AT_ONCE):
            piece = keys[start : start + _TOKENS_AT_ONCE]
            found = state_rows(*self.stores.online.read([Lookup(self.table, piece)]))
            rows = {key: row for key, row in zip(piece, found, strict=True) if row is not None}
            newest = _newest(layout, [row[0] for row in rows.values()])
            stored.update((key, StoredRow(row[1], time)) for (key, row), time in zip(rows.items(), newest, strict=True))
        return stored

    def fold(
        self, batches: Iterable[pa.RecordBatch], stored: Mapping[bytes, StoredRow], lost: set[bytes]
    ) -> Iterator[tuple[WriteCounts, int]]:
        """Fold keys from all of their source rows and write them, a few keys at a time.

        A key with too many rows for one table is folded piece by piece.

        Args:
            batches: the rows of `RowsOfKeys`.
            lost: keys that lost a race are added.

        Returns:
            What was written, and how many source rows were folded for it.
        """
        layout = layout_of(self.view, None)
        folded = 0
        keys: list[bytes] = []
        state: StateRows | None = None
        for rows, goes_on in by_key(batches, key_columns(self.view), EVENTS_AT_ONCE):
            folded += rows.num_rows
            found = self._events(layout, rows, stored)
            if found is not None:
                keys, events, due = found
                before = decode(layout, [None] * len(keys)) if state is None else state
                # A piece's events are later than those before it, wherever their rows are in the source.
                state, _ = fold(layout, before, events, clock_us=due, unseen=True)
            if not goes_on and state is not None:
                yield self._write_states(layout, keys, state, stored, lost), folded
                folded, state = 0, None

    def _events(
        self, layout: RowLayout, rows: pa.Table, stored: Mapping[bytes, StoredRow]
    ) -> tuple[list[bytes], Events, Micros] | None:
        """Keys, their events as far as they count, and the time up to which all of these do; None without any."""
        view, stores = self.view, self.stores
        rows = rows.combine_chunks()
        # A limit per key, spread over the rows of the key by their positions.
        keys, positions = self._keys(rows)
        limits = np.array([max(self.as_of, stored.get(key, _NOTHING).newest) for key in keys], dtype=np.int64)
        counts = _ints(rows["ts"]) <= limits[positions]
        if not counts.all():
            # Rows read for one key may be after the time that is due for the others.
            rows = rows.filter(pa.array(counts)).combine_chunks()
            if not rows.num_rows:
                return None
            keys, positions = self._keys(rows)
        own = [name for name in rows.column_names if name.startswith(OWN)]
        inputs = rows.select(own).rename_columns([name.removeprefix(OWN) for name in own])
        types = input_schema(view)
        refuse_misfits(view, {name: (inputs[name], types[name]) for name in inputs.column_names if name in types})
        columns = inputs_of(stores, view, layout, inputs)
        times, created, arrived = (_ints(rows[name]) for name in ("ts", "created", "arrived"))
        events = Events(positions, times, created, np.zeros(len(positions), dtype=np.int32), arrived, columns)
        # One clock for the fold of all keys: each key's rows are cut at its own limit already.
        return keys, events, int(limits.max(initial=self.as_of))

    def _write_states(
        self, layout: RowLayout, keys: list[bytes], state: StateRows, stored: Mapping[bytes, StoredRow],
        lost: set[bytes],
    ) -> WriteCounts:  # fmt: skip
        view, stores = self.view, self.stores
        blobs = encode(layout, state, max_row_bytes=stores.max_row_bytes)
        kept = stores.online.write(
            self.table, keys, blobs,
            condition=Unchanged([stored.get(key, _NOTHING).token for key in keys]),
            expires_at=expiry_of(view, layout, state, now=self.as_of),
        )  # fmt: skip
        lost.update(key for key, was in zip(keys, kept, strict=True) if not was)
        # `encode` marks a truncated row only in its bytes.
        return WriteCounts(sum(kept), int(decode(layout, blobs).overflow.sum()))

    def _keys(self, rows: pa.Table) -> tuple[list[bytes], Ints]:
        """The distinct keys, and the key index of each row."""
        first = starts(rows, key_columns(self.view))
        _, keys = keyed_rows(self.view, rows.take(pa.array(first)))
        return keys, np.repeat(np.arange(len(first)), np.diff(np.append(first, rows.num_rows)))


def key_columns(view: FeatureView) -> list[str]:
    """The columns of the view's keys in the results of queries over its rows."""
    return [f"k{i}" for i in range(len(view.key_fields))]


def _read(result: QueryResult) -> pa.RecordBatchReader:
    return result.reader(READ_ROWS)


def _newest(layout: RowLayout, rows: Sequence[bytes]) -> list[Micros]:
    """The latest event time in each row; `NEVER` for an unreadable row, which is replaced anyway."""
    try:
        return decode(layout, rows).newest(layout).tolist()
    except StorageError:
        return [NEVER] if len(rows) == 1 else [time for row in rows for time in _newest(layout, [row])]


def write_newest(
    stores: Stores, view: FeatureView, table: OnlineTable, keys: Sequence[bytes], columns: Sequence[Sequence[Any]], *,
    event_time: Ints, created: Ints, offset: Ints, gone: Sequence[bool] | None = None,
) -> list[bool]:  # fmt: skip
    """Write latest-value rows in bulk, unless newer ones are stored; returns for each row whether it was written."""
    expires_at = (event_time + (view.ttl + view.delay + GRACE)).tolist() if view.ttl else None
    return stores.online.write(
        table, keys, pack_rows(event_time.tolist(), columns, gone),
        condition=Newest(pack_versions(event_time, created, offset)), expires_at=expires_at,
    )  # fmt: skip


def pack_versions(event_time: Ints, created: Ints, offset: Ints) -> list[bytes]:
    """`pack_version` for n rows at once, with partition 0."""
    numbers = np.zeros((len(event_time), 4), dtype=">u8")
    for place, column in enumerate((event_time, created, offset, 0)):
        # Adding 2**63 to a signed 64-bit integer flips its highest bit, so that bytes sort like numbers.
        numbers[:, place] = np.asarray(column, dtype=np.int64).view(np.uint64) ^ _SIGN
    packed = numbers.tobytes()
    return [packed[at : at + 32] for at in range(0, len(packed), 32)]


def keyed_rows(view: FeatureView, rows: pa.Table) -> tuple[pa.Table, list[bytes]]:
    """The rows without a null key (columns k0…), and the packed key of each.

    Raises:
        SourceError: a key does not fit its declared type.
    """
    fitted = []
    for i, field in enumerate(view.key_fields):
        column, misfits = fit(rows[f"k{i}"], field.dtype)
        if misfits:
            raise SourceError(
                f"join key {field.name!r} of source {view.source.name!r} does not fit {field.dtype}: {misfits[0][1]}",
                hint="declare the key with its real type, or fix the value in the source", where=view.source.where,
            )  # fmt: skip
        fitted.append(column)
    if any(column.null_count for column in fitted):
        # NaN in an integer column is a null.
        usable = fitted[0].is_valid()
        for column in fitted[1:]:
            usable = pc.and_(usable, column.is_valid())
        rows, fitted = rows.filter(usable), [column.filter(usable) for column in fitted]
    if not fitted:
        return rows, [key_bytes(())] * rows.num_rows
    plain = [plain_values(column, field.dtype) for column, field in zip(fitted, view.key_fields, strict=True)]
    return rows, [key_bytes(key) for key in zip(*plain, strict=True)]


def _with_last(batches: pa.RecordBatchReader) -> Iterator[tuple[pa.RecordBatch, bool]]:
    """Each batch that has rows, and whether it is the last one: the next is read before it is given."""
    held: pa.RecordBatch | None = None
    for batch in batches:
        if batch.num_rows:
            if held is not None:
                yield held, False
            held = batch
    if held is not None:
        yield held, True


def _ints(column: pa.ChunkedArray) -> Ints:
    return column.to_numpy().astype(np.int64, copy=False)


__all__ = [
    "EVENTS_AT_ONCE", "ROWS_AT_ONCE", "BuildDelegate", "StoredRow", "ViewRun", "WriteCounts", "key_columns",
    "keyed_rows", "pack_versions", "write_newest",
]  # fmt: skip
