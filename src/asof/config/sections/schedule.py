"""`schedule:`, the jobs that `asof run` works through, and when."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from asof.config.sections.kinds import OptionDoc, Section, Text, Texts


class ScheduledJobSection(Section, frozen=True, kw_only=True):
    """One entry of the schedule: a cron expression alone, or this group."""

    SECTION: ClassVar[str] = "schedule"

    cron: Annotated[
        Text,
        OptionDoc("When, as five fields: minute, hour, day of month, month, day of week; before them seconds, if six."),
    ]
    job: Annotated[
        Literal["materialize", "compact", "audit", "profile"] | None,
        OptionDoc("What to do; left out where the entry is named like it."),
    ] = None
    views: Annotated[Texts | None, OptionDoc("Only these views; not of `compact`. Default: all.")] = None
    timezone: Annotated[Text, OptionDoc("The time zone of the expression, such as `Europe/Berlin`.")] = "UTC"
