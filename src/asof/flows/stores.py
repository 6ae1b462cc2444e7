"""The stores, log, readers and clock that flows get; and the names of views in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from threading import RLock
from typing import Generic, NamedTuple, Protocol, TypeVar, cast

from asof.connections.object_storage import ObjectStorage
from asof.decoding import DEFAULT_BOUNDS, MessageBounds, Schemas
from asof.definitions import FeatureView, LogSource, Project, Snapshot, Source
from asof.definitions.project import decode_project
from asof.definitions.transforms import MessageTransform
from asof.errors import NotFound, nearest, some
from asof.flows.newest_snapshot import NewestSnapshot
from asof.forks import ForkListener, listen_to_forks
from asof.log.protocol import Log, Messages
from asof.offline.protocol import Archive, OfflineStore
from asof.online.protocol import OnlineStore, OnlineTable
from asof.registry.protocol import Registry
from asof.sources.protocol import SourceReader
from asof.timing import Clock, Micros

Progress = Callable[[str, int, int | None], None]
"""Called with the progress of a long flow: its name, amount done, total (None if unknown)."""


def silent(what: str, done: int, total: int | None) -> None:
    """Ignore progress."""


class Closeable(Protocol):
    """Something with files or connections to close."""

    def close(self) -> None: ...


T = TypeVar("T", bound=Closeable)


class Lazy(ForkListener, Generic[T]):
    """A store that is opened once, at its first use; thread-safe.

    Args:
        open: opens the store.
    """

    def __init__(self, open: Callable[[], T]) -> None:
        self._open = open
        self._opened: T | None = None
        # Reentrant: opening a store may use another one, or the same.
        self._lock = RLock()
        listen_to_forks(self)

    def after_fork_in_child(self) -> None:
        """See `ForkListener`."""
        self._lock = RLock()

    def get(self) -> T:
        """The store, opened if necessary."""
        if self._opened is None:
            with self._lock:
                if self._opened is None:
                    self._opened = self._open()
        return self._opened

    def close(self) -> None:
        """Close the store if it is open; the next `get` opens it again."""
        with self._lock:
            opened, self._opened = self._opened, None
        if opened is not None:
            opened.close()


class LazyReaders(Mapping[str, SourceReader]):
    """Source type → its reader, opened at the first read of such a source."""

    def __init__(self, readers: Mapping[str, SourceReader] | Mapping[str, Lazy[SourceReader]]) -> None:
        self._readers = {type: _lazy(each) for type, each in readers.items()}

    def __getitem__(self, type: str) -> SourceReader:
        return self._readers[type].get()

    def __contains__(self, type: object) -> bool:
        return type in self._readers

    def __iter__(self) -> Iterator[str]:
        return iter(self._readers)

    def __len__(self) -> int:
        return len(self._readers)

    def close(self) -> None:
        """Close the open readers."""
        for each in self._readers.values():
            each.close()


class SourceAccess(Protocol):
    """The log, schema registry and transform of each source, by the configuration."""

    def log_of(self, source: LogSource) -> Log | None:
        """The log with a source's topic; None for the project's log."""
        ...

    def schemas_of(self, source: LogSource) -> Schemas | None:
        """The schema registry of a source's messages; None if they use none."""
        ...

    def function_of(self, source: LogSource) -> MessageTransform | None:
        """A source's transform with its function; None if this process does not have the function."""
        ...

    def close(self) -> None:
        """Close everything that is open."""
        ...


class ChildDeath(NamedTuple):
    """The end of a child process on messages.

    Args:
        reason: how it ended.
        is_outside: it was killed from outside, or never began: that is no fault of the messages.
    """

    reason: str
    is_outside: bool = False


class MessageProcess(Protocol):
    """A child process that decodes and transforms messages of one source, as a worker would."""

    def take(self, messages: Messages, *, now: Micros) -> ChildDeath | None:
        """Let a child take these messages; None: it survived them."""
        ...

    def close(self) -> None:
        """End the child."""
        ...


class RemoteStores(Protocol):
    """Opens the online store in another process, such as an executor's, with its environment; picklable."""

    def open(self, *, now: Micros, max_row_bytes: int) -> Stores:
        """The online store with a clock that stands at `now`, and what evaluates expressions; nothing else."""
        ...


