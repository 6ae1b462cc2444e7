"""The applied snapshot for readers: the one in use, requests resolved for it, and whether the registry is ahead."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from asof.definitions import FeatureService, LogSource, Projection, Snapshot
from asof.definitions.base import Definition
from asof.errors import AsofError, NotFound, RegistryError, RequestError

if TYPE_CHECKING:
    from asof.flows.online.read import OnlineReader
    from asof.registry.protocol import Registry
    from asof.selection import FeatureReferences, Selection

REQUESTS, OUTPUTS = 1000, 20_000
"""Limits of the cache of resolved requests: their number, and the number of their features, each of about 2 KB."""

OUTPUTS_AHEAD = 5_000
"""So many features, those of the requests most used, are resolved for a new snapshot before it is used: that takes a
fraction of a second. The others wait for their next caller."""

LOOK_AGAIN_S = 0.1
"""How long the registry is not asked again for what was not found."""


class FeatureRequest(NamedTuple):
    """A caller's request without its rows."""

    features: FeatureReferences
    full_feature_names: bool

    @property
    def key(self) -> Hashable:
        """A key that is equal for equal requests: references by text, definitions by content.

        Raises:
            RequestError: the features are not references.
        """
        return _key_of(self.features), self.full_feature_names


class DecidedRequest:
    """A resolved request: its selection and its online reader.

    Args:
        reader: makes the reader on first use; a view that is not online has none.

    Attributes:
        used: how often it was requested.
    """

    def __init__(self, request: FeatureRequest, selection: Selection, reader: Callable[[], OnlineReader]) -> None:
        self.request = request
        self.selection = selection
        self.used = 0
        self._make_reader = reader
        self._reader: OnlineReader | None = None

    @cached_property
    def logs_with_history(self) -> list[LogSource]:
        """The log sources that it reads that have a batch source."""
        sources = [read.view.source for read in self.selection.reads]
        return [each for each in sources if isinstance(each, LogSource) and each.batch_source is not None]

    @property
    def reader(self) -> OnlineReader:
        """The reader of the request.

        Raises:
            StorageError: a view is not kept online.
        """
        if self._reader is None:
            self._reader = self._make_reader()
        return self._reader


D = TypeVar("D", bound=DecidedRequest)


