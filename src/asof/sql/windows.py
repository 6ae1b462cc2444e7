"""What is computed over windows: aggregations that share rows, spine keys, delay and boundary, whatever the plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from asof.definitions import Aggregation, Session, Sliding
from asof.definitions.windows import ORDERED
from asof.dtypes import DType, Int64
from asof.selection import ViewRead
from asof.sql.query import PointInTime, cut_of, rows_of
from asof.sql.source_rows import RowCutoff, SourceRows, SourceTable, SpineTable
from asof.timing import Micros


@dataclass(frozen=True)
class WindowAggregate:
    """One aggregation to compute.

    Args:
        value: the alias of its values among the rows' values; null where `where` does not hold.
        dtype: the type of the values.
        output: the name of the output column.
    """

    aggregation: Aggregation
    value: str
    dtype: DType
    output: str


@dataclass(frozen=True)
class WindowGroup:
    """Aggregations that share rows, spine keys, delay and boundary."""

    rows: SourceRows
    read: ViewRead
    wanted: tuple[WindowAggregate, ...]

    @property
    def gaps(self) -> list[Micros]:
        found = {each.aggregation.window.gap for each in self.wanted if isinstance(each.aggregation.window, Session)}
        return sorted(found)

    @property
    def needs_order(self) -> bool:
        return any(each.aggregation.function in ORDERED for each in self.wanted)

    @property
    def exclusive(self) -> int:
        """1 where the events of the moment itself do not count: `< t` is `<= t - 1` in whole microseconds."""
        return int(self.read.view.boundary == "exclusive")

    @property
    def moment(self) -> str:
        """The spine row's time in the windows' terms; `ts` is the last moment that counts."""
        return "ts + 1" if self.exclusive else "ts"

    def longest(self) -> Micros | None:
        """How far before the spine's first moment an event can matter; None is without end."""
        reach = 0
        for each in self.wanted:
            if not isinstance(each.aggregation.window, Sliding):
                return None
            reach = max(reach, each.aggregation.window.length + each.aggregation.window.hop)
        return reach


def value_alias(index: int) -> str:
    return f"v{index}"


def plan_values(
    rows: SourceRows, reads: Sequence[tuple[Aggregation, str]]
) -> tuple[dict[str, str], list[WindowAggregate]]:
    """The distinct (column, where) pairs as values of the rows, and what is wanted of them.

    Args:
        reads: aggregations with the names of their outputs.
    """
    aliases: dict[tuple[str, str], tuple[str, DType]] = {}
    values: dict[str, str] = {}
    wanted = []
    for each, output in reads:
        pair = (each.column, each.where)
        if pair not in aliases:
            sql, dtype = rows.expression(each.column) if each.column else ("TRUE", Int64)
            if each.where:
                sql = f"CASE WHEN {rows.expression(each.where)[0]} THEN {sql} END"
            alias = value_alias(len(aliases))
            aliases[pair] = (alias, dtype)
            values[alias] = sql
        alias, dtype = aliases[pair]
        wanted.append(WindowAggregate(each, alias, dtype, output))
    return values, wanted


def windows_of(
    request: PointInTime, tables: Mapping[str, SourceTable], spine: SpineTable, group: Sequence[ViewRead]
) -> WindowGroup:
    """The windows of a group of reads (`asof.sql.query.grouped`), over the rows that can matter to them."""
    first = group[0]
    rows = rows_of(request, tables, first, RowCutoff())
    values, wanted = plan_values(rows, wanted_of(group))
    # The rows are cut once it is known how far the windows reach back.
    windows = WindowGroup(rows, first, tuple(wanted))
    reach = windows.longest()
    cut = cut_of(request, first, spine, reach + first.view.delay + 1 if reach is not None else None)
    return replace(windows, rows=replace(rows, values=values, cut=cut))


def wanted_of(group: Sequence[ViewRead]) -> list[tuple[Aggregation, str]]:
    """The aggregations that a group's reads ask for, with the names of their outputs."""
    reads = []
    for read in group:
        by_name = {each.name: each for each in read.view.aggregations}
        reads += [(by_name[feature.name], feature.output) for feature in read.features]
    return reads


__all__ = ["WindowAggregate", "WindowGroup", "windows_of"]
