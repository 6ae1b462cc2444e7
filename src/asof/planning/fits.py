"""Whether values of one type may be read as another: only widening is silent."""

from __future__ import annotations

from typing import Any

from asof.dtypes import DType

_DIGITS = {"Int32": 10, "Int64": 19}
_WIDER = {
    ("Int64", "Int32"), ("Float64", "Float32"), ("Float64", "Int32"), ("Timestamp", "Date"), ("Json", "String"),
    ("String", "Json"),
}  # fmt: skip
_WHOLE = "a value that is not whole, or beyond 2**53, is an error when it is read"
_WITH_A_NOTE = {
    ("Int32", "Int64"): "a value beyond Int32 is an error when it is read",
    ("Int32", "Float32"): _WHOLE, ("Int32", "Float64"): _WHOLE,
    ("Int64", "Float32"): _WHOLE, ("Int64", "Float64"): _WHOLE,
    ("Float32", "Float64"): "values are rounded to the nearest Float32",
    ("Float64", "Int64"): "a value that no Float64 is, as 2**53 + 1, is an error when it is read",
    ("Float32", "Int32"): "a value that no Float32 is, as 2**24 + 1, is an error when it is read",
    ("Float32", "Int64"): "a value that no Float32 is, as 2**24 + 1, is an error when it is read",
}  # fmt: skip
"""(declared, found) → note for the reader."""


def misfit(declared: DType, found: DType) -> tuple[bool, str]:
    """Whether a column of type `found` may be declared as `declared`, and a note for the reader or the empty string."""
    pair = (declared.name, found.name)
    if declared == found or pair in _WIDER:
        return True, ""
    if pair in _WITH_A_NOTE:
        return True, _WITH_A_NOTE[pair]
    if declared.name == "Decimal":
        return _decimal(declared, found)
    if declared.is_float and found.name == "Decimal":
        return True, f"values are rounded to the nearest {declared}"
    if declared.name == "Array" and found.name == "Array" and declared.inner and found.inner:
        return misfit(declared.inner, found.inner)
    if declared.name == "Embedding" and found.name == "Array" and found.inner is not None:
        return found.inner.is_float, f"a vector without exactly {declared.size} values is an error when it is read"
    return False, ""


def _decimal(declared: DType, found: DType) -> tuple[bool, str]:
    whole = declared.precision - declared.scale
    if found.name in _DIGITS:
        return whole >= _DIGITS[found.name], ""
    if found.name == "Decimal":
        return whole >= found.precision - found.scale and declared.scale >= found.scale, ""
    return False, ""


def is_of(value: Any, dtype: DType) -> bool:
    """Whether a default value, from Python or JSON, is valid for a column of the type."""
    if dtype.name in ("Array", "Embedding"):
        inner = dtype.inner
        return isinstance(value, list | tuple) and (inner is None or all(is_of(each, inner) for each in value))
    if dtype.name == "Bool":
        return isinstance(value, bool)
    if dtype.is_integer:
        bits = 31 if dtype.name == "Int32" else 63
        return isinstance(value, int) and not isinstance(value, bool) and -(2**bits) <= value < 2**bits
    if dtype.is_float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if dtype.is_text:
        return isinstance(value, str)
    return True
