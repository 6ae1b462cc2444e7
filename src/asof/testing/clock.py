"""Clocks that stand until they are moved: one for users of a store, one for its stores, which count microseconds."""

from __future__ import annotations

from datetime import datetime, timedelta

from asof.timing import SECOND, Micros, micros, moment, span

NOW = micros("2026-01-01T12:00:00+00:00")


class MicrosClock:
    """The now of what a store is made of.

    Attributes:
        now: may be set.
    """

    def __init__(self, now: Micros = NOW) -> None:
        self.now = now

    def __call__(self) -> Micros:
        return self.now

    def move(self, duration: Micros = SECOND) -> Micros:
        """Go on by a duration; the new time."""
        self.now += duration
        return self.now


class HandClock:
    """The now of a store under test: pass it as `FeatureStore(clock=…)`.

    Args:
        start: an aware datetime, or ISO 8601 text; a naive one is taken as UTC.
    """

    def __init__(self, start: datetime | str) -> None:
        self._clock = MicrosClock(micros(start))

    def __call__(self) -> datetime:
        return moment(self._clock())

    def set(self, to: datetime | str) -> None:
        """Stand at this moment, be it later or earlier."""
        self._clock.now = micros(to)

    def move(self, by: timedelta | str) -> None:
        """Go on by a duration, for example `90s`."""
        self._clock.move(span(by))


__all__ = ["NOW", "HandClock", "MicrosClock"]
