"""Checks that an on-demand function is row-wise, by running it on generated rows: whole, one by one and shuffled."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from asof.definitions import OnDemandFeatureView
from asof.derive.calls import EVENT_TIMESTAMP, DerivationCall, call_of, never_null
from asof.derive.calls import input_types as declared_types
from asof.derive.failures import CallFailure, shown_inputs
from asof.derive.generated import GeneratedRow, generated_rows
from asof.derive.running import call_values
from asof.display import counted
from asof.dtypes import DType
from asof.errors import AsofError
from asof.selection import Derivation
from asof.timing import moment

_FREE_FORM = {"String", "Json", "Bytes"}
_READ_FROM_TEXT = {"Json", "Timestamp", "Date", "Decimal"}


@dataclass(frozen=True)
class RowWiseFinding:
    """A finding of the check.

    Args:
        severity: `error` where the view cannot be applied, `warning` where only odd values fail.
    """

    severity: Literal["error", "warning"]
    text: str


def check_row_wise(
    view: OnDemandFeatureView, *, input_types: Mapping[str, DType] | None = None, rows: int = 24, seed: int = 0
) -> list[RowWiseFinding]:
    """Run the view's function on generated rows and report differences that serving and training would have.

    Rows hold typical values, nulls, zeros, negatives, empty texts and lists, NaN and extremes. The same seed makes the
    same rows.

    Args:
        input_types: types of the function's inputs by name; default: the view's declared ones.

    Returns:
        Errors: the function's result differs between whole, one by one and shuffled, it returns wrong lengths, fields
            or types, or it raises on typical values. Warnings: it raises only on odd values (such a row would fail its
            whole request), or on typical texts, whose real form is unknown.
    """
    types = dict(declared_types(view) if input_types is None else input_types)
    findings: list[RowWiseFinding] = []
    if EVENT_TIMESTAMP in types:
        types.pop(EVENT_TIMESTAMP)
        findings.append(
            _finding(view, "error", f"its input {EVENT_TIMESTAMP!r} is hidden by the time of the request: rename it")
        )
    outputs = tuple((name, f"{view.name}__{name}") for name in view.feature_names)
    derivation = Derivation(view, tuple((name, name) for name in types), outputs)
    certain = never_null(view)
    generated = generated_rows(
        list(types.values()), rows, random.Random(seed), never_null=[name in certain for name in types]
    )
    try:
        call = replace(call_of(derivation), dtypes=tuple(types.values()))
        return findings + _check(view, call, generated)
    except AsofError as error:
        # No function loaded, a default that does not fit, pandas or Polars not installed.
        return [*findings, RowWiseFinding("error", f"{view.where}: {error.message}; {error.hint}")]


def _check(view: OnDemandFeatureView, call: DerivationCall, rows: Sequence[GeneratedRow]) -> list[RowWiseFinding]:
    alone: list[tuple[Any, ...]] = []
    passed: list[GeneratedRow] = []
    failed: list[tuple[GeneratedRow, CallFailure]] = []
    for row in rows:
        try:
            alone += _run(call, [row])
            passed.append(row)
        except CallFailure as failure:
            failed.append((row, failure))
    findings = _failures(view, call, failed, rows)
    if not passed:
        if all(finding.severity == "warning" for finding in findings):
            text = f"it failed on all {len(rows)} generated rows, so the check that it is row-wise was not possible"
            findings.append(_finding(view, "warning", text))
        return findings
    # Typical rows first: their values show a dependence more clearly than nulls and NaN.
    answered = list(zip(passed, alone, strict=True))
    for chosen in ([each for each in answered if each[0].is_typical], answered):
        finding = _compared(view, call, *map(list, zip(*chosen, strict=True))) if chosen else None
        if finding is not None:
            return [*findings, finding]
    return findings


def _compared(
    view: OnDemandFeatureView, call: DerivationCall, rows: Sequence[GeneratedRow], alone: Sequence[tuple[Any, ...]]
) -> RowWiseFinding | None:
    """Run rows that succeed one by one as a whole, twice and shuffled, and report differences."""
    try:
        whole, again = _run(call, rows), _run(call, rows)
        order = random.Random(len(rows)).sample(range(len(rows)), len(rows))
        by_place = dict(zip(order, _run(call, [rows[place] for place in order]), strict=True))
    except CallFailure as failure:
        text = f"{failure.text}; each of these rows succeeds alone, so its function is not row-wise"
        return _finding(view, "error", text, failure.hint)
    shuffled = [by_place[place] for place in range(len(rows))]
    for other, how, cause in (
        (again, "in a second run", "depends on more than its inputs (randomness, a clock, or earlier calls)"),
        (alone, "for the row alone", "is not row-wise"),
        (shuffled, "after shuffling the rows", "is not row-wise"),
    ):
        difference = _difference(whole, other)
        if difference is not None:
            row, place = difference
            text = (
                f"its function {cause}: field {call.fields[place].name!r} is {whole[row][place]!r} among "
                f"{counted(len(rows), 'row')}, but {other[row][place]!r} {how}, for {_inputs(call, rows[row])}"
            )
            return _finding(
                view, "error", text, "compute each row from its own values; aggregate over rows in a feature view"
            )
    return None


def _run(call: DerivationCall, rows: Sequence[GeneratedRow]) -> list[tuple[Any, ...]]:
    """The function's results, a tuple per row."""
    inputs = [[row.values[place] for row in rows] for place in range(len(call.names))]
    return list(zip(*call_values(call, inputs, len(rows), [row.event_time_us for row in rows]), strict=True))


