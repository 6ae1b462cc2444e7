"""Numbers over time, as pages draw them: as a chart to read values from, as an SVG without JavaScript, as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import isfinite

from asof.flows.use import UseSums
from asof.profiles.summary import FeatureProfile
from asof.timing import Micros, micros

NUMBER, SHARE = "number", "share"
"""What the values of a series are: numbers, or shares from 0 to 1."""

_PERCENTILES = (("median", "0.5"), ("5th percentile", "0.05"), ("95th percentile", "0.95"))


@dataclass(frozen=True)
class Series:
    """Values at moments.

    Args:
        times: ascending, in microseconds.
        lines: name → a value per moment, None for a missing one; the first is the main one.
        unit: `number` or `share`.
        whole_days: whether a value is that of a day in UTC, and not of its moment.
    """

    title: str
    times: Sequence[Micros]
    lines: Mapping[str, Sequence[float | None]]
    unit: str = NUMBER
    whole_days: bool = False

    @property
    def rows(self) -> list[tuple[Micros, list[float | None]]]:
        """A row per moment with the values of all lines."""
        return [(time, [line[place] for line in self.lines.values()]) for place, time in enumerate(self.times)]


def requests_by_day(uses: Sequence[UseSums], now: datetime) -> Series | None:
    """The requests of each day until now for some features, each counted for each; None where there were none."""
    counted = [each.requests_by_day for each in uses if each.requests_by_day]
    if not counted:
        return None
    days = max(map(len, counted))
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    times = [micros(today - timedelta(days=days - 1 - place)) for place in range(days)]
    sums = [float(sum(each[place] for each in counted)) for place in range(days)]
    return Series("Requests per day", times, {"requests": sums}, whole_days=True)


def null_shares(profiles: Sequence[tuple[Micros, FeatureProfile]]) -> Series | None:
    """The share of nulls in each profile, the oldest first; None of fewer than two, and where there never was one."""
    if len(profiles) < 2 or not any(each.nulls for _, each in profiles):
        return None
    times = [when for when, _ in profiles]
    return Series("Nulls in each profile", times, {"nulls": [each.null_share for _, each in profiles]}, SHARE)


def distributions(profiles: Sequence[tuple[Micros, FeatureProfile]]) -> Series | None:
    """The middle and the spread of the values in each profile, the oldest first; None of fewer than two, of times and
    of what has no quantiles."""
    newest = profiles[-1][1] if profiles else None
    if newest is None or len(profiles) < 2 or newest.measured not in ("value", "length"):
        return None
    lines: dict[str, Sequence[float | None]] = {}
    for name, share in _PERCENTILES:
        values = [_number(each.quantiles.get(share)) for _, each in profiles]
        if any(value is not None for value in values):
            lines[name] = values
    if not lines:
        return None
    of = "Lengths" if newest.measured == "length" else "Values"
    return Series(f"{of} in each profile", [when for when, _ in profiles], lines)


def _number(value: float | None) -> float | None:
    return value if value is not None and isfinite(value) else None


__all__ = ["NUMBER", "SHARE", "Series", "distributions", "null_shares", "requests_by_day"]
