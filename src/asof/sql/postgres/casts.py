"""How Postgres turns a source's value into the type that its field declares: exactly, or with an error that names it.

The server's own casts round, wrap and flatten, and what they refuse they refuse without a name. So a cast has a
condition that holds for the values that fit, and only they are cast.
"""

from __future__ import annotations

from collections.abc import Callable

from asof.dtypes import GREATEST_EXACT, GREATEST_EXACT_32, INT_BOUNDS, DType, Float32, Float64
from asof.sql.casts import Conversion
from asof.sql.postgres.types import TEXTS, base_type, digits_of, time_of, type_name
from asof.sql.quoting import text
from asof.timing import EARLIEST, LATEST, moment

_EXACT_UP_TO = {"double precision": GREATEST_EXACT, "real": GREATEST_EXACT_32}
_INTEGERS = {"smallint": 16, "integer": 32, "bigint": 64}
"""Type → its bits."""
_EXACT_BITS = {"Float64": 53, "Float32": 24}
_GREATEST_BELOW_2_63 = {"Float64": 2**63 - 2**10, "Float32": 2**63 - 2**39}
_ENDS = "'NaN', 'Infinity', '-Infinity'"
_OVERFLOW_64 = "1.7976931348623158079e308"
"""From here on the nearest Float64 is infinite; what is nearer to 0 than the next would be 0."""
_UNDERFLOW_64 = "2.4703282292062328e-324"
_OVERFLOW_32 = "3.4028235677973366e38"
_UNDERFLOW_32 = "7.006492321624085e-46"


def cast(value: str, sql_type: str, dtype: DType, what: str = "") -> str:
    """A source's value in the type that its field declares; nothing is bent silently.

    Args:
        sql_type: the value's type as the catalog names it.
        what: names the column, for the error.
    """
    found = _cast(value, sql_type, dtype, lambda element, kind, inner: cast(element, kind, inner, what))
    return _refusing(value, dtype, found, what)


def cast_key(value: str, sql_type: str, dtype: DType, what: str) -> str:
    """The same for a join key, which is a time of the years 1 to 9999, too."""
    if dtype.name not in ("Date", "Timestamp"):
        return cast(value, sql_type, dtype, what)
    least, greatest = (f"timestamptz '{moment(us).isoformat(sep=' ')}'" for us in (EARLIEST, LATEST))
    made = time_of(value, sql_type) if dtype.name == "Timestamp" else value
    return _refusing(value, dtype, Conversion(made, f"{time_of(value, sql_type)} BETWEEN {least} AND {greatest}"), what)


def _refusing(value: str, dtype: DType, found: Conversion, what: str) -> str:
    """A conversion that names the value that does not fit."""
    if not found.fits:
        return found.made
    # Only the value makes the text one that the cast refuses, so that the server does not try it when it plans.
    shown = f"left(CAST({value} AS text), 80)"
    before, after = text(f"asof: {what} holds "), text(f", which is no {dtype}, as it is declared")
    wrong = f"CAST({before} || {shown} || {after} AS {type_name(dtype)})"
    misfit = f"{value} <> {found.null}" if found.null else f"{value} IS NOT NULL"
    return f"CASE WHEN {found.fits} THEN {found.made} WHEN {misfit} THEN {wrong} END"


def cast_or_null(value: str, sql_type: str, dtype: DType) -> str:
    """The same, and null of a value that does not fit, or of such an element: for what only orders rows."""
    found = _cast(value, sql_type, dtype, cast_or_null)
    return f"CASE WHEN {found.fits} THEN {found.made} END" if found.fits else found.made


def _cast(value: str, sql_type: str, dtype: DType, of_element: Callable[[str, str, DType], str]) -> Conversion:
    wanted, kind = type_name(dtype), base_type(sql_type)
    if dtype.name in ("Array", "Embedding") and kind.endswith("[]"):
        return _cast_array(value, sql_type, dtype, of_element)
    if dtype.name in ("Timestamp", "Date") and (kind == wanted or dtype.name == "Timestamp"):
        # Arrow has no infinity of time.
        is_time = kind.startswith("timestamp") or kind == "date"
        made = time_of(value, sql_type) if dtype.name == "Timestamp" else value
        return Conversion(made, f"isfinite({value})" if is_time else "")
    if kind == "numeric":
        return _cast_numeric(value, sql_type, dtype)
    if kind in _EXACT_UP_TO:
        return _cast_float(value, kind, dtype)
    if kind in _INTEGERS:
        return _cast_integer(value, kind, dtype)
    if sql_type == wanted or (wanted == "text" and kind in TEXTS):
        return Conversion(value)
    return Conversion(f"CAST({value} AS {wanted})")


