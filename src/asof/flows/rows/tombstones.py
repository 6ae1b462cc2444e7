"""Rows that delete their key: tombstones, and rows for which the source's `delete_when` holds."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from asof.definitions import Source
from asof.definitions.logs import TOMBSTONE
from asof.dtypes import DType, from_arrow
from asof.expressions import parse, print_sql
from asof.flows.stores import Stores
from asof.values.fit import fit


def deletions(stores: Stores, source: Source, rows: pa.Table) -> npt.NDArray[np.bool_] | None:
    """Mask of the rows that delete their key; None if there are none.

    Args:
        rows: the source's columns, renamed by its `field_mapping`.
    """
    gone = np.zeros(rows.num_rows, dtype=bool)
    if source.has_tombstones and TOMBSTONE in rows.column_names:
        gone |= _true(rows[TOMBSTONE])
    if source.delete_when and rows.num_rows:
        parsed = parse(source.delete_when)
        schema: dict[str, DType] = {}
        columns: dict[str, pa.Array] = {}
        declared = {source.renamed(field.name): field.dtype for field in source.schema}
        for name in parsed.columns:
            dtype = declared.get(name) or from_arrow(rows.schema.field(name).type)
            assert dtype is not None, f"column {name} has an unsupported type, which plan refuses"
            schema[name], columns[name] = dtype, fit(rows[name], dtype)[0]
        table = pa.table(columns) if columns else rows
        text = print_sql(parsed, stores.offline.batch_dialect, schema=schema)
        gone |= _true(stores.offline.evaluate(table, {"gone": text})["gone"])
    return gone if gone.any() else None


def _true(column: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    whole = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], pa.bool_())
    return whole.fill_null(False).to_numpy(zero_copy_only=False)


__all__ = ["deletions"]
