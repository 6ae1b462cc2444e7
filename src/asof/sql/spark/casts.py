"""How Spark turns a source's value into the type that its field declares: exactly, or with an error that names it.

Its own casts round, and what they refuse they refuse without the column. So a cast has a condition that holds for the
values that fit, and only they are cast.
"""

from __future__ import annotations

from collections.abc import Callable

from asof.dtypes import GREATEST_EXACT, GREATEST_EXACT_32, INT_BOUNDS, DType, Float32
from asof.expressions.dialects import SqlForms
from asof.sql.casts import Conversion
from asof.sql.quoting import text_spark
from asof.sql.spark.types import INTEGERS, digits_of, is_text, type_name

_EXACT_UP_TO = {"double": GREATEST_EXACT, "float": GREATEST_EXACT_32}
_EXACT_BITS = {"Float64": 53, "Float32": 24}
_GREATEST_BELOW_2_63 = {"Float64": 2**63 - 2**10, "Float32": 2**63 - 2**39}
_OVERFLOW_32 = "3.4028235677973366e38D"
"""From here on the nearest Float32 is infinite."""
_NO_CAST = "false"


def cast(value: str, sql_type: str, dtype: DType, what: str, forms: SqlForms) -> str:
    """A source's value in the type that its field declares; nothing is bent silently.

    Args:
        sql_type: the value's type as the catalog names it.
        what: names the column, for the error.
        forms: of the engine.
    """
    found = _cast(value, sql_type, dtype, forms, lambda element, kind, inner: cast(element, kind, inner, what, forms))
    return refusing(value, sql_type, dtype, found.fits, found.made, what, null=found.null)


def cast_or_null(value: str, sql_type: str, dtype: DType, forms: SqlForms) -> str:
    """The same, and null of a value that does not fit, or of such an element: for what only orders rows."""
    found = _cast(value, sql_type, dtype, forms, lambda element, kind, inner: cast_or_null(element, kind, inner, forms))
    return f"CASE WHEN {found.fits} THEN {found.made} END" if found.fits else found.made


def refusing(value: str, sql_type: str, dtype: DType, fits: str, made: str, what: str, *, null: str = "") -> str:
    """What is made of a value that fits, and an error that names any other."""
    if not fits:
        return made
    nested = sql_type.startswith(("array<", "struct<", "map<"))
    shown = f"substr({f'to_json({value})' if nested else f'CAST({value} AS string)'}, 1, 80)"
    before, after = text_spark(f"asof: {what} holds "), text_spark(f", which is no {dtype}, as it is declared")
    wrong = f"CAST(raise_error(concat({before}, {shown}, {after})) AS {type_name(dtype)})"
    passed = f"{value} <> {null}" if null else f"{value} IS NOT NULL"
    return f"CASE WHEN {fits} THEN {made} WHEN {passed} THEN {wrong} END"


def _cast(
    value: str, sql_type: str, dtype: DType, forms: SqlForms, of_element: Callable[[str, str, DType], str]
) -> Conversion:
    wanted = type_name(dtype)
    if sql_type == wanted or (dtype.is_text and is_text(sql_type)):
        return Conversion(value)
    if dtype.name in ("Array", "Embedding") and sql_type.startswith("array<"):
        return _cast_array(value, sql_type, dtype, of_element)
    if dtype.is_text and sql_type.startswith(("array<", "struct<", "map<")):
        return Conversion(f"to_json({value})")
    if dtype.name in ("Timestamp", "Date") and sql_type in ("timestamp", "timestamp_ntz", "date"):
        return Conversion(f"CAST({value} AS {wanted})")
    if digits_of(sql_type):
        return _cast_decimal(value, sql_type, dtype)
    if sql_type in _EXACT_UP_TO:
        return _cast_float(value, sql_type, dtype, forms)
    if sql_type in INTEGERS:
        return _cast_integer(value, sql_type, dtype)
    made = f"try_cast({value} AS {wanted})"
    return Conversion(made, f"{made} IS NOT NULL" if is_text(sql_type) or sql_type == "boolean" else _NO_CAST)


