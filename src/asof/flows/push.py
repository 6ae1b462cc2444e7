"""Pushes: rows go to the push log first, then into the online rows at once, and into the archive soon after."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from threading import Lock
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from asof.decoding import unusable_times
from asof.definitions import Field, LogSource
from asof.errors import PushNotApplied, RowsRefused, StorageError, nearest, some
from asof.fitting import fit, fit_values
from asof.flows.ingest import Ingest
from asof.flows.parts import Parts, log_source_named
from asof.flows.stream import check_topic, take_in
from asof.log.protocol import Headers, OwnershipLost
from asof.timing import moment

BATCH = "batch"
"""The header that carries a batch's id."""

FLUSH_ROWS = 100_000
FLUSH_EVERY_S = 5.0
MOST_ROWS = 1_000_000
"""With so many rows waiting for an archive that cannot be written, a push is refused."""

_encode = msgspec.json.Encoder(decimal_format="string").encode


class Pusher:
    """Pushes rows of one source from this process, which sees its own pushes at once.

    Rows that an earlier process wrote to the log and did not archive are taken over first.
    """

    def __init__(self, parts: Parts, source: str) -> None:
        self.parts = parts
        self.name = source
        check_topic(parts, log_source_named(parts.registry.load(parts.project), source))
        self.ingest = Ingest(parts, source, seconds=time.monotonic)
        self.topic = self.ingest.source.topic
        self.partition = parts.log.own_partition(self.topic)
        # What is in the own partition below this is applied; the rest may be rows whose push failed half way.
        self._position = 0
        self._lock = Lock()
        self._batches: set[str] = set()
        self._batches_read: dict[int, int] = {}
        self._flushed_at = time.monotonic()
        self.take_over()

    def take_over(self) -> int:
        """Apply and archive all that stands in the log and not in the archive, whoever pushed it; how many rows."""
        with self._lock:
            return self._take_over()

    def _take_over(self) -> int:
        after = self.parts.log.bounds(self.topic)[self.partition][1]
        taken = take_in(self.parts, self.ingest)
        self._position = max(self._position, after)
        self._flushed_at = time.monotonic()
        return taken

    def push(self, rows: Any, *, batch_id: str | None = None) -> int:
        """Write rows to the log, durably, and apply them to the online rows.

        Args:
            rows: dicts, a dict of columns, or a pandas, Polars or Arrow table, with exactly the source's columns.
            batch_id: a name for these rows; a push under a name that the log knows is no push. Two pushes of one batch
                at the same moment, from two processes, are not told apart: it is for retries, one after the other.

        Returns:
            How many rows were pushed; 0 for a batch that was pushed before.

        Raises:
            RowsRefused: something does not fit; nothing was written.
            LogError: nothing was written.
            PushNotApplied: the rows are in the log for good, but the online store did not take them yet.
        """
        source = self.ingest.source
        keys = [source.raw(key) for view in self._views() for key in view.join_keys]
        table = fitted_rows(source, rows, required=[source.timestamp_field, *keys])
        self._refuse_unusable_times(table)
        messages = encoded(table)
        with self._lock:
            if batch_id is not None and self._is_known(batch_id):
                # Its first push may have failed between log and online store.
                self._apply()
                return 0
            if not messages:
                return 0
            if self.ingest.buffered >= MOST_ROWS:
                self.ingest.flush()
            headers: list[Headers] | None = None
            if batch_id is not None:
                headers = [((BATCH, batch_id.encode()),)] * len(messages)
            self._send(messages, headers)
            if batch_id is not None:
                self._batches.add(batch_id)
            self._apply()
            self._archive_if_due()
        return len(messages)

    def _send(self, messages: Sequence[bytes], headers: Sequence[Headers] | None) -> None:
        try:
            self.parts.log.send(self.topic, messages, partition=self.partition, headers=headers, durable=True)
        except OwnershipLost:
            # This process stood still for so long that another one took its partition over, with all that is in it.
            self.partition, self._position = self.parts.log.own_partition(self.topic), 0
            self._take_over()
            self.parts.log.send(self.topic, messages, partition=self.partition, headers=headers, durable=True)

    def _refuse_unusable_times(self, table: pa.Table) -> None:
        """A pushed row has somebody to tell, so it is refused where a message would become a dead letter."""
        source = self.ingest.source
        column = table[source.timestamp_field].combine_chunks()
        reasons = unusable_times(source, column, clock=self.parts.clock())
        if reasons:
            raise RowsRefused(
                f"rows pushed to source {source.name!r} cannot be used; nothing was written:",
                [f"row {row}: {reason}" for row, reason in sorted(reasons.items())],
                hint="mend their times, or give the source a longer max_future", where=source.where,
            )  # fmt: skip

    def _apply(self) -> None:
        """Apply what the own partition holds and this process has not applied: without a gap, and in order."""
        after = self.parts.log.bounds(self.topic)[self.partition][1]
        try:
            if self._position < after and self.ingest.has_news():
                # Definitions changed: from here on the generations that stand now are fed.
                self.ingest.flush()
            while self._position < after:
                part = self.parts.log.read(self.topic, self.partition, self._position, stop=after)
                self.ingest.take(self.topic, part)
                self._position = int(part.offsets[-1]) + 1 if len(part) else after
            if self.ingest.generations.are_replaced:
                # So that this push is read at once, too.
                self.ingest.flush()
        except StorageError as error:
            raise PushNotApplied(
                f"rows pushed to source {self.name!r} are kept in its log, but could not be applied: {error.message}",
                hint=f"do not push them again: the next push applies them, and so does `asof stream run`; {error.hint}",
            ) from error

    def _archive_if_due(self) -> None:
        due = time.monotonic() - self._flushed_at >= FLUSH_EVERY_S or self.ingest.buffered >= FLUSH_ROWS
        if not due or not self.ingest.flush_is_done:
            return
        self._flushed_at = time.monotonic()
        try:
            self.ingest.flush(wait=False)
        except StorageError:
            # This push stands, in the log and online; `flush` and `close` raise if the archive still fails then.
            self.ingest.counts["archive writes that failed"] += 1

    def flush(self) -> None:
        """Archive what was pushed so far."""
        with self._lock:
            self.ingest.flush()
            self._flushed_at = time.monotonic()

    def close(self) -> None:
        """Archive what was pushed, and let go."""
        try:
            self.flush()
        finally:
            self.ingest.close()

    def _views(self) -> list[Any]:
        snapshot = self.ingest.snapshot
        return snapshot.project.views_of(self.name) if snapshot else []

    def _is_known(self, batch_id: str) -> bool:
        """Whether any process has pushed this batch; the log itself remembers."""
        for number, (first, after) in self.parts.log.bounds(self.topic).items():
            position = max(self._batches_read.get(number, 0), first)
            while position < after:
                messages = self.parts.log.read(self.topic, number, position, stop=after)
                if not len(messages):
                    break
                for headers in messages.headers or ():
                    self._batches |= {value.decode() for name, value in headers if name == BATCH and value is not None}
                position = int(messages.offsets[-1]) + 1
            self._batches_read[number] = max(position, after)
        return batch_id in self._batches


