"""How Spark writes the measures of a profile: exact throughout."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from asof.sql.profile import (
    LONGEST_TEXT,
    QUANTILES,
    TOP_VALUES,
    CountedCells,
    ProfiledColumn,
    ProfileDialect,
    WantedCells,
    misses,
    moments,
)
from asof.sql.spark.dialect import literal, normal
from asof.sql.spark.types import time_of, type_name


class SparkProfileDialect:
    """See `asof.sql.profile.ProfileDialect`."""

    estimates = False

    def sample(self, relation: str, share: float) -> str:
        return f"SELECT * FROM {relation} WHERE rand() < {share:.9f}D"

    def measures(self, column: ProfiledColumn, alias: str, *, estimated: bool) -> list[str]:
        value, dtype = column.sql, column.dtype
        distinct = f"count(DISTINCT {normal(value, dtype)})"
        terms = [f"count({value}) AS {alias}_n", f"{distinct} AS {alias}_d"]
        terms += misses(column, alias, literal, distinct=distinct)
        if column.is_hidden or column.measured == "none":
            return terms
        number = number_of(column)
        shares = ", ".join(f"{each:g}D" for each in QUANTILES)
        terms += [
            # Two calls that come to the same are refused by some engines, unless their texts are the same, too.
            f"count({number if dtype.is_float else value}) AS {alias}_x",
            f"percentile({number}, array({shares})) AS {alias}_q",
        ]  # fmt: skip
        end = f"CASE WHEN {_is_finite(value)} THEN {value} END" if dtype.is_float else value
        for each, name in (("min", "low"), ("max", "high")):
            is_number = column.has_extremes and not dtype.is_text
            terms.append(
                f"{_as_number(f'{each}({end})', column) if is_number else f'{each}({number})'} AS {alias}_{name}"
            )
        if column.measured != "time":
            terms += [f"{each} AS {alias}_{name}" for name, each in moments(column, number).items()]
        if column.has_extremes:
            if dtype.is_text:
                end = f"substr({value}, 1, {LONGEST_TEXT})"
            terms += [f"{each}({end}) AS {alias}_{each}" for each in ("min", "max")]
        return terms

    def frequent(self, column: ProfiledColumn, place: int, relation: str) -> str:
        value = column.sql
        short = f" AND length({value}) <= {LONGEST_TEXT}" if column.dtype.is_text else ""
        return (
            f"SELECT {place} AS place, CAST({value} AS string) AS value, count(*) AS n FROM {relation} "
            f"WHERE {value} IS NOT NULL{short} GROUP BY {value} ORDER BY n DESC, value LIMIT {TOP_VALUES}"
        )

    def cells(self, wanted: Sequence[WantedCells], relation: str) -> str:
        terms = []
        for place, each in enumerate(wanted):
            number = number_of(each.column)
            for bin_, (low, high) in enumerate(zip([None, *each.edges], [*each.edges, None])) if each.edges else ():
                # A bin has its upper edge.
                above = [f"{number} > {float(low)!r}D"] if low is not None else [f"{number} IS NOT NULL"]
                within = [*above, *([f"{number} <= {float(high)!r}D"] if high is not None else [])]
                terms.append(f"count(CASE WHEN {' AND '.join(within)} THEN 1 END) AS b{place}_{bin_}")
            for index, value in enumerate(each.values):
                is_value = f"{each.column.sql} = {literal(value, each.column.dtype)}"
                terms.append(f"count(CASE WHEN {is_value} THEN 1 END) AS v{place}_{index}")
        return f"SELECT {', '.join(terms)}\nFROM {relation}"

    def counts(self, wanted: Sequence[WantedCells], result: pa.Table) -> list[CountedCells]:
        row = result.to_pylist()[0]
        return [
            CountedCells(
                [row[f"b{place}_{bin_}"] for bin_ in range(len(each.edges) + 1)] if each.edges else [],
                [row[f"v{place}_{index}"] for index in range(len(each.values))],
            )
            for place, each in enumerate(wanted)
        ]


def number_of(column: ProfiledColumn) -> str:
    """A value's number as SQL: itself, its length, or microseconds; null where it is not finite."""
    value, dtype = column.sql, column.dtype
    if dtype.is_float:
        return f"CASE WHEN {_is_finite(value)} THEN {_as_number(value, column)} END"
    if dtype.is_numeric or column.measured == "time":
        return _as_number(value, column)
    length = {"Bytes": "octet_length", "String": "length", "Json": "length"}.get(dtype.name, "array_size")
    return f"CAST({length}({value}) AS double)"


def _as_number(value: str, column: ProfiledColumn) -> str:
    """A number or a time of the column's type as a double."""
    if column.measured == "time":
        value = time_of(value, type_name(column.dtype))
    return value if column.dtype.name == "Float64" else f"CAST({value} AS double)"


def _is_finite(value: str) -> str:
    return f"abs({value}) < CAST('Infinity' AS double)"


SPARK_PROFILES: ProfileDialect = SparkProfileDialect()
"""The forms of Spark."""

__all__ = ["SPARK_PROFILES", "number_of"]