class Stores:
    """All components of a feature store. Stores and readers may be `Lazy`: opened at their first use.

    Args:
        project: the project's name.
        log: the log with the project's topics; a source may have another log (`log_of`).
        readers: source type → its reader, for sources that are not logs.
        clock: the store's current time.
        who: name for commits to the registry.
        max_row_bytes: limit of a packed row; a larger one is read as null.
        partitions: number for new topics.
        sources: by default, every source's topic is one of `log`, and its transform is the definition's.
        system_clock: the system's current time, whatever the store's is; it stamps pushes. By default the store's.
        isolate: makes the child process for suspicious messages of a source, by its name; by default there is none.
        bounds: what one message of a log may be.
        storage: how files in object storage are reached; by default as their provider's own settings say.
        local_log: a log of this machine alone next to a registry of many, to be refused; empty where there is none.
        unlisted_variables: the environment variables of a source that the configuration does not let it use.
        remote: opens the online store where an engine computes; None where it cannot be reached from elsewhere.
        shared_stores: other configuration file → names of the sections whose store it shares with this one.
    """

    def __init__(
        self,
        project: str,
        registry: Registry | Lazy[Registry],
        offline: OfflineStore | Lazy[OfflineStore],
        online: OnlineStore | Lazy[OnlineStore],
        log: Log | Lazy[Log],
        readers: Mapping[str, SourceReader] | Mapping[str, Lazy[SourceReader]],
        clock: Clock,
        who: str = "",
        max_row_bytes: int = 256 * 1024,
        *,
        partitions: int = 1,
        sources: SourceAccess | None = None,
        system_clock: Clock | None = None,
        shared_stores: Callable[[], Mapping[str, Sequence[str]]] = dict,
        isolate: Callable[[str], MessageProcess] | None = None,
        bounds: MessageBounds = DEFAULT_BOUNDS,
        storage: ObjectStorage | None = None,
        local_log: str = "",
        unlisted_variables: Callable[[Source], Sequence[str]] = lambda source: (),
        remote: Callable[[], RemoteStores | None] = lambda: None,
    ) -> None:
        self.project = project
        self.clock = clock
        self.system_clock = system_clock or clock
        self.who = who
        self.max_row_bytes = max_row_bytes
        self.partitions = partitions
        self.shared_stores = shared_stores
        self.bounds = bounds
        self.storage = storage or ObjectStorage()
        self.local_log = local_log
        self._remote = remote
        self.unlisted_variables = unlisted_variables
        self._isolate = isolate
        self._registry = _lazy(registry)
        self._offline = _lazy(offline)
        self._online = _lazy(online)
        self._log = _lazy(log)
        self._readers = readers if isinstance(readers, LazyReaders) else LazyReaders(readers)
        self._sources = sources
        self._newest = NewestSnapshot(lambda: self.registry, project)

    @property
    def remote(self) -> RemoteStores | None:
        return self._remote()

    @property
    def registry(self) -> Registry:
        return self._registry.get()

    def applied(self) -> Snapshot:
        """What is applied, shared by all flows that only look; see `NewestSnapshot.get`."""
        return self._newest.get()

    @property
    def offline(self) -> OfflineStore:
        return self._offline.get()

    @property
    def online(self) -> OnlineStore:
        return self._online.get()

    @property
    def log(self) -> Log:
        return self._log.get()

    @property
    def readers(self) -> Mapping[str, SourceReader]:
        return self._readers

    def replaced(
        self,
        *,
        registry: Registry | None = None,
        offline: OfflineStore | None = None,
        online: OnlineStore | None = None,
        log: Log | None = None,
        max_row_bytes: int | None = None,
        isolate: Callable[[str], MessageProcess] | None = None,
    ) -> Stores:
        """A copy with some components replaced."""
        return Stores(
            self.project,
            registry=registry or self._registry,
            offline=offline or self._offline,
            online=online or self._online,
            log=log or self._log,
            readers=self._readers,
            clock=self.clock,
            who=self.who,
            max_row_bytes=self.max_row_bytes if max_row_bytes is None else max_row_bytes,
            partitions=self.partitions,
            sources=self._sources,
            system_clock=self.system_clock,
            shared_stores=self.shared_stores,
            isolate=isolate or self._isolate,
            bounds=self.bounds,
            storage=self.storage,
            local_log=self.local_log,
            unlisted_variables=self.unlisted_variables,
            remote=self._remote if online is None else lambda: None,
        )

    def log_of(self, source: LogSource) -> Log:
        """The log with a source's topic. Pushes and replayed dead letters always use `log`."""
        elsewhere = self._sources.log_of(source) if self._sources is not None else None
        return elsewhere if elsewhere is not None else self.log

    def schemas_of(self, source: LogSource) -> Schemas | None:
        """The schema registry of a source's messages; None if they use none, or none is configured."""
        return self._sources.schemas_of(source) if self._sources is not None else None

    def function_of(self, source: LogSource) -> MessageTransform | None:
        """A source's transform with its function; None if this process does not have the function."""
        return self._sources.function_of(source) if self._sources is not None else source.transform

    def bounds_of(self, source: LogSource) -> MessageBounds:
        """What one message of a source may be. Pushed rows were bounded when they were written: none is lost."""
        return replace(self.bounds, max_bytes=None) if source.type == "push" else self.bounds

    @property
    def can_isolate(self) -> bool:
        """Whether messages can be given to a child process."""
        return self._isolate is not None

    def isolated(self, source: str) -> MessageProcess:
        """A child process for messages of a source, which opens the same stores as these."""
        assert self._isolate is not None
        return self._isolate(source)

    def archive_of(self, source: Source) -> Archive:
        return Archive(self.project, source.name)

    def dead_letters_of(self, source: Source) -> Archive:
        return Archive(self.project, source.name, "letters")

    def close(self) -> None:
        """Close everything that is open; later uses open it again."""
        self._readers.close()
        if self._sources is not None:
            self._sources.close()
        for each in (self._log, self._online, self._offline, self._registry):
            each.close()