def fitted_rows(source: LogSource, rows: Any, *, required: Sequence[str] = ()) -> pa.Table:
    """Rows in the source's declared columns and types.

    Args:
        rows: dicts, a dict of columns, or a pandas, Polars or Arrow table.
        required: columns without nulls.

    Raises:
        RowsRefused: a column is missing or extra, or a value does not fit; each is named.
    """
    return fit_table(
        rows, source.schema, required=required, what=f"rows pushed to source {source.name!r}", where=source.where
    )


def fit_table(rows: Any, fields: Sequence[Field], *, required: Sequence[str], what: str, where: str) -> pa.Table:
    """Rows of any kind as a table of exactly these fields.

    Raises:
        RowsRefused: a column is missing or extra, or a value does not fit; each is named.
    """
    names = [field.name for field in fields]
    columns, problems = _columns(rows, names)
    fitted: dict[str, pa.Array] = {}
    for field in fields:
        if field.name not in columns:
            continue
        column = columns[field.name]
        array, misfits = (
            fit(column, field.dtype)
            if isinstance(column, pa.Array | pa.ChunkedArray)
            else fit_values(column, field.dtype)
        )
        problems += [f"column {field.name!r}, row {row}: {reason}" for row, reason in misfits]
        misfit_rows = {row for row, _ in misfits}
        if field.name in required:
            nulls = array.is_null().to_pylist()
            problems += [
                f"column {field.name!r}, row {row}: is null"
                for row, null in enumerate(nulls)
                if null and row not in misfit_rows
            ]
        fitted[field.name] = array
    if problems:
        raise RowsRefused(
            f"{what} do not fit; nothing was written:", problems,
            hint=f"the columns are {', '.join(f'{field.name} {field.dtype}' for field in fields)}", where=where,
        )  # fmt: skip
    return pa.table(fitted)


