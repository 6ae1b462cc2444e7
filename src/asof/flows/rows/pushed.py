"""Rows of a push in the source's declared columns: checked, then written as messages and archived."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property, lru_cache
from operator import itemgetter
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from asof.decoding import unusable_created, unusable_times
from asof.definitions import Field, LogSource
from asof.errors import RowsRefused, nearest, some
from asof.flows.rows.archive import with_arrival
from asof.flows.rows.batch import RowBatch, batch_of
from asof.timing import DAY, EARLIEST, LATEST, UNITS, Micros
from asof.values.fit import fit, fit_values
from asof.values.frames import repeated_columns, table_columns, uneven
from asof.values.legible import shown
from asof.values.python_columns import TypedColumn, array_of, own_column

MOST_SHOWN = 20
"""Number of problems that an error message explains in detail."""

_encode = msgspec.json.Encoder(decimal_format="string").encode


class PushedRows:
    """n rows that fit their source.

    Args:
        columns: the source's declared columns, in its order and with its names.

    Attributes:
        event_time: n times in microseconds.
    """

    def __init__(self, source: LogSource, columns: Mapping[str, TypedColumn], count: int) -> None:
        self.source = source
        self.columns = columns
        self.count = count
        self.event_time = _micros(columns[source.timestamp_field], source.timestamp_unit)

    @cached_property
    def created(self) -> list[Micros]:
        """Created time of each row; the event time if null."""
        name = self.source.created_timestamp_column
        if name in ("", self.source.timestamp_field):
            return self.event_time
        known = _micros(self.columns[name], self.source.timestamp_unit or "us")
        return [time if at is None else at for at, time in zip(known, self.event_time, strict=True)]

    @cached_property
    def table(self) -> pa.Table:
        """The rows as an Arrow table."""
        return table_of_rows([self])

    def messages(self) -> list[bytes]:
        """The rows as JSON messages; decoding them gives the same rows."""
        row = _row_of(tuple(self.columns))
        return list(map(_encode, map(row, *[column.written for column in self.columns.values()])))


@dataclass
class AppendedRows:
    """Pushed rows with their partition and offsets in the log.

    Args:
        partition: in the archive's numbering.
        first: offset of the first row; the others follow.
        pushed_at: their stamp; 0 if they have none.
    """

    rows: PushedRows
    partition: int
    first: int
    ingested_at: Micros
    pushed_at: Micros = 0

    @cached_property
    def archived(self) -> pa.Table:
        """The rows with the archive's columns."""
        return archived_rows([self])

    @cached_property
    def batch(self) -> RowBatch:
        """The rows as a batch of the source."""
        rows = self.rows
        return batch_of(
            rows.source, rows.table, event_time=np.array(rows.event_time, np.int64),
            partition=np.full(rows.count, self.partition, np.int32),
            offset=np.arange(self.first, self.first + rows.count, dtype=np.int64),
            pushed_at=np.full(rows.count, self.pushed_at, np.int64) if self.pushed_at else None,
        )  # fmt: skip


def archived_rows(pieces: Sequence[AppendedRows]) -> pa.Table:
    """All pieces as one table with the archive's columns."""
    counts = [each.rows.count for each in pieces]
    offset = np.concatenate([np.arange(each.first, each.first + each.rows.count) for each in pieces])
    partition = np.repeat([each.partition for each in pieces], counts)
    at = np.repeat([each.ingested_at for each in pieces], counts)
    stamps = np.repeat([each.pushed_at for each in pieces], counts)
    return with_arrival(
        table_of_rows([each.rows for each in pieces]), partition=partition.astype(np.int32), offset=offset,
        ingested_at=at, source=pieces[0].rows.source, pushed_at=stamps,
    )  # fmt: skip


def table_of_rows(pieces: Sequence[PushedRows]) -> pa.Table:
    """All pieces as one Arrow table."""
    return pa.table({name: array_of([each.columns[name] for each in pieces]) for name in pieces[0].columns})


def pushed_rows(source: LogSource, rows: Any, *, required: Sequence[str], clock: Micros) -> PushedRows:
    """Check the rows of a push.

    Args:
        rows: dicts, a dict of columns, or a pandas, Polars or Arrow table.
        required: columns that must not be null, including the event time.

    Raises:
        RowsRefused: a missing or extra column, a value of another type, or an invalid time; names each.
    """
    columns = _plain_columns(rows, source.schema, required) if type(rows) is list else None
    if columns is None:
        table = fitted_rows(source, rows, required=required)
        columns = {
            field.name: TypedColumn.of_array(table[field.name].combine_chunks(), field.dtype) for field in source.schema
        }
    made = PushedRows(source, columns, len(columns[source.timestamp_field].plain))
    times = made.event_time
    if times and not (min(times) >= EARLIEST and max(times) <= min(LATEST, clock + source.max_future)):
        _refuse_unusable_times(source, unusable_times(source, columns[source.timestamp_field].array, clock=clock))
    if times and made.created is not times and not EARLIEST <= min(made.created) <= max(made.created) <= LATEST:
        _refuse_unusable_times(source, unusable_created(source, columns[source.created_timestamp_column].array))
    return made


def _plain_columns(rows: list[Any], fields: Sequence[Field], required: Sequence[str]) -> dict[str, TypedColumn] | None:
    """Dicts as columns, if all values have the declared types; None if the general path must check them."""
    if set(map(type, rows)) != {dict} or set(map(len, rows)) != {len(fields)}:
        return None
    names = [field.name for field in fields]
    try:
        # One pass over the rows, for memory locality.
        picked = zip(*map(itemgetter(*names), rows)) if len(names) > 1 else [map(itemgetter(*names), rows)]
        values = dict(zip(names, map(list, picked)))
    except KeyError:
        return None
    columns: dict[str, TypedColumn] = {}
    for field in fields:
        column = own_column(values[field.name], field.dtype)
        if column is None:
            array, misfits = fit_values(values[field.name], field.dtype)
            if misfits:
                return None
            column = TypedColumn.of_array(array, field.dtype)
        if field.name in required and None in column.plain:
            return None
        columns[field.name] = column
    return columns


