"""Rows of a table in the SQLite file: one statement for many keys, conditional upserts."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from asof.online.protocol import NO_ROW, Lookup, Row
from asof.timing import Micros

ROWS_PER_TRANSACTION = 5_000
BYTES_PER_TRANSACTION = 16 << 20
"""Limits of a transaction, in rows and bytes, so that other writers are not blocked for long."""
KEYS_PER_STATEMENT = 512

# `value` is last, so that reads of only the other columns need no overflow pages.
ROWS = """CREATE TABLE rows_{id} (
    key BLOB NOT NULL PRIMARY KEY, version NOT NULL, expires_at INTEGER, value BLOB NOT NULL
) WITHOUT ROWID"""
_KEEP = """INSERT INTO rows_{id} (key, version, expires_at, value) VALUES (?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE SET version = excluded.version, expires_at = excluded.expires_at, value = excluded.value"""
_KEEP_NEWEST = _KEEP + " WHERE excluded.version >= version"
_KEEP_NEW = "INSERT INTO rows_{id} (key, version, expires_at, value) VALUES (?, ?, ?, ?) ON CONFLICT (key) DO NOTHING"
_KEEP_UNCHANGED = "UPDATE rows_{id} SET version = ?, expires_at = ?, value = ? WHERE key = ? AND version = ?"

Version = bytes | int


def expired_keys(db: sqlite3.Connection, id: int, *, after: bytes, now_us: Micros) -> list[bytes]:
    """The next keys at or after `after` that have expired, at most `ROWS_PER_TRANSACTION`."""
    query = f"SELECT key FROM rows_{id} WHERE key >= ? AND expires_at <= ? ORDER BY key LIMIT {ROWS_PER_TRANSACTION}"
    return [key for (key,) in db.execute(query, (after, now_us))]


SIZES = [n if n <= 4 else 1 << (n - 1).bit_length() for n in range(KEYS_PER_STATEMENT + 1)]
"""Number of keys → number of parameters. Few sizes, so that all statements stay in the connection's cache."""


@lru_cache(maxsize=1024)
def select_rows(shape: tuple[tuple[int, int], ...]) -> str:
    """One statement for several tables: for each (table number, number of keys) the rows, in the order of the keys.

    A left join keeps the order of its left side, and `UNION ALL` that of its selects; null and unknown keys give nulls.
    """
    parts = []
    for id, size in shape:
        positions = "(SELECT ? AS column1)" if size == 1 else f"(VALUES {', '.join(['(?)'] * size)})"
        parts.append(f"SELECT r.value, r.version FROM {positions} k LEFT JOIN rows_{id} r ON r.key = k.column1")
    return " UNION ALL ".join(parts)


def split_rows(
    found: list[tuple[Any, ...]], lookups: Sequence[Lookup], ids: Sequence[int | None]
) -> list[list[Row | None]]:
    """The statement's rows per lookup, without those of padding keys."""
    found_rows: list[list[Row | None]] = []
    start = 0
    for (_, keys), id in zip(lookups, ids, strict=True):
        n = len(keys)
        if id is None:
            found_rows.append([None] * n)
        else:
            found_rows.append([row if row[0] is not None else None for row in found[start : start + n]])
            start += SIZES[n]
    return found_rows


def pieces_of(values: Sequence[bytes]) -> Iterator[tuple[int, int]]:
    """Chunks of a batch: at most `ROWS_PER_TRANSACTION` rows and `BYTES_PER_TRANSACTION` bytes."""
    for start in range(0, len(values), ROWS_PER_TRANSACTION):
        end = min(start + ROWS_PER_TRANSACTION, len(values))
        sizes = list(map(len, values[start:end]))
        if sum(sizes) <= BYTES_PER_TRANSACTION:
            yield start, end
            continue
        held = 0
        for place, size in enumerate(sizes, start):
            if held and held + size > BYTES_PER_TRANSACTION:
                yield start, place
                start, held = place, 0
            held += size
        yield start, end


def keep_newest(
    db: sqlite3.Connection,
    id: int,
    keys: Sequence[bytes],
    versions: Sequence[bytes],
    expiry: Sequence[Micros | None],
    values: Sequence[bytes],
) -> list[bool]:
    """Upsert all rows. If SQLite wrote fewer, read the versions: a row was written if its version is stored."""
    n = len(keys)
    if len(set(keys)) == n:
        rows = sorted(zip(keys, versions, expiry, values, strict=True))  # adjacent keys share pages
        if db.executemany(_KEEP_NEWEST.format(id=id), rows).rowcount == n:
            return [True] * n
        stored = _versions(db, id, keys)
        return [stored[key] == version for key, version in zip(keys, versions, strict=True)]
    stored = _versions(db, id, keys)
    kept, last = [], {}
    for key, version, until, value in zip(keys, versions, expiry, values, strict=True):
        before = stored.get(key)
        kept.append(before is None or version >= before)
        if kept[-1]:
            stored[key] = version
            last[key] = (key, version, until, value)
    db.executemany(_KEEP.format(id=id), last.values())
    return kept


def keep_unchanged(
    db: sqlite3.Connection,
    id: int,
    keys: Sequence[bytes],
    tokens: Sequence[int],
    expiry: Sequence[Micros | None],
    values: Sequence[bytes],
) -> list[bool]:
    """All rows of the transaction get one new token, the file's next number."""
    ((new,),) = db.execute("UPDATE tokens SET last = last + 1 RETURNING last").fetchall()
    n = len(keys)
    if len(set(keys)) == n:
        rows = sorted(zip(keys, tokens, expiry, values, strict=True))
        first = [(key, new, until, value) for key, token, until, value in rows if token == NO_ROW]
        again = [(new, until, value, key, token) for key, token, until, value in rows if token != NO_ROW]
        count = db.executemany(_KEEP_NEW.format(id=id), first).rowcount if first else 0
        count += db.executemany(_KEEP_UNCHANGED.format(id=id), again).rowcount if again else 0
        if count == n:
            return [True] * n
        stored = _versions(db, id, keys)
        return [stored.get(key) == new for key in keys]
    stored = _versions(db, id, keys)
    kept, last = [], []
    for key, token, until, value in zip(keys, tokens, expiry, values, strict=True):
        kept.append(stored.get(key, NO_ROW) == token)
        if kept[-1]:  # at most once per key: no writer can have read the new token yet
            stored[key] = new
            last.append((key, new, until, value))
    db.executemany(_KEEP.format(id=id), last)
    return kept


def _versions(db: sqlite3.Connection, id: int, keys: Sequence[bytes]) -> dict[bytes, Any]:
    """Key → stored version or token, for keys with a row."""
    stored: dict[bytes, Any] = {}
    ordered = sorted(set(keys))
    for start in range(0, len(ordered), KEYS_PER_STATEMENT):
        piece = ordered[start : start + KEYS_PER_STATEMENT]
        positions = ", ".join("?" * SIZES[len(piece)])
        padding: list[Any] = [None] * (SIZES[len(piece)] - len(piece))
        stored.update(
            db.execute(f"SELECT key, version FROM rows_{id} WHERE key IN ({positions})", piece + padding).fetchall()
        )
    return stored
