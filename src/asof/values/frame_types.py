"""Types of rows that public verbs accept; tables are recognised without loading pandas, Polars or Arrow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from os import PathLike
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    import polars as pl


class Frame(Protocol):
    """A table of pandas, Polars or Arrow, or of anything else that gives itself as an Arrow stream.

    Said by what it does, so that it is a type where pandas or Polars is not installed, or says no types.
    """

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...


Rows: TypeAlias = "Iterable[Mapping[str, object]] | Mapping[str, Iterable[object]] | Frame"
"""Rows as dicts, as a dict of columns, or as a table."""

EntityFrame: TypeAlias = "Frame | pl.LazyFrame | Mapping[str, Iterable[object]] | str | PathLike[str]"
"""Entities with times: a table, a dict of columns, the path of a Parquet or CSV file, or a SELECT over the sources."""


def is_pandas(rows: object) -> bool:
    """Whether it is a data frame of pandas."""
    return hasattr(rows, "iloc") and hasattr(rows, "columns")


def is_polars(rows: object) -> bool:
    """Whether it is a data frame of Polars."""
    return hasattr(rows, "to_arrow") and hasattr(rows, "lazy")


def is_lazy(rows: object) -> bool:
    """Whether it is a lazy frame of Polars."""
    return hasattr(rows, "collect") and hasattr(rows, "sink_parquet")


def is_arrow(rows: object) -> bool:
    """Whether it is a table or a record batch of Arrow."""
    return hasattr(rows, "to_pydict") and hasattr(rows, "schema")


__all__ = ["EntityFrame", "Frame", "Rows", "is_arrow", "is_lazy", "is_pandas", "is_polars"]
