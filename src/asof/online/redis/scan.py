"""Pages of a table's keys in order, which Redis does not support: keys are collected, sorted and cached."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from asof.online.protocol import OnlineTable, Row, ScannedRow
from asof.online.redis.commands import RedisCommands

KEYS_IN_WINDOW = 500_000
WINDOW_S = 60.0
"""Number of keys that a scan sorts at once, and how long they are cached for its next pages."""


@dataclass
class ScanWindow:
    """Sorted keys that a scan has collected but not returned yet."""

    keys: list[bytes]
    is_last: bool
    made: float
    at: int = 0

    @property
    def is_used_up(self) -> bool:
        """Whether all keys were returned."""
        return self.at >= len(self.keys)

    def next(self, count: int) -> list[bytes]:
        """The next keys, at most `count`."""
        piece = self.keys[self.at : self.at + count]
        self.at += len(piece)
        return piece


class Scanner:
    """Pages through tables.

    Args:
        read: reads rows from masters.
    """

    def __init__(
        self, commands: RedisCommands, read: Callable[[OnlineTable, Sequence[bytes]], list[list[Row | None]]]
    ) -> None:
        self._commands, self._servers, self._names = commands, commands.servers, commands.names
        self._read = read
        self._windows: dict[tuple[OnlineTable, bytes], ScanWindow] = {}

    def scan(self, table: OnlineTable, *, after: bytes | None, limit: int) -> list[ScannedRow]:
        """See `OnlineStore.scan`."""
        if self._commands.kind_of(table) != table.kind:
            return []
        window = self._windows.pop((table, after), None) if after is not None else None
        if window is not None and time.monotonic() - window.made > WINDOW_S:
            window = None
        found: list[ScannedRow] = []
        last = after
        while len(found) < limit:
            if window is None or (window.is_used_up and not window.is_last):
                window = self._servers.attempt(partial(self._gather, table, last))
            piece = window.next(limit - len(found))
            if not piece:
                break
            (rows,) = self._read(table, piece)
            found += [(key, *row) for key, row in zip(piece, rows, strict=True) if row is not None]
            last = piece[-1]
        if window is not None and len(found) == limit:
            while len(self._windows) >= 8:
                self._windows.pop(next(iter(self._windows)), None)
            self._windows[table, found[-1][0]] = window
        return found

    def _gather(self, table: OnlineTable, after: bytes | None) -> ScanWindow:
        """The smallest keys greater than `after`, sorted, up to the number that is cached."""
        before = self._names.rows(table)
        keys: list[bytes] = []
        bound: bytes | None = None
        for _, names in self._commands.pages(self._names.row_pattern(table)):
            cut = [name[len(before) : -1] for name in names]
            keys += [key for key in cut if (after is None or key > after) and (bound is None or key <= bound)]
            if len(keys) > 2 * KEYS_IN_WINDOW:
                keys = sorted(set(keys))[:KEYS_IN_WINDOW]
                bound = keys[-1]
        keys = sorted(set(keys))
        is_last = bound is None and len(keys) <= KEYS_IN_WINDOW
        return ScanWindow(keys[:KEYS_IN_WINDOW], is_last=is_last, made=time.monotonic())
