"""Checks that an on-demand function is row-wise, by running it on generated rows: whole, one by one and shuffled."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from asof.definitions import OnDemandFeatureView
from asof.derive.calling import EVENT_TIMESTAMP, Call, Failure, call_of, shown_inputs
from asof.derive.calling import input_types as declared_types
from asof.derive.running import call_values
from asof.dtypes import DType
from asof.errors import AsofError
from asof.selection import Derivation
from asof.timing import DAY, Micros, micros, moment

_TYPICAL_ROWS = 8
"""How many of the generated rows have typical values only: a function must be able to answer those."""

_BASE = micros("2026-01-05T08:30:00")
_FREE_FORM = {"String", "Json", "Bytes"}
_READ_FROM_TEXT = {"Json", "Timestamp", "Date", "Decimal"}


@dataclass(frozen=True)
class Finding:
    """What the check found.

    Args:
        severity: `error` where the view cannot be applied, `warning` where only odd values fail.
    """

    severity: str
    text: str


@dataclass(frozen=True)
class _Row:
    values: tuple[Any, ...]
    event_time_us: Micros
    is_typical: bool


def check_row_wise(
    view: OnDemandFeatureView, *, input_types: Mapping[str, DType] | None = None, rows: int = 24, seed: int = 0
) -> list[Finding]:
    """Run the view's function on generated rows and report what would make serving and training differ.

    Rows hold typical values, nulls, zeros, negatives, empty texts and lists, NaN and extremes. The same seed makes the
    same rows.

    Args:
        input_types: the types of what the function sees, by name; the view's declared ones where not given.

    Returns:
        Errors: the function answers differently whole, one by one or shuffled, answers wrong lengths, fields or types,
        or raises on typical values. Warnings: it raises on odd values alone (such a row would fail its whole request),
        or on typical texts, whose real form cannot be guessed.
    """
    types = dict(declared_types(view) if input_types is None else input_types)
    findings: list[Finding] = []
    if EVENT_TIMESTAMP in types:
        types.pop(EVENT_TIMESTAMP)
        findings.append(
            _finding(view, "error", f"its input {EVENT_TIMESTAMP!r} is hidden by the moment of the request: rename it")
        )
    outputs = tuple((name, f"{view.name}__{name}") for name in view.feature_names)
    derivation = Derivation(view, tuple((name, name) for name in types), outputs)
    generated = _generated(list(types.values()), rows, random.Random(seed))
    try:
        call = replace(call_of(derivation), dtypes=tuple(types.values()))
        return findings + _check(view, call, generated)
    except AsofError as error:
        # No function at hand, a default that does not fit, pandas or Polars not installed.
        return [*findings, Finding("error", str(error))]


def _check(view: OnDemandFeatureView, call: Call, rows: Sequence[_Row]) -> list[Finding]:
    alone: list[tuple[Any, ...]] = []
    passed: list[_Row] = []
    failed: list[tuple[_Row, Failure]] = []
    for row in rows:
        try:
            alone += _run(call, [row])
            passed.append(row)
        except Failure as failure:
            failed.append((row, failure))
    findings = _failures(view, call, failed, sum(row.is_typical for row in rows))
    if not passed:
        if all(finding.severity == "warning" for finding in findings):
            text = f"it failed on all of the {len(rows)} generated rows, so whether it is row-wise could not be checked"
            findings.append(_finding(view, "warning", text))
        return findings
    # Typical rows first: their values show a dependence more plainly than nulls and NaN do.
    answered = list(zip(passed, alone, strict=True))
    for chosen in ([each for each in answered if each[0].is_typical], answered):
        finding = _compared(view, call, *map(list, zip(*chosen, strict=True))) if chosen else None
        if finding is not None:
            return [*findings, finding]
    return findings


def _compared(
    view: OnDemandFeatureView, call: Call, rows: Sequence[_Row], alone: Sequence[tuple[Any, ...]]
) -> Finding | None:
    """Run rows, each of which is answered alone, whole, twice and shuffled; what differs."""
    try:
        whole, again = _run(call, rows), _run(call, rows)
        order = random.Random(len(rows)).sample(range(len(rows)), len(rows))
        by_place = dict(zip(order, _run(call, [rows[place] for place in order]), strict=True))
    except Failure as failure:
        text = f"{failure.text}; each of these rows alone is answered, so its function is not row-wise"
        return _finding(view, "error", text, failure.hint)
    shuffled = [by_place[place] for place in range(len(rows))]
    for other, how, cause in (
        (again, "in a second run", "depends on more than its inputs (chance, a clock, or earlier calls)"),
        (alone, "for the row alone", "is not row-wise"),
        (shuffled, "after shuffling the rows", "is not row-wise"),
    ):
        difference = _difference(whole, other)
        if difference is not None:
            row, place = difference
            text = (
                f"its function {cause}: field {call.fields[place].name!r} is {whole[row][place]!r} among "
                f"{len(rows)} rows, but {other[row][place]!r} {how}, for {_inputs(call, rows[row])}"
            )
            return _finding(
                view, "error", text, "compute each row from its own values; aggregate over rows in a feature view"
            )
    return None


def _run(call: Call, rows: Sequence[_Row]) -> list[tuple[Any, ...]]:
    """The function's answers, a tuple per row."""
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
    view: OnDemandFeatureView, call: Call, failed: Sequence[tuple[_Row, Failure]], typical_rows: int
) -> list[Finding]:
    """One finding per cause, the first row as its example."""
    by_cause: dict[tuple[str, str], list[tuple[_Row, Failure]]] = {}
    for row, failure in failed:
        raised = failure.__cause__
        cause = type(raised).__name__ if raised is not None else failure.text.partition(", but in row")[0]
        by_cause.setdefault((failure.kind, cause), []).append((row, failure))
    findings = []
    for cases in by_cause.values():
        every_time = sum(row.is_typical for row, _ in cases) == typical_rows
        sure = [case for case in cases if _is_surely_wrong(call, *case, every_time)]
        row, failure = (sure or cases)[0]
        text = failure.text.removesuffix(", for 1 row").replace(" in row 0 ", " ").replace(" for row 0", "")
        if call.mode != "python" or failure.kind != "raised":
            text += f", for {_inputs(call, row)}"
        if not sure:
            text += ": such a row would fail the whole request"
        if len(cases) > 1:
            text += f" (so did {len(cases) - 1} more of the generated rows)"
        findings.append(_finding(view, "error" if sure else "warning", text, failure.hint))
    return findings


