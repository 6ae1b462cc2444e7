"""Workers as processes of their own, over any products: what a folder's feature_store.yaml says."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from asof.config import load_config
from asof.definitions import FeatureView
from asof.expressions import parse
from asof.flows.stores import Stores
from asof.opening.stores import open_stores
from asof.testing.clock import MicrosClock
from asof.testing.evaluator import evaluate
from asof.testing.streams import StreamRun
from tests.oracle import Row, features_at, history_of, numbered, remembering

ROOT = Path(__file__).parents[1]

WORKER = """
import signal, sys, threading
from pathlib import Path
from tests.worker_processes import opened_at
from asof.errors import AsofError
from asof.flows.stream.run import run_stream
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
stores = opened_at(Path(sys.argv[1]))
def say(error):
    print(error, file=sys.stderr, flush=True)
try:
    run_stream(stores, stop=stop, flush_every_s=0.3, patience_s=60, waiting=say)
except AsofError as error:
    say(error)
    sys.exit(error.exit_code)
stores.close()
"""


def keep_sigterm() -> None:
    """Let a SIGTERM that comes before the process has its handler wait for it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


def opened_at(folder: Path) -> Stores:
    """The stores that the folder's feature_store.yaml names, with a clock that stands at the tests' noon."""
    return open_stores(load_config(folder, environ={}), clock=MicrosClock(), system_clock=MicrosClock(), who="tests")


def plain_stores(opened: Stores) -> Stores:
    """The same stores for `StreamRun`, which puts others in their place; every topic is one of the project's log."""
    return Stores(
        opened.project,
        opened.registry,
        opened.offline,
        opened.online,
        opened.log,
        opened.readers,
        opened.clock,
        "tests",
    )


class WorkerProcesses:
    """The workers of one test; `close` ends them all, and looks at what they said."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.all: list[subprocess.Popen[bytes]] = []
        self.said = ""

    def start(self) -> subprocess.Popen[bytes]:
        self.all.append(
            subprocess.Popen(
                [sys.executable, "-c", WORKER, str(self._folder)], cwd=ROOT,
                env={"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "PATH": ""}, stderr=subprocess.PIPE,
                preexec_fn=keep_sigterm,
            )
        )  # fmt: skip
        return self.all[-1]

    def replace(self, worker: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
        """Kill one without warning, and start another."""
        worker.kill()
        worker.wait()
        return self.start()

    def finish(self, *, seconds: float = 60.0) -> None:
        """Ask all that live to end in order, and hold them to it."""
        living = [each for each in self.all if each.poll() is None]
        for each in living:
            each.send_signal(signal.SIGCONT)
            each.terminate()
        codes = [each.wait(timeout=seconds) for each in living]
        assert codes == [0] * len(living), (codes, self.errors())

    def errors(self) -> str:
        for each in self.all:
            if each.stderr is not None and each.poll() is not None and not each.stderr.closed:
                self.said += each.stderr.read().decode()
                each.stderr.close()
        return self.said

    def close(self) -> None:
        for each in self.all:
            if each.poll() is None:
                each.kill()
            each.wait()
        said = self.errors()
        assert "Traceback" not in said, said


def oracle(run: StreamRun) -> Callable[[FeatureView, int, int], Mapping[str, Any]]:
    """Brute force over what the archive holds."""
    return brute_force(run.archived())


def brute_force(rows: Iterable[Mapping[str, Any]]) -> Callable[[FeatureView, int, int], Mapping[str, Any]]:
    """Features of a user as of a time, which no part of the product has touched; a row's expressions are evaluated once."""
    by_user: dict[int, list[Row]] = {}
    for row in numbered(rows):
        by_user.setdefault(row["user_id"], []).append(row)
    histories: dict[tuple[str, int], list[Row]] = {}
    evaluated = remembering(lambda text, row: evaluate(parse(text), row))

    def features(view: FeatureView, user: int, t: int) -> Mapping[str, Any]:
        at = view.name, user
        if at not in histories:
            histories[at] = history_of(by_user.get(user, []), view, evaluated)
        return features_at(histories[at], view, t, evaluate=evaluated)

    return features


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.05)


def archived_through(run: StreamRun) -> dict[int, int]:
    """Partition → how many offsets are archived."""
    source = run.stores.registry.load(run.stores.project).project.sources["visits"]
    offsets = run.stores.offline.offsets(run.stores.archive_of(source), list(range(run.partitions)))  # type: ignore[arg-type]
    return {number: offset + 1 for number, offset in offsets.items()}


def is_archived(run: StreamRun) -> bool:
    """Whether all that was sent is in the archive."""
    reached = archived_through(run)
    return all(offset < reached[number] for number, offset in run.sent)
