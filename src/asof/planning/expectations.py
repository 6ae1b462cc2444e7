"""Check that a view's expectations are about its features, and that their values are of the features' types."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal, InvalidOperation

from asof.definitions import Expectation, FeatureView, OnDemandFeatureView
from asof.definitions.expectations import Plain
from asof.dtypes import INT_BOUNDS, DType
from asof.errors import nearest
from asof.planning.sources import Findings

_COMPARED = ("Int32", "Int64", "Float32", "Float64", "Decimal", "Date", "Timestamp")
_LISTED = ("Int32", "Int64", "String", "Bool", "Decimal", "Date", "Timestamp")
_COUNTED = (*_LISTED, "Float32", "Float64", "Json", "Bytes")
_SUITABLE: dict[str, tuple[str, ...]] = {"between": _COMPARED, "accepted_values": _LISTED, "unique": _COUNTED}
"""Kind → the types of features that it is for; kinds that are not listed are for any."""


def check_expectations(view: FeatureView | OnDemandFeatureView, *, findings: Findings) -> None:
    """Add a finding for each expectation that the view's features do not fit."""
    types = {field.name: field.dtype for field in view.features}
    for each in view.expectations:
        at = f" ({each.where})" if each.where else ""
        label = f"expectation {each.name}{at}"
        if not each.feature:
            continue
        if each.feature not in types:
            if each.feature in view.feature_names:
                continue  # its type is not known, which is a finding of its own
            findings.error(
                view, f"{label}: the view has no feature {each.feature!r}",
                hint=nearest(each.feature, types) or f"its features are {', '.join(types)}",
            )  # fmt: skip
            continue
        dtype = types[each.feature]
        suitable = _SUITABLE.get(each.kind)
        if suitable is not None and dtype.name not in suitable:
            findings.error(
                view, f"{label}: the feature is of type {dtype}", expected=f"one of {', '.join(suitable)}",
                hint="leave the expectation out, or name another feature",
            )  # fmt: skip
            continue
        for value in _values(each):
            if not fits(value, dtype):
                findings.error(
                    view, f"{label}: {value!r}", expected=f"a value of type {dtype}", hint="give a value of that type"
                )  # fmt: skip


def fits(value: Plain, dtype: DType) -> bool:
    """Whether a value of an expectation is one of the type."""
    if isinstance(value, bool) or dtype.name == "Bool":
        return isinstance(value, bool) and dtype.name == "Bool"
    if dtype.is_integer:
        low, high = INT_BOUNDS[dtype.name]
        return isinstance(value, int) and low <= value <= high
    if dtype.is_float:
        return isinstance(value, int | float)
    if dtype.name == "String":
        return isinstance(value, str)
    try:
        if dtype.name == "Decimal":
            Decimal(str(value))
        elif dtype.name == "Date":
            date.fromisoformat(str(value))
        else:
            datetime.fromisoformat(str(value))
    except (ValueError, InvalidOperation):
        return False
    return isinstance(value, str) or dtype.name == "Decimal"


def _values(each: Expectation) -> list[Plain]:
    return [value for value in (each.low, each.high, *each.values) if value is not None]


__all__ = ["check_expectations", "fits"]
