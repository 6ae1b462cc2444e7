"""Rows that a program writes directly to the online store, for a view with a batch source."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from asof.definitions import FeatureView, Field
from asof.dtypes import DType, Int64, Timestamp
from asof.errors import RequestError, RowsRefused
from asof.expressions import parse
from asof.flows.batch.write_view import write_newest
from asof.flows.facts import change_facts
from asof.flows.generations.markers import lost_among, rows_lost
from asof.flows.generations.progress import TableProgress, write_progress
from asof.flows.generations.switch import announce, flip
from asof.flows.rows.batch import input_schema
from asof.flows.rows.pushed import fit_table
from asof.flows.rows.tombstones import deletions
from asof.flows.stores import Stores, current_generation, table_of, view_named
from asof.online.protocol import OnlineTable
from asof.timing import iso, span_text
from asof.values.fit import event_micros
from asof.values.packing import key_bytes, plain_values

ARRIVES_LAST = 2**62
"""Offset of directly written rows: among rows with equal times they are newer than those of the source."""


def write_rows(stores: Stores, view_name: str, rows: Any) -> int:
    """Write rows to the online store only; for a view of plain fields with a batch source. History does not get them.

    Args:
        rows: dicts, a dict of columns, or a pandas, Polars or Arrow table, with the source's columns that the view
            reads: join keys, features, the event time, the created time (without one, a row is written down now), and
            those of `delete_when`.

    Returns:
        Number of rows written: all but those for which a newer row is stored.

    Raises:
        RowsRefused: rows do not fit the schema; nothing was written.
        RequestError: the view has a log source, or aggregations.
        OnlineRowsLost: the online store has lost the view's rows; nothing was written.
    """
    snapshot = stores.registry.load(stores.project)
    view = view_named(snapshot, view_name)
    refuse_unless_batch_fed(view)
    source = view.source
    if view.is_aggregated:
        raise RequestError(
            f"feature view {view_name!r} aggregates source {source.name!r}; its rows cannot be written directly",
            hint="add rows to the source, and materialize", where=view.where,
        )  # fmt: skip
    keys = [source.raw(key) for key in view.join_keys]
    what = f"rows written to feature view {view_name!r}"
    table = fit_table(
        rows, _fields(view, _column_names(rows)), required=[*keys, source.timestamp_field], what=what, where=view.where
    )
    times = _micros(table, source.timestamp_field, source.timestamp_unit)
    _refuse_future(times, view, now=stores.clock(), what=what)
    created = pa.array(np.zeros(len(times), dtype=np.int64))
    if source.created_timestamp_column not in ("", source.timestamp_field):
        # Without a created time, a row is written down now: else it would be older than what it corrects.
        now = pa.scalar(stores.clock(), pa.int64())
        created = pa.repeat(now, len(times))
        if source.created_timestamp_column in table.column_names:
            created = pc.coalesce(_micros(table, source.created_timestamp_column, source.timestamp_unit), now)
    plain = [plain_values(table[source.raw(field.name)], field.dtype) for field in view.key_fields]
    packed = [key_bytes(key) for key in zip(*plain, strict=True)] if plain else [key_bytes(())] * len(times)
    columns = [plain_values(table[source.raw(field.name)], field.dtype) for field in view.features]
    kept = write_newest(
        stores, view, _table_in_use(stores, view), packed, columns,
        event_time=times.to_numpy(), created=created.to_numpy(), offset=np.full(len(times), ARRIVES_LAST),
        gone=_deletes(stores, view, table),
    )  # fmt: skip
    return sum(kept)


def _table_in_use(stores: Stores, view: FeatureView) -> OnlineTable:
    """The table that readers use, or the first one; the registry knows that rows are written to it directly.

    Raises:
        OnlineRowsLost: the store has lost it; what is written now would be lost again with `materialize`.
    """
    snapshot = stores.registry.load(stores.project)
    generation = current_generation(snapshot, view) or first_generation(stores, view)
    table = table_of(stores.project, view, generation)
    if lost_among(stores, {table: view}, snapshot):
        # Readers may have switched to another one.
        snapshot = stores.registry.load(stores.project)
        generation, before = current_generation(snapshot, view) or generation, generation
        table = table_of(stores.project, view, generation)
        if generation == before or lost_among(stores, {table: view}, snapshot):
            raise rows_lost([view])
    if snapshot.facts.generations_of(view.name).written != generation:
        # Before any row is: a store that loses them is then known to have lost something.
        note = f"rows are written to {view.name}"
        change_facts(stores, lambda facts: facts.with_written(view.name, generation), note=note)
    return table


def refuse_unless_batch_fed(view: FeatureView) -> None:
    """Refuse a view whose online rows do not come from a batch source.

    Raises:
        RequestError: names the alternative.
    """
    if not view.online:
        raise RequestError(
            f"feature view {view.name!r} is not online", hint="set online=True and apply", where=view.where
        )
    if view.source.is_log:
        how = f"push rows to {view.source.name!r}" if view.source.type == "push" else "run `asof stream run`"
        raise RequestError(
            f"feature view {view.name!r} reads the log of source {view.source.name!r}, not a batch source",
            hint=f"{how}, or rebuild its online rows with `asof rebuild {view.name}`", where=view.where,
        )  # fmt: skip


def first_generation(stores: Stores, view: FeatureView) -> str:
    """Create the first generation of a view; returns its name."""
    generation = announce(stores, view)
    table = table_of(stores.project, view, generation)
    stores.online.prepare(table)
    write_progress(stores.online, table, TableProgress(built=stores.clock()))
    stores.online.mark(table)
    flip(stores, view, generation)
    return generation


def _fields(view: FeatureView, given: list[str]) -> list[Field]:
    """The required columns, with their names in the source; the created time only if it is given."""
    source = view.source
    declared = {field.name: field.dtype for field in source.schema}
    time = Int64 if source.timestamp_unit else Timestamp
    fields = {source.raw(field.name): field.dtype for field in (*view.key_fields, *view.features)}
    fields.setdefault(source.timestamp_field, declared.get(source.timestamp_field, time))
    for name, dtype in _of_deletions(view).items():
        if source.raw(name) in given:
            fields.setdefault(source.raw(name), dtype)
    if source.created_timestamp_column in given:
        fields.setdefault(source.created_timestamp_column, declared.get(source.created_timestamp_column, time))
    return [Field(name, dtype) for name, dtype in fields.items()]


def _of_deletions(view: FeatureView) -> dict[str, DType]:
    """The columns that decide whether a row deletes its key (renamed), where the types of all are known; else none."""
    columns = parse(view.source.delete_when).columns if view.source.delete_when else []
    types = input_schema(view)
    return {name: types[name] for name in columns} if all(name in types for name in columns) else {}


def _deletes(stores: Stores, view: FeatureView, table: pa.Table) -> list[bool] | None:
    """Which rows delete their key by `delete_when`; a column that is not given is null."""
    columns = _of_deletions(view)
    if not columns:
        return None
    source = view.source
    given = {
        name: table[source.raw(name)] if source.raw(name) in table.column_names else pa.nulls(len(table), dtype.arrow())
        for name, dtype in columns.items()
    }
    gone = deletions(stores, source, pa.table(given))
    return None if gone is None else gone.tolist()


def _column_names(rows: Any) -> list[str]:
    """Column names of rows of any kind."""
    if isinstance(rows, Mapping):
        return list(rows)
    names = getattr(rows, "column_names", None)
    if names is None:
        names = getattr(rows, "columns", None)
    if names is None:
        names = next((list(row) for row in rows if isinstance(row, Mapping)), [])
    return [str(name) for name in names]


def _micros(table: pa.Table, column: str, unit: str) -> pa.Array:
    array = table[column].combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    return event_micros(array, unit)


def _refuse_future(times: pa.Array, view: FeatureView, *, now: int, what: str) -> None:
    # The one row of a key cannot have a value that is not due yet next to the one that is served until then.
    due = now - view.delay
    until = f"the clock ({iso(now)})" + (f" less the view's delay of {span_text(view.delay)}" if view.delay else "")
    column = view.source.timestamp_field
    later = [(row, time) for row, time in enumerate(times.to_pylist()) if time > due]
    if later:
        raise RowsRefused(
            f"{what} are in the future; nothing was written:",
            [f"column {column!r}, row {row}: {iso(time)} is later than {until}" for row, time in later],
            hint="check the times and their unit (s, ms, us)",
        )


__all__ = ["first_generation", "refuse_unless_batch_fed", "write_rows"]
