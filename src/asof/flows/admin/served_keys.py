"""The keys of a view's online rows."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from asof.definitions import FeatureView, Snapshot
from asof.flows.rows.keys import restored_key
from asof.flows.rows.pages import pages_of
from asof.flows.stores import Stores, current_generation, table_of, view_named
from asof.lineage import hides_key
from asof.values.packing import key_values


def scanned_keys(stores: Stores, snapshot: Snapshot, view: FeatureView) -> Iterator[list[bytes]]:
    """The keys of a view's online rows, in pages."""
    table = table_of(stores.project, view, current_generation(snapshot, view) or "none")
    for page in pages_of(stores, table):
        yield [row[0] for row in page]


def online_keys(stores: Stores, snapshot: Snapshot, name: str, *, limit: int) -> pa.Table:
    """The first keys of a view's online rows, at most `limit`; none if it has no rows. Personal data is null.

    Raises:
        NotFound: no feature view with this name is applied.
    """
    view = view_named(snapshot, name)
    generation = current_generation(snapshot, view)
    rows = []
    if view.online and generation is not None:
        rows = stores.online.scan(table_of(stores.project, view, generation), limit=limit)
    keys = [restored_key(view.key_fields, key_values(row[0])) for row in rows]
    if hides_key(view):
        keys = [dict.fromkeys(view.join_keys) for _ in keys]
    return pa.Table.from_pylist(keys, schema=pa.schema([(key.name, key.dtype.arrow()) for key in view.key_fields]))


__all__ = ["online_keys", "scanned_keys"]
