"""Profiles in Spark: a view's source or a table, measured in one session."""

from __future__ import annotations

import re
from collections.abc import Callable

import pyarrow as pa

from asof.offline.spark.inputs import prepare
from asof.offline.spark.read import Given, SparkRead
from asof.profiles.summary import MeasuredRows
from asof.sql.measure import measure
from asof.sql.profile import ProfiledRows, ProfiledTable
from asof.sql.spark.profile import SPARK_PROFILES

_TABLE = "asof__profiled"
_MADE = re.compile(r"CREATE TEMP TABLE (\w+) AS\s(.*)", re.DOTALL)


class _Views:
    """See `asof.sql.profile.ProfileSession`: a view is kept, since not every server has temporary tables."""

    def __init__(self, read: SparkRead) -> None:
        self._read = read

    def execute(self, statement: str) -> None:
        made = _MADE.match(statement)
        if made:
            self._read.session.view(made[1], self._read.session.frame(made[2]))
        # It is dropped with all others.

    def fetch(self, select: str) -> pa.Table:
        return self._read.table(select)


def profile(
    read: SparkRead,
    query: ProfiledRows | ProfiledTable,
    given: Given | pa.RecordBatchReader,
    progress: Callable[[int, int], None],
) -> MeasuredRows:
    """Measure the columns of a view's source, or of a table."""
    if isinstance(query, ProfiledRows):
        assert not isinstance(given, pa.RecordBatchReader)
        name, source = query.view.name, query.view.source.name
        rows = query.select(prepare(read, query, {source: given})[source])
    else:
        assert isinstance(given, pa.RecordBatchReader)
        name = query.name
        read.ship(given, _TABLE, names=query.names)
        rows = query.select(_TABLE)
    return measure(
        _Views(read),
        SPARK_PROFILES,
        query.columns,
        rows,
        view=name,
        has_times=isinstance(query, ProfiledRows),
        progress=progress,
    )


__all__ = ["profile"]
