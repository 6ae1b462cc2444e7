"""Calls one on-demand function in its mode, and fits what it answers to the declared types."""

from __future__ import annotations

import inspect
import math
import os
import sysconfig
import traceback
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from asof.definitions import Field, OnDemandFeatureView, Projection
from asof.dtypes import DType, Timestamp
from asof.errors import DerivationError, MissingExtra, nearest, some
from asof.fitting import Misfit, fit, fit_values
from asof.selection import Derivation

EVENT_TIMESTAMP = "event_timestamp"
"""The name under which every function sees the moment that is asked about."""

_OURS = f"{Path(__file__).parent}{os.sep}"
_LIBRARIES = (sysconfig.get_paths()["stdlib"], sysconfig.get_paths()["purelib"])

# Values of exactly this type are already what Arrow would give back; all others take the way through fitting.
_EXACT: dict[str, type] = {
    "Bool": bool, "Int32": int, "Int64": int, "Float64": float, "String": str, "Bytes": bytes, "Date": date,
}  # fmt: skip
_BOUNDS = {"Int32": (-(2**31), 2**31 - 1), "Int64": (-(2**63), 2**63 - 1)}


class Failure(Exception):
    """What went wrong with one call; the views' errors and the check's findings are made from it.

    Args:
        kind: `raised`, `shape` (no dict or frame, wrong length or columns) or `type` (a value does not fit).
        text: what happened, to follow the view's kind and name.
        field: whose value does not fit.
    """

    def __init__(self, kind: str, text: str, *, hint: str = "", field: Field | None = None) -> None:
        super().__init__(text)
        self.kind, self.text, self.hint, self.field = kind, text, hint, field


@dataclass(frozen=True, eq=False)
class Call:
    """A derivation made ready to run.

    Args:
        names: what the function sees, without the moment; `columns` the intermediate columns that hold it.
        dtypes: the declared types of the inputs; None where the definition does not know one.
        lists: which inputs are lists, given to the function as copies: changing one must not change the feature.
        fields: what the function answers; `outputs` the intermediate columns to fill.
        defaults: per field the value in place of a null, as Python has it.
    """

    view_name: str
    where: str
    mode: str
    function: Callable[[Any], Any]
    names: tuple[str, ...]
    columns: tuple[str, ...]
    dtypes: tuple[DType | None, ...]
    lists: tuple[bool, ...]
    fields: tuple[Field, ...]
    outputs: tuple[str, ...]
    defaults: tuple[Any, ...]

    @property
    def field_names(self) -> list[str]:
        return [field.name for field in self.fields]

    def error(self, failure: Failure) -> DerivationError:
        return DerivationError(
            f"on-demand feature view {self.view_name!r}: {failure.text}", hint=failure.hint, where=self.where
        )


_CALLS: dict[int, Call] = {}
"""Derivations made ready, by identity: two of equal text may hold functions of different modules."""


def call_of(derivation: Derivation) -> Call:
    """The derivation made ready, once for as long as it lives."""
    call = _CALLS.get(id(derivation))
    if call is None:
        call = _CALLS[id(derivation)] = _made_ready(derivation)
        weakref.finalize(derivation, _CALLS.pop, id(derivation), None).atexit = False
    return call


def _made_ready(derivation: Derivation) -> Call:
    view = derivation.view
    if view.function is None:
        raise DerivationError(
            f"on-demand feature view {view.name!r}: its function is not at hand, only its text is in the registry",
            hint="run inside the feature repository that defines it",
            where=view.where,
        )
    known = input_types(view)
    by_name = {field.name: field for field in view.schema}
    fields = tuple(by_name[name] for name, _ in derivation.outputs)
    dtypes = tuple(known.get(name) for name, _ in derivation.inputs)
    return Call(
        view_name=view.name,
        where=view.where,
        mode=view.mode,
        function=view.function,
        names=tuple(name for name, _ in derivation.inputs),
        columns=tuple(column for _, column in derivation.inputs),
        dtypes=dtypes,
        # Of an input without a known type a list may come.
        lists=tuple(dtype is None or dtype.name in ("Array", "Embedding") for dtype in dtypes),
        fields=fields,
        outputs=tuple(column for _, column in derivation.outputs),
        defaults=tuple(_default(view, field) for field in fields),
    )


