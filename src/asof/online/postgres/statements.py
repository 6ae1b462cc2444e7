"""SQL of the PostgreSQL online store, and columns of n values as one parameter each."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np
import psycopg
from psycopg import adapt, pq

from asof.dtypes import GREATEST_INT64
from asof.timing import Micros

NEVER = GREATEST_INT64
"""Expiry of a row that never expires: a number, so that no statement needs a case for null."""

STEPS = (
    """
CREATE TABLE {schema}.online_tables (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project text COLLATE "C" NOT NULL,
    view text COLLATE "C" NOT NULL,
    generation text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    UNIQUE (project, view, generation)
);
CREATE TABLE {schema}.online_progress (
    table_id int NOT NULL REFERENCES {schema}.online_tables ON DELETE CASCADE,
    name text COLLATE "C" NOT NULL,
    number bigint,
    words text,
    PRIMARY KEY (table_id, name)
)
""",
)
"""Migrations from each format of the tables to the next."""

# No index except the key's, and free space on each page: an update touches one page (HOT), without index bloat.
ROWS = """CREATE TABLE {rows} (
    key bytea PRIMARY KEY, {mark} NOT NULL, expires_at bigint NOT NULL, value bytea NOT NULL
) WITH (fillfactor = 75)"""
MARKS = {"latest": "version bytea", "state": "token bigint"}

FIND = "SELECT id, kind FROM {schema}.online_tables WHERE project = %s AND view = %s AND generation = %s"
ALL = "SELECT project, view, generation, kind FROM {schema}.online_tables WHERE project = %s ORDER BY 1, 2, 3"
ADD = "INSERT INTO {schema}.online_tables (project, view, generation, kind) VALUES (%s, %s, %s, %s) RETURNING id"
MARKER = "!marker"
"""The name of the marker among a table's progress. Its value names the table: another database repeats the numbers."""
PROGRESS = f"""SELECT name, number, words FROM {{schema}}.online_progress
WHERE table_id = %s AND name <> '{MARKER}' ORDER BY name"""
MARKED = f"""SELECT project, view, generation, kind
FROM {{schema}}.online_tables JOIN {{schema}}.online_progress ON table_id = id AND name = '{MARKER}'
WHERE project = ANY(%s)"""
WRITE_PROGRESS = """INSERT INTO {schema}.online_progress (table_id, name, number, words)
SELECT %s, * FROM unnest(%s::text[], %s::int8[], %s::text[])
ON CONFLICT (table_id, name) DO UPDATE SET number = excluded.number, words = excluded.words"""

KEEP_NEWEST = """INSERT INTO {rows} AS kept (key, version, expires_at, value)
SELECT * FROM unnest(%s, %s, %s, %s)
ON CONFLICT (key) DO UPDATE SET version = excluded.version, expires_at = excluded.expires_at, value = excluded.value
WHERE excluded.version >= kept.version
RETURNING key"""
KEEP_NEW = """INSERT INTO {rows} (key, token, expires_at, value)
SELECT * FROM unnest(%s, %s, %s, %s)
ON CONFLICT (key) DO NOTHING
RETURNING key"""
# Rows are locked in key order first: two writers with different orders would deadlock.
KEEP_UNCHANGED = """WITH given AS MATERIALIZED (
    SELECT * FROM unnest(%s, %s, %s, %s, %s) AS given (key, token, expires_at, value, read)
), locked AS MATERIALIZED (
    SELECT kept.key FROM {rows} kept JOIN given ON kept.key = given.key AND kept.token = given.read
    ORDER BY kept.key FOR UPDATE OF kept
)
UPDATE {rows} AS kept SET token = given.token, expires_at = given.expires_at, value = given.value
FROM locked JOIN given ON given.key = locked.key
WHERE kept.key = locked.key
RETURNING kept.key"""
DELETE = """WITH locked AS MATERIALIZED (
    SELECT key FROM {rows} WHERE key = ANY(%s) ORDER BY key FOR UPDATE
)
DELETE FROM {rows} WHERE key IN (SELECT key FROM locked)"""
PAGE_END = "SELECT key FROM {rows} WHERE key >= %s ORDER BY key OFFSET %s LIMIT 1"
DELETE_EXPIRED = """WITH due AS MATERIALIZED (
    SELECT key FROM {rows} WHERE key >= %(after)s {end} AND expires_at <= %(now)s ORDER BY key FOR UPDATE
)
DELETE FROM {rows} WHERE key IN (SELECT key FROM due)"""
SCAN = "SELECT key, value, {mark} FROM {rows} WHERE key > %s ORDER BY key LIMIT %s"
SCAN_FIRST = "SELECT key, value, {mark} FROM {rows} ORDER BY key LIMIT %s"

