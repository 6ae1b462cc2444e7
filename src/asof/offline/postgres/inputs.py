"""The inputs of a read in Postgres: each source as a relation of the session; rows from elsewhere are sent there."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from asof.definitions import Source
from asof.dtypes import from_arrow
from asof.offline.postgres.arrow import dtype_of, sql_type_of
from asof.offline.postgres.session import Given, PostgresSession, aliased
from asof.offline.protocol import LATER_COLUMNS
from asof.offline.results import arrival_of, empty_rows
from asof.sources.protocol import Batches
from asof.sql.postgres.dialect import POSTGRES
from asof.sql.query import PointInTime, ViewRows, columns_of
from asof.sql.source_rows import SourceTable


def prepare(
    opened: PostgresSession,
    query: PointInTime | ViewRows,
    inputs: Mapping[str, Given],
    *,
    whole: bool,
    describe_only: bool = False,
) -> dict[str, SourceTable]:
    """Register every source of the read; returns source name → its table.

    Args:
        whole: send all columns, since SQL may read any of them.
    """
    sources = {read.view.source.name: read.view.source for read in query.reads}
    if whole:
        for name, given in inputs.items():
            if name not in sources and given is not None:
                opened.expose(name, given, describe_only=describe_only)
    return {
        name: _source_table(opened, source, inputs.get(name), query, whole=whole, describe_only=describe_only)
        for name, source in sources.items()
    }


def _source_table(
    opened: PostgresSession,
    source: Source,
    given: Given,
    query: PointInTime | ViewRows,
    *,
    whole: bool,
    describe_only: bool,
) -> SourceTable:
    used = () if whole else (*columns_of(query, source.name), "partition", "offset", "ingested_at", *LATER_COLUMNS)
    term = opened.expose(source.name, given if given is not None else empty_rows(source), columns=used,
                         describe_only=describe_only)  # fmt: skip
    schema = opened.described(f"SELECT * FROM {aliased(term)} LIMIT 0")
    names = opened.names(term)
    known = {own: name for name, own in names.items()}
    schema = pa.schema([field.with_name(known.get(field.name, field.name)) for field in schema])
    sql_types = sql_types_of(schema)
    # What a table is read as from elsewhere is what it is here.
    read_as = given.schema if isinstance(given, Batches) else pa.schema([])
    dtypes = {
        field.name: from_arrow(read_as.field(field.name).type) if field.name in read_as.names else dtype_of(field)
        for field in schema
    }
    return SourceTable(
        term, sql_types, dtypes, arrival_of(source, given, sql_types), POSTGRES, opened.indexes(term), names
    )  # fmt: skip


def sql_types_of(schema: pa.Schema) -> dict[str, str]:
    """Column → the catalog's name of its type, from the driver's description."""
    return {field.name: sql_type_of(field) for field in schema}


__all__ = ["prepare", "sql_types_of"]
