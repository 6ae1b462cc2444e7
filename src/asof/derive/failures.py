"""Failures of a function as messages: the view and line, what was expected, what was found."""

from __future__ import annotations

import inspect
import os
import sysconfig
import traceback
from datetime import datetime
from pathlib import Path
from typing import Any

from asof.definitions import Field
from asof.derive.calls import EVENT_TIMESTAMP, DerivationCall
from asof.display import counted
from asof.errors import DerivationError, nearest, some
from asof.values.fit import Misfit
from asof.values.legible import MOST_SHOWN, cut

_OURS = f"{Path(__file__).parent}{os.sep}"
_LIBRARIES = (sysconfig.get_paths()["stdlib"], sysconfig.get_paths()["purelib"])


class CallFailure(Exception):
    """One failed call, from which errors and findings of the check are made.

    Args:
        kind: `raised`, `shape` (not a dict or frame, wrong length or columns) or `type` (a value does not fit).
        text: what happened; it follows the view's kind and name.
        field: the field whose value does not fit.
    """

    def __init__(self, kind: str, text: str, *, hint: str = "", field: Field | None = None) -> None:
        super().__init__(text)
        self.kind, self.text, self.hint, self.field = kind, text, hint, field

    def of(self, call: DerivationCall) -> DerivationError:
        """The failure as a user's error."""
        return DerivationError(
            f"on-demand feature view {call.view_name!r}: {self.text}", hint=self.hint, where=call.where
        )


def shown_inputs(inputs: dict[str, Any]) -> str:
    """One row's inputs for a message, each value shortened."""
    return "{" + ", ".join(f"{name!r}: {shown(value)}" for name, value in inputs.items()) + "}"


def shown(value: Any) -> str:
    return cut(value.isoformat() if isinstance(value, datetime) else repr(value), MOST_SHOWN)


def raised(
    call: DerivationCall, error: Exception, *, inputs: dict[str, Any] | None = None, rows: int = 0
) -> CallFailure:
    message = cut(str(error).strip(), 300)
    line = _users_line(call, error)
    text = f"its function raised {type(error).__name__}" + (f": {message}" if message else "")
    text += f" at {line}" if line else ""
    hint = ""
    if inputs is not None:
        text += f", for {shown_inputs(inputs)}"
        key = error.args[0] if isinstance(error, KeyError) and error.args else None
        if isinstance(key, str) and key not in inputs:
            hint = nearest(key, inputs) or f"its inputs are {some(inputs, 20)}"
        elif isinstance(error, TypeError) and None in inputs.values():
            hint = "return None where an input is None: nulls arrive as None"
    else:
        text += f", for {counted(rows, 'row')}"
        if isinstance(error, KeyError) or type(error).__name__ == "ColumnNotFoundError":
            hint = f"its inputs are {some((*call.names, EVENT_TIMESTAMP), 20)}"
    return CallFailure("raised", text, hint=hint)


def _users_line(call: DerivationCall, error: Exception) -> str:
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


def wrong_fields(call: DerivationCall, found: list[Any], row: int | None) -> CallFailure:
    expected = call.field_names
    at = "" if row is None else f" for row {row}"
    missing = [name for name in expected if name not in found]
    undeclared = [name for name in found if name not in expected]
    details = [f"missing {some(missing)}"] if missing else []
    details += [f"undeclared {some(undeclared)}"] if undeclared else []
    details = details or ["one of them twice"]
    return CallFailure(
        "shape",
        f"its function returned {some(found) if found else 'no fields'}{at}, expected {some(expected)} "
        f"({', '.join(details)})",
        hint="return exactly the fields of the schema",
    )  # fmt: skip


def no_frame(call: DerivationCall, answer: Any, expected: str) -> CallFailure:
    kind = type(answer)
    found = "None" if answer is None else f"a {kind.__name__}"
    return CallFailure(
        "shape", f"its function returned {found}, expected a {expected} of {some(call.field_names)}",
        hint=f"return a {expected}, or choose another mode (this view has mode {call.mode})",
    )  # fmt: skip


def refuse_misfits(field: Field, misfits: list[Misfit], first_row: int = 0) -> None:
    if not misfits:
        return
    row, reason = misfits[0]
    more = f"; the same in {len(misfits) - 1} more rows" if len(misfits) > 1 else ""
    raise CallFailure(
        "type", f"field {field.name!r} expects {field.dtype}, but in row {row + first_row} {reason}{more}",
        hint="convert it in the function, or declare another type", field=field,
    )  # fmt: skip
