"""The pushers of a process: one per source, created at its first push."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING

from asof.definitions import LogSource, Snapshot
from asof.errors import NotFound, RequestError
from asof.flows.stores import Stores, log_source_named
from asof.log.protocol import UnknownTopic
from asof.sql.partitions import ArchivePartition

if TYPE_CHECKING:
    from asof.flows.push.pusher import Pusher


class Pushers:
    """Creates pushers, and archives their rows.

    Args:
        stores, snapshot: called when needed.
        look_again: checks the registry for a source that is not in the snapshot; returns whether that changed.
    """

    def __init__(
        self,
        stores: Callable[[], Stores],
        snapshot: Callable[[], Snapshot],
        look_again: Callable[[], bool] = lambda: False,
    ) -> None:
        self._stores = stores
        self._snapshot = snapshot
        self._look_again = look_again
        self._of: dict[str, Pusher] = {}
        self._lock = Lock()

    def of(self, name: str) -> Pusher:
        """The pusher of a source.

        Raises:
            NotFound, RequestError: no such push source is applied.
        """
        pusher = self._of.get(name)
        if pusher is None:
            from asof.flows.push.pusher import Pusher

            source = self._source(name)
            if source.type != "push":
                raise RequestError(
                    f"source {name!r} reads topic {source.topic!r}; rows cannot be pushed to it",
                    hint="send them to the topic, or define a PushSource",
                )
            with self._lock:
                pusher = self._of.get(name) or Pusher(self._stores(), name)
                self._of[name] = pusher
        return pusher

    def _source(self, name: str) -> LogSource:
        try:
            return log_source_named(self._snapshot(), name)
        except NotFound:
            if not self._look_again():
                raise
        return log_source_named(self._snapshot(), name)

    def flush(self) -> None:
        """Archive the rows that this process has pushed."""
        for pusher in list(self._of.values()):
            pusher.flush()

    def archive_all(self) -> None:
        """Archive the rows that all processes have pushed, so that the archive has every served row.

        Where this process may not write the log, those who pushed do it in time.
        """
        self.flush()
        for source in self._snapshot().project.sources.values():
            if isinstance(source, LogSource) and source.type == "push" and self._has_unarchived(source):
                self.of(source.name).take_over()

    def _has_unarchived(self, source: LogSource) -> bool:
        """Whether there are rows that this process can and has to archive."""
        stores = self._stores()
        if not stores.log.may_write():
            return False
        try:
            bounds = stores.log.bounds(source.topic)
        except UnknownTopic:
            return False
        base = ArchivePartition.of(0, epoch=self._snapshot().facts.epoch_of(source.name))
        archived = stores.offline.offsets(stores.archive_of(source), [base + number for number in bounds])
        return any(after - 1 > archived[base + number] for number, (_, after) in bounds.items())

    def close(self) -> None:
        """Archive pushed rows, and release the push logs' partitions."""
        for name in list(self._of):
            self._of.pop(name).close()