def _cast_array(value: str, sql_type: str, dtype: DType, of_element: Callable[[str, str, DType], str]) -> Conversion:
    """An array of one dimension, each of its elements cast; Arrow's lists have no other, and drivers flatten them."""
    inner = dtype.inner or Float32
    element = of_element("asof_e", sql_type.removesuffix("[]"), inner)
    fits = f"coalesce(array_ndims({value}), 1) = 1"
    if element == "asof_e":
        return Conversion(value, fits)
    elements = f"unnest({value}) WITH ORDINALITY AS asof_elements(asof_e, asof_n)"
    return Conversion(
        f"ARRAY(SELECT {element} FROM {elements} ORDER BY asof_n)", f"{value} IS NOT NULL AND {fits}"
    )  # fmt: skip


def _cast_numeric(value: str, sql_type: str, dtype: DType) -> Conversion:
    wanted, digits = type_name(dtype), digits_of(sql_type)
    if dtype.name == "Decimal":
        if sql_type == wanted:
            return Conversion(value, f"{value} <> 'NaN'")
        whole = (dtype.precision or 38) - dtype.scale
        # NaN is greater than all numbers.
        fits = f"abs({value}) < numeric '1e{whole}' AND trunc({value}, {dtype.scale}) = {value}"
        return Conversion(f"CAST({value} AS {wanted})", fits)
    if dtype.is_integer:
        return Conversion(f"CAST({value} AS {wanted})", f"{_within(value, dtype)} AND trunc({value}) = {value}")
    if not dtype.is_float:
        return Conversion(f"CAST({value} AS {wanted})")
    double = f"CAST({value} AS double precision)"
    is_near = f"abs({value}) < numeric '{_OVERFLOW_64}' AND ({value} = 0 OR abs({value}) > numeric '{_UNDERFLOW_64}')"
    fits = f"({value} IN ({_ENDS}) OR ({is_near}))"
    if digits and max(digits) <= 38:
        # It is a Decimal as it comes, and that has no NaN.
        fits = f"{value} <> 'NaN'"
    if dtype == Float64:
        return Conversion(double, fits)
    single = f"({value} IN ({_ENDS}) OR abs({value}) < numeric '{_OVERFLOW_32}')"
    return Conversion(_single(double), f"{fits} AND {single}")


def _cast_float(value: str, kind: str, dtype: DType) -> Conversion:
    wanted = type_name(dtype)
    if kind == wanted:
        return Conversion(value)
    if dtype.is_integer:
        # Whole values are integers, and NaN, by which pandas says that there is none, is null. So great a float that it
        # stands for several integers is none of them.
        bounds = f" AND {_within(value, dtype)}" if dtype.name == "Int32" else ""
        fits = f"{value} = trunc({value}) AND abs({value}) <= {_EXACT_UP_TO[kind]}{bounds}"
        return Conversion(f"CAST({value} AS {wanted})", fits, null="'NaN'")
    if dtype == Float32:
        return Conversion(_single(value), f"({value} IN ({_ENDS}) OR abs({value}) < {_OVERFLOW_32})")
    if dtype.name == "Decimal":
        return _cast_numeric(f"CAST(CAST({value} AS text) AS numeric)", "numeric", dtype)
    return Conversion(f"CAST({value} AS {wanted})")


def _cast_integer(value: str, kind: str, dtype: DType) -> Conversion:
    wanted = type_name(dtype)
    if kind == wanted:
        return Conversion(value)
    made = f"CAST({value} AS {wanted})"
    if dtype.is_integer:
        return Conversion(made, _within(value, dtype) if kind == "bigint" else "")
    if dtype.is_float:
        exact, bits = _EXACT_BITS[dtype.name], _INTEGERS[kind]
        if bits <= exact:
            return Conversion(made)
        # As floats any two that are near are equal, so the float is compared as an integer; where it has that form.
        back = f"CAST({made} AS bigint) = {value}"
        return Conversion(made, f"CASE WHEN {value} <= {_GREATEST_BELOW_2_63[dtype.name]} THEN {back} END")
    if dtype.name == "Decimal":
        whole = (dtype.precision or 38) - dtype.scale
        return Conversion(made, "" if whole >= 19 else f"abs(CAST({value} AS numeric)) < numeric '1e{whole}'")
    return Conversion(made)


def _within(value: str, dtype: DType) -> str:
    low, high = INT_BOUNDS[dtype.name]
    return f"{value} BETWEEN {low} AND {high}"


def _single(double: str) -> str:
    """The nearest Float32; the server refuses to make 0 of another number."""
    small = f"{double} <> 0 AND abs({double}) <= {_UNDERFLOW_32}"
    return f"CAST(CASE WHEN {small} THEN 0 * {double} ELSE {double} END AS real)"


__all__ = ["cast", "cast_key", "cast_or_null"]
