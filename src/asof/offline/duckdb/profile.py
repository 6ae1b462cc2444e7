"""Profiles in DuckDB: a view's source or a table, measured over one connection."""

from __future__ import annotations

from collections.abc import Callable

import duckdb
import pyarrow as pa

from asof.offline.duckdb.errors import wrapping
from asof.offline.duckdb.inputs import prepare
from asof.offline.duckdb.tables import copy
from asof.profiles.summary import MeasuredRows
from asof.sources.protocol import Input
from asof.sql.duckdb.profile import DUCKDB_PROFILES
from asof.sql.measure import measure
from asof.sql.profile import ProfiledRows, ProfiledTable

_TABLE = "asof_given"


class _Connection:
    """See `asof.sql.profile.ProfileSession`."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection) -> None:
        self._cursor = cursor

    def execute(self, statement: str) -> None:
        self._cursor.execute(statement)

    def fetch(self, select: str) -> pa.Table:
        return self._cursor.sql(select).to_arrow_table()


def profile(
    cursor: duckdb.DuckDBPyConnection,
    query: ProfiledRows | ProfiledTable,
    given: Input | pa.RecordBatchReader | None,
    progress: Callable[[int, int], None],
) -> MeasuredRows:
    """Measure the columns of a view's source, or of a table."""
    name = query.view.name if isinstance(query, ProfiledRows) else query.name
    with wrapping(f"profile of {name!r}", given=[given]):
        if isinstance(query, ProfiledRows):
            source = query.view.source.name
            rows = query.select(prepare(cursor, query, {source: given})[source])
        else:
            assert isinstance(given, pa.RecordBatchReader)
            copy(cursor, _TABLE, given, names=query.names)
            rows = query.select(_TABLE)
        return measure(
            _Connection(cursor),
            DUCKDB_PROFILES,
            query.columns,
            rows,
            view=name,
            has_times=isinstance(query, ProfiledRows),
            progress=progress,
        )


__all__ = ["profile"]
