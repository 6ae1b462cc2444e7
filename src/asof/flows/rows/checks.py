"""Checks of rows that engines return: of what a type refuses, an Arrow column of its form can hold some."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from asof.definitions import FeatureView
from asof.dtypes import DType
from asof.errors import SourceError
from asof.values.fit import first_misfit


def refuse_misfits(view: FeatureView, columns: Mapping[str, tuple[pa.ChunkedArray, DType]]) -> None:
    """Refuse values that their declared types do not have; what a log delivered was checked when it came in.

    Args:
        columns: the view's columns by their names, with their types.

    Raises:
        SourceError: names the column, the source and the value's fault.
    """
    if view.source.is_log:
        return
    for name, (column, dtype) in columns.items():
        found = first_misfit(column, dtype)
        if found is not None:
            raise SourceError(
                f"feature view {view.name!r}: column {name!r} of source {view.source.name!r} holds a value that is no "
                f"{dtype}: {found[1]}",
                hint="fix the value, or declare another type", where=view.where,
            )  # fmt: skip


__all__ = ["refuse_misfits"]
