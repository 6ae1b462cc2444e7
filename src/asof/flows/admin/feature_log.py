"""The feature log: served features in one archive per feature service, written in batches, for audit and training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from asof.definitions import Entity, Snapshot
from asof.errors import NotFound, nearest
from asof.flows.rows.archive import with_arrival
from asof.flows.stores import Stores
from asof.offline.protocol import ARRIVAL_COLUMNS, Archive
from asof.online_response import OnlineResponse
from asof.sql import archive as statements

PREFIX = "served__"
"""Prefix of the archive's name, before the service's name; no source's name can begin like this."""

SERVED_AT = "served_at"
"""Column with the time of the read."""


def archive_of(stores: Stores, service: str) -> Archive:
    """The archive of a service's served features."""
    return Archive(stores.project, PREFIX + service)


class ServedRows:
    """Writes the served rows of one process to a partition of its own.

    Args:
        partition: unique to this process; a restarted process has a new one.
    """

    def __init__(self, stores: Stores, partition: int) -> None:
        self._stores = stores
        self._partition = partition
        self._next: dict[str, int] = {}

    def append(self, service: str, responses: Sequence[OnlineResponse]) -> int:
        """Append the rows of these responses durably; returns their number.

        Raises:
            StorageError: the archive cannot be written; a retry writes nothing twice.
        """
        archive = archive_of(self._stores, service)
        rows = pa.concat_tables([_table(each) for each in responses], promote_options="default")
        first = self._next.get(service, 0)
        last = first + rows.num_rows - 1
        numbers = range(first, last + 1)
        rows = with_arrival(
            rows, partition=[self._partition] * rows.num_rows, offset=list(numbers), ingested_at=self._stores.clock()
        )
        self._stores.offline.create(archive, rows.schema)
        self._stores.offline.append(archive, rows, {self._partition: last})
        self._next[service] = last + 1
        return rows.num_rows


def _table(response: OnlineResponse) -> pa.Table:
    """Keys, request values, features (always as `view__feature`), and the time of the read."""
    selection: Any = response.selection
    columns: dict[str, pa.Array] = {}
    for field in (*selection.keys, *selection.request_fields):
        columns[field.name] = pa.array(response.keys[field.name], field.dtype.arrow())
    for output in selection.outputs:
        name = output.reference.replace(":", "__")
        columns[name] = pa.array(response.values[output.column], output.dtype.arrow())
    at = pa.scalar(response.at, pa.int64()).cast(pa.timestamp("us", "UTC"))
    columns[SERVED_AT] = pa.repeat(at, len(response))
    return pa.table(columns)


def served_features(stores: Stores, service: str) -> pa.Table:
    """The feature log of a service: keys, request values, `view__feature` columns and `served_at`, in order.

    Raises:
        NotFound: the service has no feature log.
    """
    table = served_batches(stores, service).read_all()
    return table.drop_columns([name for name in table.column_names if name in ARRIVAL_COLUMNS])


def served_batches(stores: Stores, service: str) -> pa.RecordBatchReader:
    """The same in batches, with the archive's own columns.

    Raises:
        NotFound: the service has no feature log.
    """
    rows = stores.offline.rows(archive_of(stores, service))
    if rows is None:
        kept = services_with_log(stores)
        raise NotFound(
            f"service {service!r} has no feature log",
            hint=nearest(service, kept) or "set server.feature_log_share, and restart the server",
        )
    return stores.offline.sql(statements.served_rows(SERVED_AT), {"served": rows}).reader()


def services_with_log(stores: Stores) -> list[str]:
    """The services that have a feature log, sorted."""
    return sorted(name.removeprefix(PREFIX) for name in _kept(stores))


def forget_served(stores: Stores, snapshot: Snapshot, entity: Entity, values: Mapping[str, Any]) -> dict[str, int]:
    """Remove a key from all feature logs; returns service → number of rows."""
    removed: dict[str, int] = {}
    for name in _kept(stores):
        archive = Archive(stores.project, name)
        rows = stores.offline.rows(archive)
        if rows is None:
            continue
        text = statements.served_rows(SERVED_AT, describe_only=True)
        columns = set(stores.offline.sql(text, {"served": rows}).schema().names)
        service = snapshot.project.services.get(name.removeprefix(PREFIX))
        maps = [dict(part.join_key_map) for part in service.features] if service is not None else []
        for names in {tuple(each.get(key, key) for key in entity.join_keys) for each in (*maps, {})}:
            if set(names) <= columns:
                chosen = {column: values[key] for column, key in zip(names, entity.join_keys, strict=True)}
                count = stores.offline.forget(archive, chosen)
                if count:
                    removed[name.removeprefix(PREFIX)] = removed.get(name.removeprefix(PREFIX), 0) + count
    return removed


def _kept(stores: Stores) -> list[str]:
    return [name for name in stores.offline.names(stores.project, "events") if name.startswith(PREFIX)]


__all__ = [
    "SERVED_AT",
    "ServedRows",
    "archive_of",
    "forget_served",
    "served_batches",
    "served_features",
    "services_with_log",
]