def _micros(column: TypedColumn, unit: str) -> list[Any]:
    """A time column in microseconds, floored."""
    if column.dtype.name == "Timestamp":
        return column.plain
    times, per = (DAY, 1) if column.dtype.name == "Date" else UNITS[unit]
    if times == per:
        return column.plain
    return [None if value is None else value * times // per for value in column.plain]


def _refuse_unusable_times(source: LogSource, reasons: Mapping[int, str]) -> None:
    """Refuse rows that would become dead letters as messages: the caller of a push can fix them."""
    if reasons:
        raise RowsRefused(
            f"rows pushed to source {source.name!r} have invalid times; nothing was written:",
            [f"row {row}: {reason}" for row, reason in sorted(reasons.items())],
            hint="correct the times, or set a longer max_future on the source", where=source.where,
        )  # fmt: skip


def fitted_rows(source: LogSource, rows: Any, *, required: Sequence[str] = ()) -> pa.Table:
    """Convert rows to the source's declared columns and types.

    Args:
        rows: dicts, a dict of columns, or a pandas, Polars or Arrow table.
        required: columns that must not be null.

    Raises:
        RowsRefused: a missing or extra column, or a value of another type; names each.
    """
    return fit_table(
        rows, source.schema, required=required, what=f"rows pushed to source {source.name!r}", where=source.where
    )


def fit_table(
    rows: Any,
    fields: Sequence[Field],
    *,
    required: Sequence[str],
    what: str,
    where: str,
    numbers: npt.NDArray[np.int64] | None = None,
) -> pa.Table:
    """Convert rows of any kind to a table with exactly these fields.

    Args:
        numbers: of the rows, for messages, where they are some of a greater input.

    Raises:
        RowsRefused: a missing or extra column, or a value of another type; names each.
    """

    def number(row: int) -> int:
        return row if numbers is None else int(numbers[row])

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
        problems += [f"column {field.name!r}, row {number(row)}: {reason}" for row, reason in misfits]
        misfit_rows = {row for row, _ in misfits}
        if field.name in required:
            nulls = array.is_null().to_pylist()
            problems += [
                f"column {field.name!r}, row {number(row)}: is null"
                for row, null in enumerate(nulls)
                if null and row not in misfit_rows
            ]
        fitted[field.name] = array
    if problems:
        raise RowsRefused(
            f"{what} do not fit its schema; nothing was written:", problems,
            hint=f"the columns are {', '.join(f'{field.name} {field.dtype}' for field in fields)}", where=where,
        )  # fmt: skip
    return pa.table(fitted)


def _columns(rows: Any, names: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Rows as columns by name, and the problems of the columns themselves."""
    columns: dict[str, Any]
    if isinstance(rows, Mapping):
        # A text would be taken character by character, and a set has no order.
        single = [
            f"column {name!r} is {shown(values)}; expected a list of values"
            for name, values in rows.items()
            if isinstance(values, str | bytes | Mapping | Set)
            or not isinstance(values, Iterable)
            or getattr(values, "ndim", 1) == 0
        ]
        if single:
            return {}, single[:MOST_SHOWN]
        columns = {
            name: values if isinstance(values, pa.Array | pa.ChunkedArray) else list(values)
            for name, values in rows.items()
        }
        lengths = uneven(columns)
        if lengths:
            return {}, [f"the columns differ in length: {lengths}"]
    else:
        if repeated := repeated_columns(rows):
            return {}, [f"there are several columns of one name: {repeated}"]
        found = table_columns(rows)
        if found is None and isinstance(rows, Iterable) and not isinstance(rows, str | bytes):
            return _columns_of_dicts(list(rows), names)
        if found is None:
            return {}, [f"{rows!r} is neither a table nor a list of dicts"]
        columns = found
    problems = [f"column {name!r} is missing" for name in names if name not in columns]
    declared = set(names)
    extra = [name for name in columns if name not in declared]
    problems += [_extra(name, names) for name in extra[:MOST_SHOWN]]
    problems += [f"column {name!r} is not declared" for name in extra[MOST_SHOWN:]]
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
        for name in row:
            if name not in keys:
                is_shown = len(problems) < MOST_SHOWN
                extra = _extra(str(name), names) if is_shown else f"column {str(name)!r} is not declared"
                problems.append(f"row {i}: {extra}")
    if is_odd:
        return {name: [row.get(name) for row in rows] for name in names}, problems
    return {name: list(map(itemgetter(name), rows)) for name in names}, problems


def _extra(name: str, names: Sequence[str]) -> str:
    near = nearest(name, names)
    return f"column {name!r} is not declared" + (f" ({near})" if near else f"; declared: {some(names)}")


@lru_cache
def _row_of(names: tuple[str, ...]) -> Callable[..., Any]:
    """A Struct class that is encoded as a JSON object with these names; faster than a dict."""
    positions = [f"f{i}" for i in range(len(names))]
    try:
        return msgspec.defstruct("Row", positions, rename=dict(zip(positions, names, strict=True)), gc=False)
    except ValueError:
        # msgspec's structs take no names with quotes, backslashes or control characters.
        return lambda *values: dict(zip(names, values, strict=True))
