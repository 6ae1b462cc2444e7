"""Times of a cron expression, by `cronsim`: those of Debian's cron, also where clocks change."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from asof.timing import Micros, micros, moment

_LOOK_AHEAD = timedelta(minutes=1)
"""A search backwards begins so much later, as `cronsim` leaves out the minute that it begins in."""


@dataclass(frozen=True)
class Cron:
    """A cron expression in a time zone.

    Raises:
        ValueError: at `check`: the expression is not well formed, or there is no such zone.
    """

    expression: str
    timezone: str = "UTC"

    @cached_property
    def _zone(self) -> ZoneInfo:
        try:
            return ZoneInfo(self.timezone)
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(f"there is no time zone {self.timezone!r}") from error

    def check(self) -> None:
        """Raise a ValueError where it is not well formed."""
        try:
            CronSim(self.expression, moment(0).astimezone(self._zone))
        except CronSimError as error:
            raise ValueError(f"{self.expression!r} is no cron expression: {str(error).lower()}") from error

    def latest(self, at: Micros) -> Micros:
        """The latest time of the expression that is not after `at`."""
        for each in CronSim(self.expression, self._local(at) + _LOOK_AHEAD, reverse=True):
            if (found := micros(each)) <= at:
                return found
        raise AssertionError("unreachable: an expression without any time is refused")

    def following(self, at: Micros) -> Micros:
        """The first time of the expression after `at`."""
        return micros(next(CronSim(self.expression, self._local(at))))

    def _local(self, at: Micros) -> datetime:
        return moment(at).astimezone(self._zone)