def _is_surely_wrong(call: Call, row: _Row, failure: Failure, every_time: bool) -> bool:
    """Whether the function is at fault whatever the real values are like: their domains cannot be guessed.

    Args:
        every_time: it failed so on all typical rows.
    """
    error = failure.__cause__
    if failure.kind == "shape" or isinstance(error, NameError | ImportError):
        return True
    inputs = {_innermost(dtype).name for dtype in call.dtypes if dtype is not None}
    if isinstance(error, KeyError) or type(error).__name__ == "ColumnNotFoundError":
        return "Json" not in inputs and _names_no_input(call, row, error)
    if failure.field is not None:
        # A text in a form that cannot be guessed may well be what these types take.
        return row.is_typical and not (failure.field.dtype.name in _READ_FROM_TEXT and inputs & _FREE_FORM)
    if not row.is_typical or isinstance(error, ArithmeticError | ValueError | LookupError):
        return False
    return not inputs & _FREE_FORM or (every_time and "Json" not in inputs)


def _names_no_input(call: Call, row: _Row, error: BaseException) -> bool:
    """Whether what is missing is written in the function itself, as against a value looked up in some dict."""
    if not isinstance(error, KeyError) or "not in index" in str(error):
        return True
    code = getattr(call.function, "__code__", None)
    key = error.args[0] if error.args else None
    return isinstance(key, str) and key not in row.values and code is not None and key in code.co_consts


def _innermost(dtype: DType) -> DType:
    return _innermost(dtype.inner) if dtype.inner is not None else dtype


def _inputs(call: Call, row: _Row) -> str:
    return shown_inputs({**dict(zip(call.names, row.values)), EVENT_TIMESTAMP: moment(row.event_time_us)})