def _default(view: OnDemandFeatureView, field: Field) -> Any:
    if field.default is None:
        return None
    array, misfits = fit_values([field.default], field.dtype)
    if misfits:
        raise view.refuse(f"default of field {field.name!r}: {misfits[0][1]}", hint=f"give a {field.dtype}")
    return python_values(array)[0]


def input_types(view: OnDemandFeatureView) -> dict[str, DType]:
    """The declared types of what the view's function sees, by the names that `select` gives; without the moment.

    Inputs whose type is not known yet (of views that are not resolved) are left out.
    """
    parts = [part for part in view.sources if isinstance(part, Projection)]
    features = [
        (part, field)
        for part in parts
        for field in part.view.features
        if part.features is None or field.name in part.features
    ]
    plain = [field.name for _, field in features]
    types: dict[str, DType] = {}
    for part, field in features:
        types[field.name if plain.count(field.name) == 1 else f"{part.name}__{field.name}"] = field.dtype
    for part in parts:
        if isinstance(part.view, OnDemandFeatureView):
            nested = input_types(part.view)
            keys = {key: nested[key] for key in part.view.join_keys if key in nested}
        else:
            keys = {field.name: field.dtype for field in part.view.key_fields}
        for key, dtype in keys.items():
            types.setdefault(part.join_key_map.get(key, key), dtype)
    return types | {field.name: field.dtype for field in view.request_fields}


def python_values(array: pa.Array | pa.ChunkedArray) -> list[Any]:
    """A column as Python's own values; times in `datetime.UTC`, as the online reader has them."""
    values = array.to_pylist()
    kind = array.type
    if pa.types.is_timestamp(kind):
        return [None if value is None else value.replace(tzinfo=UTC) for value in values]
    return [_in_utc(value) for value in values] if pa.types.is_list(kind) else values


def _in_utc(value: Any) -> Any:
    if isinstance(value, list):
        return [_in_utc(each) for each in value]
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else value


# -- python: a dict per row -----------------------------------------------------------------------------------------


def call_rows(
    call: Call, columns: Sequence[Sequence[Any]], moments: Sequence[datetime], *, first_row: int = 0
) -> list[list[Any]]:
    """Run a function of mode python over each row.

    Args:
        columns: one sequence of values per input, in the order of `call.names`.
        first_row: the number of the first row, for messages.

    Returns:
        One list of values per field, in the declared types.

    Raises:
        Failure: the function raised, or did not answer what it declares.
    """
    names = (*call.names, EVENT_TIMESTAMP)
    columns = [
        [_copied(value) for value in column] if is_list else column
        for column, is_list in zip(columns, call.lists, strict=True)
    ]
    columns.append(moments)
    function = call.function
    answers: list[dict[str, Any]] = []
    expected = {field.name for field in call.fields}
    try:
        for values in zip(*columns, strict=True):
            answers.append(function(dict(zip(names, values))))
    except Exception as error:
        # Taken from the columns anew: the function may have changed the dict that it was given.
        row = len(answers)
        raise _raised(call, error, inputs={name: column[row] for name, column in zip(names, columns)}) from error
    for row, answer in enumerate(answers, first_row):
        if not isinstance(answer, dict):
            raise Failure(
                "shape",
                f"its function answered {_shown(answer)} for row {row}, expected a dict of {some(call.field_names)}",
                hint="return a dict with the schema's fields",
            )
        if answer.keys() != expected:
            raise _wrong_fields(call, list(answer), row)
    return [
        _settled(field, [answer[field.name] for answer in answers], default, first_row)
        for field, default in zip(call.fields, call.defaults)
    ]


def _copied(value: Any) -> Any:
    return [_copied(each) for each in value] if isinstance(value, list) else value


def _settled(field: Field, values: list[Any], default: Any, first_row: int) -> list[Any]:
    """One field's answers in its declared type."""
    kinds = set(map(type, values))
    has_nulls = type(None) in kinds
    kinds.discard(type(None))
    exact = _EXACT.get(field.dtype.name)
    plain = not kinds or kinds == {exact}
    if kinds and plain and exact in (int, str):
        some_values = [value for value in values if value is not None] if has_nulls else values
        if exact is int:
            low, high = _BOUNDS[field.dtype.name]
            plain = low <= min(some_values) and max(some_values) <= high
        else:
            _refuse_half_characters(field, some_values)
    if not plain:
        array, misfits = fit_values(values, field.dtype)
        _refuse_misfits(field, misfits, first_row)
        values = python_values(array)
        has_nulls = array.null_count > 0
    if has_nulls and default is not None:
        return [default if value is None else value for value in values]
    return values


