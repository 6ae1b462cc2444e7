"""The stores of a configuration, for flows: each is opened on first use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

from msgspec import structs

from asof.config import ProductConfig, StoreConfig, place_of, shared_stores
from asof.connections.object_storage import ObjectStorage, StorageSettings
from asof.decoding import MessageBounds, Schemas
from asof.definitions import LogSource
from asof.definitions.transforms import MessageTransform
from asof.flows.stores import Lazy, MessageProcess, Stores
from asof.flows.stream.shared_logs import kept_topics
from asof.forks import ForkListener, listen_to_forks
from asof.log.protocol import Log, LogUser
from asof.offline.protocol import OfflineStore
from asof.online.protocol import OnlineStore
from asof.opening.executors import ExecutorStores
from asof.opening.products import IN_BUCKETS, opened, product, products, refuse_unknown
from asof.opening.servers import SourceConnections
from asof.registry.protocol import Registry
from asof.sources.protocol import SourceReader
from asof.timing import Clock

FindTransform = Callable[[LogSource], MessageTransform | None]
"""Finds the transform of a source's messages in the repository's files."""


def open_stores(
    config: StoreConfig, *, clock: Clock, system_clock: Clock, who: str, functions: FindTransform | None = None
) -> Stores:
    """The stores, log and readers that a configuration names; none is opened before it is used.

    Raises:
        ConfigError: a product's name is unknown.
    """
    for family, part in (
        ("registry", config.registry), ("offline", config.offline_store), ("online", config.online_store),
        ("log", config.log),
    ):  # fmt: skip
        refuse_unknown(family, part)
    connections = SourceConnections(config)
    storage = _storage(config)
    readers = {
        name: Lazy(partial(_reader, name, root=config.path, connections=connections, storage=storage))
        for name in products("sources")
    }
    stores: Stores
    stores = Stores(
        config.project,
        registry=Lazy(lambda: _registry(config, storage)),
        offline=Lazy(lambda: _offline(config, storage)),
        online=Lazy(lambda: _online(config, clock)),
        log=Lazy(lambda: _log(config, clock, kept=lambda old: kept_topics(stores, old))),
        readers=readers,
        clock=clock,
        system_clock=system_clock,
        who=who,
        partitions=int(config.log.options.get("partitions", 1)),
        sources=ConfiguredSources(config, connections, clock=clock, functions=functions),
        shared_stores=lambda: shared_stores(config),
        isolate=partial(_isolated, config),
        bounds=_bounds(config),
        storage=storage,
        local_log=_local_log(config),
        unlisted_variables=connections.unlisted,
        remote=lambda: ExecutorStores.of(config),
    )
    return stores


def _local_log(config: StoreConfig) -> str:
    """The log, where other machines of the same registry would not see what is written to it; else empty."""
    is_refused = config.registry.type == "object" and config.log.type == "file" and not config.log.options.get("local")
    return place_of(config.log) if is_refused else ""


def _isolated(config: StoreConfig, source: str) -> MessageProcess:
    from asof.opening.message_process import ChildMessageProcess  # only where workers have died

    limits = config.messages
    return ChildMessageProcess(
        config, source, memory_bytes=limits.child_memory_bytes, timeout_s=limits.child_timeout_s
    )  # fmt: skip


def _bounds(config: StoreConfig) -> MessageBounds:
    limits = config.messages
    return MessageBounds(
        limits.max_bytes, limits.max_depth, max_empty_values=limits.max_empty_values,
        max_decimal_bytes=limits.max_decimal_bytes,
    )  # fmt: skip


class ConfiguredSources(ForkListener):
    """Access to the logs of sources, and to their schemas and transforms. See `SourceAccess`.

    Args:
        functions: None: a transform is used as its definition holds it.
    """

    def __init__(
        self, config: StoreConfig, connections: SourceConnections, *, clock: Clock, functions: FindTransform | None
    ) -> None:
        self._root = config.path
        self._connections = connections
        self._clock = clock
        self._functions = functions
        self._schemas: dict[str, Schemas] = {}
        self._logs: dict[str, Log] = {}
        self._lock = Lock()
        listen_to_forks(self)

    def after_fork_in_child(self) -> None:
        """See `ForkListener`."""
        self._lock = Lock()

    def log_of(self, source: LogSource) -> Log | None:
        """See `SourceAccess.log_of`. Sources on the same cluster share one log object."""
        if source.type != "kafka":
            return None
        connection = self._connections.of(source, "kafka")
        options = dict(connection.options)
        if "kafka_settings" in options:
            options["settings"] = options.pop("kafka_settings")
        for own in ("partitions", "replication_factor", "topic_prefix", "topic_settings"):
            # Those options are for topics that Asof creates.
            options.pop(own, None)
        key = repr(sorted(options.items()))
        with self._lock:
            if key not in self._logs:
                part = ProductConfig("kafka", options, connection.where)
                self._logs[key] = opened("log", part, self._root, clock=self._clock)
            return self._logs[key]

    def schemas_of(self, source: LogSource) -> Schemas | None:
        """See `SourceAccess.schemas_of`. Sources with the same registry share one client and its cached schemas."""
        if not source.message_format.registry:
            return None
        found = self._connections.schema_registry(source)
        if found.label not in self._schemas:
            from asof.connections.schema_registry import SchemaRegistry  # only where one is named

            self._schemas[found.label] = SchemaRegistry(**found.options, label=found.label, where=found.where)
        return self._schemas[found.label]

    def function_of(self, source: LogSource) -> MessageTransform | None:
        """See `SourceAccess.function_of`."""
        return self._functions(source) if self._functions is not None else source.transform

    def close(self) -> None:
        """Close the logs of sources."""
        with self._lock:
            for log in self._logs.values():
                log.close()
            self._logs.clear()


def _reader(name: str, *, root: Path, connections: SourceConnections, storage: ObjectStorage) -> SourceReader:
    made = product("sources", name)
    reader: SourceReader
    if name == "file":
        reader = made(root, storage=storage)
    else:
        reader = made(root, connections=connections) if made.on_server else made(root)
    return reader


def _storage(config: StoreConfig) -> ObjectStorage:
    options = {name: value for name, value in structs.asdict(config.storage).items() if value is not None}
    return ObjectStorage(StorageSettings(**options))


def _registry(config: StoreConfig, storage: ObjectStorage) -> Registry:
    extra = {"storage": storage} if config.registry.type == "object" else {}
    registry: Registry = opened("registry", config.registry, config.path, **extra)
    return registry


def _offline(config: StoreConfig, storage: ObjectStorage) -> OfflineStore:
    extra = {"storage": storage} if ("offline", config.offline_store.type) in IN_BUCKETS else {}
    store: OfflineStore = opened("offline", config.offline_store, config.path, **extra)
    return store


def _online(config: StoreConfig, clock: Clock) -> OnlineStore:
    part = config.online_store
    takes_clock = product("online", part.type, where=part.where).takes_clock
    store: OnlineStore = opened("online", part, config.path, **({"clock": clock} if takes_clock else {}))
    return store


def _log(config: StoreConfig, clock: Clock, *, kept: Callable[[Mapping[str, str]], set[str]]) -> Log:
    # The number of partitions is for the code that creates topics, not for the log.
    options = {name: value for name, value in config.log.options.items() if name not in ("partitions", "local")}
    extra: dict[str, Any] = {}
    if config.log.type == "kafka":
        # A cluster is shared: another project must not read this one's pushes.
        options.setdefault("topic_prefix", f"{config.project}.")
    elif config.log.type == "file":
        # Nor may it in this folder: its topics carry the project's name, too.
        user = LogUser(config.project, place_of(config.registry))
        extra = {"project": config.project, "user": user, "kept": kept}
    log: Log = opened(
        "log", ProductConfig(config.log.type, options, config.log.where), config.path, clock=clock, **extra
    )
    return log
