"""Runs the on-demand functions of a request, one after the other, over a table or over plain columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from asof.derive.calls import EVENT_TIMESTAMP, DerivationCall, call_of
from asof.derive.failures import CallFailure
from asof.derive.frames import call_frame
from asof.derive.rows import call_rows
from asof.dtypes import Timestamp
from asof.errors import DerivationError
from asof.selection import Derivation
from asof.timing import Micros, moment
from asof.values.fit import fit
from asof.values.from_arrow import moments_of, python_values

SLICE_ROWS = 65_536
"""Maximum rows that are Python objects at a time, where a function of mode python runs over a large table."""


def derive(table: pa.Table, derivations: Sequence[Derivation], *, event_time_column: str) -> pa.Table:
    """Append each derivation's outputs to the table.

    Functions get their inputs in the declared types and the row's time as `event_timestamp`. They run in the
    order given, so that a later one may use an earlier one's outputs. Without rows, no function is called.

    Args:
        table: n rows with the inputs' columns; its columns and order stay.
        event_time_column: the column of the rows' times, as times or as integer microseconds since the epoch.

    Returns:
        The table with the outputs' columns in the declared types.

    Raises:
        DerivationError: a function raised, or returned a wrong type, length or set of fields.
        MissingExtra: pandas or Polars is needed and not installed.
    """
    return run_calls(table, [call_of(each) for each in derivations], event_time_column=event_time_column)


def run_calls(table: pa.Table, calls: Sequence[DerivationCall], *, event_time_column: str) -> pa.Table:
    """See `derive`: the same with functions that are prepared to run."""
    if not calls:
        return table
    moments = moments_of(_column(table, event_time_column, "the times of the rows"))
    for call in calls:
        inputs = pa.table(
            [*(_input(call, table, place) for place in range(len(call.names))), moments],
            names=[*call.names, EVENT_TIMESTAMP],
        )
        try:
            for name, array in zip(call.outputs, _outputs(call, inputs), strict=True):
                table = table.append_column(name, array)
        except CallFailure as failure:
            raise failure.of(call) from failure.__cause__
    return table


def derive_values(
    columns: Mapping[str, Sequence[Any]],
    n: int,
    derivations: Sequence[Derivation],
    event_time_us: Micros | Sequence[Micros],
) -> dict[str, list[Any]]:
    """The same as `derive` over plain columns, for the few rows of an online request.

    Args:
        columns: intermediate column → n Python values of the declared type (aware datetimes, Decimals, dates, …);
            not checked.
        event_time_us: the time of all rows, or one per row.

    Returns:
        Each output column with n Python values, as converted from Arrow.

    Raises:
        DerivationError, MissingExtra: as `derive`.
    """
    derived: dict[str, list[Any]] = {}
    for derivation in derivations:
        call = call_of(derivation)
        if not n:
            derived |= {name: [] for name in call.outputs}
            continue
        inputs = [derived[column] if column in derived else _given(call, columns, column) for column in call.columns]
        try:
            answered = call_values(call, inputs, n, event_time_us)
        except CallFailure as failure:
            raise failure.of(call) from failure.__cause__
        derived.update(zip(call.outputs, answered, strict=True))
    return derived


def call_values(
    call: DerivationCall, inputs: Sequence[Sequence[Any]], n: int, event_time_us: Micros | Sequence[Micros]
) -> list[list[Any]]:
    """Run one function over columns of Python values; one list of values per field.

    Raises:
        CallFailure: the function raised, or did not return what it declares.
    """
    if call.mode == "python":
        if isinstance(event_time_us, int):
            return call_rows(call, inputs, [moment(event_time_us)] * n)
        return call_rows(call, inputs, list(map(moment, event_time_us)))
    times = [event_time_us] * n if isinstance(event_time_us, int) else event_time_us
    arrays = []
    for name, values, dtype in zip(call.names, inputs, call.dtypes, strict=True):
        try:
            arrays.append(pa.array(values, dtype.arrow() if dtype else None))
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise CallFailure("type", f"input {name!r} expects {dtype}: {error}") from error
    table = pa.table(
        [*arrays, pa.array(times, pa.int64()).cast(Timestamp.arrow())], names=[*call.names, EVENT_TIMESTAMP]
    )
    return [python_values(array) for array in call_frame(call, table)]


def _outputs(call: DerivationCall, inputs: pa.Table) -> list[pa.Array | pa.ChunkedArray]:
    if not inputs.num_rows:
        return [pa.array([], field.dtype.arrow()) for field in call.fields]
    if call.mode != "python":
        return call_frame(call, inputs)
    chunks: list[list[pa.Array]] = [[] for _ in call.fields]
    for start in range(0, inputs.num_rows, SLICE_ROWS):
        values = [python_values(column) for column in inputs.slice(start, SLICE_ROWS).columns]
        answered = call_rows(call, values[:-1], values[-1], first_row=start)
        for made, field, column in zip(chunks, call.fields, answered, strict=True):
            made.append(pa.array(column, field.dtype.arrow()))
    return [pa.chunked_array(made, field.dtype.arrow()) for made, field in zip(chunks, call.fields, strict=True)]


def _input(call: DerivationCall, table: pa.Table, place: int) -> pa.Array | pa.ChunkedArray:
    name, dtype = call.names[place], call.dtypes[place]
    column = _column(table, call.columns[place], f"input {name!r} of on-demand feature view {call.view_name!r}")
    if dtype is None or column.type == dtype.arrow():
        return column
    fitted, misfits = fit(column, dtype)
    if misfits:
        row, reason = misfits[0]
        raise CallFailure("type", f"input {name!r} expects {dtype}, but in row {row} {reason}").of(call)
    return fitted


def _column(table: pa.Table, name: str, what: str) -> pa.ChunkedArray:
    if name not in table.column_names:
        raise DerivationError(f"{what}: there is no column {name!r} among {table.column_names}")
    return table.column(name)


def _given(call: DerivationCall, columns: Mapping[str, Sequence[Any]], name: str) -> Sequence[Any]:
    if name not in columns:
        raise DerivationError(
            f"input of on-demand feature view {call.view_name!r}: there is no column {name!r} among {list(columns)}"
        )
    return columns[name]
