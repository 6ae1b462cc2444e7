"""Times of cron expressions, and the configuration of the schedule."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from asof.config import load_config
from asof.config.cron import Cron
from asof.errors import ConfigError
from asof.timing import Micros, micros, moment


def at(text: str) -> Micros:
    return micros(text)


@pytest.mark.parametrize(
    ("cron", "now", "latest", "following"),
    [
        (Cron("*/15 * * * *"), "2026-01-05T12:00:00", "2026-01-05T12:00:00", "2026-01-05T12:15:00"),
        (Cron("*/15 * * * *"), "2026-01-05T12:14:59.999999", "2026-01-05T12:00:00", "2026-01-05T12:15:00"),
        (Cron("30 3 * * MON"), "2026-01-05T03:29:00", "2025-12-29T03:30:00", "2026-01-05T03:30:00"),
        (Cron("0 0 29 2 *"), "2026-01-05T03:29:00", "2024-02-29T00:00:00", "2028-02-29T00:00:00"),
        (Cron("*/10 * * * * *"), "2026-01-05T03:29:09", "2026-01-05T03:29:00", "2026-01-05T03:29:10"),
        (Cron("0 3 * * *", "Europe/Berlin"), "2026-07-01T02:00:00", "2026-07-01T01:00:00", "2026-07-02T01:00:00"),
    ],
)
def test_the_times_around_a_moment(cron: Cron, now: str, latest: str, following: str) -> None:
    cron.check()

    assert moment(cron.latest(at(now))) == datetime.fromisoformat(latest).replace(tzinfo=UTC)
    assert moment(cron.following(at(now))) == datetime.fromisoformat(following).replace(tzinfo=UTC)


def configured(folder: Path, schedule: str) -> list[tuple[str, str, str, str, tuple[str, ...]]]:
    (folder / "feature_store.yaml").write_text(f"project: shop\nschedule:\n{schedule}")
    entries = load_config(folder).schedule
    return [(each.name, each.job, each.cron.expression, each.cron.timezone, each.views) for each in entries]


def test_an_entry_is_an_expression_or_a_group(tmp_path: Path) -> None:
    schedule = (
        "  compact: '30 3 * * *'\n  sales: {job: materialize, cron: '0 * * * *', views: [a, b], timezone: Asia/Tokyo}\n"
    )

    assert configured(tmp_path, schedule) == [
        ("compact", "compact", "30 3 * * *", "UTC", ()),
        ("sales", "materialize", "0 * * * *", "Asia/Tokyo", ("a", "b")),
    ]


@pytest.mark.parametrize(
    ("schedule", "says"),
    [
        ("  audit: '61 * * * *'", "schedule.audit: '61 * * * *' is no cron expression: bad minute"),
        ("  audit: '0 0 30 2 *'", "is no cron expression: bad day-of-month"),
        ("  audit: {cron: '* * * * *', timezone: Mars/Base}", "there is no time zone 'Mars/Base'"),
        ("  audti: '* * * * *'", "did you mean 'audit'?"),
        ("  nightly: '* * * * *'", "add `job:` and one of materialize, compact, audit, profile"),
        ("  compact: {cron: '* * * * *', views: [a]}", "compact takes no views"),
        ("  audit: {}", "`cron` is missing"),
        ("  audit: 5", "schedule.audit: expected"),
    ],
)
def test_what_is_no_schedule_is_refused_with_its_line(tmp_path: Path, schedule: str, says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        configured(tmp_path, schedule)

    assert says in str(refused.value) and "feature_store.yaml:3" in str(refused.value)
