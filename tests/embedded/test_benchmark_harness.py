from __future__ import annotations

import importlib
import json
import sys
from functools import partial
from pathlib import Path

import pytest

from benchmarks import bench_peer, harness, run
from benchmarks.peer import environment


def add_up(count: int) -> int:
    return sum(range(count)) * 0 + 7


def answer(value: int) -> int:
    return value


def fail() -> None:
    raise ValueError("no such table")


def hold(size_mb: int) -> None:
    held = bytearray(size_mb << 20)
    held[::4096] = b"x" * len(held[::4096])


@pytest.fixture(autouse=True)
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    return tmp_path


def test_ratios_are_against_the_baseline_and_every_comparison_is_kept(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = harness.compare(
        "sums",
        {"few": partial(add_up, 10), "many": partial(add_up, 20_000)},
        runs=3,
        fresh=False,
        items=100,
        unit="sums",
    )

    few, many = figures["few"], figures["many"]
    assert few.wall_ratio == 1.0
    assert many.wall_ratio == many.wall_s / few.wall_s
    assert many.per_wall_s == 100 / many.wall_s
    assert "few (baseline)" in capsys.readouterr().out
    [line] = [json.loads(text) for file in results.glob("*.jsonl") for text in file.read_text().splitlines()]
    assert line["name"] == "sums"
    assert line["candidates"]["many"]["runs"] == 3


def test_peak_memory_is_of_the_fresh_process_and_not_of_its_parent() -> None:
    own = bytearray(160 << 20)
    own[::4096] = b"x" * len(own[::4096])

    peak_mb = harness.compare("memory", {"hold": partial(hold, 40)}, runs=1)["hold"].peak_mb

    assert 40 < peak_mb < 150


def test_candidates_that_answer_differently_are_refused() -> None:
    with pytest.raises(ValueError, match="answered differently"):
        harness.compare("answers", {"a": partial(answer, 1), "b": partial(answer, 2)}, runs=1, fresh=False)


def test_a_candidate_that_fails_in_its_own_process_is_an_error_with_its_reason() -> None:
    with pytest.raises(RuntimeError, match="ValueError: no such table"):
        harness.compare("failing", {"a": fail}, runs=1)


def test_a_command_that_fails_is_an_error_with_its_last_words() -> None:
    with pytest.raises(RuntimeError, match="code 3: gone"):
        harness.compare("failing", {"a": ["sh", "-c", "echo gone >&2; exit 3"]}, runs=1)


def program(text: str) -> harness.Program:
    root = str(Path(harness.__file__).parents[1])
    return harness.Program((sys.executable, "-c", text), (("PYTHONPATH", root),))


def test_a_program_reports_its_own_work_below_what_else_it_prints() -> None:
    text = "from benchmarks.harness import report; print('noise'); report(lambda: 7)"

    found = harness.compare("program", {"a": program(text)}, runs=1)["a"]

    assert found.check == 7


def test_a_program_that_fails_is_an_error_with_its_last_words() -> None:
    with pytest.raises(RuntimeError, match="(?s)code 1: .*no such table"):
        harness.compare("failing", {"a": program("raise ValueError('no such table')")}, runs=1)


def test_a_peer_that_cannot_be_installed_is_skipped_aloud(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(venv: Path) -> str:
        raise environment.PeerUnavailable("no network")

    monkeypatch.setattr(environment, "make", refuse)

    assert bench_peer.main(["--venv", str(tmp_path)]) is True
    assert "SKIPPED: Feast cannot be installed here: no network" in capsys.readouterr().out


def test_a_baseline_that_is_no_candidate_is_refused() -> None:
    with pytest.raises(ValueError, match="'c' is none of"):
        harness.compare("none", {"a": fail}, baseline="c")


def test_runs_are_interleaved(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    harness.compare("order", {name: partial(order.append, name) for name in "ab"}, runs=2, fresh=False)

    assert "".join(order) == "ab" + "abab"


@pytest.mark.parametrize(
    ("value", "at_least", "kept"), [(99, False, True), (101, False, False), (99, True, False), (101, True, True)]
)
def test_a_figure_is_judged_by_its_limit(value: float, at_least: bool, kept: bool) -> None:
    assert harness.judge("figure", value, 100, at_least=at_least) is kept


def test_every_benchmark_file_says_what_it_measures(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["--list"]) == 0
    listed = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]

    assert {name for name, _ in listed} == set(run.find_benchmarks())


@pytest.mark.parametrize("name", run.find_benchmarks())
def test_every_benchmark_is_called_with_options_and_has_a_quick_form(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    module = importlib.import_module(f"benchmarks.bench_{name}")

    with pytest.raises(SystemExit) as ended:
        module.main(["--help"])

    assert ended.value.code == 0
    assert "--quick" in capsys.readouterr().out
