"""What public verbs take rows as, by name: dicts, columns, and the tables of pandas, Polars and Arrow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from os import PathLike
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

Frame: TypeAlias = "pd.DataFrame | pl.DataFrame | pa.Table | pa.RecordBatch"
"""A table of pandas, Polars or Arrow. None of them is loaded for it."""

Rows: TypeAlias = "Iterable[Mapping[str, object]] | Mapping[str, Iterable[object]] | Frame"
"""Rows as dicts, as a dict of columns, or as a table."""

EntityFrame: TypeAlias = "Frame | pl.LazyFrame | Mapping[str, Iterable[object]] | str | PathLike[str]"
"""Entities with times: a table, a dict of columns, the path of a Parquet or CSV file, or a SELECT over the sources."""

__all__ = ["EntityFrame", "Frame", "Rows"]
