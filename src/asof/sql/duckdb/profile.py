"""How DuckDB writes the measures of a profile."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import pyarrow as pa

from asof.defaults import SEED
from asof.dtypes import INT_BOUNDS, DType
from asof.profiles.summary import Scalar
from asof.sql.duckdb.dialect import literal
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


class DuckDBProfileDialect:
    """See `asof.sql.profile.ProfileDialect`."""

    estimates = True

    def sample(self, relation: str, share: float) -> str:
        return f"SELECT * FROM {relation} USING SAMPLE {min(share, 1.0) * 100:.6f} PERCENT (bernoulli, {SEED})"

    def measures(self, column: ProfiledColumn, alias: str, *, estimated: bool) -> list[str]:
        value = column.sql
        distinct = f"approx_count_distinct({value})" if estimated else f"count(DISTINCT {value})"
        terms = [f"count({value}) AS {alias}_n", f"{distinct} AS {alias}_d"]
        terms += misses(column, alias, literal, distinct=f"count(DISTINCT {value})")
        if column.is_hidden or column.measured == "none":
            return terms
        number = number_of(column)
        shares = "[" + ", ".join(f"{each:g}" for each in QUANTILES) + "]"
        quantile = "approx_quantile" if estimated else "quantile_cont"
        terms += [
            f"count({number}) AS {alias}_x", f"min({number}) AS {alias}_low", f"max({number}) AS {alias}_high",
            f"{quantile}({number}, {shares}) AS {alias}_q",
        ]  # fmt: skip
        if column.measured != "time":
            terms += [f"{each} AS {alias}_{name}" for name, each in moments(column, number).items()]
        if column.has_extremes:
            end = f"CASE WHEN isfinite({value}) THEN {value} END" if column.dtype.is_float else value
            if column.dtype.is_text:
                end = f"left({value}, {LONGEST_TEXT})"
            terms += [f"{each}({end}) AS {alias}_{each}" for each in ("min", "max")]
        return terms

    def frequent(self, column: ProfiledColumn, place: int, relation: str) -> str:
        value = column.sql
        short = f" AND length({value}) <= {LONGEST_TEXT}" if column.dtype.is_text else ""
        return (
            f"SELECT {place} AS place, CAST({value} AS VARCHAR) AS value, count(*) AS n FROM {relation} "
            f"WHERE {value} IS NOT NULL{short} GROUP BY {value} ORDER BY n DESC, value LIMIT {TOP_VALUES}"
        )

    def cells(self, wanted: Sequence[WantedCells], relation: str) -> str:
        terms = []
        for place, each in enumerate(wanted):
            if each.edges:
                edges = ", ".join(repr(float(edge)) for edge in each.edges)
                terms.append(f"histogram({number_of(each.column)}, CAST([{edges}] AS DOUBLE[])) AS b{place}")
            plain = [value for value in each.values if not _is_other(value, each.column.dtype)]
            if plain:
                values = ", ".join(literal(value, each.column.dtype) for value in plain)
                terms.append(f"histogram_exact({each.column.sql}, [{values}]) AS v{place}")
            for number, value in enumerate(each.values):
                if _is_other(value, each.column.dtype):
                    is_value = f"{each.column.sql} = {literal(value, each.column.dtype)}"
                    terms.append(f"count(*) FILTER (WHERE {is_value}) AS v{place}_{number}")
        return f"SELECT {', '.join(terms)}\nFROM {relation}"

    def counts(self, wanted: Sequence[WantedCells], result: pa.Table) -> list[CountedCells]:
        row = result.to_pylist()[0]
        counted = []
        for place, each in enumerate(wanted):
            # The bins that DuckDB makes of edges come in their order, and one more where values lie above all edges.
            bins = [count for _, count in row.get(f"b{place}") or []]
            bins += [0] * (len(each.edges) + 1 - len(bins)) if each.edges else []
            exact = dict(row.get(f"v{place}") or [])
            values = [
                row[f"v{place}_{number}"] if f"v{place}_{number}" in row else exact.get(value, 0)
                for number, value in enumerate(each.values)
            ]
            counted.append(CountedCells(bins, values))
        return counted


def number_of(column: ProfiledColumn) -> str:
    """A value's number as SQL: itself, its length, or microseconds; null where it is not finite."""
    value, dtype = column.sql, column.dtype
    if dtype.is_float:
        return f"CASE WHEN isfinite({value}) THEN CAST({value} AS DOUBLE) END"
    if dtype.is_numeric:
        return f"CAST({value} AS DOUBLE)"
    if column.measured == "time":
        return f"CAST(epoch_us({value}) AS DOUBLE)"
    return f"CAST({'octet_length' if dtype.name == 'Bytes' else 'length'}({value}) AS DOUBLE)"


def _is_other(value: Scalar, dtype: DType) -> bool:
    """Whether `histogram_exact` calls the values that are not among those given by this value."""
    return isinstance(value, bool) or value == "" or value == INT_BOUNDS.get(dtype.name, (0, sys.maxsize))[1]


DUCKDB_PROFILES: ProfileDialect = DuckDBProfileDialect()
"""The forms of DuckDB."""

__all__ = ["DUCKDB_PROFILES", "number_of"]
