"""Times and durations: UTC, as integer microseconds since 1970."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

from asof.errors import Argument, RequestError

Micros = int
"""Microseconds: since the epoch for a moment, or of length for a duration."""

PATIENCE_S = 120.0
"""How long a worker waits for a server that stopped responding."""

Clock = Callable[[], Micros]
"""Returns the store's current time."""

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

EARLIEST: Micros = -62_135_596_800 * SECOND
"""0001-01-01, the first time that `datetime` and every engine support."""
LATEST: Micros = 253_402_300_799 * SECOND + 999_999
"""The last microsecond of 9999."""

UNITS: dict[str, tuple[int, int]] = {"s": (SECOND, 1), "ms": (1000, 1), "us": (1, 1), "ns": (1, 1000)}
"""Timestamp unit → (multiplier, divisor) to microseconds."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EPOCH_DAY = EPOCH.date()

_ONE_US = timedelta(microseconds=1)
_DURATION = re.compile(r"(\d+)\s*(us|ms|s|m|h|d|w)")
_DURATION_UNITS = {"us": 1, "ms": 1000, "s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY, "w": 7 * DAY}


def micros(moment: datetime | date | str | int) -> Micros:
    """Convert a time to microseconds since the epoch; naive times are in UTC.

    Args:
        moment: a datetime, a date (its midnight), ISO 8601 text, or microseconds already.

    Raises:
        ValueError: the text is not ISO 8601.
    """
    if isinstance(moment, int):
        return moment
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    if not isinstance(moment, datetime):
        moment = datetime(moment.year, moment.month, moment.day)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - EPOCH) // _ONE_US


def moment(us: Micros) -> datetime:
    """Microseconds since the epoch as an aware datetime in UTC."""
    return EPOCH + timedelta(microseconds=us)


def iso(us: Micros) -> str:
    """Microseconds since the epoch as ISO 8601 text with a `Z`; a fraction only where there is one."""
    return moment(us).isoformat().replace("+00:00", "Z")


def span(duration: timedelta | str | None) -> Micros:
    """A duration in microseconds; None is 0. Text is like `90s`, `1h30m`, `7d`.

    Raises:
        ValueError: it is not a duration; a number has no unit.
    """
    if duration is None:
        return 0
    if isinstance(duration, timedelta):
        return duration // _ONE_US
    text = duration.strip() if isinstance(duration, str) else ""
    parts = _DURATION.findall(text)
    if not parts or _DURATION.sub("", text).strip():
        raise ValueError(f"{duration!r} is not a duration like '90s', '1h30m' or '7d', or a timedelta")
    return sum(int(count) * _DURATION_UNITS[unit] for count, unit in parts)


def span_text(us: Micros) -> str:
    """A duration as short text that `span` parses: 5_400_000_000 → `1h30m`."""
    if us == 0:
        return "0s"
    parts = []
    for unit, size in (("d", DAY), ("h", HOUR), ("m", MINUTE), ("s", SECOND), ("ms", 1000), ("us", 1)):
        count, us = divmod(us, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)


def whole_units(us: Micros, unit: str) -> int:
    """Microseconds as a whole number of units, rounded down."""
    multiplier, divisor = UNITS[unit]
    return us // multiplier * divisor


def floor_to(us: Micros, hop: Micros) -> Micros:
    """The greatest multiple of `hop` since the epoch that is not after `us` (also before 1970)."""
    return us - us % hop


def default_hop(window: Micros) -> Micros:
    """The default hop of a sliding window of this length."""
    if window < 2 * MINUTE:
        return SECOND
    if window < 12 * MINUTE:
        return 10 * SECOND
    if window < HOUR:
        return MINUTE
    if window <= 12 * HOUR:
        return 5 * MINUTE
    if window <= 12 * DAY:
        return HOUR
    return DAY


def moment_given(value: datetime | str | None, name: str) -> Micros | None:
    """Convert a time parameter, or None; integers are refused, since they have no unit.

    Args:
        name: the parameter's.

    Raises:
        RequestError: it is not a time.
    """
    if value is None:
        return None
    try:
        if isinstance(value, date | str):
            return micros(value)
    except ValueError:
        pass
    wrong = Argument(name, value)
    raise RequestError(
        f"{wrong} is not a time",
        hint="give a datetime, or ISO 8601 text like '2026-11-23T12:00:00Z'", arguments=[wrong],
    )  # fmt: skip