def _difference(left: Sequence[tuple[Any, ...]], right: Sequence[tuple[Any, ...]]) -> tuple[int, int] | None:
    for row, (one, other) in enumerate(zip(left, right, strict=True)):
        for place, (a, b) in enumerate(zip(one, other, strict=True)):
            if not _same(a, b):
                return row, place
    return None


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        # Vectorized and single computation may round the last digit differently.
        return a == b or (math.isnan(a) and math.isnan(b)) or math.isclose(a, b, rel_tol=1e-9)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(_same(one, other) for one, other in zip(a, b))
    return type(a) is type(b) and a == b


# -- rows that failed -----------------------------------------------------------------------------------------------


def _failures(
    view: OnDemandFeatureView,
    call: DerivationCall,
    failed: Sequence[tuple[GeneratedRow, CallFailure]],
    rows: Sequence[GeneratedRow],
) -> list[RowWiseFinding]:
    """One finding per cause, the first row as its example."""
    by_cause: dict[tuple[str, str], list[tuple[GeneratedRow, CallFailure]]] = {}
    for row, failure in failed:
        raised = failure.__cause__
        cause = type(raised).__name__ if raised is not None else failure.text.partition(", but in row")[0]
        by_cause.setdefault((failure.kind, cause), []).append((row, failure))
    findings = []
    for cases in by_cause.values():
        all_typical = sum(row.is_typical for row, _ in cases) == sum(row.is_typical for row in rows)
        sure = [
            case
            for case in cases
            if _is_surely_wrong(call, *case, all_typical=all_typical, all_rows=len(cases) == len(rows))
        ]
        row, failure = (sure or cases)[0]
        text = failure.text.removesuffix(", for 1 row").replace(" in row 0 ", " ").replace(" for row 0", "")
        if call.mode != "python" or failure.kind != "raised":
            text += f", for {_inputs(call, row)}"
        if not sure:
            text += ": such a row would fail the whole request"
        if len(cases) > 1:
            text += f" (as did {len(cases) - 1} more of the generated rows)"
        findings.append(_finding(view, "error" if sure else "warning", text, failure.hint))
    return findings


def _is_surely_wrong(
    call: DerivationCall, row: GeneratedRow, failure: CallFailure, *, all_typical: bool, all_rows: bool
) -> bool:
    """Whether the function would fail on any real values; their domains are unknown.

    Args:
        all_typical, all_rows: it failed this way on all typical rows, on all rows.
    """
    error = failure.__cause__
    if failure.kind == "shape" or isinstance(error, NameError | ImportError):
        return True
    inputs = {dtype.innermost.name for dtype in call.dtypes if dtype is not None}
    if error is not None and (isinstance(error, KeyError) or type(error).__name__ == "ColumnNotFoundError"):
        return "Json" not in inputs and _names_no_input(call, row, error)
    if failure.field is not None:
        # The function may expect text in a form that generated rows cannot have.
        return row.is_typical and not (failure.field.dtype.name in _READ_FROM_TEXT and inputs & _FREE_FORM)
    if not row.is_typical or isinstance(error, LookupError):
        return False
    if isinstance(error, ArithmeticError | ValueError):
        return all_rows and not inputs & _FREE_FORM
    return not inputs & _FREE_FORM or (all_typical and "Json" not in inputs)


def _names_no_input(call: DerivationCall, row: GeneratedRow, error: BaseException) -> bool:
    """Whether the missing name is written in the function, rather than a value looked up in a dict."""
    if not isinstance(error, KeyError) or "not in index" in str(error):
        return True
    code = getattr(call.function, "__code__", None)
    key = error.args[0] if error.args else None
    return isinstance(key, str) and key not in row.values and code is not None and key in code.co_consts


def _inputs(call: DerivationCall, row: GeneratedRow) -> str:
    return shown_inputs({**dict(zip(call.names, row.values)), EVENT_TIMESTAMP: moment(row.event_time_us)})


def _finding(
    view: OnDemandFeatureView, severity: Literal["error", "warning"], text: str, hint: str = ""
) -> RowWiseFinding:
    at = f"{view.where}: " if view.where else ""
    return RowWiseFinding(severity, f"{at}on-demand feature view {view.name!r}: {text}" + (f"; {hint}" if hint else ""))
