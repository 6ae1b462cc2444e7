"""A small cache whose entries end after some time; it holds no more than what is still of use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class ExpiringEntries(Generic[K, V]):
    """Values that are used for some seconds after they were put. Its users hold a lock.

    Each `put` removes what has ended, so that it shrinks to nothing after a flood of keys; beyond the limit the oldest
    entries go first.

    Args:
        seconds: how long a value is used.
        most: limit of entries.
        clock: a monotonic clock, in seconds.
    """

    def __init__(self, *, seconds: float, most: int, clock: Callable[[], float]) -> None:
        self._seconds, self._most, self._clock = seconds, most, clock
        # In the order in which they were put, and so in which they end.
        self._entries: dict[K, tuple[float, V]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> V | None:
        """The value, unless it has ended."""
        until, value = self._entries.get(key, (0.0, None))
        return value if self._clock() < until else None

    def put(self, key: K, value: V) -> None:
        """Use the value from now on."""
        now = self._clock()
        self._entries.pop(key, None)
        while self._entries and (next(iter(self._entries.values()))[0] <= now or len(self._entries) >= self._most):
            del self._entries[next(iter(self._entries))]
        self._entries[key] = now + self._seconds, value