def _cast_array(value: str, sql_type: str, dtype: DType, of_element: Callable[[str, str, DType], str]) -> Conversion:
    element = f"asof_e{sql_type.count('<')}"
    inner = of_element(element, sql_type[len("array<") : -1], dtype.inner or Float32)
    return Conversion(value if inner == element else f"transform({value}, {element} -> {inner})")


def _cast_decimal(value: str, sql_type: str, dtype: DType) -> Conversion:
    wanted, digits = type_name(dtype), digits_of(sql_type)
    assert digits is not None
    if dtype.is_float:
        # By its text: the cast of a decimal divides, and is sometimes off by one bit.
        double = f"CAST(CAST({value} AS string) AS double)"
        return Conversion(double if dtype.name == "Float64" else f"CAST({double} AS float)")
    made = f"try_cast({value} AS {wanted})"
    if dtype.is_integer:
        return Conversion(made, f"{value} % 1 = 0 AND {made} IS NOT NULL")
    if dtype.name == "Decimal" and dtype.scale < digits[1]:
        return Conversion(made, f"try_cast({made} AS {sql_type}) = {value}")
    return Conversion(made, f"{made} IS NOT NULL" if dtype.name == "Decimal" or dtype.is_text else _NO_CAST)


def _cast_float(value: str, kind: str, dtype: DType, forms: SqlForms) -> Conversion:
    wanted = type_name(dtype)
    if dtype.is_integer:
        # Whole values are integers, and NaN, by which pandas says that there is none, is null. So great a float that it
        # stands for several integers is none of them.
        low, high = INT_BOUNDS[dtype.name]
        made = f"try_cast({value} AS bigint)"
        bounds = f" AND {made} BETWEEN {low} AND {high}" if dtype.name == "Int32" else ""
        fits = f"abs({value}) <= {_EXACT_UP_TO[kind]} AND {value} = CAST({made} AS {kind}){bounds}"
        return Conversion(f"try_cast({value} AS {wanted})", fits, null=f"CAST('NaN' AS {kind})")
    if dtype.name == "Float64":
        return Conversion(f"CAST({value} AS {wanted})")
    if dtype.name == "Float32":
        infinite = f"abs({value}) >= CAST('Infinity' AS double)"
        return Conversion(f"CAST({value} AS {wanted})", f"({infinite} OR abs({value}) < {_OVERFLOW_32})")
    if dtype.name == "Decimal":
        made = forms.forms["Float>Decimal"].replace("{x}", value).replace("{type}", wanted)
        return Conversion(made, f"CAST(CAST({made} AS string) AS {kind}) = {value}")
    return Conversion(f"try_cast({value} AS {wanted})", _NO_CAST)


def _cast_integer(value: str, kind: str, dtype: DType) -> Conversion:
    wanted = type_name(dtype)
    made = f"CAST({value} AS {wanted})"
    if dtype.is_integer:
        low, high = INT_BOUNDS[dtype.name]
        fits = kind == "int" or INTEGERS[kind] < 32 or dtype.name == "Int64"
        return Conversion(made, "" if fits else f"{value} BETWEEN {low} AND {high}")
    if dtype.is_float:
        if INTEGERS[kind] <= _EXACT_BITS[dtype.name]:
            return Conversion(made)
        # As floats any two that are near are equal, so the float is compared as an integer; where it has that form.
        back = f"CAST({made} AS bigint) = {value}"
        return Conversion(made, f"CASE WHEN {value} <= {_GREATEST_BELOW_2_63[dtype.name]} THEN {back} ELSE false END")
    made = f"try_cast({value} AS {wanted})"
    return Conversion(made, f"{made} IS NOT NULL" if dtype.name in ("Decimal", "String") else _NO_CAST)


__all__ = ["cast", "cast_or_null", "refusing"]
