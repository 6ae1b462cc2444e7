"""Views with a key of very many rows, found by a count before the first pass of a read."""

from __future__ import annotations

from collections.abc import Mapping

from asof.offline.spark.read import SparkRead
from asof.sql.query import PointInTime
from asof.sql.source_rows import SourceTable, SpineTable
from asof.sql.spark.capabilities import is_hot
from asof.sql.spark.point_in_time import key_counts


class HotViews:
    """The views of a query whose rows are cut by day; they are looked for once, over the rows of the first pass."""

    def __init__(self, query: PointInTime) -> None:
        self._query = query
        self._names: frozenset[str] | None = None

    def found(self, read: SparkRead, tables: Mapping[str, SourceTable], spine: SpineTable) -> frozenset[str]:
        """Their names. Of sources with few rows nothing is counted.

        Args:
            spine: of the first pass, as it is on the server.
        """
        if self._names is None:
            counted: dict[str, bool] = {}
            names = set()
            # With `known_at=True` no plan is cut.
            for each in self._query.reads if self._query.known_at is not True else ():
                table = tables[each.view.source.name]
                least = read.server.hot_key_rows
                if read.rows.get(table.relation, least) < least:
                    continue
                count = key_counts(self._query, tables, spine, each)
                if count not in counted:
                    row = read.session.fetch(count).to_pylist()[0]
                    counted[count] = is_hot(row["rows"] or 0, row["total"] or 0, least=least)
                if counted[count]:
                    names.add(each.view.name)
            self._names = frozenset(names)
        return self._names


__all__ = ["HotViews"]
