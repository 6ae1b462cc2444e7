"""Fetches the rows of sources that come as batches, those of one database in one snapshot."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Self

import pyarrow as pa

from asof.sources.protocol import Batches, ScanRequest


class Snapshots:
    """A context with one snapshot per database that has been read in it."""

    def __init__(self) -> None:
        self._held: dict[Any, Any] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *caught: Any) -> bool | None:
        return self._stack.__exit__(*caught)

    def open(self, given: Batches, need: ScanRequest) -> pa.RecordBatchReader:
        """The rows that are needed; the reader ends before the next one of the same database is opened."""
        if given.database is None:
            return given.open(need)
        identity = given.database.identity
        if identity not in self._held:
            self._held[identity] = self._stack.enter_context(given.database.snapshot())
        return given.open(replace(need, within=self._held[identity]))


__all__ = ["Snapshots"]