def _lazy(part: T | Lazy[T]) -> Lazy[T]:
    return cast("Lazy[T]", part) if isinstance(part, Lazy) else Lazy(lambda: part)


def table_of(project: str, view: FeatureView, generation: str) -> OnlineTable:
    """The online table of one generation of a view.

    Rows of views with a log source are merged, not replaced: a row may have pending events.
    """
    return OnlineTable(
        project, view.name, generation, "state" if view.is_aggregated or view.source.is_log else "latest"
    )


def current_generation(snapshot: Snapshot, view: FeatureView) -> str | None:
    """The generation that readers use; None before the first one is complete."""
    return snapshot.facts.generations_of(view.name).current


def building_generation(snapshot: Snapshot, view: FeatureView) -> str | None:
    """The generation that is being built, if any."""
    return snapshot.facts.generations_of(view.name).building


def staged_project(snapshot: Snapshot) -> Project | None:
    """The definitions that a running apply is building online rows for, if any."""
    staged = snapshot.facts.staged
    return decode_project(staged.project, {}) if staged else None


def online_views(snapshot: Snapshot, source: Source) -> list[FeatureView]:
    """The online views of a source."""
    return [view for view in snapshot.project.views_of(source.name) if view.online]


def view_named(snapshot: Snapshot, name: str) -> FeatureView:
    """The applied feature view of this name.

    Raises:
        NotFound: none is applied.
    """
    view = snapshot.project.views.get(name)
    if view is None:
        raise NotFound(
            f"no feature view {name!r} is applied",
            hint=nearest(name, snapshot.project.views) or "run `asof list views` to see what there is",
        )
    return view


def log_sources(snapshot: Snapshot, name: str | None = None) -> list[LogSource]:
    """The applied log and push sources; only the one of this name, if it is given.

    Raises:
        NotFound: it is not applied, or not a log source.
    """
    if name is not None:
        return [log_source_named(snapshot, name)]
    return [each for each in snapshot.project.sources.values() if isinstance(each, LogSource)]


def log_source_named(snapshot: Snapshot, name: str) -> LogSource:
    """The applied log or push source of this name.

    Raises:
        NotFound: it is not applied, or not a log source.
    """
    source = snapshot.project.sources.get(name)
    if not isinstance(source, LogSource):
        logs = [each.name for each in snapshot.project.sources.values() if each.is_log]
        what = "is not a log or push source" if source is not None else "is not applied"
        first = "define a LogSource or PushSource" if source is not None else "run `asof apply` first"
        others = f"log and push sources: {some(logs)}" if logs else first
        raise NotFound(f"source {name!r} {what}", hint=nearest(name, logs) or others)
    return source


def raw_keys(source: Source, views: list[FeatureView]) -> list[str]:
    """The source's columns with a join key of any of the views, each once."""
    return list(dict.fromkeys(source.raw(key) for view in views for key in view.join_keys))
