"""What is applied, as readers use it: the snapshot in use, the requests decided for it, and what is newer."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from threading import Lock
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from asof.definitions import FeatureService, Projection, Snapshot
from asof.definitions.base import Definition
from asof.errors import AsofError, RegistryError, RequestError

if TYPE_CHECKING:
    from asof.flows.online.read import OnlineReader
    from asof.registry.protocol import Registry
    from asof.selection import FeatureReferences, Selection

REQUESTS, OUTPUTS = 1000, 50_000
"""How many different requests are kept decided, and with how many features together."""


class FeatureRequest(NamedTuple):
    """What a caller asks for, whatever its rows."""

    features: FeatureReferences
    full_feature_names: bool

    @property
    def key(self) -> Hashable:
        """Equal for equal requests: references by their text, definitions by what is asked of them.

        Raises:
            RequestError: the features are no references.
        """
        return _key_of(self.features), self.full_feature_names


class DecidedRequest:
    """A request that was decided: its selection, and who reads it online.

    Args:
        reader: makes the reader when it is first needed: a view that is not kept online has none.

    Attributes:
        used: how often it was asked for.
    """

    def __init__(self, request: FeatureRequest, selection: Selection, reader: Callable[[], OnlineReader]) -> None:
        self.request = request
        self.selection = selection
        self.used = 0
        self._make_reader = reader
        self._reader: OnlineReader | None = None

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
    """The requests that were decided for one snapshot; the oldest are dropped where there are too many.

    Attributes:
        snapshot: newer ones take its place here while they differ only in what no reader looks at.
        dropped: how many were dropped so far: who keeps some of them elsewhere drops those when it changes.
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
        """The request, if it is kept."""
        return self._of.get(key)

    def in_use(self) -> list[D]:
        """Those that were asked for since they were decided, oldest first."""
        with self._lock:
            return [each for each in self._of.values() if each.used]

    def keep(self, decided: D) -> None:
        """Keep a request, and drop the oldest where they are too many, or have too many features together."""
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
    """What is applied of one project, followed as it changes. Safe for any number of threads.

    Args:
        registry: the registry, asked for when it is first needed.
        decide: decides a request for a snapshot.
        decide_ahead: decide the requests in use again before a new snapshot is seen, so that no reader waits for that.
    """

    def __init__(
        self,
        project: str,
        registry: Callable[[], Registry],
        decide: Callable[[Snapshot, FeatureRequest], D],
        *,
        decide_ahead: bool = False,
    ) -> None:
        self._project = project
        self._registry = registry
        self._decide = decide
        self._decide_ahead = decide_ahead
        self._requests: DecidedRequests[D] | None = None
        self._lock = Lock()

    def requests(self) -> DecidedRequests[D]:
        """What was decided for the snapshot in use; empty, for the newest snapshot, where there was none."""
        if self._requests is None:
            self.refresh()
        assert self._requests is not None
        return self._requests

    @property
    def is_known(self) -> bool:
        """Whether the registry was read."""
        return self._requests is not None

    def forget(self) -> None:
        """Read the registry again when it is next needed."""
        self._requests = None

    def refresh(self) -> bool:
        """Take over what was applied since; whether anything that is read changed.

        Raises:
            RegistryError: the registry cannot be read.
        """
        known = self._requests
        # Threads that ask at once need not wait for one another where nothing changed.
        if known is not None and self._registry().version(self._project) == known.snapshot.version:
            return False
        with self._lock:
            before = self._requests
            if before is not known and before is not None:
                return True  # another thread was quicker
            snapshot = self._registry().load(self._project)
            if before is not None and _reads_alike(before.snapshot, snapshot):
                # Most versions only say how far a worker or a run is.
                before.snapshot = snapshot
                return False
            after: DecidedRequests[D] = DecidedRequests(snapshot)
            if before is not None and self._decide_ahead:
                for each in before.in_use():
                    try:
                        after.keep(self._decide(snapshot, each.request))
                    except AsofError:
                        pass  # whoever asks for it is told
            self._requests = after
            return True

    def decided(self, request: FeatureRequest) -> D:
        """The request, decided for the snapshot in use.

        Raises:
            NotFound, RequestError: it asks for what is not there.
        """
        requests = self.requests()
        decided = requests.get(request.key)
        if decided is None:
            decided = self._decide(requests.snapshot, request)
            requests.keep(decided)
        decided.used += 1
        return decided

    def is_current(self, decided: D) -> bool:
        """Whether the request would be read in the same way now, as far as that is known without deciding it again."""
        return self.requests().get(decided.request.key) is decided

    def superseding(self, decided: D) -> D | None:
        """The request as it is read now, if that is in another way; None where what was read stands.

        Raises:
            NotFound, RequestError: it asks for what is not there any more.
        """
        if self.is_current(decided):
            return None
        now = self.decided(decided.request)
        return now if now.reader.generations != decided.reader.generations else None

    def newer(self, decided: D) -> D | None:
        """Look at the registry, then as `superseding`: a row that was not found may stand in a newer generation.

        While the registry is away, what is known is served.
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