def _finding(view: OnDemandFeatureView, severity: str, text: str, hint: str = "") -> Finding:
    at = f"{view.where}: " if view.where else ""
    return Finding(severity, f"{at}on-demand feature view {view.name!r}: {text}" + (f"; {hint}" if hint else ""))


# -- generated rows -------------------------------------------------------------------------------------------------


def _generated(types: Sequence[DType], count: int, chance: random.Random) -> list[_Row]:
    """Typical rows first, then one row per oddity, then rows that mix both."""
    rows = [
        _Row(tuple(_typical(dtype, chance) for dtype in types), _moment(chance), True)
        for _ in range(min(count, _TYPICAL_ROWS))
    ]
    # One row twice, to meet functions that drop or rank duplicates.
    rows[-1] = rows[0]
    odd = [_odd(dtype) for dtype in types]
    kinds = max((len(values) for values in odd), default=0)
    for kind in range(kinds):
        rows.append(_Row(tuple(values[kind % len(values)] for values in odd), _moment(chance), False))
    while len(rows) < count:
        values = tuple(
            chance.choice(oddities) if chance.random() < 0.4 else _typical(dtype, chance)
            for dtype, oddities in zip(types, odd, strict=True)
        )
        rows.append(_Row(values, _moment(chance), False))
    return rows[: max(count, 1)]


def _moment(chance: random.Random) -> Micros:
    return _BASE + chance.randrange(90 * DAY)


def _typical(dtype: DType, chance: random.Random) -> Any:
    match dtype.name:
        case "Bool":
            return chance.random() < 0.5
        case "Int32" | "Int64":
            return chance.randint(1, 100)
        case "Float32" | "Float64":
            # Quarters are exact in both widths.
            return chance.randint(1, 400) / 4
        case "Decimal":
            return _scaled(chance.randint(1, min(10**dtype.precision - 1, 10_000)), dtype)
        case "String":
            return chance.choice(["a", "b", "7", "listing_page", "Ünal", "2026-01-05"])
        case "Json":
            return chance.choice(['{"a":1,"b":"x"}', '{"a":2}', "[1,2]"])
        case "Bytes":
            return chance.randbytes(4)
        case "Date":
            return date(2026, 1, 5) + timedelta(days=chance.randrange(90))
        case "Timestamp":
            return moment(_moment(chance))
        case "Embedding":
            return [chance.randint(-8, 8) / 8 for _ in range(dtype.size)]
        case _:
            assert dtype.inner is not None
            return [_typical(dtype.inner, chance) for _ in range(chance.randint(1, 3))]


def _odd(dtype: DType) -> list[Any]:
    """A null, then zeros, negatives, empties and extremes; integers stay where sums and floats of them are exact."""
    match dtype.name:
        case "Bool":
            return [None, False, True]
        case "Int32":
            return [None, 0, -1, 2**31 - 1, -(2**31)]
        case "Int64":
            return [None, 0, -1, 2**53 - 1, -(2**53)]
        case "Float32" | "Float64":
            return [None, 0.0, -1.5, 2.0**100, -(2.0**-100), math.nan, math.inf]
        case "Decimal":
            return [None, _scaled(0, dtype), _scaled(-1, dtype), _scaled(10 ** (dtype.precision - 1), dtype)]
        case "String":
            return [None, "", " ", "0", "-1", "x" * 1000]
        case "Json":
            return [None, "{}", "[]", "null", "0"]
        case "Bytes":
            return [None, b"", b"\x00\xff"]
        case "Date":
            return [None, date(1970, 1, 1), date(1900, 3, 1), date(2199, 12, 31)]
        case "Timestamp":
            early, late = datetime(1900, 3, 1, tzinfo=UTC), datetime(2199, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
            return [None, moment(0), early, late]
        case "Embedding":
            return [None, [0.0] * dtype.size, [-1.0] * dtype.size]
        case _:
            return [None, []]


def _scaled(unscaled: int, dtype: DType) -> Decimal:
    return Decimal(unscaled).scaleb(-dtype.scale)
