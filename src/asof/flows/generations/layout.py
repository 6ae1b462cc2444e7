"""The layout of a view's online rows, the inputs of its aggregations, and when rows expire."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from asof.aggregation import RowLayout, StateRows
from asof.definitions import FeatureView, LogSource, Sliding, is_ordered_by_arrival
from asof.expressions import check, parse, print_sql
from asof.flows.generations.names import keeps_arrival
from asof.flows.rows.batch import input_schema
from asof.flows.stores import Stores
from asof.timing import DAY, HOUR, SECOND, Micros

GRACE = 7 * DAY
"""A row expires this much later than its ttl or windows end, so that expiry is never visible."""

MARGIN = SECOND
"""Largest difference of a reader's clock behind a row's newest event that the row can still serve."""


def expiry_of(view: FeatureView, layout: RowLayout, state: StateRows, *, now: Micros) -> list[int | None] | None:
    """Expiry of each row of aggregates: well after its last window; None for a row with an unbounded window.

    Args:
        now: events up to this time are due.
    """
    reach = 0
    newest = state.newest(layout)
    for each in view.aggregations:
        if each.window is None:
            return None
        window = each.window
        if isinstance(window, Sliding):
            reach = max(reach, window.length + window.hop)
        else:
            # A late event, or one of a log that is read long after it was written, may extend a session.
            reach = max(reach, window.gap + layout.allowed_lateness)
            newest = np.maximum(newest, now)
    expiry: list[int | None] = (newest + reach + view.delay + GRACE).tolist()
    # A row above its size limit has lost its newest event time. If it expired, the key would start from nothing.
    for row in np.flatnonzero(state.overflow).tolist():
        expiry[row] = None
    return expiry


def layout_of(view: FeatureView, generation: str | None) -> RowLayout:
    """How the view's state is packed in a generation; None: as in one that is built now."""
    schema = input_schema(view)
    columns = {each.column: check(parse(each.column), schema) for each in view.aggregations if each.column}
    source = view.source
    return RowLayout.of(
        view.aggregations, columns, boundary=view.boundary, margin=MARGIN,
        allowed_lateness=source.allowed_lateness if isinstance(source, LogSource) else HOUR,
        created=source.created_timestamp_column not in ("", source.timestamp_field),
        arrival=is_ordered_by_arrival(view) if generation is None else keeps_arrival(generation, view),
    )  # fmt: skip


def inputs_of(
    stores: Stores, view: FeatureView, layout: RowLayout, rows: pa.Table
) -> list[tuple[Any, npt.NDArray[np.bool_]]]:
    """The layout's inputs, evaluated over the rows: values, and masks of the rows that count."""
    schema = input_schema(view)
    expressions: dict[str, str] = {}
    for i, (column, where) in enumerate(layout.inputs):
        if column and column not in schema:
            expressions[f"v{i}"] = print_sql(parse(column), stores.offline.batch_dialect, schema=schema)
        if where:
            expressions[f"w{i}"] = print_sql(parse(where), stores.offline.batch_dialect, schema=schema)
    evaluated = stores.offline.evaluate(rows, expressions) if expressions else rows
    columns: list[tuple[Any, npt.NDArray[np.bool_]]] = []
    for i, (column, where) in enumerate(layout.inputs):
        mask = np.ones(rows.num_rows, dtype=bool)
        values = None
        if column:
            dtype = layout.dtypes[i]
            assert dtype is not None
            values = pa.array((rows[column] if column in schema else evaluated[f"v{i}"]).combine_chunks())
            if values.type != dtype.arrow():
                values = values.cast(dtype.arrow())
            mask &= values.is_valid().to_numpy(zero_copy_only=False)
        if where:
            mask &= pa.array(evaluated[f"w{i}"].combine_chunks()).fill_null(False).to_numpy(zero_copy_only=False)
        columns.append((values, mask))
    return columns
