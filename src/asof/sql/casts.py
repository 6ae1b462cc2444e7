"""Casts as hints show them: plain SQL that every engine takes."""

from __future__ import annotations

from asof.dtypes import DType

_TYPES = {"Int32": "INTEGER", "Int64": "BIGINT", "String": "VARCHAR", "Timestamp": "TIMESTAMPTZ", "Date": "DATE"}


def cast_example(column: str, dtype: DType) -> str:
    """A column, or what stands for one, cast to a type."""
    return f"CAST({column} AS {_TYPES.get(dtype.name, '…')})"
