"""The limit of dead letters, above which the source's schema is taken to be wrong and the worker stops."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping
from itertools import repeat

from asof.definitions import LogSource
from asof.errors import DeadLetterLimit
from asof.flows.stream.worker_log import reasons_text

LIMIT_WINDOW = 1000
LIMIT_SHARE = 0.5
LIMIT_AFTER_S = 10.0
"""The limit: half of the last 1000 messages, for at least 10 s."""


class RecentVerdicts:
    """Verdicts on a source's last messages.

    Args:
        seconds: a monotonic clock.

    Attributes:
        pass_the_limit: whether too many are dead letters for too long.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self.pass_the_limit = False
        self._seconds = seconds
        self._dead: deque[bool] = deque(maxlen=LIMIT_WINDOW)
        self._are_mixed = False
        self._bad_since: float | None = None

    def add(self, count: int, dead: Collection[int]) -> None:
        """Add the verdicts on the next messages.

        Args:
            dead: indexes of the dead letters.
        """
        self._are_mixed |= bool(dead)
        if not self._are_mixed:
            # Fast for pushes: nothing is counted before the first dead letter.
            self._dead.extend(repeat(False, min(count, LIMIT_WINDOW)))
            return
        self._dead.extend(i in dead for i in range(max(0, count - LIMIT_WINDOW), count))
        if len(self._dead) < LIMIT_WINDOW or self._share() < LIMIT_SHARE:
            self._bad_since, self.pass_the_limit = None, False
            return
        now = self._seconds()
        self._bad_since = self._bad_since if self._bad_since is not None else now
        self.pass_the_limit = now - self._bad_since >= LIMIT_AFTER_S

    def _share(self) -> float:
        return sum(self._dead) / max(len(self._dead), 1)

    def error(self, source: LogSource, reasons: Mapping[str, int]) -> DeadLetterLimit:
        """The error that a worker stops with.

        Args:
            reasons: kind of reason → number of dead letters.
        """
        return DeadLetterLimit(
            f"source {source.name!r}: {self._share():.0%} of the last {len(self._dead)} messages are dead letters, "
            f"above the limit of {LIMIT_SHARE:.0%}; the worker stopped. Most frequent: {reasons_text(reasons)}",
            hint=f"see them with `asof dead-letters list --source {source.name}`, fix the schema, and replay them",
            where=source.where,
        )
