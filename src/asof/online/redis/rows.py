"""What Redis keeps as a row: its version or token, then the packed bytes."""

from __future__ import annotations

from collections.abc import Sequence

from asof.online.protocol import Lookup, MarkedRows, OnlineTable, Row

KEYS_PER_READ = 5000
"""More keys are read in several commands, so that other clients get their turn."""

VERSION_BYTES = 32
TOKEN_BYTES = 8


def rows_of(lookups: Sequence[Lookup], values: Sequence[bytes | None]) -> list[list[Row | None]]:
    """The rows of lookups, from the values of all their keys in order."""
    found: list[list[Row | None]] = []
    number = int.from_bytes
    start = 0
    for table, keys in lookups:
        end = start + len(keys)
        part = values if end - start == len(values) else values[start:end]
        if table.kind == "latest":
            found.append([None if value is None else (value[32:], value[:32]) for value in part])
        else:
            found.append([None if value is None else (value[8:], number(value[:8], "big")) for value in part])
        start = end
    return found


def marked_rows_of(
    lookups: Sequence[Lookup],
    values: Sequence[bytes | None],
    tables: Sequence[OnlineTable],
    markers: Sequence[bytes | None],
) -> list[MarkedRows]:
    """The rows of lookups, but None for those of a table whose marker is missing; see `rows_of`."""
    rows: list[MarkedRows] = list(rows_of(lookups, values))
    if None in markers:
        gone = {table for table, marker in zip(tables, markers, strict=True) if marker is None}
        rows = [None if table in gone else found for (table, _), found in zip(lookups, rows, strict=True)]
    return rows
