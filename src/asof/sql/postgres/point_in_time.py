"""Compiles a selection's views and a spine into SELECTs for Postgres, and the tables that they read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from asof.selection import FeatureOut, ViewRead
from asof.sql.names import safe_names
from asof.sql.postgres import dialect as postgres
from asof.sql.postgres import windows as postgres_windows
from asof.sql.postgres.latest import AT, FeatureQuery, N, S, by_events, by_index, index_of
from asof.sql.query import PointInTime, grouped, latest_rows, range_rows
from asof.sql.quoting import quote
from asof.sql.source_rows import SourceTable, SpineTable
from asof.sql.windows import windows_of

TIED = "asof_tied"
"""The table with the numbers of the spine rows that are asked for again."""


@dataclass(frozen=True)
class OutputSelect:
    """A SELECT of each spine row's number and of some of the outputs, in any order of rows.

    Args:
        outputs: which of the request's outputs its columns behind the first are.
        steps: statements that make the temporary tables which it alone reads.
        again: the same for the spine rows in `asof_tied`: those with more than one result from `select`, if possible.
    """

    select: str
    outputs: tuple[int, ...]
    steps: tuple[str, ...] = ()
    again: str = ""


@dataclass(frozen=True)
class Statements:
    """SELECTs that together give the outputs of every spine row, in a transaction with one snapshot."""

    answers: tuple[OutputSelect, ...]

    @property
    def text(self) -> str:
        """All of it as SQL text."""
        parts = [part for each in self.answers for part in (*each.steps, each.select, _noted(each.again)) if part]
        return ";\n\n".join(parts)


def compile_statements(request: PointInTime, tables: Mapping[str, SourceTable], spine: SpineTable) -> Statements:
    """The statements for one spine.

    Args:
        tables: source name → the source as the engine sees it.
        spine: has the columns `asof_n`, `asof_at` and `asof_us` in addition to those of the frame.
    """
    as_known = request.known_at is True
    answers = []
    for number, read in enumerate(each for each in request.reads if not each.view.is_aggregated):
        part = _latest(request, tables, spine, read, as_known=as_known, number=number)
        answers.append(_answer(request, spine, read.keys, [(part, list(read.features))]))
    windows = []
    for number, group in enumerate(grouped(request.reads, tables)):
        part = _windows(request, tables, spine, group, as_known=as_known, number=number)
        windows.append((part, [feature for read in group for feature in read.features]))
    if windows:
        answers.append(_answer(request, spine, near_keys(request), windows))
    return Statements(tuple(answers))


def near_keys(request: PointInTime) -> tuple[str, ...]:
    """The columns by which a spine had best lie, and then by time: neighbours look at the same pages of an index."""
    return tuple(dict.fromkeys(request.reads[0].keys)) if request.reads else ()


def _answer(
    request: PointInTime, spine: SpineTable, keys: Sequence[str], parts: Sequence[tuple[FeatureQuery, list[FeatureOut]]]
) -> OutputSelect:
    positions = {feature.output: place for place, feature in enumerate(request.outputs)}
    selected, outputs = [f"{S}.{N}"], []
    for part, features in parts:
        for feature, column in zip(features, part.columns, strict=True):
            value = column
            if feature.default is not None:
                value = f"coalesce({value}, {postgres.literal(feature.default, feature.dtype)})"
            outputs.append(positions[feature.output])
            selected.append(f"{postgres.out(value, feature.dtype)} AS f{outputs[-1]}")
    select = f"SELECT {', '.join(selected)}\nFROM "
    lines = [f"{select}{_in_order(spine, keys)}", *(part.source for part, _ in parts)]
    again = "".join(part.again for part, _ in parts)
    if again:
        again = f"{select}(SELECT * FROM {spine.relation} WHERE {N} IN (SELECT {N} FROM {TIED})) AS {S}\n{again}"
    return OutputSelect(
        "\n".join(lines), tuple(outputs), tuple(step for part, _ in parts for step in part.steps), again
    )


def _in_order(spine: SpineTable, keys: Sequence[str]) -> str:
    """The spine in the order of the keys, as a FROM term."""
    keys = tuple(dict.fromkeys(keys))
    if keys == spine.order[: len(keys)]:
        return f"{spine.relation} AS {S}"
    order = ", ".join([*(postgres.sortable(spine.column(key), spine.sql_types[key]) for key in keys), AT])
    return f"(SELECT * FROM {spine.relation} ORDER BY {order}) AS {S}"


def _noted(again: str) -> str:
    return f"-- for the spine rows with two results, whose numbers are then in {TIED}:\n{again}" if again else ""


def range_spine(request: PointInTime, tables: Mapping[str, SourceTable]) -> str:
    """SELECT of the spine of a read without an entity frame: every key and event time in the range, once."""
    keys = list(dict.fromkeys(key for read in request.reads for key in read.keys))
    dtypes = {
        key: field.dtype for read in request.reads for key, field in zip(read.keys, read.view.key_fields, strict=True)
    }
    selects = []
    names = safe_names((*keys, request.time))
    for read in request.reads:
        rows = range_rows(request, tables, read)
        own = {key: f"k{index}" for index, key in enumerate(read.keys)}
        columns = [
            f"{own.get(key) or postgres.literal(None, dtypes[key])} AS {quote(names[key])}" for key in keys
        ]  # fmt: skip
        bounds = [
            *([f"ts >= {postgres.instant(request.start)}"] if request.start is not None else []),
            *([f"ts < {postgres.instant(request.end)}"] if request.end is not None else []),
        ]
        where = f" WHERE {' AND '.join(bounds)}" if bounds else ""
        columns.append(f"ts AS {quote(names[request.time])}")
        selects.append(f"SELECT DISTINCT {', '.join(columns)} FROM (\n{rows.select()}\n) AS asof_q{where}")
    order = [quote(names[request.time])]
    order += [f"{postgres.collated(quote(names[key]), dtypes[key])} NULLS FIRST" for key in keys]
    union = "\nUNION\n".join(selects)
    named = ", ".join(f"{quote(own)} AS {quote(name)}" for name, own in names.items())
    return f"SELECT {named} FROM (\n{union}\n) AS asof_q\nORDER BY {', '.join(order)}"


def _latest(
    request: PointInTime,
    tables: Mapping[str, SourceTable],
    spine: SpineTable,
    read: ViewRead,
    *,
    as_known: bool,
    number: int,
) -> FeatureQuery:
    rows = latest_rows(request, tables, read, spine)
    index = index_of(rows)
    if index is not None:
        return by_index(rows, read, spine, index=index, as_known=as_known, number=number)
    return by_events(rows, read, spine, as_known=as_known, number=number)


def _windows(
    request: PointInTime,
    tables: Mapping[str, SourceTable],
    spine: SpineTable,
    group: list[ViewRead],
    *,
    as_known: bool,
    number: int,
) -> FeatureQuery:
    windows = windows_of(request, tables, spine, group)
    return postgres_windows.by_events(windows, spine, known=as_known, number=number)
