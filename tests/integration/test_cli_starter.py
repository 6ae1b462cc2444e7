"""The repository that `asof init` writes, used as a newcomer would: every command against the real store."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from asof.cli.app import cli
from asof.cli.context import CliContext

pytestmark = pytest.mark.integration

SOURCE = Path(__file__).parents[2] / "src"

Asof = Callable[..., Result]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "shop"


@pytest.fixture
def asof_(folder: Path) -> Asof:
    def run(*args: str, code: int = 0, input: str | None = None) -> Result:
        where = [] if args[0] == "init" else ["-C", str(folder)]
        result = CliRunner().invoke(cli, [*where, *args], obj=CliContext(), input=input, env={"COLUMNS": "80"})
        assert result.exit_code == code, result.output
        return result

    return run


@pytest.fixture
def visited(asof_: Asof, folder: Path) -> datetime:
    """The starter, applied, after one visit of user 7 just now; answers when."""
    at = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=5)
    asof_("init", str(folder))
    asof_("apply", "--yes")
    asof_("push", "visits", visit(7, at))
    return at


def visit(user_id: int, at: datetime, page: str = "home") -> str:
    return json.dumps({"user_id": user_id, "page": page, "seconds": 12.5, "visited_at": at.isoformat()})


def document(result: Result) -> Any:
    return json.loads(result.stdout)


def test_a_newcomer_sees_the_first_value_after_four_commands(asof_: Asof, folder: Path) -> None:
    asof_("init", str(folder))

    assert "+ feature view 'user_visits'" in asof_("plan").stdout
    assert "Applied" in asof_("apply", input="y\n").stdout
    assert document(asof_("plan", "--output", "json"))["plan"]["is_empty"]

    now = datetime.now(UTC)
    assert asof_("push", "visits", visit(7, now)).stdout == "Pushed 1 row to visits.\n"
    answer = document(
        asof_("get", "online", "--service", "visit_model", "-k", "user_id=7", "-k", "user_id=8", "--output", "json")
    )
    names = ("user_id", "visits_1d", "seconds_1d", "session_visits", "last_page", "seconds_per_visit")
    assert answer["rows"] == [
        dict(zip(names, (7, 1, 12.5, 1, "home", 12.5), strict=True)),
        dict(zip(names, (8, 0, None, 0, None, None), strict=True)),
    ]


def test_history_answers_what_serving_does(asof_: Asof, visited: datetime, tmp_path: Path) -> None:
    frame = tmp_path / "frame.csv"
    frame.write_text(
        f"user_id,event_timestamp\n7,{visited.isoformat()}\n7,{(visited - timedelta(seconds=1)).isoformat()}\n"
    )
    asked = ["--features", "user_visits:visits_1d,user_visits:last_page,visit_length:seconds_per_visit"]

    rows = document(asof_("get", "historical", "--entities", str(frame), *asked, "--output", "json"))["rows"]
    assert [(row["visits_1d"], row["last_page"], row["seconds_per_visit"]) for row in rows] == [
        (1, "home", 12.5),
        (0, None, None),
    ]

    written = tmp_path / "set.parquet"
    assert asof_("get", "historical", "--entities", str(frame), *asked, "--out", str(written)).stdout.startswith(
        "Wrote 2 rows"
    )
    assert written.exists()


def test_what_is_applied_can_be_looked_at(asof_: Asof, visited: datetime) -> None:
    assert "user_visits" in asof_("list").stdout
    assert "session gap 1h" in asof_("show", "view", "user_visits").stdout
    assert "visits_1d" in asof_("show", "service", "visit_model").stdout
    assert "user_visits:visits_1d" in asof_("list", "features").stdout
    assert "feature view" in asof_("history").stdout
    assert document(asof_("stream", "status", "--output", "json"))["partitions"][0]["source"] == "visits"
    assert asof_("dead-letters", "list").stdout == "No dead letters.\n"


def test_rows_that_do_not_fit_are_refused_with_their_reasons(asof_: Asof, visited: datetime) -> None:
    refused = asof_("push", "visits", '{"user_id": 3.7, "page": 12, "visited_at": "2026-11-23"}', code=5)

    assert refused.stdout == ""
    for part in ("user_id", "3.7", "page", "12", "seconds"):
        assert part in refused.stderr


def test_a_rebuild_changes_no_value(asof_: Asof, visited: datetime) -> None:
    asked = ["get", "online", "--service", "visit_model", "-k", "user_id=7", "--output", "json"]
    before = document(asof_(*asked))
    asof_("rebuild")

    assert document(asof_(*asked)) == before


def test_a_training_set_is_saved_listed_and_made_again(asof_: Asof, visited: datetime, tmp_path: Path) -> None:
    frame = tmp_path / "frame.csv"
    frame.write_text(f"user_id,event_timestamp\n7,{visited.isoformat()}\n")
    asof_("get", "historical", "--entities", str(frame), "--service", "visit_model", "--save", "first")

    assert "first" in asof_("show", "training-sets").stdout
    shown = asof_("show", "training-set", "first").stdout
    assert shown.startswith("name ") and "column_hashes" not in shown
    assert document(asof_("rebuild", "--training-set", "first", "--output", "json"))["comparison"]["equal"]
    asof_("rebuild", "--training-set", "second", code=4)


def test_an_audit_finds_serving_equal_to_history(asof_: Asof, visited: datetime) -> None:
    assert "Serving equals training" in asof_("audit").stdout
    found = document(asof_("audit", "user_visits", "--output", "json"))["audit"]
    assert found["ok"] and found["keys"] >= 1


def test_the_same_sample_comes_for_the_same_seed(asof_: Asof, visited: datetime) -> None:
    rows = json.dumps([json.loads(visit(user_id, visited)) for user_id in range(20)])
    asof_("push", "visits", rows)
    args = ["sample", "visit_model", "--by", "entities", "-n", "5", "--seed", "3", "--output", "json"]

    chosen = [[row["user_id"] for row in document(asof_(*args, *more))["rows"]] for more in ([], [], ["--online"])]
    assert len(set(chosen[0])) == 5 and chosen[1] == chosen[2] == chosen[0]


def test_after_a_teardown_nothing_is_applied(asof_: Asof, visited: datetime) -> None:
    asof_("teardown", input="n\n", code=1)
    asof_("teardown", "--yes")

    assert asof_("list").stdout.startswith("Nothing is applied yet")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_worker_finishes_when_it_is_asked_to_stop(
    asof_: Asof, visited: datetime, folder: Path, number: int, code: int
) -> None:
    worker = subprocess.Popen(
        [sys.executable, "-m", "asof", "-C", str(folder), "stream", "run"],
        env={**os.environ, "PYTHONPATH": str(SOURCE)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert worker.stderr is not None and "reads all logs of project" in worker.stderr.readline()
        worker.send_signal(number)
        _, said = worker.communicate(timeout=30)
    finally:
        worker.kill()

    assert worker.returncode == code, said


def test_a_value_is_explained_by_its_events(asof_: Asof, visited: datetime) -> None:
    text = asof_("explain", "user_visits:visits_1d", "--key", "user_id=7").stdout
    found = document(asof_("explain", "user_visits:visits_1d", "--key", "user_id=7", "--output", "json"))

    assert text.startswith("user_visits:visits_1d of user_id=7")
    assert found["value"] == 1 and [row["why"] for row in found["rows"]] == ["counts"]


def test_a_key_is_forgotten_everywhere(asof_: Asof, visited: datetime) -> None:
    asof_("forget", "user", "--key", "user_id=7", input="n\n", code=1)
    gone = document(asof_("forget", "user", "--key", "user_id=7", "--yes", "--output", "json"))["forgotten"]

    assert gone["online"] == {"user_visits": 1}
    args = ["get", "online", "--service", "visit_model", "-k", "user_id=7", "--output", "json"]
    assert document(asof_(*args))["rows"][0]["visits_1d"] == 0