def _refuse_half_characters(field: Field, texts: list[str]) -> None:
    try:
        "".join(texts).encode()
    except UnicodeEncodeError as error:
        text = f"field {field.name!r} expects {field.dtype}, but its function answered text that has no UTF-8: {error}"
        raise Failure("type", text, field=field) from error


# -- pandas and polars: a frame -------------------------------------------------------------------------------------


def call_frame(call: Call, table: pa.Table) -> list[pa.Array]:
    """Run a function of mode pandas or polars over a table of its inputs (by the names it sees) and the moments.

    NaN that a pandas function answers is null, whatever the field's type; NaN that a polars function answers is null
    for fields that are no floats.

    Returns:
        One column per field, in the declared types.

    Raises:
        Failure: the function raised, or did not answer what it declares.
    """
    columns = _pandas_columns(call, table) if call.mode == "pandas" else _polars_columns(call, table)
    arrays = []
    for field, default, (array, misfits) in zip(call.fields, call.defaults, columns, strict=True):
        _refuse_misfits(field, misfits)
        filled = array if default is None else pc.coalesce(array, pa.scalar(default, array.type))
        arrays.append(filled)
    return arrays


def _pandas_columns(call: Call, table: pa.Table) -> list[tuple[pa.Array, list[Misfit]]]:
    try:
        import pandas as pd  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise MissingExtra(f"on-demand feature view {call.view_name!r} (mode pandas)", "pandas") from error
    answer = _answered(call, table.to_pandas(types_mapper=pd.ArrowDtype))
    if isinstance(answer, pd.Series) and len(call.fields) == 1:
        answer = answer.to_frame(call.fields[0].name)
    if not isinstance(answer, pd.DataFrame):
        raise _no_frame(call, answer, "pandas.DataFrame")
    _check_frame(call, list(answer.columns), len(answer), table.num_rows)
    if not answer.index.equals(pd.RangeIndex(len(answer))):
        raise Failure(
            "shape", "its function answered a frame with another index than the one it was given",
            hint="keep the rows in their order; undo set_index, and sort_values by sort_index()",
        )  # fmt: skip
    columns = []
    for field in call.fields:
        series = answer[field.name]
        if series.dtype != object:
            try:
                array = pa.array(series, from_pandas=True)
            except (pa.ArrowException, TypeError, ValueError):
                pass
            else:
                columns.append(fit(_without_nan(array), field.dtype))
                continue
        values = [None if value is pd.NA or value is pd.NaT or _is_nan(value) else value for value in series]
        columns.append(fit_values(values, field.dtype))
    return columns


def _polars_columns(call: Call, table: pa.Table) -> list[tuple[pa.Array, list[Misfit]]]:
    try:
        import polars as pl  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise MissingExtra(f"on-demand feature view {call.view_name!r} (mode polars)", "polars") from error
    answer = _answered(call, pl.from_arrow(table))
    if isinstance(answer, pl.Series) and len(call.fields) == 1:
        answer = answer.to_frame(call.fields[0].name)
    if not isinstance(answer, pl.DataFrame):
        raise _no_frame(call, answer, "polars.DataFrame")
    _check_frame(call, answer.columns, len(answer), table.num_rows)
    columns = []
    for field in call.fields:
        series = answer[field.name]
        if series.dtype == pl.Object:
            columns.append(fit_values(series.to_list(), field.dtype))
            continue
        array = series.to_arrow()
        if pa.types.is_large_list(array.type) and _small(array.type) == field.dtype.arrow():
            array = array.cast(field.dtype.arrow())
        columns.append(fit(array if field.dtype.is_float else _without_nan(array), field.dtype))
    return columns


def _small(kind: pa.DataType) -> pa.DataType:
    """The type with 32 bit offsets, all the way down: Polars has 64 bit ones."""
    if pa.types.is_large_list(kind):
        return pa.list_(_small(kind.value_type))
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    return pa.binary() if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind) else kind


def _answered(call: Call, frame: Any) -> Any:
    rows = len(frame)
    try:
        return call.function(frame)
    except Exception as error:
        raise _raised(call, error, rows=rows) from error


