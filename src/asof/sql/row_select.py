"""A SELECT that makes at most one row of each row, taken apart into expressions: a transform's SQL, ready to be run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class RowSelect:
    """A SELECT taken apart.

    Args:
        columns: name → SQL over the input's columns.
        where: SQL that holds for the rows that are kept; empty where all are.
        reads: name → the input's columns that this column is computed from.
        where_reads: the input's columns in `where`.
    """

    columns: Mapping[str, str]
    where: str
    reads: Mapping[str, Sequence[str]] = field(default_factory=dict)
    where_reads: Sequence[str] = ()


__all__ = ["RowSelect"]
