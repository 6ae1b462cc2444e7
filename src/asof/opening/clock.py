"""The store's clock and the user of the process, read from the system once when a store is opened."""

from __future__ import annotations

import getpass
import os
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

from asof.config import StoreConfig
from asof.errors import ConfigError
from asof.timing import Clock, Micros, iso, micros


def system_clock() -> Micros:
    """The system's current time."""
    return time.time_ns() // 1000


def clock_of(config: StoreConfig, given: Callable[[], datetime] | None) -> tuple[Clock, str]:
    """The store's clock, and its description if it is not the system's.

    Raises:
        ConfigError: the given or configured clock is invalid.
    """
    if given is not None:
        clock = _given_clock("clock", given)
        return clock, f"clock: {iso(clock())} (given)"
    if config.clock:
        try:
            start = micros(config.clock)
        except ValueError as error:
            raise ConfigError(
                f"clock: {config.clock!r} is not a time", hint="write ISO 8601, for example 2026-11-23T12:00:00Z"
            ) from error
        return (lambda: start), f"clock: {iso(start)} (feature_store.yaml)"
    return system_clock, ""


def system_clock_of(given: Callable[[], datetime] | None) -> Clock:
    """The system's clock, or one that a test gives in its place.

    Raises:
        ConfigError: what is given is none.
    """
    return system_clock if given is None else _given_clock("system_clock", given)


def _given_clock(name: str, given: Callable[[], datetime]) -> Clock:
    if not isinstance(given(), datetime):
        raise ConfigError(
            f"{name}= returned {given()!r}", hint="give a callable that returns a timezone-aware datetime"
        )
    return lambda: micros(given())


def user_and_host() -> str:
    """Who runs this process, for the registry's history."""
    with suppress(KeyError, OSError):
        return f"{getpass.getuser()}@{os.uname().nodename}"
    return "unknown"
