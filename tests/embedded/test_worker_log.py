"""What a worker and its command say of their work: lines of text or JSON on stderr, and no value of a row."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from asof import Aggregation, Entity, FeatureStore, FeatureView, Field, LogSource, Sliding
from asof.cli.app import cli
from asof.cli.context import CliContext
from asof.errors import DeadLetterLimit
from asof.flows.stream.dead_letter_limit import RecentVerdicts
from asof.flows.stream.status import PartitionStatus
from asof.flows.stream.sums import SourceSums
from asof.flows.stream.worker_log import WorkerLog
from asof.log.protocol import LogUnreachable
from asof.process_log import JsonLines, TextLines, facts, one_line
from asof.server.telemetry.metrics import stream_metrics
from asof.store import open_store_of
from asof.types import Int64, String, Timestamp

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
CLICKS = LogSource(
    "clicks", schema=[Field("user", String), Field("n", Int64), Field("at", Timestamp)], timestamp_field="at"
)
CLICKED = FeatureView(
    "clicked", entities=[Entity("user")], source=CLICKS,
    aggregations=[Aggregation(column="n", function="sum", window=Sliding(timedelta(hours=1)), name="total")],
)  # fmt: skip


def message(user: str, n: object) -> bytes:
    return json.dumps({"user": user, "n": n, "at": NOON.isoformat()}).encode()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FeatureStore]:
    (tmp_path / "feature_store.yaml").write_text("project: shop\nclock: 2026-01-01T12:00:00Z\n")
    store = FeatureStore(tmp_path)
    store.apply([CLICKED])
    yield store
    store.close()


def run(store: FeatureStore, *args: str) -> Result:
    """`asof stream run --until-caught-up`, in this process."""
    command = ["-C", str(store.config.path), *args, "stream", "run", "--until-caught-up"]
    return CliRunner().invoke(cli, command, obj=CliContext())


def lines_of(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stderr.splitlines() if line.startswith("{")]


def test_a_worker_says_what_it_does_as_json(store: FeatureStore) -> None:
    store.send("clicks", [message("ann", 1), message("secret-user", "many"), message("eve", "77123"), b"no json"])
    result = run(store, "--log-format", "json")

    assert result.exit_code == 0, result.stderr
    lines = lines_of(result)
    events = [line["event"] for line in lines if line["logger"] == "asof.stream"]
    assert [events[0], events[-1]] == ["start", "end"]
    assert {"join", "assigned", "flush", "dead letter"} <= set(events)
    assert all({"time", "level", "message", "pid"} <= line.keys() for line in lines)
    letters = [line for line in lines if line.get("event") == "dead letter"]
    assert len(letters) == 2, "the first of each kind"
    assert (letters[0]["level"], letters[0]["offset"], letters[0]["source"]) == ("warning", 1, "clicks")
    assert "column 'n'" in letters[0]["reason"] and "asof dead-letters list --source clicks" in letters[0]["message"]
    assert lines[-1]["sources"]["clicks"] | {"dead_letters": None} == {"messages": 4, "rows": 1, "dead_letters": None}
    assert not any(value in result.stderr for value in ("secret-user", "many", "77123"))


def test_a_quiet_worker_warns_and_says_nothing_else(store: FeatureStore) -> None:
    store.send("clicks", [message("ann", 1), message("bob", "x")])
    result = run(store, "--quiet")

    (line,) = result.stderr.splitlines()
    assert " WARNING asof.stream: source clicks: first dead letter of its kind" in line
    assert logging.getLogger("asof").level == logging.NOTSET, "the command leaves no log behind in its process"


def test_the_configuration_chooses_form_and_level_and_options_win(store: FeatureStore) -> None:
    file = store.config.path / "feature_store.yaml"
    file.write_text(file.read_text() + "logging: {format: json, level: error}\n")
    store.send("clicks", [message("ann", "x")])

    assert "asof.stream" not in run(store).stderr
    assert {line["level"] for line in lines_of(run(store, "--log-level", "info"))} == {"info"}
    file.write_text(file.read_text().replace("level: error", "level: loud"))
    refused = run(store)
    assert refused.exit_code == 3 and "logging.level" in refused.stderr


def test_a_run_that_makes_dead_letters_of_everything_says_why(store: FeatureStore) -> None:
    store.send("clicks", [b"no json", b"none either", message("ann", "x")])
    result = run(store)

    (line,) = [line for line in result.stderr.splitlines() if "every message became a dead letter" in line]
    assert "WARNING" in line and "(2)" in line and "(1)" in line and "column 'n'" in line
    assert "ann" not in result.stderr


def test_the_dead_letter_limit_names_the_reasons() -> None:
    seconds = iter(range(0, 1000, 20))
    recent = RecentVerdicts(lambda: next(seconds))
    for _ in range(2):
        recent.add(1000, range(1000))
    error = recent.error(CLICKS, {"no key": 1500, "body is no JSON": 400, "late": 60, "odd": 40})

    assert recent.pass_the_limit and isinstance(error, DeadLetterLimit)
    assert error.message.endswith("no key (1,500), body is no JSON (400), late (60) and 1 more kind")


def test_online_rows_that_are_missing_are_built_again_and_that_is_said(
    store: FeatureStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.send("clicks", [message("ann", 1)])
    store.stream_run(until_caught_up=True)
    stores = open_store_of(store).stores
    for table in stores.online.tables("shop"):
        stores.online.drop(table)
    with caplog.at_level(logging.INFO, "asof.stream"):
        store.stream_run(until_caught_up=True)

    said = [record.asof_facts["event"] for record in caplog.records]  # type: ignore[attr-defined]
    assert said.index("rebuild") < said.index("rebuilt")


def test_a_wait_is_said_with_its_end(caplog: pytest.LogCaptureFixture) -> None:
    log = WorkerLog()
    with caplog.at_level(logging.INFO, "asof.stream"):
        log.works()
        log.waits(LogUnreachable("the log is away\nrow 17", hint="start it"), patience_s=120)
        log.works()
        log.works()
        log.ends({"clicks": SourceSums(3, 3)}, 1.0, LogUnreachable("the log is away"))

    levels = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert [level for level, _ in levels] == ["WARNING", "INFO", "ERROR"]
    assert levels[0][1] == "waits up to 120 s for a server: the log is away; next: start it"
    assert "clicks: 3 messages, 3 rows, 0 dead letters): the log is away" in levels[2][1]


def test_dead_letters_of_a_source_are_counted_over_its_partitions() -> None:
    def status(partition: int, dead_letters: int) -> PartitionStatus:
        return PartitionStatus(
            source="clicks", topic="clicks", partition=partition, first=0, next=9, archived=8, lag=0, behind_s=0.0,
            events_per_s=0.0, freshness_s=None, late_p50_s=None, late_max_s=None, dead_letters=dead_letters,
            last_message=None, gaps=[],
        )  # fmt: skip

    (family,) = [each for each in stream_metrics([status(0, 0), status(1, 5), status(2, 2)])
                 if each.name == "asof_stream_dead_letters"]  # fmt: skip

    assert [(sample.labels, sample.value) for sample in family.samples] == [({"source": "clicks"}, 7)]


def test_a_line_stays_a_line() -> None:
    record = logging.LogRecord("asof.x", logging.WARNING, "", 0, "a %s", ("b\nINFO forged",), None)
    record.__dict__.update(facts("odd", text="x\ny"))

    text = TextLines({"worker": 3}).format(record)
    assert text.endswith(" WARNING asof.x: worker 3: a b INFO forged") and "\n" not in text
    line = json.loads(JsonLines({"worker": 3}).format(record))
    assert (line["worker"], line["event"], line["text"], line["level"]) == (3, "odd", "x\ny", "warning")
    assert one_line(ValueError("first\nsecond")) == "first"
