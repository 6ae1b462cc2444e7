"""Profiles in Postgres: a view's source or a table, measured in one transaction."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

from asof.offline.postgres.inputs import prepare
from asof.offline.postgres.session import Given, PostgresSession
from asof.profiles.summary import MeasuredRows
from asof.sql.measure import measure
from asof.sql.postgres.profile import POSTGRES_PROFILES
from asof.sql.profile import ProfiledRows, ProfiledTable


class _Transaction:
    """See `asof.sql.profile.ProfileSession`."""

    def __init__(self, opened: PostgresSession) -> None:
        self._opened = opened

    def execute(self, statement: str) -> None:
        self._opened.execute(statement)

    def fetch(self, select: str) -> pa.Table:
        return self._opened.table(select)


def profile(
    opened: PostgresSession,
    query: ProfiledRows | ProfiledTable,
    given: Given | pa.RecordBatchReader,
    progress: Callable[[int, int], None],
) -> MeasuredRows:
    """Measure the columns of a view's source, or of a table."""
    if isinstance(query, ProfiledRows):
        assert not isinstance(given, pa.RecordBatchReader)
        name, source = query.view.name, query.view.source.name
        rows = query.select(prepare(opened, query, {source: given}, whole=False)[source])
    else:
        assert isinstance(given, pa.RecordBatchReader)
        name = query.name
        schema = pa.schema([field.with_name(query.names[field.name]) for field in given.schema])
        renamed = (pa.RecordBatch.from_arrays(batch.columns, schema=schema) for batch in given)
        rows = query.select(opened.ship(pa.RecordBatchReader.from_batches(schema, renamed)))
    return measure(
        _Transaction(opened),
        POSTGRES_PROFILES,
        query.columns,
        rows,
        view=name,
        has_times=isinstance(query, ProfiledRows),
        progress=progress,
    )


__all__ = ["profile"]
