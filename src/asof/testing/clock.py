"""A clock that stands until it is moved."""

from __future__ import annotations

from datetime import datetime, timedelta

from asof.timing import micros, moment, span


class HandClock:
    """The now of a store under test: pass it as `FeatureStore(clock=…)`.

    Args:
        start: an aware datetime, or ISO 8601 text; a naive one is taken as UTC.
    """

    def __init__(self, start: datetime | str) -> None:
        self._now = micros(start)

    def __call__(self) -> datetime:
        return moment(self._now)

    def set(self, to: datetime | str) -> None:
        """Stand at this moment, be it later or earlier."""
        self._now = micros(to)

    def move(self, by: timedelta | str) -> None:
        """Go on by a duration, for example `90s`."""
        self._now += span(by)
