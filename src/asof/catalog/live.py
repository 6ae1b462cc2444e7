"""What pages show of the live store: each value has a time budget, and says how old it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Condition, Lock
from typing import Any, Generic, Protocol, TypeVar

from asof.errors import AsofError

T = TypeVar("T")

BUDGET_S = 0.25
"""How long a page waits for one of its values, and for all of them together."""

MAX_AGE_S = 30.0
"""How long a value is shown before it is asked for again."""

_CLOSE_S = 30.0
"""How long closing waits for values that are being asked for; a server that does not respond may take longer."""

_GIVE_WAY_S = 2.0
"""How long work in the background gives way to pages; of a busy server one is always being made."""

_THREADS = 4
_MOST = 2_000
"""Number of values that are kept; the oldest are dropped beyond it."""


@dataclass(frozen=True)
class LiveValue(Generic[T]):
    """One value of a page.

    Args:
        value: its value; None while there is none.
        age_s: seconds since it was asked for; None without a value.
        is_late: it takes longer than its budget, and is still being asked for: the value, if any, is an earlier one.
        error: why there is no value; empty if there is no error.
        hint: the next step after an error.
    """

    value: T | None = None
    age_s: float | None = None
    is_late: bool = False
    error: str = ""
    hint: str = ""


@dataclass
class _CachedValue:
    value: Any
    since: float


class Values(Protocol):
    """Where pages get live values from."""

    def get(
        self, key: Hashable, work: Callable[[], T], *, budget_s: float = BUDGET_S, max_age_s: float = MAX_AGE_S
    ) -> LiveValue[T]:
        """See `LiveValues.get`."""
        ...

    def later(self, key: Hashable, work: Callable[[], T], *, max_age_s: float = MAX_AGE_S) -> LiveValue[T]:
        """See `LiveValues.later`."""
        ...

    def forget(self, *keys: Hashable) -> None:
        """See `LiveValues.forget`."""
        ...


class LiveValues:
    """Asks the store for what pages show, in a few threads; all pages share the values.

    Args:
        monotonic: seconds, for ages and budgets.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = Lock()
        self._threads = ThreadPoolExecutor(_THREADS, "asof-catalog")
        self._background = ThreadPoolExecutor(1, "asof-catalog-later")
        self._known: dict[Hashable, _CachedValue] = {}
        self._running: dict[Hashable, Future[Any]] = {}
        self._pages = 0
        self._quiet = Condition()

    def get(
        self,
        key: Hashable,
        work: Callable[[], T],
        *,
        budget_s: float = BUDGET_S,
        max_age_s: float = MAX_AGE_S,
    ) -> LiveValue[T]:
        """A value: the one that is known if it is young enough, else a new one if it comes within its budget.

        Args:
            key: what is asked for: equal keys share a value.
            work: asks for it. It goes on after the budget, and the next page finds its value.
        """
        return self._get(key, work, self._threads, budget_s=budget_s, max_age_s=max_age_s)

    def later(self, key: Hashable, work: Callable[[], T], *, max_age_s: float = MAX_AGE_S) -> LiveValue[T]:
        """A value that always takes long, and that no page waits for: the one that is known, if any.

        Such values are asked for one at a time, and begin when no page is being made: a page that shares a processor
        with ten seconds of checks takes several times as long.
        """
        return self._get(key, lambda: self._when_quiet(work), self._background, budget_s=0.0, max_age_s=max_age_s)

    @contextmanager
    def page(self) -> Iterator[Values]:
        """What a page gets its values from while it is being made: they share one budget."""
        with self._quiet:
            self._pages += 1
        try:
            yield PageValues(self, self._monotonic)
        finally:
            with self._quiet:
                self._pages -= 1
                self._quiet.notify_all()

    def forget(self, *keys: Hashable) -> None:
        """Ask again for these at the next page: what they show was changed."""
        with self._lock:
            for key in keys:
                self._known.pop(key, None)

    def close(self) -> None:
        """Start nothing more, and wait a little for what is being asked for: the store is closed next."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._background.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            running = list(self._running.values())
        wait(running, _CLOSE_S)

    def _get(
        self, key: Hashable, work: Callable[[], T], threads: ThreadPoolExecutor, *, budget_s: float, max_age_s: float
    ) -> LiveValue[T]:
        with self._lock:
            known = self._known.get(key)
            if known is not None and self._monotonic() - known.since <= max_age_s:
                return self._part(known)
            running = self._running.get(key)
            if running is None:
                running = self._running[key] = threads.submit(self._work, key, work)
        try:
            running.result(budget_s)
        except FutureTimeout:
            return self._part(known, is_late=True)
        except AsofError as error:
            return LiveValue(error=error.message, hint=error.hint or "")
        with self._lock:
            return self._part(self._known.get(key))

    def _when_quiet(self, work: Callable[[], T]) -> T:
        with self._quiet:
            self._quiet.wait_for(lambda: not self._pages, _GIVE_WAY_S)
        return work()

    def _work(self, key: Hashable, work: Callable[[], Any]) -> None:
        since = self._monotonic()
        try:
            value = work()
        finally:
            with self._lock:
                self._running.pop(key, None)
        with self._lock:
            self._known.pop(key, None)
            self._known[key] = _CachedValue(value, since)
            while len(self._known) > _MOST:
                self._known.pop(next(iter(self._known)))

    def _part(self, known: _CachedValue | None, *, is_late: bool = False) -> LiveValue[Any]:
        if known is None:
            return LiveValue(is_late=True)
        return LiveValue(known.value, self._monotonic() - known.since, is_late)


class PageValues:
    """The live values of one page. It waits for all of them together no longer than for one.

    Args:
        budget_s: for all values; one whose own budget is longer is what the page is about, and gets that.
    """

    def __init__(self, live: LiveValues, monotonic: Callable[[], float], budget_s: float = BUDGET_S) -> None:
        self._live = live
        self._monotonic = monotonic
        self._budget_s = self._left_s = budget_s

    def get(
        self, key: Hashable, work: Callable[[], T], *, budget_s: float = BUDGET_S, max_age_s: float = MAX_AGE_S
    ) -> LiveValue[T]:
        """See `LiveValues.get`."""
        own_s = budget_s if budget_s > self._budget_s else min(budget_s, self._left_s)
        began = self._monotonic()
        found = self._live.get(key, work, budget_s=own_s, max_age_s=max_age_s)
        self._left_s = max(self._left_s - (self._monotonic() - began), 0.0)
        return found

    def later(self, key: Hashable, work: Callable[[], T], *, max_age_s: float = MAX_AGE_S) -> LiveValue[T]:
        """See `LiveValues.later`."""
        return self._live.later(key, work, max_age_s=max_age_s)

    def forget(self, *keys: Hashable) -> None:
        """See `LiveValues.forget`."""
        self._live.forget(*keys)
