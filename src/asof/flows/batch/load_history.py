"""Load the rows of a log source's batch source into its archive, as the partition `history`: each row once.

A load compares the batch source with the archive and appends what the archive lacks, piece by piece. So a load that was
killed is continued by the next one, and rows that are written to the batch source later are loaded by later runs.

Offsets are given in blocks, one per piece, and an append names the end of its block:

    block            0                    1                    2
    offsets          0 … 199,999          1,048,576 … + 17
    archived up to   1,048,575            2,097,151

Of two processes that append to one block, all rows of the second lie below the archived offset and are dropped: it
sees that, and compares again. No row can come in twice, and none is lost.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace as replaced

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from msgspec.structs import replace

from asof.decoding import unusable_created
from asof.definitions import Field, LogSource, Source
from asof.definitions.facts import Facts, LoadedHistory
from asof.display import counted
from asof.dtypes import Int64, Timestamp
from asof.errors import EntityFrameError, RowsRefused, SourceError
from asof.flows.batch.known_rows import ArchiveComparison
from asof.flows.facts import change_facts
from asof.flows.offline.inputs import rows_of
from asof.flows.rows.archive import archive_schema, with_arrival
from asof.flows.rows.counts import total_of
from asof.flows.rows.pushed import fit_table
from asof.flows.stores import Progress, Stores, silent
from asof.flows.stream.event_ids import EventIdClaims
from asof.sources.protocol import Batches, Input, ScanRequest
from asof.sql import archive as statements
from asof.sql.partitions import HISTORY
from asof.timing import DAY, LATEST, UNITS, Micros
from asof.values.fit import event_micros, fit, nul_in_text, source_micros

BLOCK = 1 << 20
"""Number of offsets that one append takes."""

PIECE_ROWS = 200_000
"""Number of rows from which on a piece is appended; it takes less than a block."""


class HistoryLoad:
    """A load of what the archive lacks of a source's batch source.

    Args:
        source: a log source with a batch source; its archive exists.
        start, end: only rows with `start <= event time < end`, in addition to the limit of `stream_from`.
    """

    def __init__(
        self, stores: Stores, source: LogSource, *, start: Micros | None = None, end: Micros | None = None,
        progress: Progress = silent,
    ) -> None:  # fmt: skip
        assert source.batch_source is not None
        self.stores, self.source, self.batch = stores, source, source.batch_source
        self.archive = stores.archive_of(source)
        self.is_whole = start is None and end is None
        self._progress = progress
        self._began = stores.clock()
        self._start = start
        self._missing_rows: int | None = None
        self._compared: tuple[int, ArchiveComparison] | None = None
        limits = [each for each in (end, source.stream_from) if each is not None]
        self._end = min(limits) if limits else None
        self._created = _created_column(source, self.batch)
        # The same definition, read up to the same time: else rows of any age may be new.
        shape = json.dumps([self.batch.content(), source.stream_from, self._created], sort_keys=True)
        self._identity = hashlib.sha256(shape.encode()).hexdigest()[:16]
        known = stores.registry.load(stores.project).facts.histories.get(source.name)
        self._since: Micros | None = None
        is_dated = bool(self._created or self.batch.lag)
        if is_dated and known is not None and known.batch == self._identity and known.until is not None:
            self._since = known.until - self.batch.lag

    def check(self) -> int:
        """Number of rows that the archive lacks; nothing is written.

        Raises:
            RowsRefused: a row does not fit the source's schema.
        """
        self._compared = self._compare(self._progress)
        self._missing_rows = self._compared[1].missing
        return self._missing_rows

    def _compare(self, progress: Progress = silent) -> tuple[int, ArchiveComparison]:
        """The archived offset of history before, and what the archive lacks."""
        last = self.stores.offline.offsets(self.archive, [HISTORY])[HISTORY]
        compared = self._archived_rows()
        seen, total = 0, self._source_rows()
        for rows in self._rows():
            compared.add_source(rows)
            seen += rows.num_rows
            progress(f"check {self.batch.name}", seen, None if total is None else max(total, seen))
        # Rows without a time are no history: fewer may be seen than there are.
        progress(f"check {self.batch.name}", seen, seen)
        compared.find_missing()
        return last, compared

    def load(self) -> int:
        """Append what the archive lacks; returns the number of rows. If `check` found none, nothing is read again.

        Raises:
            RowsRefused: a row does not fit the source's schema; rows before it may be loaded.
        """
        total, is_complete = 0, self._missing_rows == 0
        while not is_complete:
            done, is_complete = self._append_missing(total)
            total += done
        self._end_load(total)
        return total

    def _end_load(self, total: int) -> None:
        if self.stores.offline.offsets(self.archive, [HISTORY])[HISTORY] < 0:
            # A source without rows is not loaded yet.
            return
        known = self._recorded()
        is_same = known.batch == self._identity
        until = known.until if is_same else None
        if self.is_whole and (self._created or self.batch.lag):
            until = self._began
        ended = known.ended if is_same and not total else None
        self._record(
            replace(known, batch=self._identity, ended=ended or self.stores.clock(), until=until),
            f"loaded {counted(total, 'row')} of {self.batch.name}",
        )

    def _append_missing(self, before: int) -> tuple[int, bool]:
        """Append what is missing; returns the number of rows, and False if another process appended meanwhile."""
        last = self.stores.offline.offsets(self.archive, [HISTORY])[HISTORY]
        if self._compared is None or self._compared[0] != last:
            self._compared = self._compare()
        last, compared = self._compared
        first = (last // BLOCK + 1) * BLOCK
        claims = EventIdClaims(self.stores, self.source) if self.source.event_id else None
        total = seen = 0
        for rows in self._news(compared):
            if not total:
                self._begin(first)
            seen += rows.num_rows
            offsets = np.arange(first, first + rows.num_rows)
            if claims is not None:
                firsts = claims.first_of_history(rows, offset=offsets, now=self.stores.clock())
                rows, offsets = rows.filter(pa.array(firsts)), offsets[firsts]
            if not rows.num_rows:
                continue
            made = with_arrival(
                rows, partition=np.full(rows.num_rows, HISTORY), offset=offsets, ingested_at=self.stores.clock(),
                source=self.source,
            )  # fmt: skip
            schema = archive_schema(self.source)
            table = made.select(schema.names).cast(schema)
            if not self.stores.offline.append(self.archive, table, {HISTORY: first + BLOCK - 1}):
                return total, False
            total, first = total + rows.num_rows, first + BLOCK
            # Rows whose event ID came before are seen, and not loaded.
            missing = None if self._missing_rows is None else max(self._missing_rows, before + seen)
            self._progress(f"load {self.batch.name}", before + seen, missing)
        return total, True

    def _news(self, compared: ArchiveComparison) -> Iterator[pa.Table]:
        """The rows that the archive lacks, in pieces of which each takes less than a block."""
        held: list[pa.Table] = []
        size = 0
        for missing in compared.passes():
            for rows in self._rows():
                news = np.flatnonzero(missing.select(rows))
                if not len(news):
                    continue
                held.append(rows.take(pa.array(news)) if len(news) < rows.num_rows else rows)
                size += len(news)
                if size >= PIECE_ROWS:
                    yield pa.concat_tables(held)
                    held, size = [], 0
        if size:
            yield pa.concat_tables(held)

    def _source_rows(self) -> int | None:
        """Number of rows that a check reads, where it is known without reading them."""
        if self._progress is silent or self._start is not None or self._end is not None or self._since is not None:
            return None
        given = rows_of(self.stores, self.batch, [self.source])
        return None if given is None else total_of(self.stores, given)

    def _rows(self) -> Iterator[pa.Table]:
        """The batch source's rows in the source's columns and types, as far as this load asks for them."""
        need = ScanRequest(start=self._start, end=None if self._end is None else self._end - 1)
        given = rows_of(self.stores, self.batch, [self.source], need=need)
        if given is None:
            return
        names = [field.name for field in self.source.schema]
        raw = {name: self.batch.raw(self.source.renamed(name)) for name in names}
        raw[self.source.timestamp_field] = self.batch.timestamp_field
        read = 0
        for piece in self._columns(given, raw, need):
            if piece.num_rows:
                rows = self._fitted(piece, read)
                read += piece.num_rows
                if rows.num_rows:
                    yield rows

    def _columns(self, given: Input, named: Mapping[str, str], need: ScanRequest) -> Iterator[pa.Table]:
        """The rows of the batch source, in their order. Args: named: column of the source → column of the rows."""
        if isinstance(given, Batches):
            # They come here anyway: no engine has to see them before they are checked.
            for piece in given.open(replaced(need, columns=tuple(dict.fromkeys(named.values())))):
                yield pa.table({name: piece.column(own) for name, own in named.items()})
            return
        try:
            text = statements.columns_of_rows(named)
            for piece in self.stores.offline.sql(text, {"source": given}).reader(PIECE_ROWS):
                yield pa.Table.from_batches([piece])
        except EntityFrameError as error:
            # The engine takes the rows for those of a frame.
            found = error.message.removeprefix("the entity frame ")
            raise SourceError(
                f"batch source {self.batch.name!r}, which source {self.source.name!r} loads, {found}",
                hint="correct it in the batch source", where=self.source.where,
            ) from error  # fmt: skip

    def _fitted(self, rows: pa.Table, first: int) -> pa.Table:
        """A piece of the rows that are read, in the types of the source. Args: first: the number of its first row."""
        name = self.source.timestamp_field
        unit = self.batch.timestamp_unit or self.source.timestamp_unit
        times = source_micros(_as_time(rows[name].combine_chunks()), unit)
        # As of other batch sources: no read can find rows without a time.
        counts = times.is_valid().to_numpy(zero_copy_only=False).copy()
        at = times.fill_null(0).to_numpy(zero_copy_only=False)
        if self._start is not None:
            counts &= at >= self._start
        if self._end is not None:
            counts &= at < self._end
        numbers = first + np.flatnonzero(counts)
        if not counts.all():
            rows, at = rows.filter(pa.array(counts)), at[counts]
        dtype = next(field.dtype for field in self.source.schema if field.name == name)
        is_number = pa.types.is_integer(rows.schema.field(name).type)
        if not (dtype.is_integer and is_number and unit == self.source.timestamp_unit):
            place = rows.schema.get_field_index(name)
            rows = rows.set_column(place, name, _time_as(at, dtype.name, self.source.timestamp_unit))
        what = f"rows of batch source {self.batch.name!r}, which source {self.source.name!r} loads,"
        fitted = fit_table(
            rows, self.source.schema, required=[name], what=what, where=self.source.where, numbers=numbers
        )  # fmt: skip
        self._refuse_unkept(fitted, what, numbers)
        return self._recent(fitted)

    def _refuse_unkept(self, rows: pa.Table, what: str, numbers: npt.NDArray[np.int64]) -> None:
        """Refuse rows that no archive, or not this one, can store."""
        odd: dict[int, str] = {}
        created = self.source.created_timestamp_column
        if created not in ("", self.source.timestamp_field):
            odd |= unusable_created(self.source, rows[created].combine_chunks())
        if not self.stores.offline.keeps_nul:
            odd |= nul_in_text(rows)
        if odd:
            raise RowsRefused(
                f"{what} cannot be stored in the archive; nothing was written:",
                [f"row {numbers[row]}: {reason}" for row, reason in sorted(odd.items())],
                hint="correct them in the batch source", where=self.source.where,
            )  # fmt: skip

    def _recent(self, rows: pa.Table) -> pa.Table:
        """Rows that may have been written since the last load; all of them if that is not known.

        Archived rows and those of the batch source are chosen alike, so that copies of one row are on both sides.
        """
        if self._since is None:
            return rows
        name = self._created or self.source.timestamp_field
        known = event_micros(rows[name].combine_chunks(), self.source.timestamp_unit or "us")
        recent = known.fill_null(LATEST).to_numpy(zero_copy_only=False) >= self._since
        return rows if recent.all() else rows.filter(pa.array(recent))

    # -- what the archive has ---------------------------------------------------------------------------------------

    def _archived_rows(self) -> ArchiveComparison:
        known = ArchiveComparison(self.source, self._recorded().columns)
        found = self.stores.offline.rows(self.archive)
        if found is None:
            return known
        names = [field.name for field in self.source.schema]
        text = statements.history_rows(names, HISTORY)
        for piece in self.stores.offline.sql(text, {"archive": found}).reader(PIECE_ROWS):
            if piece.num_rows:
                rows = self._recent(_in_types(pa.Table.from_batches([piece]), [*self.source.schema, _OFFSET]))
                known.add_archived(rows.drop_columns(["offset"]), rows["offset"].to_numpy().astype(np.int64))
        if self.source.event_id:
            text = statements.event_ids(self.source.event_id)
            for piece in self.stores.offline.sql(text, {"archive": found}).reader(PIECE_ROWS):
                if piece.num_rows:
                    known.add_archived_ids(pa.Table.from_batches([piece]))
        return known

    def _recorded(self) -> LoadedHistory:
        facts = self.stores.registry.load(self.stores.project).facts
        return facts.histories.get(self.source.name, LoadedHistory())

    def _begin(self, first: int) -> None:
        """Record with which columns rows are loaded from this offset on, if they are others than before."""
        known = self._recorded()
        names = [field.name for field in self.source.schema]
        if not known.columns or set(known.columns[max(known.columns)]) != set(names):
            columns = {**known.columns, first if known.columns else 0: names}
            self._record(replace(known, columns=columns), f"loading {self.batch.name}")

    def _record(self, loaded: LoadedHistory, note: str) -> None:
        if loaded == self._recorded():
            return

        def recorded(facts: Facts) -> Facts:
            return facts.with_history(self.source.name, loaded)

        change_facts(self.stores, recorded, note=note)


_OFFSET = Field("offset", Int64)


def _created_column(source: LogSource, batch: Source) -> str:
    """The source's column with the time at which the batch source's rows were written; empty if it has none."""
    name = source.created_timestamp_column
    if not name or not batch.created_timestamp_column or name == source.timestamp_field:
        return ""
    return name if batch.raw(source.renamed(name)) == batch.created_timestamp_column else ""


def _as_time(column: pa.Array) -> pa.Array:
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return column
    return fit(column, Timestamp)[0]


def _time_as(at: npt.NDArray[np.int64], dtype: str, unit: str) -> pa.Array:
    """Times in microseconds in the type of the source's event time, floored."""
    if dtype == "Timestamp":
        return pa.array(at).cast(pa.timestamp("us", "UTC"))
    if dtype == "Date":
        return pa.array((at // DAY).astype(np.int32)).cast(pa.date32())
    many, per = UNITS[unit]
    return pa.array(at * per // many)


def _in_types(rows: pa.Table, fields: list[Field]) -> pa.Table:
    """Archived rows in the types that the batch source's rows have after they are fitted."""
    return rows.select([field.name for field in fields]).cast(
        pa.schema([(field.name, field.dtype.arrow()) for field in fields])
    )


__all__ = ["BLOCK", "PIECE_ROWS", "HistoryLoad"]
