"""How Postgres writes the measures of a profile: exact throughout, since the server has no estimates."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from asof.sql.postgres.dialect import aggregate, collated, literal, micros_of, out
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


class PostgresProfileDialect:
    """See `asof.sql.profile.ProfileDialect`."""

    estimates = False

    def sample(self, relation: str, share: float) -> str:
        return f"SELECT * FROM {relation} WHERE random() < {share:.9f}"

    def measures(self, column: ProfiledColumn, alias: str, *, estimated: bool) -> list[str]:
        value, dtype = column.sql, column.dtype
        terms = [f"count({value}) AS {alias}_n", f"count(DISTINCT {collated(value, dtype)}) AS {alias}_d"]
        terms += misses(column, alias, literal, distinct=f"count(DISTINCT {collated(value, dtype)})")
        if column.is_hidden or column.measured == "none":
            return terms
        number = number_of(column)
        shares = ", ".join(f"{each:g}" for each in QUANTILES)
        terms += [
            f"count({number}) AS {alias}_x", f"min({number}) AS {alias}_low", f"max({number}) AS {alias}_high",
            f"percentile_cont(ARRAY[{shares}]) WITHIN GROUP (ORDER BY {number}) AS {alias}_q",
        ]  # fmt: skip
        if column.measured != "time":
            terms += [f"{each} AS {alias}_{name}" for name, each in moments(column, number).items()]
        if column.has_extremes:
            end = f"CASE WHEN {_is_finite(value)} THEN {value} END" if dtype.is_float else value
            if dtype.is_text:
                end = f"left({value}, {LONGEST_TEXT})"
            for each in ("min", "max"):
                terms.append(f"{out(aggregate(each, end, dtype, wrap=str), dtype)} AS {alias}_{each}")
        return terms

    def frequent(self, column: ProfiledColumn, place: int, relation: str) -> str:
        value = column.sql
        short = f" AND length({value}) <= {LONGEST_TEXT}" if column.dtype.is_text else ""
        return (
            f"SELECT {place} AS place, CAST({value} AS text) AS value, count(*) AS n FROM {relation} "
            f'WHERE {value} IS NOT NULL{short} GROUP BY {value} ORDER BY n DESC, CAST({value} AS text) COLLATE "C" '
            f"LIMIT {TOP_VALUES}"
        )

    def cells(self, wanted: Sequence[WantedCells], relation: str) -> str:
        lateral = []
        for place, each in enumerate(wanted):
            if each.edges:
                # Of ascending thresholds the server counts those that are not above a value; bins have their upper
                # edge, so both are negated.
                edges = ", ".join(repr(-float(edge)) for edge in reversed(each.edges))
                bucket = f"width_bucket(-({number_of(each.column)}), CAST(ARRAY[{edges}] AS double precision[]))"
                lateral.append(f"({2 * place}, {bucket})")
            if each.values:
                dtype = each.column.dtype
                cases = " ".join(
                    f"WHEN {each.column.sql} = {literal(value, dtype)} THEN {number}"
                    for number, value in enumerate(each.values)
                )
                lateral.append(f"({2 * place + 1}, CASE {cases} END)")
        return (
            f"SELECT asof_c.place, asof_c.cell, count(*) AS n\nFROM {relation}\n"
            f"CROSS JOIN LATERAL (VALUES {', '.join(lateral)}) AS asof_c (place, cell)\n"
            "WHERE asof_c.cell IS NOT NULL\nGROUP BY 1, 2"
        )

    def counts(self, wanted: Sequence[WantedCells], result: pa.Table) -> list[CountedCells]:
        found = {(row["place"], row["cell"]): row["n"] for row in result.to_pylist()}
        return [
            CountedCells(
                [found.get((2 * place, len(each.edges) - bin_), 0) for bin_ in range(len(each.edges) + 1)]
                if each.edges
                else [],
                [found.get((2 * place + 1, number), 0) for number in range(len(each.values))],
            )
            for place, each in enumerate(wanted)
        ]


def number_of(column: ProfiledColumn) -> str:
    """A value's number as SQL: itself, its length, or microseconds; null where it is not finite."""
    value, dtype = column.sql, column.dtype
    if dtype.is_float:
        return f"CASE WHEN {_is_finite(value)} THEN CAST({value} AS double precision) END"
    if dtype.is_numeric:
        return f"CAST({value} AS double precision)"
    if column.measured == "time":
        time = value if dtype.name == "Timestamp" else f"(CAST({value} AS timestamp) AT TIME ZONE 'UTC')"
        return f"CAST({micros_of(time)} AS double precision)"
    length = {"Bytes": "octet_length", "String": "length", "Json": "length"}.get(dtype.name, "cardinality")
    return f"CAST({length}({value}) AS double precision)"


def _is_finite(value: str) -> str:
    return f"{value} NOT IN ('NaN', 'Infinity', '-Infinity')"


POSTGRES_PROFILES: ProfileDialect = PostgresProfileDialect()
"""The forms of Postgres."""

__all__ = ["POSTGRES_PROFILES", "number_of"]
