"""Use of features: how often each was served on a day, counted per request in use, and kept in the registry.

A request adds one to one number of its planned request; which features that stands for is looked at when the counts are
written, every half minute, in a thread, and at the end of the process.
"""

from __future__ import annotations

import logging
import weakref
from collections import Counter, deque
from collections.abc import Iterable
from threading import Lock
from typing import Protocol

from asof.errors import AsofError
from asof.flows.use import count_served
from asof.store import FeatureStore, open_store_of

FLUSH_S = 30.0
"""How often the counts are written. A process that is killed loses those of the last so many seconds."""

MOST_ENDED = 1000
"""Of requests that are no longer planned, so many wait for the next write."""

log = logging.getLogger("asof.server")


class RequestUse:
    """How often one planned request was served. Only the thread that serves writes `served`.

    Args:
        features: what it reads, as `view:feature`.
    """

    __slots__ = ("counted", "features", "served")

    def __init__(self, features: Iterable[str]) -> None:
        self.features = tuple(features)
        self.served = 0
        self.counted = 0


class WithUse(Protocol):
    """A planned request with its use."""

    use: RequestUse


class UseCounts:
    """The use of features in one process, until it is written to the registry."""

    def __init__(self, store: FeatureStore) -> None:
        self._store = store
        self._lock = Lock()
        self._live: set[RequestUse] = set()
        # Appended to by the garbage collector, in any thread: so it takes no lock.
        self._ended: deque[RequestUse] = deque()
        self._waiting: Counter[str] = Counter()
        self._has_failed = False

    def __len__(self) -> int:
        """Number of requests that are counted, those included whose last counts are not taken yet."""
        return len(self._live)

    def watch(self, planned: WithUse) -> None:
        """Count the use of this request from now on, until it is dropped from the cache of planned requests."""
        with self._lock:
            self._live.add(planned.use)
            if len(self._ended) >= MOST_ENDED:
                self._take_ended()
        # Not at exit: the last write has been by then.
        weakref.finalize(planned, self._ended.append, planned.use).atexit = False

    def flush(self) -> None:
        """Add what was counted since the last flush to the registry. Where that fails, the next flush tries again."""
        with self._lock:
            self._take_ended()
            for each in self._live:
                self._take(each)
            counts, self._waiting = self._waiting, Counter()
        try:
            count_served(open_store_of(self._store).stores, counts)
            self._has_failed = False
        except AsofError as error:
            with self._lock:
                self._waiting.update(counts)
            if not self._has_failed:
                log.warning("the use of features cannot be kept: %s", error.message)
            self._has_failed = True

    def _take_ended(self) -> None:
        while self._ended:
            ended = self._ended.popleft()
            self._take(ended)
            self._live.discard(ended)

    def _take(self, use: RequestUse) -> None:
        # Read once: it may grow meanwhile, and what is added then counts in the next flush.
        served = use.served
        if served != use.counted:
            for feature in use.features:
                self._waiting[feature] += served - use.counted
            use.counted = served
