"""Names of tables and rows in Redis, and their slots in a cluster.

    asof:shop:user_traffic:3f2a9c1d-2:{key}      a row
    asof:shop:user_traffic:3f2a9c1d-2!facts      a table's progress, a hash
    asof:shop:user_traffic:3f2a9c1d-2!marker     set when the table was built: missing if it was lost
    asof:shop!tables, asof:shop!dropping         the project's tables, and those being dropped, hashes

Names are quoted, so that none is a prefix of another. A row's key is its hash tag, so that the rows of one entity in
all views are in one slot. In a cluster the hashes exist once per anchor. An anchor is a hash tag in a known range of
slots, so that every master has some anchors, with the tables and progress of its own rows.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Iterable, Sequence
from functools import cache
from urllib.parse import quote, unquote

from asof.online.protocol import Lookup, OnlineTable

SLOTS = 16384
ANCHORS = 64
"""Number of anchors: each master of a cluster must have at least one of this many equal ranges of slots."""


class RedisNames:
    """The names of one store.

    Args:
        prefix: of all names.
    """

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix.encode()
        self._rows: dict[OnlineTable, bytes] = {}
        self._markers: dict[tuple[OnlineTable, bytes], bytes] = {}
        self._marked: dict[OnlineTable, tuple[bytes, bytes]] = {}

    def rows(self, table: OnlineTable) -> bytes:
        """The name of a row up to its key; `}` follows the key."""
        known = self._rows.get(table)
        if known is None:
            known = self._rows[table] = self._table(table) + b":{"
        return known

    def of(self, lookups: Sequence[Lookup]) -> list[bytes]:
        """The names of the rows of lookups, in order."""
        names: list[bytes] = []
        for table, keys in lookups:
            before = self._rows.get(table) or self.rows(table)
            names += [before + key + b"}" for key in keys]
        return names

    def marked(self, lookups: Sequence[Lookup]) -> list[bytes]:
        """As `of`, then the name of each lookup's marker, where there are no anchors."""
        names: list[bytes] = []
        markers: list[bytes] = []
        for table, keys in lookups:
            known = self._marked.get(table)
            if known is None:
                known = self._marked[table] = self.rows(table), self.marker(table, b"")
            before, marker = known
            names += [before + key + b"}" for key in keys]
            markers.append(marker)
        return names + markers if names else []

    def row_pattern(self, table: OnlineTable) -> bytes:
        """Pattern that matches exactly the table's rows."""
        return escaped(self.rows(table)) + b"*"

    def facts(self, table: OnlineTable, anchor: bytes) -> bytes:
        """Name of the table's progress."""
        return self._table(table) + b"!facts" + anchor

    def marker(self, table: OnlineTable, anchor: bytes) -> bytes:
        """The table's marker."""
        known = self._markers.get((table, anchor))
        if known is None:
            known = self._markers[table, anchor] = self._table(table) + b"!marker" + anchor
        return known

    def tables(self, project: str, anchor: bytes) -> bytes:
        """Name of the project's tables."""
        return self._project(project) + b"!tables" + anchor

    def dropping(self, project: str, anchor: bytes) -> bytes:
        """Name of the project's tables that are being dropped."""
        return self._project(project) + b"!dropping" + anchor

    def project_pattern(self, project: str) -> bytes:
        """Pattern that matches the project's rows and facts, and those of stores whose prefix begins with them."""
        return escaped(self._project(project)) + b":*"

    def field(self, table: OnlineTable) -> bytes:
        """The table's field in the hash of tables."""
        return f"{_quoted(table.view)}:{_quoted(table.generation)}".encode()

    def table(self, project: str, field: bytes, kind: bytes) -> OnlineTable:
        """The table of a field."""
        view, _, generation = field.decode().partition(":")
        return OnlineTable(project, unquote(view), unquote(generation), kind.decode())  # type: ignore[arg-type]  # written as one

    def own(self, project: str, names: Iterable[bytes]) -> list[bytes]:
        """The names that are the project's, of those that match its pattern.

        With the prefix `asof:shop:` another store's names begin like those of project `shop` under `asof:`, and go on
        with its own project: `asof:shop:eu:user_traffic:3f2a9c1d-2:{key}`.
        """
        begin = self._project(project) + b":"
        return [each for each in names if each.startswith(begin) and self.field_of(project, each)]

    def field_of(self, project: str, name: bytes) -> bytes:
        """The table's field, from the name of a row, of its progress or its marker; empty where it is none of these."""
        rest = name[len(self._project(project)) + 1 :]
        field, is_row, _ = rest.partition(b":{")
        if not is_row or b"!" in field:
            field, _, kind = rest.partition(b"!")
            if not kind.startswith((b"facts", b"marker")):
                return b""
        return field if field.count(b":") == 1 else b""

    def _project(self, project: str) -> bytes:
        return self.prefix + _quoted(project).encode()

    def _table(self, table: OnlineTable) -> bytes:
        return self._project(table.project) + b":" + self.field(table)


def _quoted(name: str) -> str:
    return quote(name, safe="")


def escaped(name: bytes) -> bytes:
    """A pattern that matches exactly this name."""
    return b"".join(b"\\" + bytes([each]) if each in b"*?[]^\\" else bytes([each]) for each in name)


def slot_of(name: bytes) -> int:
    """The slot of a name: that of its hash tag, if it has one."""
    start = name.find(b"{")
    if start >= 0:
        end = name.find(b"}", start + 1)
        if end > start + 1:
            name = name[start + 1 : end]
    return crc_hqx(name, 0) & (SLOTS - 1)


def anchor_near(slot: int) -> tuple[bytes, int]:
    """The anchor in the same part of the slots, and its own slot."""
    return _anchors_and_slots()[slot * ANCHORS // SLOTS]


@cache
def _anchors_and_slots() -> Sequence[tuple[bytes, int]]:
    return [(anchor, slot_of(anchor)) for anchor in anchors()]


@cache
def anchors() -> Sequence[bytes]:
    """A hash tag in each of `ANCHORS` equal ranges of slots, in order."""
    found: dict[int, bytes] = {}
    number = 0
    while len(found) < ANCHORS:
        tag = b"{%d}" % number
        found.setdefault(slot_of(tag) * ANCHORS // SLOTS, tag)
        number += 1
    return [found[part] for part in range(ANCHORS)]
