"""Read `schedule:`: which job, when, and of which views."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from asof.config.documents import LocatedValue
from asof.config.reading import read_section, wrong
from asof.config.sections.schedule import ScheduledJobSection
from asof.errors import ConfigError, nearest

if TYPE_CHECKING:
    from asof.config.cron import Cron

JOBS = ("materialize", "compact", "audit", "profile")


@dataclass(frozen=True)
class ScheduledJob:
    """One entry of the schedule.

    Args:
        job: one of `JOBS`.
        views: empty for all.
        where: `file:line`.
    """

    name: str
    job: str
    cron: Cron
    views: tuple[str, ...] = ()
    where: str = ""


def read_schedule(written: LocatedValue | None, *, root: Path) -> tuple[ScheduledJob, ...]:
    """The entries in the order of the file.

    Raises:
        ConfigError: an entry is not well formed.
    """
    if written is None:
        return ()
    if written.tag != "map":
        raise wrong("schedule", written, "names, each with a cron expression or a group of keys")
    return tuple(_job(name, each, root=root) for name, each in written.content.items())


def _job(name: str, written: LocatedValue, *, root: Path) -> ScheduledJob:
    from asof.config.cron import Cron

    path = f"schedule.{name}"
    if written.tag == "str":
        written = LocatedValue({"cron": written}, "map", written.where)
    read = read_section(ScheduledJobSection, written, path=path, root=root)
    job = read.job or name
    if job not in JOBS:
        raise ConfigError(
            f"{path}: there is no job {job!r}", hint=nearest(job, JOBS) or f"add `job:` and one of {', '.join(JOBS)}",
            where=written.where,
        )  # fmt: skip
    if job == "compact" and read.views:
        raise ConfigError(f"{path}: compact takes no views", hint="leave out `views`", where=written.where)
    cron = Cron(read.cron, read.timezone)
    try:
        cron.check()
    except ValueError as error:
        raise ConfigError(
            f"{path}: {error}", hint="write for example '*/15 * * * *', every quarter of an hour", where=written.where
        ) from error
    return ScheduledJob(name, job, cron, tuple(read.views or ()), written.where)


__all__ = ["JOBS", "ScheduledJob", "read_schedule"]
