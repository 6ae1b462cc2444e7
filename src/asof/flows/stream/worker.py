"""A stream worker: its members of consumer groups, when it flushes, and when it looks at the registry."""

from __future__ import annotations

import contextlib
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from asof.definitions import LogSource
from asof.errors import AsofError, RegistryConflict
from asof.flows.generations.markers import lost_views
from asof.flows.stores import Stores, log_source_named
from asof.flows.stream.ingest import Ingest
from asof.flows.stream.numbering import check_topic
from asof.flows.stream.rebuild import rebuild
from asof.flows.stream.sums import SourceSums
from asof.flows.stream.topic_member import Pause, TopicMember, unsaid
from asof.flows.stream.worker_log import LAG_EVERY_S, WorkerLog
from asof.log.protocol import Log
from asof.online.protocol import StoreReplaced

POLL_MESSAGES = 50_000
"""Batches are this large only if the worker lags: the more events per online row, the less each costs."""

POLL_S = 0.01
FLUSH_EVERY_S = 5.0
FLUSH_ROWS = 500_000
NEWS_EVERY_S = 1.0
"""Interval of checks for registry changes and new generations; a change causes an early flush."""

LOOK_EVERY_S = 0.2
"""Interval of checks while waiting for other workers to catch up."""


class StreamWorker:
    """All members of a process, one per log source; sources are added and removed as the registry changes.

    Args:
        sources: names; None for all of the project.
        accept_gap: see `TopicMember`.
        flush_every_s: interval of flushes to the archive.
        pausing: called with the error when a topic pauses, once until it goes on.
        worker_log: what it says.

    Attributes:
        sums: of the sources that it has left.
        has_archived: whether any message was written to both stores.
    """

    def __init__(
        self,
        stores: Stores,
        sources: Sequence[str] | None,
        *,
        accept_gap: bool,
        flush_every_s: float,
        pausing: Callable[[AsofError], None] = unsaid,
        worker_log: WorkerLog | None = None,
    ) -> None:
        self.worker_log = worker_log or WorkerLog()
        self.pausing = pausing
        self.stores = stores
        self.accept_gap = accept_gap
        self.flush_every_s = flush_every_s
        self.ingests: dict[str, Ingest] = {}
        self.members: dict[tuple[str, str], TopicMember] = {}
        self.counts: Counter[str] = Counter()
        self.sums: dict[str, SourceSums] = defaultdict(SourceSums)
        self.has_archived = False
        self._named = list(sources) if sources else None
        self._version = -1
        self._flushed_at = time.monotonic()
        self._looked_at = 0.0
        self._checked_at = time.monotonic()
        self._builder = ThreadPoolExecutor(1, thread_name_prefix="rebuild")
        self._building: tuple[str, float, Future[int]] | None = None
        self._lag_said_at = time.monotonic()
        self._taken = 0

    def look_at_registry(self) -> None:
        """Join the groups of new sources, and leave those of removed ones."""
        version = self.stores.registry.version(self.stores.project)
        if version != self._version:
            snapshot = self.stores.registry.load(self.stores.project)
            names = self._named or [
                name for name, each in snapshot.project.sources.items() if isinstance(each, LogSource)
            ]
            sources = {name: log_source_named(snapshot, name) for name in names}
            for name in list(self.ingests):
                if name not in sources or sources[name].topic != self.ingests[name].source.topic:
                    self._leave(name)
            for name, source in sources.items():
                if name not in self.ingests:
                    check_topic(self.stores, source, accept_gap=self.accept_gap)
                    self.ingests[name] = Ingest(
                        self.stores, name, seconds=time.monotonic, log=self.worker_log
                    )  # fmt: skip
                    self._join(name, source.topic, self.stores.log_of(source))
            if self._version < 0:
                # Online rows from before there were markers get them. What is lost is found generation by generation.
                lost_views(self.stores, snapshot)
            self._version = version
        topics = self.stores.log.topics()
        for name, ingest in self.ingests.items():
            if ingest.source.replay_topic in topics:
                self._join(name, ingest.source.replay_topic, self.stores.log)

    def _join(self, name: str, topic: str, log: Log) -> None:
        if (name, topic) not in self.members:
            ingest = self.ingests[name]
            self.members[name, topic] = TopicMember(
                self.stores, ingest, topic, log=log, accept_gap=self.accept_gap, pausing=self.pausing,
                worker_log=self.worker_log,
            )  # fmt: skip
            self.worker_log.joins(name, topic)

    def _leave(self, name: str, *, abandon: bool = False) -> None:
        ingest = self.ingests.pop(name)
        self.worker_log.leaves(name)
        mine = [self.members.pop(key) for key in list(self.members) if key[0] == name]
        self._count(ingest)
        try:
            for member in mine:
                member.close(abandon=abandon)
        finally:
            ingest.close()

    def _count(self, ingest: Ingest) -> None:
        self.sums[ingest.name].add(ingest.sums)
        self.counts.update(ingest.counts)
        self.counts.update(ingest.generations.counts)
        for feeder in ingest.feeders.values():
            self.counts.update(feeder.counts)
        self.counts.update({f"undeclared field {name!r}": count for name, count in ingest.undeclared.items()})

    def step(self) -> int:
        """Poll every member once, and flush those that are due; returns the number of messages."""
        got = 0
        for member in list(self.members.values()):
            got += member.take(POLL_MESSAGES, POLL_S / len(self.members))
        due = time.monotonic() - self._flushed_at >= self.flush_every_s or self._has_news()
        if due or any(ingest.buffered >= FLUSH_ROWS for ingest in self.ingests.values()):
            if due:
                self._flushed_at = time.monotonic()
                self.look_at_registry()
                self._restore_lost_rows()
            for ingest in list(self.ingests.values()):
                # Wait if the archive is slower than the log, to limit memory.
                if ingest.flush_is_done or ingest.buffered >= 2 * FLUSH_ROWS:
                    self._flush(ingest, wait=due and not got)
        self._taken += got
        self._say_lag()
        return got

    def _say_lag(self) -> None:
        now = time.monotonic()
        if now - self._lag_said_at >= LAG_EVERY_S:
            self._lag_said_at = now
            self.worker_log.lag(self.lags(), self._taken)

    @property
    def longest_pause(self) -> Pause | None:
        """The pause of a topic that began first, if any topic pauses."""
        return min((each.pause for each in self.members.values() if each.pause), key=lambda p: p.since, default=None)

    def _has_news(self) -> bool:
        now = time.monotonic()
        if now - self._checked_at < NEWS_EVERY_S:
            return False
        self._checked_at = now
        for ingest in self.ingests.values():
            ingest.generations.look_at_store()
        return any(ingest.has_news() for ingest in self.ingests.values())

    def lags(self) -> dict[str, int]:
        """Log source → number of offsets of its topics that this worker has not read, of the partitions that it has."""
        lags: Counter[str] = Counter()
        for (name, _), member in self.members.items():
            with contextlib.suppress(AsofError):
                lags[name] += member.lag()
        return dict(lags)

    def flush(self) -> None:
        """Flush all members."""
        for ingest in self.ingests.values():
            self._flush(ingest, wait=True)

    def _flush(self, ingest: Ingest, *, wait: bool) -> None:
        mine = [member for member in self.members.values() if member.ingest is ingest]
        for member in mine:
            member.passed()
        done = ingest.flush(wait=wait)
        self.has_archived |= bool(done)
        for member in mine:
            member.commit(done)

    def _restore_lost_rows(self) -> None:
        """Rebuild lost online rows; among several workers, the one with the topic's first partition does it."""
        if self._building is not None and self._building[2].done():
            (view, began, building), self._building = self._building, None
            try:
                self.worker_log.rebuild_ends(view, building.result(), time.monotonic() - began)
            except (RegistryConflict, StoreReplaced) as error:
                # Another build started, or the store failed over: a later check rebuilds what is lost.
                self.worker_log.rebuild_is_put_off(view, error)
        for ingest in self.ingests.values():
            is_mine = ingest.base(ingest.source.topic) in ingest.archived
            is_new = self.stores.registry.version(self.stores.project) == ingest.snapshot.version
            if self._building is None and is_mine and is_new and (views := ingest.lost()):
                self.counts["views rebuilt"] += 1
                self.worker_log.rebuild_begins(views[0].name)
                building = self._builder.submit(rebuild, self.stores, views[0])
                self._building = views[0].name, time.monotonic(), building

    def is_caught_up(self) -> bool:
        """Whether all messages of the logs are applied, and no online rows are missing."""
        now = time.monotonic()
        if now - self._looked_at < LOOK_EVERY_S:
            return False
        self.look_at_registry()
        if not all(member.is_caught_up() for member in self.members.values()):
            self._looked_at = now
            return False
        if self._building is not None or not self._is_whole():
            self.flush()
            self._restore_lost_rows()
            self._looked_at = now
            return self._building is None and self._is_whole()
        return True

    def _is_whole(self) -> bool:
        """Whether every generation in use exists and is up to date."""
        return not any(ingest.lost() or ingest.generations.are_replaced for ingest in self.ingests.values())

    def close(self, *, abandon: bool = False) -> None:
        """Leave all groups; an error of one does not stop the others."""
        errors = []
        for name in list(self.ingests):
            try:
                self._leave(name, abandon=abandon)
            except Exception as error:  # raised below, after all groups
                errors.append(error)
        self._builder.shutdown(wait=not abandon, cancel_futures=True)
        if errors:
            raise errors[0]
