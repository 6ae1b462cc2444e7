"""A SELECT that makes at most one row of each row, taken apart into expressions: a transform's SQL, ready to be run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class RowSelect:
    """A SELECT taken apart.

    Args:
        columns: name → SQL over the input's columns.
        where: SQL that holds for the rows that are kept; empty where all are.
    """

    columns: Mapping[str, str]
    where: str


__all__ = ["RowSelect"]