# The timeline increases when a standby is promoted, which may lack the last writes. Without fsync a restart may too.
INCARNATION = """SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)
|| CASE WHEN current_setting('fsync') = 'off' THEN ' ' || pg_postmaster_start_time()::text ELSE '' END"""
WARNINGS = "SELECT current_setting('fsync'), current_setting('full_page_writes'), pg_is_in_recovery()"


@lru_cache(maxsize=512)
def select(schema: str, shape: tuple[tuple[int, int, str], ...], marked: tuple[tuple[int, int], ...] = ()) -> str:
    """One statement for all lookups.

    Args:
        shape: per lookup its index, its table's number, and the table's kind.
        marked: per table whose marker is read the index of a lookup, and its number; it is there if a row is at 0.
    """
    parts = []
    for place, id, kind in shape:
        marks = "kept.version, NULL::int8" if kind == "latest" else "NULL::bytea, kept.token"
        parts.append(
            f"SELECT {place}::int4, asked.at::int4, kept.value, {marks} "
            f"FROM unnest(%s) WITH ORDINALITY AS asked (key, at) JOIN {schema}.online_{id} kept ON kept.key = asked.key"
        )
    for place, id in marked:
        parts.append(
            f"SELECT {place}::int4, 0::int4, NULL::bytea, NULL::bytea, NULL::int8 FROM {schema}.online_progress "
            f"WHERE table_id = {id} AND name = '{MARKER}' AND words = %s"
        )
    return "\nUNION ALL\n".join(parts)


class ByteaArray(bytes):
    """A `bytea[]` in the server's binary format, built at once: there may be thousands of values."""

    @classmethod
    def of(cls, values: Sequence[bytes]) -> ByteaArray:
        lengths = np.fromiter(map(len, values), dtype=">i4", count=len(values)).tobytes()
        sizes = [lengths[at : at + 4] for at in range(0, len(lengths), 4)]
        return cls(b"".join([_header(17, len(values)), *chain.from_iterable(zip(sizes, values, strict=True))]))


class Int8Array(bytes):
    """An `int8[]` in the server's binary format."""

    @classmethod
    def of(cls, values: Sequence[int]) -> Int8Array:
        elements = np.empty(len(values), dtype=[("length", ">i4"), ("value", ">i8")])
        elements["length"] = 8
        elements["value"] = values
        return cls(_header(20, len(values)) + elements.tobytes())


def expiries(expires_at: Sequence[Micros | None] | None, n: int) -> Sequence[int]:
    """Expiry of each row, as stored."""
    if expires_at is None:
        return [NEVER] * n
    return [NEVER if each is None else each for each in expires_at]


def _header(element: int, n: int) -> bytes:
    """Header of a binary array: dimensions, whether there are nulls, element type; then length and lower bound."""
    return struct.pack(">iii", 1 if n else 0, 0, element) + (struct.pack(">ii", n, 1) if n else b"")


class _ByteaArrayDumper(adapt.Dumper):
    format = pq.Format.BINARY
    oid = 1001

    def dump(self, obj: Any) -> Any:
        return obj


class _Int8ArrayDumper(_ByteaArrayDumper):
    oid = 1016


psycopg.adapters.register_dumper(ByteaArray, _ByteaArrayDumper)
psycopg.adapters.register_dumper(Int8Array, _Int8ArrayDumper)
