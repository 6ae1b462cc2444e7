"""Run a stream worker, and restart it after a server was unreachable."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from threading import Event

from asof.decoding import SchemaRegistryUnavailable
from asof.errors import AsofError, LogError
from asof.flows.runs import STREAM, RunNotes, recorded_run
from asof.flows.stores import Progress, Stores, silent
from asof.flows.stream.sums import SourceSums
from asof.flows.stream.topic_member import unsaid
from asof.flows.stream.worker import FLUSH_EVERY_S, StreamWorker
from asof.flows.stream.worker_log import WorkerLog
from asof.timing import PATIENCE_S

WAIT_S = 1.0
"""Pause before the next attempt."""


def run_stream(
    stores: Stores,
    sources: Sequence[str] | None = None,
    *,
    until_caught_up: bool = False,
    accept_gap: bool = False,
    stop: Event | None = None,
    progress: Progress = silent,
    flush_every_s: float = FLUSH_EVERY_S,
    patience_s: float = PATIENCE_S,
    waiting: Callable[[AsofError], None] | None = None,
) -> dict[str, int]:
    """Run until stopped, or until all messages are archived.

    If a server becomes unreachable, the worker waits for it, and then starts over as after a crash: from the offsets
    in the archive and the progress in the online store. While a schema registry is away, the topics with its schemas
    pause, and the others go on.

    Args:
        sources: names of log sources; None for all of the project, including those applied later.
        stop: set it to flush and return; while the worker waits for a server there is nothing to flush.
        patience_s: how long to wait for a server; one that was never reached is not waited for. For a schema registry
            a worker waits without end, unless it runs until it has caught up.
        waiting: called with the error, once for each wait or pause.

    Returns:
        Counts: events, dead letters, rows recomputed and others.

    Raises:
        LogUnreachable: a log was unreachable for too long; its applied messages are archived.
        LogError: there is no log source, or a log lost messages that were never archived.
        StorageError: a store cannot be written (a full disk …); the next run continues from the archive's end.
        DeadLetterLimit: too many messages are dead letters.
        SchemaRegistryUnavailable: until it has caught up, it waited for a schema registry for too long.
    """
    run = _WorkerRun(
        stores, sources, accept_gap=accept_gap, flush_every_s=flush_every_s, progress=progress, patience_s=patience_s,
        waiting=waiting,
    )  # fmt: skip
    began = time.monotonic()
    run.log.begins(stores.project, sources, until_caught_up=until_caught_up)
    with recorded_run(stores, STREAM, is_announced=True) as notes:
        try:
            run.until_stopped(stop or Event(), until_caught_up=until_caught_up)
        except BaseException as error:
            run.log.ends(run.sums, time.monotonic() - began, error)
            raise
        finally:
            run.describe(notes)
    run.log.ends(run.sums, time.monotonic() - began)
    return dict(run.counts)


class _WorkerRun:
    """The workers of one process, one after the other: each runs until it is stopped or a server is unreachable.

    Attributes:
        log: what they say.
        sums: log source → the sums of all of them.
        has_begun: whether any of them has started.
        has_archived: whether the last one has written a message to both stores.
        began_at: start of the last one, in seconds of a monotonic clock.
    """

    def __init__(
        self,
        stores: Stores,
        sources: Sequence[str] | None,
        *,
        accept_gap: bool,
        flush_every_s: float,
        progress: Progress,
        patience_s: float,
        waiting: Callable[[AsofError], None] | None,
    ) -> None:
        self._patience_s = patience_s
        self._waiting = waiting
        self.log = WorkerLog()
        self.counts: Counter[str] = Counter()
        self.sums: dict[str, SourceSums] = defaultdict(SourceSums)
        self._lags: dict[str, int] = {}
        self.has_begun = self.has_archived = False
        self.began_at = 0.0
        self._taken = 0
        self._stores = stores
        self._sources = sources
        self._accept_gap = accept_gap
        self._flush_every_s = flush_every_s
        self._progress = progress

    def until_stopped(self, stop: Event, *, until_caught_up: bool) -> None:
        """Work, and start over after a server was unreachable; see `run_stream`."""
        waits_since: float | None = None
        while True:
            try:
                self.work(stop, until_caught_up=until_caught_up)
                return
            except AsofError as error:
                now = time.monotonic()
                if self.has_archived or now - self.began_at >= self._patience_s:
                    waits_since = None
                # For a schema registry the worker itself has waited.
                if not error.may_pass or not self.has_begun or isinstance(error, SchemaRegistryUnavailable):
                    raise
                if waits_since is None:
                    waits_since = now
                    self.counts["waits for a server"] += 1
                    self.log.waits(error, patience_s=self._patience_s)
                    if self._waiting is not None:
                        self._waiting(error)
                if now - waits_since >= self._patience_s:
                    raise
                if stop.wait(WAIT_S):
                    return  # `waiting` has the reason; what is not archived is read again from the log

    def describe(self, notes: RunNotes) -> None:
        """Note the sums of all workers so far."""
        for name, sums in self.sums.items():
            notes.add_source(
                name, sums.rows, messages=sums.messages, dead_letters=dict(sums.dead_letters), lag=self._lags.get(name)
            )
        notes.details["counts"] = dict(self.counts)

    def work(self, stop: Event, *, until_caught_up: bool) -> None:
        """Create a worker, and run it."""
        self.began_at = time.monotonic()
        worker = StreamWorker(
            self._stores, self._sources, accept_gap=self._accept_gap, flush_every_s=self._flush_every_s,
            pausing=self._waiting or unsaid, worker_log=self.log,
        )  # fmt: skip
        try:
            self._steps(worker, stop, until_caught_up=until_caught_up)
        except BaseException as error:
            abandon = not isinstance(error, Exception) or getattr(error, "may_pass", False)
            try:
                worker.close(abandon=abandon)
            except Exception as second:  # mostly the same cause, such as a full disk: the first error is raised
                error.add_note(f"then, while stopping: {second}")
            self._sum_up(worker)
            self.has_archived = worker.has_archived
            raise
        self._lags = worker.lags()
        worker.close()
        self._sum_up(worker)

    def _sum_up(self, worker: StreamWorker) -> None:
        self.counts.update(worker.counts)
        for name, sums in worker.sums.items():
            self.sums[name].add(sums)

    def _steps(self, worker: StreamWorker, stop: Event, *, until_caught_up: bool) -> None:
        worker.look_at_registry()
        if not worker.ingests:
            raise LogError(
                "no log source is applied: the worker has nothing to read", hint="apply a LogSource or PushSource"
            )
        while not stop.is_set():
            got = worker.step()
            self.has_begun = True
            self.log.works()
            if got:
                self._taken += got
                self._progress("events", self._taken, None)
            elif until_caught_up:
                pause = worker.longest_pause
                patience_s = self._patience_s if pause is None or pause.error.may_pass else 0.0
                if pause is not None and time.monotonic() - pause.since >= patience_s:
                    worker.flush()
                    raise pause.error
                if worker.is_caught_up():
                    break
        worker.flush()
