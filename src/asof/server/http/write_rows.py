"""Rows of a request, converted to the columns and value types of the store."""

from __future__ import annotations

from typing import Any

from asof.definitions import FeatureView, LogSource
from asof.dtypes import DType
from asof.values.json import read_columns

FEAST_TIME = "event_timestamp"
FEAST_CREATED = "created"
"""Feast's client sends these names, whatever the source's columns are called."""

Columns = dict[str, list[Any]]


def rows_of_source(source: LogSource, columns: Columns) -> Columns:
    """Pushed rows, with values of the types that the source declares."""
    return read_columns(columns, {field.name: field.dtype for field in source.schema})


def rows_of_view(view: FeatureView, columns: Columns) -> Columns:
    """Rows of a view, renamed from the view's or Feast's column names to the source's."""
    source = view.source
    types: dict[str, DType] = {field.name: field.dtype for field in source.schema}
    names: dict[str, str] = {}
    for field in (*view.key_fields, *view.features):
        names[field.name] = source.raw(field.name)
        types.setdefault(source.raw(field.name), field.dtype)
    answer: Columns = {}
    created = source.created_timestamp_column
    declared = {*types, source.timestamp_field, created}
    for name, values in columns.items():
        raw = names.get(name, name)
        if name == FEAST_TIME and name not in declared:
            raw = source.timestamp_field
        elif name == FEAST_CREATED and name not in declared:
            if not created or all(value is None for value in values):
                # Feast's client always sends this column; the source has no such column, and it is empty.
                continue
            raw = created
        answer.setdefault(raw, values)
    return read_columns(answer, types)