class DecidedRequests(Generic[D]):
    """The requests resolved for one snapshot; the oldest are dropped beyond the limits.

    Attributes:
        snapshot: replaced by newer ones that differ only in facts that readers do not use.
        dropped: number of dropped requests so far; a change tells other caches to drop theirs.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.dropped = 0
        self._of: dict[Hashable, D] = {}
        self._outputs = 0
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._of)

    def __iter__(self) -> Iterator[D]:
        return iter(list(self._of.values()))

    def get(self, key: Hashable) -> D | None:
        """The resolved request, if it is cached."""
        return self._of.get(key)

    def in_use(self, most: int = OUTPUTS_AHEAD) -> list[D]:
        """Requests that were used since they were resolved, the least used first.

        Args:
            most: limit of the number of their features; the most used are kept.
        """
        with self._lock:
            used = sorted((each for each in self._of.values() if each.used), key=lambda each: -each.used)
        kept = 0
        for number, each in enumerate(used):
            kept += len(each.selection.outputs)
            if kept > most and number:
                return used[number - 1 :: -1]
        return used[::-1]

    def keep(self, decided: D) -> None:
        """Cache a request, and drop the oldest beyond the limits."""
        key = decided.request.key
        with self._lock:
            before = self._of.pop(key, None)
            self._outputs += len(decided.selection.outputs)
            self._outputs -= len(before.selection.outputs) if before is not None else 0
            self._of[key] = decided
            while len(self._of) > REQUESTS or (self._outputs > OUTPUTS and len(self._of) > 1):
                self._outputs -= len(self._of.pop(next(iter(self._of))).selection.outputs)
                self.dropped += 1


class AppliedDefinitions(Generic[D]):
    """Follows what is applied of one project. Safe for any number of threads.

    Args:
        registry: opens the registry on first use.
        decide: resolves a request for a snapshot.
        load: loads the newest snapshot, if others share it; by default from the registry.
        decide_ahead: resolve the requests in use again before switching to a new snapshot, so that no reader waits.
    """

    def __init__(
        self,
        project: str,
        registry: Callable[[], Registry],
        decide: Callable[[Snapshot, FeatureRequest], D],
        *,
        load: Callable[[], Snapshot] | None = None,
        decide_ahead: bool = False,
    ) -> None:
        self._project = project
        self._registry = registry
        self._load = load or (lambda: registry().load(project))
        self._decide = decide
        self._decide_ahead = decide_ahead
        self._requests: DecidedRequests[D] | None = None
        self._look_again_at = 0.0
        self._lock = Lock()

    def requests(self) -> DecidedRequests[D]:
        """The resolved requests of the snapshot in use; loads the newest snapshot on first use."""
        if self._requests is None:
            self.refresh()
        assert self._requests is not None
        return self._requests

    @property
    def is_known(self) -> bool:
        """Whether the registry was read."""
        return self._requests is not None

    def forget(self) -> None:
        """Read the registry again on next use."""
        self._requests = None

    def refresh(self) -> bool:
        """Switch to the newest snapshot; returns whether anything that readers use changed.

        Raises:
            RegistryError: the registry cannot be read.
        """
        known = self._requests
        # Concurrent threads need not wait for one another where nothing changed.
        if known is not None and self._registry().version(self._project) == known.snapshot.version:
            return False
        with self._lock:
            before = self._requests
            if before is not known and before is not None:
                return True  # another thread was quicker
            snapshot = self._load()
            if before is not None and _reads_alike(before.snapshot, snapshot):
                # Most versions only record the progress of a worker or a run.
                before.snapshot = snapshot
                return False
            after: DecidedRequests[D] = DecidedRequests(snapshot)
            if before is not None and self._decide_ahead:
                for each in before.in_use():
                    try:
                        after.keep(self._decide(snapshot, each.request))
                    except AsofError:
                        pass  # the next caller gets the error
            self._requests = after
            return True

    def decided(self, request: FeatureRequest) -> D:
        """The request, resolved for the snapshot in use.

        Raises:
            NotFound, RequestError: it requests something that is not applied.
        """
        try:
            return self._decided(request)
        except (NotFound, RequestError):
            if not self.look_again():
                raise
        return self._decided(request)

    def look_again(self) -> bool:
        """Check the registry for what is not found here, which another process may just have applied.

        Returns whether anything that readers use changed. The registry is asked once in `LOOK_AGAIN_S`, however many
        requests name what is not there.
        """
        now = time.monotonic()
        if now < self._look_again_at:
            return False
        self._look_again_at = now + LOOK_AGAIN_S
        try:
            return self.refresh()
        except RegistryError:
            return False

    def _decided(self, request: FeatureRequest) -> D:
        requests = self.requests()
        decided = requests.get(request.key)
        if decided is None:
            decided = self._decide(requests.snapshot, request)
            requests.keep(decided)
        decided.used += 1
        return decided

    def is_current(self, decided: D) -> bool:
        """Whether the request would be read in the same way now, as far as known without resolving it again."""
        return self.requests().get(decided.request.key) is decided

    def superseding(self, decided: D) -> D | None:
        """The request resolved again, if it is now read in another way; None where the result is still valid.

        Raises:
            NotFound, RequestError: it requests something that is no longer applied.
        """
        if self.is_current(decided):
            return None
        now = self.decided(decided.request)
        return now if now.reader.generations != decided.reader.generations else None

    def newer(self, decided: D) -> D | None:
        """Check the registry, then as `superseding`: a missing row may be in a newer generation. While the registry is
        unreachable, the snapshot in use is served.
        """
        try:
            self.refresh()
        except RegistryError:
            return None
        return self.superseding(decided)


def _reads_alike(old: Snapshot, new: Snapshot) -> bool:
    return new.project == old.project and _generations(new) == _generations(old)


def _generations(snapshot: Snapshot) -> dict[str, str | None]:
    return {view: each.current for view, each in snapshot.facts.generations.items()}


def _key_of(features: FeatureReferences) -> Hashable:
    if isinstance(features, str):
        return features
    if isinstance(features, FeatureService):
        return ("service", features.name)
    if isinstance(features, Definition | Projection):
        return _part_key(features)
    try:
        parts = tuple(features)
    except TypeError as error:
        raise RequestError(
            f"features is {features!r}", hint="give references like 'view:feature', or a service"
        ) from error
    return parts if set(map(type, parts)) <= {str} else tuple(map(_part_key, parts))


def _part_key(part: object) -> Hashable:
    if isinstance(part, Projection):
        features = None if part.features is None else tuple(part.features)
        return (part.view.name, features, part.alias, tuple(sorted(part.join_key_map.items())))
    return ("view", part.name) if isinstance(part, Definition) else part