def _columns(rows: Any, names: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Rows as columns by name, and what is wrong with the columns as such."""
    if hasattr(rows, "to_arrow") and hasattr(rows, "lazy"):  # polars.DataFrame
        rows = rows.to_arrow()
    if hasattr(rows, "iloc") and hasattr(rows, "dtypes"):  # pandas.DataFrame
        rows = pa.Table.from_pandas(rows, preserve_index=False)
    if isinstance(rows, pa.RecordBatch):
        rows = pa.Table.from_batches([rows])
    if isinstance(rows, pa.Table):
        columns: dict[str, Any] = {name: rows[name] for name in rows.column_names}
    elif isinstance(rows, Mapping):
        columns = {name: list(values) for name, values in rows.items()}
        lengths = {name: len(values) for name, values in columns.items()}
        if len(set(lengths.values())) > 1:
            return {}, [f"the columns differ in length: {lengths}"]
    elif isinstance(rows, Iterable) and not isinstance(rows, str | bytes):
        return _columns_of_dicts(list(rows), names)
    else:
        return {}, [f"{rows!r} is neither a table nor a list of dicts"]
    problems = [f"column {name!r} is missing" for name in names if name not in columns]
    problems += [_extra(name, names) for name in columns if name not in names]
    return columns, problems


def _columns_of_dicts(rows: list[Any], names: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    problems = []
    keys = set(names)
    is_odd = False
    for i, row in enumerate(rows):
        if type(row) is not dict and not isinstance(row, Mapping):
            return {}, [f"row {i} is {row!r}; expected a dict"]
        if row.keys() == keys:
            continue
        is_odd = True
        problems += [f"row {i}: column {name!r} is missing" for name in names if name not in row]
        problems += [f"row {i}: {_extra(str(name), names)}" for name in row if name not in names]
    if is_odd:
        return {name: [row.get(name) for row in rows] for name in names}, problems
    return {name: list(map(itemgetter(name), rows)) for name in names}, problems


def _extra(name: str, names: Sequence[str]) -> str:
    near = nearest(name, names)
    return f"column {name!r} is not declared" + (f" ({near})" if near else f"; declared are {some(names)}")


def encoded(table: pa.Table) -> list[bytes]:
    """Rows as JSON messages, so that what is decoded again is what was pushed."""
    columns = {}
    for name in table.column_names:
        column = table[name]
        if pa.types.is_timestamp(column.type):
            # By way of integers: Arrow's own way to Python's times takes most of what a push does.
            columns[name] = [None if value is None else moment(value) for value in column.cast(pa.int64()).to_pylist()]
        elif pa.types.is_floating(column.type) and not pc.all(pc.is_finite(column)).as_py():
            # JSON has no NaN and no infinity; text stands for them, on the wire alone.
            columns[name] = [
                value if value is None or math.isfinite(value) else _NOT_FINITE[str(value)]
                for value in column.to_pylist()
            ]
        else:
            columns[name] = column.to_pylist()
    row = _row_of(tuple(table.column_names))
    return list(map(_encode, map(row, *columns.values())))


@lru_cache
def _row_of(names: tuple[str, ...]) -> Callable[..., Any]:
    """What makes a row of its values that is encoded as an object with these names: a struct costs less than a dict."""
    places = [f"f{i}" for i in range(len(names))]
    return msgspec.defstruct("Row", places, rename=dict(zip(places, names, strict=True)), gc=False)


_NOT_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
