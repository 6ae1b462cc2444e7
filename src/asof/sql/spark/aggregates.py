"""How Spark writes the aggregates, each in its output type: exact where Asof promises it, and never an overflow."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from asof.dtypes import DType
from asof.sql.spark.dialect import NAN, normal
from asof.sql.spark.types import type_name

INFINITY = "CAST('Infinity' AS double)"

_DIGITS_OF_ONE_SUM = 28
"""Ten thousand million values of so many digits have a sum of 38."""

_PART = "CAST('100000000000000000000' AS decimal(38,0))"
"""38 digits are summed as 18 and 20."""
_PARTS = 10**18


def aggregate(
    function: str, value: str, dtype: DType | None, *, wrap: Callable[[str], str], order: str = "", n: int = 0
) -> str:
    """One aggregate of the non-null values, in its output type.

    Args:
        value: the SQL of the values.
        dtype: their type; None for `count` of rows.
        wrap: completes each call of an SQL aggregate: by ` FILTER (…)`, or by the window it is over.
        order: a column that numbers the rows in their order, for `first`, `last` and `last_n`.
    """
    if function == "count":
        return wrap(f"count({value})")
    if function == "count_distinct":
        return wrap(f"count(DISTINCT {normal(value, dtype)})")
    if function in ("min", "max"):
        return _extreme(function, value, dtype, wrap)
    if function in ("first", "last"):
        place = f"CASE WHEN {value} IS NOT NULL THEN {order} END"
        return wrap(f"{'min_by' if function == 'first' else 'max_by'}({value}, {place})")
    if function == "last_n":
        listed = f"CASE WHEN {value} IS NOT NULL THEN struct({order} AS place, {value} AS value) END"
        kept = wrap(f"collect_list({listed})")
        count = f"least({n}, size({kept}))"
        last = f"slice(sort_array({kept}), -{count}, {count})"
        return f"CASE WHEN size({kept}) > 0 THEN transform({last}, asof_e -> asof_e.value) END"
    assert dtype is not None
    if function == "sum":
        if dtype.is_float:
            return float_sum(value, wrap)
        return _decimal_sum(value, dtype, wrap) if dtype.name == "Decimal" else as_bigint(integer_sum(value, wrap))
    if function == "mean":
        if dtype.is_float:
            return _float_mean(value, wrap)
        if dtype.is_integer:
            return mean_of(integer_sum(value, wrap), wrap(f"count({value})"))
        return wrap(f"avg(CAST({value} AS double))")
    return _spread({"std": "stddev_samp", "var": "var_samp"}[function], value, dtype, wrap)


def integer_sum(value: str, wrap: Callable[[str], str]) -> str:
    """The exact sum of integers, a decimal."""
    return wrap(f"sum(CAST({value} AS decimal(38,0)))")


def as_bigint(total: str) -> str:
    """A sum as Int64; null outside."""
    return f"try_cast({total} AS bigint)"


def mean_of(total: str, count: str) -> str:
    """The mean of values with an exact sum; null of none."""
    return f"CASE WHEN {count} > 0 THEN CAST({total} AS double) / CAST({count} AS double) END"


def is_exact_sum(dtype: DType) -> bool:
    """Whether no sum of such values has more than 38 digits, so that sums can be subtracted from one another."""
    return dtype.is_integer or (dtype.name == "Decimal" and (dtype.precision or 38) <= _DIGITS_OF_ONE_SUM)


def float_sum(value: str, wrap: Callable[[str], str]) -> str:
    """A sum of floats, infinite beyond the greatest, in whatever order the engine adds them up."""
    return finite_sum(wrap(f"sum(CAST({value} AS double))"), wrap(f"sum({scaled(value)})"))


def scaled(value: str) -> str:
    """A float divided by 2^64, so that no sum on its way is infinite."""
    return f"CAST({value} AS double) * {2.0**-64!r}D"


def finite_sum(total: str, total_of_scaled: str) -> str:
    """The sum, or the one of what was divided where that is infinite or NaN."""
    return f"CASE WHEN abs({total}) < {INFINITY} THEN {total} ELSE {total_of_scaled} * {2.0**64!r}D END"


def _extreme(function: str, value: str, dtype: DType | None, wrap: Callable[[str], str]) -> str:
    """NaN is the greatest number; some engines keep the first NaN that they meet, so they must not see it."""
    if dtype is None or not dtype.is_float:
        return wrap(f"{function}({value})")
    number = wrap(f"{function}(CASE WHEN NOT isnan({value}) THEN {value} END)")
    has_nan = f"{wrap(f'count(CASE WHEN isnan({value}) THEN 1 END)')} > 0"
    is_nan = has_nan if function == "max" else f"{number} IS NULL AND {has_nan}"
    return f"CASE WHEN {is_nan} THEN CAST('NaN' AS {type_name(dtype)}) ELSE {number} END"


def _float_mean(value: str, wrap: Callable[[str], str]) -> str:
    mean, count = wrap(f"avg(CAST({value} AS double))"), wrap(f"count({value})")
    total = f"{wrap(f'sum({scaled(value)})')} * {2.0**64!r}D"
    # A count of 0 comes with a mean of null.
    return f"CASE WHEN abs({mean}) < {INFINITY} THEN {mean} WHEN {count} > 0 THEN {total} / CAST({count} AS double) END"


def _decimal_sum(value: str, dtype: DType, wrap: Callable[[str], str]) -> str:
    """An exact sum of 38 digits and the scale of its values; null beyond them."""
    wanted = f"decimal(38,{dtype.scale})"
    if is_exact_sum(dtype):
        return f"CAST({wrap(f'sum({value})')} AS {wanted})"
    # More than 38 digits on the way would be an error, so digits are summed in two parts.
    unscaled = f"CAST(replace(CAST({value} AS string), '.', '') AS decimal(38,0))"
    high = wrap(f"sum({_greater_part(unscaled)})")
    low = wrap(f"sum({unscaled} % {_PART})")
    rest = f"({low} % {_PART})"
    carried = f"({high} + {_greater_part(low)})"
    # With one sign for both parts the sum has 38 digits if the greater has 18.
    below = f"({carried} - 1) * {_PART} + ({rest} + {_PART})"
    above = f"({carried} + 1) * {_PART} + ({rest} - {_PART})"
    whole = (
        f"CASE WHEN {carried} > 0 AND {rest} < 0 AND {carried} <= {_PARTS} THEN {below} "
        f"WHEN {carried} < 0 AND {rest} > 0 AND {carried} >= -{_PARTS} THEN {above} "
        f"WHEN abs({carried}) < {_PARTS} THEN {carried} * {_PART} + {rest} END"
    )
    smallest = f"CAST('{Decimal(1).scaleb(-dtype.scale):f}' AS {wanted})"
    return f"CAST(({whole}) * {smallest} AS {wanted})"


def _greater_part(whole: str) -> str:
    """The digits of a whole decimal but for the last 20; by its text, since not all engines divide exactly."""
    found = f"regexp_extract(CAST({whole} AS string), '^(-?[0-9]+)[0-9]{{20}}$', 1)"
    return f"CASE WHEN {whole} IS NOT NULL THEN coalesce(try_cast({found} AS decimal(38,0)), 0) END"


def _spread(function: str, value: str, dtype: DType, wrap: Callable[[str], str]) -> str:
    number = f"CAST({value} AS double)"
    if not dtype.is_float:
        return wrap(f"{function}({number})")
    # An infinity or NaN among the values makes NaN, and the square of a huge one is infinite. NaN is above all.
    odd = wrap(f"count(CASE WHEN abs({number}) > 1e150D THEN 1 END)")
    fine = wrap(f"{function}(CASE WHEN abs({number}) <= 1e150D THEN {number} END)")
    return f"CASE WHEN {wrap(f'count({value})')} < 2 THEN NULL WHEN {odd} > 0 THEN {NAN} ELSE {fine} END"


__all__ = [
    "aggregate", "as_bigint", "finite_sum", "float_sum", "integer_sum", "is_exact_sum", "mean_of", "scaled",
]  # fmt: skip
