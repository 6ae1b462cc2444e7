"""The order in which a run's processes get the files of tests."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from tests.scheduling import MOSTLY_WAIT, WaitingBeside

ROOT = Path(__file__).parents[2]
FIRST, SECOND, *_ = MOSTLY_WAIT


class Node:
    """A process of the run: what it was given, as numbers of tests."""

    shutting_down = False
    gateway = SimpleNamespace(id="gw")

    def __init__(self) -> None:
        self.given: list[int] = []

    def send_runtest_some(self, indices: list[int]) -> None:
        self.given += indices

    def shutdown(self) -> None:
        self.shutting_down = True


def run(tests: list[str], nodes: int) -> list[list[str]]:
    """What each process ran, where the first takes longest over each test, and the others are done at once."""
    config = SimpleNamespace(
        getvalue=lambda name: ["popen"] * nodes, option=SimpleNamespace(loadscopereorder=True), rootpath=ROOT
    )
    scheduler = WaitingBeside(config)  # type: ignore[arg-type]
    processes = [Node() for _ in range(nodes)]
    for each in processes:
        scheduler.add_node(each)  # type: ignore[arg-type]
        scheduler.add_node_collection(each, tests)  # type: ignore[arg-type]
    scheduler.schedule()
    done = dict.fromkeys(processes, 0)
    while any(done[each] < len(each.given) for each in processes):
        each = next(each for each in reversed(processes) if done[each] < len(each.given))
        scheduler.mark_test_complete(each, each.given[done[each]])  # type: ignore[arg-type]
        done[each] += 1
    return [[tests[number] for number in each.given] for each in processes]


def test_the_files_that_wait_are_there() -> None:
    assert [name for name in MOSTLY_WAIT if not (ROOT / name).exists()] == []


def test_one_process_takes_those_that_wait_and_the_others_all_else() -> None:
    short = [f"tests/unit/test_{number}.py::test_{each}" for number in range(4) for each in range(5)]
    first, second, third = run([*short, f"{SECOND}::test_a", f"{FIRST}::test_a", f"{FIRST}::test_b"], 3)

    assert first == [f"{FIRST}::test_a", f"{FIRST}::test_b", f"{SECOND}::test_a"]
    assert sorted(second + third) == sorted(short)


def test_every_test_runs_once_also_where_all_wait_or_none_does() -> None:
    waiting = [f"{name}::test_{number}" for name in MOSTLY_WAIT for number in range(4)]
    short = [f"tests/unit/test_{number}.py::test_a" for number in range(9)]
    for tests in (waiting, short, [*short, *waiting]):
        assert sorted(test for each in run(tests, 2) for test in each) == sorted(tests)