def _check_frame(call: Call, names: list[Any], length: int, expected: int) -> None:
    if len(names) != len(call.fields) or set(names) != set(call.field_names):
        raise _wrong_fields(call, names, None)
    if length != expected:
        raise Failure(
            "shape", f"its function answered {length} rows for {expected}",
            hint="answer one row for each row given; filter and aggregate in feature views, not in on-demand functions",
        )  # fmt: skip


def _without_nan(array: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    return pc.if_else(pc.is_nan(array), None, array) if pa.types.is_floating(array.type) else array


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


# -- what went wrong ------------------------------------------------------------------------------------------------


def shown_inputs(inputs: dict[str, Any]) -> str:
    """One row's inputs for a message, each value cut short."""
    return "{" + ", ".join(f"{name!r}: {_shown(value)}" for name, value in inputs.items()) + "}"


def _shown(value: Any) -> str:
    text = value.isoformat() if isinstance(value, datetime) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _raised(call: Call, error: Exception, *, inputs: dict[str, Any] | None = None, rows: int = 0) -> Failure:
    message = str(error).strip()
    message = message if len(message) <= 300 else message[:297] + "..."
    line = _users_line(call, error)
    text = f"its function raised {type(error).__name__}" + (f": {message}" if message else "")
    text += f" at {line}" if line else ""
    hint = ""
    if inputs is not None:
        text += f", for {shown_inputs(inputs)}"
        key = error.args[0] if isinstance(error, KeyError) and error.args else None
        if isinstance(key, str) and key not in inputs:
            hint = nearest(key, inputs) or f"it sees {some(inputs, 20)}"
        elif isinstance(error, TypeError) and None in inputs.values():
            hint = "answer None where an input is None: nulls arrive as None"
    else:
        text += f", for {rows} row{'s' if rows != 1 else ''}"
        if isinstance(error, KeyError) or type(error).__name__ == "ColumnNotFoundError":
            hint = f"it sees {some((*call.names, EVENT_TIMESTAMP), 20)}"
    return Failure("raised", text, hint=hint)


def _users_line(call: Call, error: Exception) -> str:
    """`file:line` of the innermost frame in the user's own code."""
    code = getattr(inspect.unwrap(call.function), "__code__", None)
    own_file = code.co_filename if code else ""
    line = ""
    for frame in traceback.extract_tb(error.__traceback__):
        name = frame.filename
        foreign = name.startswith((_OURS, *_LIBRARIES, "<frozen")) or "site-packages" in name
        if name == own_file or not foreign:
            line = f"{name}:{frame.lineno}"
    return line


def _wrong_fields(call: Call, found: list[Any], row: int | None) -> Failure:
    expected = call.field_names
    at = "" if row is None else f" for row {row}"
    missing = [name for name in expected if name not in found]
    undeclared = [name for name in found if name not in expected]
    details = [f"missing {some(missing)}"] if missing else []
    details += [f"undeclared {some(undeclared)}"] if undeclared else []
    details = details or ["one of them twice"]
    return Failure(
        "shape", f"its function answered {some(found)}{at}, expected {some(expected)} ({', '.join(details)})",
        hint="return exactly the fields of the schema",
    )  # fmt: skip


def _no_frame(call: Call, answer: Any, expected: str) -> Failure:
    kind = type(answer)
    found = "None" if answer is None else f"a {kind.__name__}"
    return Failure(
        "shape", f"its function answered {found}, expected a {expected} of {some(call.field_names)}",
        hint=f"return a {expected}, or choose another mode (this view has mode {call.mode})",
    )  # fmt: skip


def _refuse_misfits(field: Field, misfits: list[Misfit], first_row: int = 0) -> None:
    if not misfits:
        return
    row, reason = misfits[0]
    more = f"; so in {len(misfits) - 1} more rows" if len(misfits) > 1 else ""
    raise Failure(
        "type", f"field {field.name!r} expects {field.dtype}, but in row {row + first_row} {reason}{more}",
        hint="convert it in the function, or declare another type", field=field,
    )  # fmt: skip


def moments_of(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """A table's column of moments (times, or integer microseconds) as `timestamp[us, UTC]`."""
    if pa.types.is_integer(column.type):
        column = column.cast(pa.int64()).cast(Timestamp.arrow())
    return fit(column, Timestamp)[0]
