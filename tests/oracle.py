"""The brute-force oracle: DESIGN.md section 2 in plain Python, slow and obvious, for tests to compare with.

Rows are dicts: `event_time`, `created` and `arrival` as integers (arrival may be a tuple of what sorts), and the
source's columns under their names in Asof. A missing or null `created` is the event time. Nothing here is shared with
the product, so that a mistake there cannot hide here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

from asof.definitions import Aggregation, FeatureView, Session, Sliding

Row = Mapping[str, Any]
Evaluate = Callable[[str, Row], Any]
"""Evaluates an expression of the closed language over one row."""


def plain_column(text: str, row: Row) -> Any:
    """The default hook: expressions that are just a column's name."""
    return row[text]


def numbered(rows: Iterable[Row]) -> list[Row]:
    """The rows with a number each, for `remembering`."""
    return [{**row, "row_number": number} for number, row in enumerate(rows)]


def remembering(evaluate: Evaluate) -> Evaluate:
    """The same, which evaluates an expression once over each of the rows that `numbered` made."""
    values: dict[tuple[str, int], Any] = {}

    def remembered(text: str, row: Row) -> Any:
        at = text, row["row_number"]
        if at not in values:
            values[at] = evaluate(text, row)
        return values[at]

    return remembered


def features_as_of(
    rows: Iterable[Row],
    view: FeatureView,
    key: Sequence[Any],
    t: int | None,
    *,
    known_at: bool | int | None = None,
    evaluate: Evaluate = plain_column,
    defaults: bool = True,
) -> dict[str, Any]:
    """Every feature of `view` for one key as of t, by name.

    Args:
        rows: the source's whole history, in any order.
        key: the values of the view's join keys, in the view's order.
        t: the spine row's time in microseconds; None answers nulls, as a null in the key does.
        known_at: True: only rows with created ≤ t; an integer: only rows with created ≤ that moment.
        defaults: answer a field's default in place of a null.
    """
    if t is None or any(part is None for part in key):
        return _with_defaults(dict.fromkeys(view.feature_names), view, defaults)
    history = history_of((row for row in rows if _key(row, view) == tuple(key)), view, evaluate)
    return features_at(history, view, t, known_at=known_at, evaluate=evaluate, defaults=defaults)


def history_of(rows: Iterable[Row], view: FeatureView, evaluate: Evaluate = plain_column) -> list[Row]:
    """One key's rows in their order, each with whether it ends the key."""
    return [{**row, "gone": _ends_the_key(row, view, evaluate)} for row in _in_order(rows)]


def features_at(
    history: Sequence[Row],
    view: FeatureView,
    t: int,
    *,
    known_at: bool | int | None = None,
    evaluate: Evaluate = plain_column,
    defaults: bool = True,
) -> dict[str, Any]:
    """`features_as_of` for a key whose history is in order: for many moments of one key."""
    cut = t if known_at is True else None if known_at in (None, False) else known_at
    if cut is not None:
        history = [row for row in history if _known(row) <= cut]
    moment = t - view.delay
    if view.is_aggregated:
        living = [row for row in history if not row["gone"]]
        values = {each.name: aggregate(living, each, moment, view.boundary, evaluate) for each in view.aggregations}
    else:
        values = _latest(history, view, moment)
    return _with_defaults(values, view, defaults)


def _with_defaults(values: dict[str, Any], view: FeatureView, defaults: bool) -> dict[str, Any]:
    if defaults:
        for field in (*view.aggregations, *view.features):
            if values.get(field.name) is None and field.default is not None:
                values[field.name] = field.default
    return values


def aggregate(
    history: Sequence[Row], aggregation: Aggregation, t: int, boundary: str, evaluate: Evaluate = plain_column
) -> Any:
    """One aggregation of one key's events (in their order) as of t."""
    events = events_in_window(history, aggregation.window, t, boundary)
    if aggregation.where:
        events = [row for row in events if evaluate(aggregation.where, row) is True]
    if not aggregation.column:
        return len(events)
    values = [evaluate(aggregation.column, row) for row in events]
    return fold(aggregation.function, [value for value in values if value is not None], aggregation.n)


def events_in_window(
    history: Sequence[Row], window: Sliding | Session | None, t: int, boundary: str = "inclusive"
) -> list[Row]:
    """The events of one key (in their order) that a window ending at t holds."""
    seen = [row for row in history if (row["event_time"] < t if boundary == "exclusive" else row["event_time"] <= t)]
    if window is None:
        return seen
    if isinstance(window, Sliding):
        start = t - window.length
        start -= start % window.hop
        return [row for row in seen if row["event_time"] >= start]
    session: list[Row] = []
    after = t
    for row in reversed(seen):
        if after - row["event_time"] > window.gap:
            break
        session.insert(0, row)
        after = row["event_time"]
    return session


