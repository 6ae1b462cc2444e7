"""The newest applied snapshot, decoded once per version: for flows that only look."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

from asof.definitions import Snapshot
from asof.forks import ForkListener, listen_to_forks
from asof.registry.protocol import Commit, Registry


class NewestSnapshot(ForkListener):
    """The newest snapshot of a project, shared by all who ask. Safe for several threads.

    A snapshot of ten thousand features takes a quarter of a second to decode, and the query for its commit a fraction
    of a millisecond. What changes definitions or facts loads a snapshot of its own.

    Args:
        registry: opens the registry on first use.
    """

    def __init__(self, registry: Callable[[], Registry], project: str) -> None:
        self._registry = registry
        self._project = project
        self._known: tuple[Commit, Snapshot] | None = None
        # While one thread decodes a snapshot the others wait for it: they would need as long, and as much memory.
        self._lock = Lock()
        listen_to_forks(self)

    def after_fork_in_child(self) -> None:
        """See `ForkListener`."""
        self._lock = Lock()

    def get(self) -> Snapshot:
        """The newest snapshot; not to be changed.

        Raises:
            RegistryError: the registry cannot be read.
        """
        with self._lock:
            # By the commit and not its version alone: a project that was dropped and applied again begins at 1 again.
            newest = self._registry().history(self._project, 1)
            if newest and self._known is not None and self._known[0] == newest[0]:
                return self._known[1]
            snapshot = self._registry().load(self._project)
            if newest and snapshot.version == newest[0].version:
                self._known = newest[0], snapshot
            return snapshot


__all__ = ["NewestSnapshot"]
