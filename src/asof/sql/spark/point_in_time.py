"""Compiles a selection's views and a spine into one SELECT for Spark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from asof.selection import FeatureOut, ViewRead
from asof.sql.names import safe_names
from asof.sql.query import PointInTime, grouped, latest_rows, range_rows
from asof.sql.source_rows import SourceTable, SpineTable
from asof.sql.spark.capabilities import Capabilities
from asof.sql.spark.dialect import SPARK, N
from asof.sql.spark.latest import latest, rows_without_values
from asof.sql.spark.windows import windowed
from asof.sql.windows import windows_of


def compile_select(
    request: PointInTime,
    tables: Mapping[str, SourceTable],
    spine: SpineTable,
    *,
    capabilities: Capabilities | None = None,
    hot: frozenset[str] = frozenset(),
    with_spine: bool = True,
    carried: Sequence[str] = (),
    ordered: bool = True,
) -> str:
    """One SELECT: the spine's columns (if asked for), then the outputs, one row per spine row.

    Args:
        tables: source name → the source as the engine sees it; relations are names of views or tables.
        spine: has the column `asof_n`, which numbers its rows, in addition to those of the frame.
        hot: the names of views whose rows are cut by day (`key_counts` says which have a hot key).
        with_spine: otherwise the SELECT begins with `asof_n`.
        carried: columns of the spine that come after `asof_n`, by their place: asof_i0, asof_i1, ….
        ordered: in the spine's order.
    """
    capabilities = capabilities or Capabilities()
    parts: list[tuple[str, list[FeatureOut]]] = []
    for read in request.reads:
        if not read.view.is_aggregated:
            select = _latest(request, tables, spine, read, capabilities=capabilities, by_day=read.view.name in hot)
            parts.append((select, list(read.features)))
    for group in grouped(request.reads, tables):
        select = windowed(
            windows_of(request, tables, spine, group), spine,
            known=request.known_at is True, by_day=any(read.view.name in hot for read in group),
        )  # fmt: skip
        parts.append((select, [feature for read in group for feature in read.features]))
    return _together(request, parts, spine, with_spine=with_spine, carried=carried, ordered=ordered)


def _latest(
    request: PointInTime,
    tables: Mapping[str, SourceTable],
    spine: SpineTable,
    read: ViewRead,
    *,
    capabilities: Capabilities,
    by_day: bool,
) -> str:
    rows = latest_rows(request, tables, read, spine)
    values = {f"o{place}": rows.feature(each.name, each.dtype) for place, each in enumerate(read.features)}
    return latest(
        replace(rows, values=values), read, spine,
        as_known=request.known_at is True, carries_last=capabilities.carries_last, by_day=by_day,
    )  # fmt: skip


def _together(
    request: PointInTime,
    parts: list[tuple[str, list[FeatureOut]]],
    spine: SpineTable,
    *,
    with_spine: bool,
    carried: Sequence[str],
    ordered: bool,
) -> str:
    """The SELECTs of all views, joined: each has every spine row's number once."""
    columns = {
        each.output: f"asof_p{number}.o{place}"
        for number, (_, features) in enumerate(parts)
        for place, each in enumerate(features)
    }
    selected = [f"asof_s.{spine.column(name)} AS {spine.quote(name)}" for name in spine.sql_types] if with_spine else []
    selected = selected or [f"asof_s.{N} AS {N}"]
    selected += [f"asof_s.{spine.column(name)} AS asof_i{place}" for place, name in enumerate(carried)]
    for feature in request.outputs:
        value = columns[feature.output]
        if feature.default is not None:
            value = f"coalesce({value}, {SPARK.literal(feature.default, feature.dtype)})"
        selected.append(f"{value} AS {spine.quote(feature.output)}")
    joins = "".join(
        f"\nJOIN (\n{select}\n) AS asof_p{number} ON asof_p{number}.n = asof_s.{N}"
        for number, (select, _) in enumerate(parts)
    )
    order = f"\nORDER BY asof_s.{N}" if ordered else ""
    return f"SELECT {', '.join(selected)}\nFROM {spine.relation} AS asof_s{joins}{order}"


def key_counts(request: PointInTime, tables: Mapping[str, SourceTable], spine: SpineTable, read: ViewRead) -> str:
    """SELECT of how many rows a view's key has at most, as `rows`, and all keys together, as `total`."""
    rows = latest_rows(request, tables, read, spine)
    by_key = f"\nGROUP BY {rows.key_names()}" if rows.keys else ""
    select = rows_without_values(rows)
    return f"SELECT max(c) AS rows, sum(c) AS total FROM (\nSELECT count(*) AS c FROM (\n{select}\n){by_key}\n)"


def range_spine(request: PointInTime, tables: Mapping[str, SourceTable]) -> str:
    """SELECT of the spine of a read without an entity frame: every key and event time in the range, once."""
    keys = list(dict.fromkeys(key for read in request.reads for key in read.keys))
    dtypes = {
        key: field.dtype for read in request.reads for key, field in zip(read.keys, read.view.key_fields, strict=True)
    }
    name = SPARK.forms.quote
    names = {column: name(own) for column, own in safe_names((*keys, request.time)).items()}
    selects = []
    for read in request.reads:
        rows = range_rows(request, tables, read)
        own = {key: f"k{index}" for index, key in enumerate(read.keys)}
        columns = [
            f"CAST({own.get(key, 'NULL')} AS {SPARK.type_name(dtypes[key])}) AS {names[key]}" for key in keys
        ]  # fmt: skip
        bounds = [
            *([f"ts >= {request.start}"] if request.start is not None else []),
            *([f"ts < {request.end}"] if request.end is not None else []),
        ]
        where = f" WHERE {' AND '.join(bounds)}" if bounds else ""
        columns.append(f"timestamp_micros(ts) AS {names[request.time]}")
        selects.append(f"SELECT DISTINCT {', '.join(columns)} FROM (\n{rows.select()}\n){where}")
    order = ", ".join([names[request.time], *(f"{names[key]} NULLS FIRST" for key in keys)])
    shown = ", ".join(f"{own} AS {name(column)}" for column, own in names.items())
    return f"SELECT {shown} FROM (\n" + "\nUNION\n".join(selects) + f"\n)\nORDER BY {order}"


__all__ = ["compile_select", "key_counts", "range_spine"]
