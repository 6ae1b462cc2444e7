"""Functions of mode python: a dict of one row in, a dict out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from asof.definitions import Field
from asof.derive.calls import EVENT_TIMESTAMP, DerivationCall
from asof.derive.failures import CallFailure, raised, refuse_misfits, shown, wrong_fields
from asof.errors import some
from asof.values.check import own_values
from asof.values.fit import fit_values
from asof.values.from_arrow import python_values


def call_rows(
    call: DerivationCall, columns: Sequence[Sequence[Any]], moments: Sequence[datetime], *, first_row: int = 0
) -> list[list[Any]]:
    """Run a function of mode python over each row.

    Args:
        columns: one sequence of values per input, in the order of `call.names`.
        first_row: the number of the first row, for messages.

    Returns:
        One list of values per field, in the declared types.

    Raises:
        CallFailure: the function raised, or did not return what it declares.
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
        # Taken from the columns again: the function may have changed its dict.
        row = len(answers)
        raise raised(call, error, inputs={name: column[row] for name, column in zip(names, columns)}) from error
    for row, answer in enumerate(answers, first_row):
        if not isinstance(answer, dict):
            raise CallFailure(
                "shape",
                f"its function returned {shown(answer)} for row {row}, expected a dict of {some(call.field_names)}",
                hint="return a dict with the schema's fields",
            )
        if answer.keys() != expected:
            raise wrong_fields(call, list(answer), row)
    return [
        _settled(field, [answer[field.name] for answer in answers], default, first_row)
        for field, default in zip(call.fields, call.defaults)
    ]


def _copied(value: Any) -> Any:
    return [_copied(each) for each in value] if isinstance(value, list) else value


def _settled(field: Field, values: list[Any], default: Any, first_row: int) -> list[Any]:
    """One field's values in its declared type."""
    present = own_values(values, field.dtype)
    if present is None:
        array, misfits = fit_values(values, field.dtype)
        refuse_misfits(field, misfits, first_row)
        values = python_values(array)
        has_nulls = array.null_count > 0
    else:
        has_nulls = len(present) < len(values)
        if field.dtype.name == "String":
            _refuse_half_characters(field, present)
    if has_nulls and default is not None:
        return [default if value is None else value for value in values]
    return values


def _refuse_half_characters(field: Field, texts: Sequence[str]) -> None:
    try:
        "".join(texts).encode()
    except UnicodeEncodeError as error:
        text = f"field {field.name!r} expects {field.dtype}, but its function returned text that is not UTF-8: {error}"
        raise CallFailure("type", text, field=field) from error
