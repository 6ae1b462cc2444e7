"""How many rows there are: what a progress is of."""

from __future__ import annotations

import pyarrow as pa

from asof.flows.stores import Stores
from asof.sources.protocol import Batches, Input
from asof.sql import archive as statements


def count(stores: Stores, rows: Input | pa.Table) -> int:
    """Number of rows, counted by the engine."""
    return count_by(stores, statements.count_rows("source"), "source", rows)


def count_by(stores: Stores, text: str, name: str, rows: Input | pa.Table) -> int:
    """The one number that a statement over these rows, under this name, gives."""
    table = stores.offline.sql(text, {name: rows}).reader().read_all()
    return int(table.column(0)[0].as_py())


def total_of(stores: Stores, rows: Input) -> int | None:
    """Number of rows; None where they would have to be fetched for that."""
    return None if isinstance(rows, Batches) else count(stores, rows)


__all__ = ["count", "count_by", "total_of"]