def fold(function: str, values: Sequence[Any], n: int = 0) -> Any:
    """An aggregate of values without nulls, in the order of their rows."""
    if function == "count":
        return len(values)
    if function == "count_distinct":
        return len({_identity(value) for value in values})
    if not values:
        return None
    if function == "sum":
        if isinstance(values[0], float):
            return _float_sum(values)
        total = sum(values)
        if isinstance(values[0], Decimal):
            return total
        return total if -(2**63) <= total < 2**63 else None
    if function == "mean":
        return _float_mean(values)
    if function in ("std", "var"):
        return _variance(values, root=function == "std")
    if function == "min":
        return min(values, key=_rank)
    if function == "max":
        return max(values, key=_rank)
    if function == "first":
        return values[0]
    if function == "last":
        return values[-1]
    if function == "last_n":
        return list(values[-n:])
    raise ValueError(function)


def sliding_start(t: int, window: Sliding) -> int:
    """The first moment that belongs to the window ending at t."""
    start = t - window.length
    return start - start % window.hop


def arrival_by_columns(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> list[dict[str, Any]]:
    """The rows with `arrival` by column order (nulls smallest, NaN greatest), for sources without an arrival."""
    return [{**row, "arrival": tuple(_rank_with_null(row[column]) for column in columns)} for row in rows]


def same(expected: Any, found: Any, magnitude: float = 0.0) -> bool:
    """Whether two feature values agree: floats within 1e-9 of the sum of magnitudes, NaN equal to NaN, else equal."""
    if isinstance(expected, float) and isinstance(found, int | float) and not isinstance(found, bool):
        if math.isnan(expected) or math.isnan(found):
            return math.isnan(expected) and math.isnan(found)
        if math.isinf(expected) or math.isinf(found):
            return expected == found
        return abs(expected - found) <= 1e-9 * max(1.0, abs(expected), magnitude)
    if isinstance(expected, list) and isinstance(found, list):
        return len(expected) == len(found) and all(same(a, b) for a, b in zip(expected, found, strict=True))
    return type(expected) is type(found) and expected == found or (expected is None and found is None)


def _latest(history: Sequence[Row], view: FeatureView, t: int) -> dict[str, Any]:
    names = view.feature_names
    for row in reversed(history):
        if row["event_time"] <= t:
            if view.ttl and row["event_time"] < t - view.ttl:
                break
            return dict.fromkeys(names) if row["gone"] else {name: row[name] for name in names}
    return dict.fromkeys(names)


def _ends_the_key(row: Row, view: FeatureView, evaluate: Evaluate) -> bool:
    """Whether a row says that its key is no more."""
    text = view.source.delete_when
    return bool(row.get("tombstone")) or (bool(text) and evaluate(text, row) is True)


def _in_order(rows: Iterable[Row]) -> list[Row]:
    """Rows that can be used, by (event time, created, arrival); the last wins."""
    usable = [row for row in rows if row["event_time"] is not None]
    return sorted(usable, key=lambda row: (row["event_time"], _created(row), row.get("arrival", 0)))


def _created(row: Row) -> int:
    created = row.get("created")
    return row["event_time"] if created is None else created


def _known(row: Row) -> int:
    """When a row was known: its `known` (a push's stamp, an event's `ingested_at`), else when it was created."""
    known = row.get("known")
    return _created(row) if known is None else known


def _key(row: Row, view: FeatureView) -> tuple[Any, ...]:
    return tuple(row[name] for name in view.join_keys)


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _identity(value: Any) -> Any:
    """Values that are one under count_distinct: NaN is one value, and 0.0 is -0.0."""
    return "NaN" if _is_nan(value) else ("list", *value) if isinstance(value, list) else value


def _rank(value: Any) -> Any:
    """NaN above all else; text by code point."""
    return (1, 0.0) if _is_nan(value) else (0, value)


def _rank_with_null(value: Any) -> Any:
    return (0,) if value is None else (1, *_rank(value))


def _float_sum(values: Sequence[float]) -> float:
    if all(math.isfinite(value) for value in values):
        return math.fsum(values)
    return sum(values)


def _float_mean(values: Sequence[Any]) -> float:
    if isinstance(values[0], float) and not all(math.isfinite(value) for value in values):
        return sum(values) / len(values)
    return float(sum(Fraction(value) for value in values) / len(values))


def _variance(values: Sequence[Any], *, root: bool) -> float | None:
    if len(values) < 2:
        return None
    if isinstance(values[0], float) and not all(math.isfinite(value) for value in values):
        return math.nan
    exact = [Fraction(value) for value in values]
    mean = sum(exact) / len(exact)
    variance = sum((value - mean) ** 2 for value in exact) / (len(exact) - 1)
    return math.sqrt(variance) if root else float(variance)
