"""The stream worker: members of a consumer group that bring the logs' messages into the stores."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from threading import Event

from asof.errors import AsofError, LogError
from asof.flows.stores import Parts, Progress, silent
from asof.flows.stream.worker import FLUSH_EVERY_S, StreamWorker
from asof.timing import PATIENCE_S

WAIT_S = 1.0
"""How long it waits before it tries again."""


def run_stream(
    parts: Parts,
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
    """Work until stopped, or until all that was sent is archived.

    A server that does not answer any more is waited for. The worker then begins anew as after a crash: from what the
    archive holds and the online store says.

    Args:
        sources: names of log sources; all of the project where None, also those that are applied later.
        stop: set it to finish, flush and return.
        patience_s: how long a server may be away; one that never answered is not waited for.
        waiting: told once for each time that a server is waited for, with its error.

    Returns:
        Counts: events, dead letters, rows recomputed and the like.

    Raises:
        LogUnreachable: a log did not answer for too long; what was taken of it is archived.
        LogError: there is nothing to work on, or a log lost what was never archived.
        StorageError: a store cannot be written (a full disk …); run again, it goes on where the archive ends.
        DeadLetterLimit: too many messages cannot be used.
    """
    run = _WorkerRun(parts, sources, accept_gap=accept_gap, flush_every_s=flush_every_s, progress=progress)
    stop = stop or Event()
    waits_since: float | None = None
    while True:
        try:
            run.work(stop, until_caught_up=until_caught_up)
            return dict(run.counts)
        except AsofError as error:
            now = time.monotonic()
            if run.has_archived or now - run.began_at >= patience_s:
                waits_since = None
            if not error.may_pass or not run.has_begun:
                raise
            if waits_since is None:
                waits_since = now
                run.counts["times a server was waited for"] += 1
                if waiting is not None:
                    waiting(error)
            if now - waits_since >= patience_s or stop.wait(WAIT_S):
                raise


class _WorkerRun:
    """The workers of one process, one after the other: each lives until it is stopped or a server goes away.

    Attributes:
        has_begun: whether one of them has got to work.
        has_archived: whether the last one has brought something from the log into both stores.
        began_at: when the last one began, in seconds of a monotonic clock.
    """

    def __init__(
        self, parts: Parts, sources: Sequence[str] | None, *, accept_gap: bool, flush_every_s: float, progress: Progress
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.has_begun = self.has_archived = False
        self.began_at = 0.0
        self._taken = 0
        self._parts = parts
        self._sources = sources
        self._accept_gap = accept_gap
        self._flush_every_s = flush_every_s
        self._progress = progress

    def work(self, stop: Event, *, until_caught_up: bool) -> None:
        """Make a worker, and work with it."""
        self.began_at = time.monotonic()
        worker = StreamWorker(
            self._parts, self._sources, accept_gap=self._accept_gap, flush_every_s=self._flush_every_s
        )
        try:
            self._steps(worker, stop, until_caught_up=until_caught_up)
        except BaseException as error:
            abandon = not isinstance(error, Exception) or getattr(error, "may_pass", False)
            try:
                worker.close(abandon=abandon)
            except Exception as second:  # most often the same full disk; the first error says it
                error.add_note(f"and on leaving: {second}")
            self.counts.update(worker.counts)
            self.has_archived = worker.has_archived
            raise
        worker.close()
        self.counts.update(worker.counts)

    def _steps(self, worker: StreamWorker, stop: Event, *, until_caught_up: bool) -> None:
        worker.look_at_registry()
        if not worker.ingests:
            raise LogError(
                "no log source is applied, so there is nothing to work on", hint="apply a LogSource or PushSource"
            )
        while not stop.is_set():
            got = worker.step()
            self.has_begun = True
            if got:
                self._taken += got
                self._progress("events", self._taken, None)
            elif until_caught_up and worker.is_caught_up():
                break
        worker.flush()
