"""A worker whose servers go away for a while: it waits, begins anew as after a crash, and loses and doubles nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from asof.errors import AsofError, StorageError
from asof.flows.stream.run import run_stream
from asof.testing.clock import MicrosClock
from asof.testing.streams import StreamRun, visit
from tests.embedded_stores import close, embedded_stores


class Away:
    """A store that answers, but for the next `away` calls of some verbs."""

    def __init__(self, store: Any, *verbs: str, away: int = 0, may_pass: bool = True) -> None:
        self._store, self._verbs, self._may_pass = store, verbs, may_pass
        self.away = away
        self.refused = 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if name not in self._verbs:
            return found

        def call(*given: Any, **named: Any) -> Any:
            if not self.away:
                return found(*given, **named)
            self.away -= 1
            self.refused += 1
            error = StorageError("the store does not answer", hint="see that it runs")
            error.may_pass = self._may_pass
            raise error

        return call


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StreamRun]:
    monkeypatch.setattr("asof.flows.stream.run.WAIT_S", 0.01)
    stores = embedded_stores(tmp_path, clock=MicrosClock())
    run = StreamRun(stores, stores.clock)  # type: ignore[arg-type]
    for number in range(40):
        run.send(visit(1 + number % 3, -number * 1_000_000), partition=number % 2)
    yield run
    close(stores)


def go_away_once_begun(run: StreamRun, store: Away, calls: int) -> Callable[[str, int, int | None], None]:
    """Progress that, when first told that events came, makes a store go away and sends more."""
    left = [calls]

    def report(what: str, done: int, total: int | None) -> None:
        if left:
            store.away = left.pop()
            for number in range(60):
                run.send(visit(1 + number % 3, -number * 1_000_000), partition=number % 2)

    return report


@pytest.mark.parametrize(
    ("part", "verbs"),
    [
        ("online", ("write",)), ("online", ("write_progress",)), ("online", ("read", "progress")),
        ("offline", ("append",)), ("offline", ("offsets", "append")), ("log", ("bounds",)), ("registry", ("version",)),
    ],
)  # fmt: skip
def test_a_store_that_goes_away_is_waited_for(run: StreamRun, part: str, verbs: tuple[str, ...]) -> None:
    away = Away(getattr(run.stores, part), *verbs)
    told: list[AsofError] = []

    counts = run_stream(
        run.stores.replaced(**{part: away}), until_caught_up=True, flush_every_s=0.05, patience_s=20,
        waiting=told.append, progress=go_away_once_begun(run, away, 3),
    )  # fmt: skip

    assert away.refused == 3
    assert counts["waits for a server"] == len(told) > 0
    assert {each.message for each in told} == {"the store does not answer"}
    run.finish()
    run.assert_nothing_lost_or_doubled()
    run.assert_online_is_history()


def test_a_store_that_never_answered_is_not_waited_for(run: StreamRun) -> None:
    away = Away(run.stores.online, "progress", away=1000)

    with pytest.raises(StorageError, match="does not answer"):
        run_stream(run.stores.replaced(online=away), patience_s=20)

    assert away.refused == 1


def test_an_error_that_does_not_pass_by_itself_is_not_waited_for(run: StreamRun) -> None:
    away = Away(run.stores.offline, "append", may_pass=False)

    with pytest.raises(StorageError, match="does not answer"):
        run_stream(
            run.stores.replaced(offline=away), until_caught_up=True, flush_every_s=0.05, patience_s=20,
            progress=go_away_once_begun(run, away, 3),
        )  # fmt: skip


def test_patience_ends_and_nothing_is_lost(run: StreamRun) -> None:
    away = Away(run.stores.offline, "append", away=1000)

    with pytest.raises(StorageError, match="does not answer"):
        run_stream(run.stores.replaced(offline=away), flush_every_s=0.01, patience_s=0.2)

    assert away.refused > 2
    run.finish()
    run.assert_nothing_lost_or_doubled()
    run.assert_online_is_history()


def test_a_worker_that_waits_can_be_stopped(run: StreamRun) -> None:
    away = Away(run.stores.offline, "append", away=1000)
    stop = Event()
    told: list[AsofError] = []

    def stop_then(error: AsofError) -> None:
        told.append(error)
        stop.set()

    counts = run_stream(
        run.stores.replaced(offline=away), flush_every_s=0.01, patience_s=3600, stop=stop, waiting=stop_then
    )

    assert counts["waits for a server"] == len(told) == 1
    run.finish()
    run.assert_nothing_lost_or_doubled()
    run.assert_online_is_history()
