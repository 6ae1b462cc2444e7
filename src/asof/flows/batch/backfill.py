"""Backfill: load a batch source's rows from before the stream into the archive, once."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from asof.definitions import LogSource
from asof.dtypes import Timestamp
from asof.errors import RequestError
from asof.flows.generations.progress import progress_of
from asof.flows.offline.inputs import rows_of
from asof.flows.rows.archive import archive_schema, with_arrival
from asof.flows.rows.pushed import fitted_rows
from asof.flows.stores import Progress, Stores, current_generation, log_source_named, silent, table_of
from asof.flows.stream.rebuild import rebuild
from asof.sources.protocol import Files, ScanRequest
from asof.sql import archive as statements
from asof.sql.partitions import HISTORY
from asof.timing import LATEST
from asof.values.fit import event_micros, fit


def backfill(stores: Stores, source_name: str, *, progress: Progress = silent) -> int:
    """Load the rows before `stream_from` into the archive as its `history`, then rebuild the views.

    Idempotent: a second run loads nothing.

    Returns:
        Number of rows loaded; 0 if they were loaded before.

    Raises:
        RequestError: the source has no batch source.
        RowsRefused: a row does not fit the source's schema; nothing was loaded.
    """
    snapshot = stores.registry.load(stores.project)
    source = log_source_named(snapshot, source_name)
    batch = source.batch_source
    if batch is None:
        raise RequestError(
            f"source {source.name!r} has no batch source, so there is no history to load",
            hint="give it batch_source= and stream_from=",
        )
    archive = stores.archive_of(source)
    if stores.offline.offsets(archive, [HISTORY])[HISTORY] >= 0:
        # Loaded before; but a run that was killed after that may not have rebuilt the views.
        _rebuild_views(stores, source, progress)
        return 0
    given = rows_of(stores, batch, [source], need=ScanRequest(end=source.stream_from))
    names = [field.name for field in source.schema]
    text = statements.columns_of_rows({name: batch.raw(source.renamed(name)) for name in names})
    loaded: list[pa.Table] = []
    count = 0
    now = stores.clock()
    # Parquet files say how many rows they have; to count those of another source would be to read it twice.
    total = sum(pq.read_metadata(path).num_rows for path in given.paths) if isinstance(given, Files) else None
    if given is not None:
        read = 0
        for piece in stores.offline.sql(text, {"source": given}).reader():
            rows = pa.Table.from_batches([piece])
            times = event_micros(_as_time(rows, source.timestamp_field), batch.timestamp_unit or source.timestamp_unit)
            # Without `stream_from`, which a push source may omit, all rows of its batch source are history.
            until = source.stream_from if source.stream_from is not None else LATEST
            before = np.flatnonzero(times.fill_null(LATEST).to_numpy(zero_copy_only=False) < until)
            picked = fitted_rows(source, rows.take(pa.array(before)), required=[source.timestamp_field])
            if picked.num_rows:
                offsets = np.arange(count, count + picked.num_rows)
                partition = np.full(picked.num_rows, HISTORY)
                loaded.append(with_arrival(picked, partition=partition, offset=offsets, ingested_at=now, source=source))
                count += picked.num_rows
            read += piece.num_rows
            progress(f"backfill {source.name}", read, total)
    schema = archive_schema(source)
    table = pa.concat_tables(loaded).select(schema.names).cast(schema) if loaded else schema.empty_table()
    stores.offline.append(archive, table, {HISTORY: max(count - 1, 0)})
    _rebuild_views(stores, source, progress)
    return count


def _rebuild_views(stores: Stores, source: LogSource, progress: Progress) -> None:
    """Rebuild the views whose online rows do not include the history yet."""
    snapshot = stores.registry.load(stores.project)
    loaded = stores.offline.offsets(stores.archive_of(source), [HISTORY])[HISTORY]
    for view in snapshot.project.views_of(source.name):
        generation = current_generation(snapshot, view)
        if not view.online or generation is None:
            continue
        known = progress_of(stores.online, table_of(stores.project, view, generation))
        if known.offset_of(HISTORY) < loaded:
            rebuild(stores, view, progress=progress)


def _as_time(rows: pa.Table, name: str) -> pa.Array:
    column = rows[name].combine_chunks()
    if pa.types.is_integer(column.type) or pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        return column
    return fit(column, Timestamp)[0]
