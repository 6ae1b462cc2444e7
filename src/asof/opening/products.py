"""From the configuration's names to the products: which class serves which part, loaded when it is needed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from threading import Lock
from typing import Any

from asof.config import Part, StoreConfig, expanded, place_of, shared_stores
from asof.config.reference import CONNECTIONS, options_of
from asof.decoding import Schemas
from asof.definitions import LogSource, Source
from asof.definitions.transforms import MessageTransform
from asof.errors import ConfigError, MissingExtra, nearest, some
from asof.flows.stores import Parts
from asof.flows.stream.shared_logs import kept_topics
from asof.log.protocol import Log
from asof.offline.protocol import OfflineStore
from asof.online.protocol import OnlineStore
from asof.registry.protocol import Registry
from asof.timing import Clock
from asof.values.local_paths import NotLocal, local_path, scheme_of

EMBEDDED: dict[tuple[str, str], str] = {
    ("registry", "sqlite"): "asof.registry.sqlite:SqliteRegistry",
    ("sources", "file"): "asof.sources.file:FileReader",
    ("offline", "duckdb"): "asof.offline.duckdb:DuckDBOffline",
    ("online", "sqlite"): "asof.online.sqlite:SqliteOnlineStore",
    ("log", "file"): "asof.log.file:FileLog",
}
"""The products that come with the base install, known without a look at what is installed."""

EXTRAS = {"postgres": "postgres", "kafka": "kafka", "redis": "redis", "spark": "spark"}
"""Product → the extra that installs its driver."""


def products(family: str) -> list[str]:
    """The names of the products of one family: the embedded ones, and those that installed packages register."""
    installed = {point.name for point in entry_points(group=f"asof.{family}")}
    return sorted(installed | {name for known, name in EMBEDDED if known == family})


def product(family: str, name: str, *, where: str = "") -> Callable[..., Any]:
    """The class of a product.

    Raises:
        ConfigError: there is none of this name.
        MissingExtra: its driver is not installed.
    """
    home = EMBEDDED.get((family, name))
    try:
        if home is not None:
            module, _, attribute = home.partition(":")
            return getattr(import_module(module), attribute)
        for point in entry_points(group=f"asof.{family}", name=name):
            return point.load()
    except ImportError as error:
        raise MissingExtra(f"the {family} product {name!r}", EXTRAS.get(name, name)) from error
    names = products(family)
    raise ConfigError(
        f"there is no {family} product {name!r}", hint=nearest(name, names) or f"choose one of {names}", where=where
    )


def refuse_unknown(family: str, part: Part) -> None:
    """Refuse the name of a product that is not there, before anything is opened.

    Raises:
        ConfigError: there is none of this name.
    """
    if (family, part.type) not in EMBEDDED and part.type not in products(family):
        product(family, part.type, where=part.where)


def opened(family: str, part: Part, root: Path, **extra: Any) -> Any:
    """A product with the options of its part of the configuration; relative paths are relative to `root`.

    Raises:
        ConfigError: an option is unknown or of the wrong type.
    """
    options = dict(part.options)
    if "path" in options and (family, part.type) in EMBEDDED:
        # A configuration made in code has not been read by `load_config`.
        try:
            options["path"] = root / local_path(str(options["path"]))
        except NotLocal as error:
            raise ConfigError(
                f"path of {family} product {part.type!r}: {error}", hint="write a path on this machine, or file:///…",
                where=part.where,
            ) from error  # fmt: skip
    elif "path" in options and not scheme_of(str(options["path"])):
        options["path"] = root / str(options["path"])
    made = product(family, part.type, where=part.where)
    path = options.pop("path", None)
    try:
        return made(*([path] if path is not None else []), **options, **extra)
    except ConfigError as error:
        # What only the product knows of its options is about the lines that give them.
        error.where = error.where or part.where
        raise
    except TypeError as error:
        raise ConfigError(
            f"{family} product {part.type!r}: {str(error).split('() ')[-1]}", hint="check its options", where=part.where
        ) from error
    except OSError as error:
        raise ConfigError(
            f"{family} product {part.type!r} cannot be opened at {path}: {error.strerror or error}",
            hint=f"check {family}'s path and who may write there",
            where=part.where,
        ) from error


HOMES = {"postgres": "offline_store", "kafka": "log"}
"""Type of a server → the section of the configuration whose server a source takes that does not name one."""


SCHEMA_REGISTRY = "schema_registry"
"""The type of a connection to a schema registry."""


@dataclass(frozen=True)
class Connection:
    """Which server a source is read from.

    Args:
        label: the setting that says so, for messages.
        options: how it is reached, secrets and all: never shown.
        where: `file:line`.
    """

    label: str
    options: Mapping[str, Any] = field(repr=False)
    where: str = ""


class Connections:
    """Finds the server of a source: its own fields, its `connection_ref`, else the one there is.

    Args:
        environ: what `${VAR}` in definitions is read from.
    """

    def __init__(self, config: StoreConfig, environ: Mapping[str, str] | None = None) -> None:
        self._config = config
        self._environ = os.environ if environ is None else environ

    def of(self, source: Source, kind: str) -> Connection:
        """The server of a source.

        Args:
            kind: the type of the server, a key of `HOMES`.

        Raises:
            ConfigError: none is named and there is not exactly one, or a variable is not set.
        """
        named = self._config.connections
        if source.connection:
            own = expanded(dict(source.connection), self._environ, where=source.where)
            return Connection(f"source {source.name!r}", own, source.where)
        if source.connection_ref:
            return self._named(source, kind)
        home: Part = getattr(self._config, HOMES[kind])
        if home.type == kind:
            known = options_of(CONNECTIONS, kind)
            own = {name: value for name, value in home.options.items() if not known or name in known}
            return Connection(HOMES[kind], own, home.where)
        fitting = [name for name, part in named.items() if part.type == kind]
        if len(fitting) == 1:
            return Connection(f"connections.{fitting[0]}", named[fitting[0]].options, named[fitting[0]].where)
        raise ConfigError(
            f"source {source.name!r} does not say which {kind} server it is on; "
            + (f"the connections are {some(fitting)}" if fitting else "feature_store.yaml has no connection to one"),
            hint="give connection_ref=" if fitting else f"add `connections: {{NAME: {{type: {kind}, …}}}}` there",
            where=source.where,
        )  # fmt: skip

    def _named(self, source: Source, kind: str) -> Connection:
        named = self._config.connections
        part = named.get(source.connection_ref)
        if part is None:
            raise ConfigError(
                f"source {source.name!r}: there is no connection {source.connection_ref!r} in feature_store.yaml",
                hint=nearest(source.connection_ref, named) or f"the connections are {some(named)}", where=source.where,
            )  # fmt: skip
        if part.type != kind:
            raise ConfigError(
                f"source {source.name!r}: connection {source.connection_ref!r} is of type {part.type!r}",
                hint=f"name one of type {kind!r}", where=source.where,
            )  # fmt: skip
        return Connection(f"connections.{source.connection_ref}", part.options, part.where)

    def schema_registry(self, source: LogSource) -> Connection:
        """The schema registry whose frames the messages of a source have.

        Raises:
            ConfigError: as `of` does.
        """
        named, said = self._config.connections, source.message_format.registry
        if isinstance(said, str) and "://" in said:
            return Connection(
                f"source {source.name!r}", {"url": expanded(said, self._environ, where=source.where)}, source.where
            )
        fitting = [name for name, part in named.items() if part.type == SCHEMA_REGISTRY]
        chosen = said if isinstance(said, str) else fitting[0] if len(fitting) == 1 else ""
        if chosen not in fitting:
            raise ConfigError(
                f"source {source.name!r}: there is no connection {chosen!r} of type {SCHEMA_REGISTRY}"
                if chosen
                else f"source {source.name!r} does not say which schema registry its messages name",
                hint=f"write registry= as one of {some(fitting)}" if fitting
                else f"add `connections: {{schemas: {{type: {SCHEMA_REGISTRY}, url: …}}}}` to feature_store.yaml",
                where=source.where,
            )  # fmt: skip
        return Connection(f"connections.{chosen}", named[chosen].options, named[chosen].where)


class LazyReaders(Mapping[str, Any]):
    """Source type → its reader, loaded when the first source of that type is read.

    A reader is made with the repository's root, and with `connections=` where its class says `on_server`.
    """

    def __init__(self, root: Path, connections: Connections) -> None:
        self._root = root
        self._connections = connections
        self._readers: dict[str, Any] = {}
        self._names = products("sources")

    def __getitem__(self, name: str) -> Any:
        if name not in self._names:
            raise KeyError(name)
        if name not in self._readers:
            made = product("sources", name)
            extra = {"connections": self._connections} if getattr(made, "on_server", False) else {}
            self._readers[name] = made(self._root, **extra)
        return self._readers[name]

    def close(self) -> None:
        """Give back what the readers opened."""
        for reader in self._readers.values():
            reader.close()

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class OpenedParts(Parts):
    """Parts that are opened when they are first used: listing what is applied needs no engine.

    Args:
        config: what to open.
        functions: finds the transform of a source's messages in the repository's files.
    """

    config: StoreConfig
    connections: Connections
    readers: LazyReaders
    functions: Callable[[LogSource], MessageTransform | None] | None
    _schemas: dict[str, Schemas]
    _logs: dict[str, Log]
    _logs_lock: Lock

    def __init__(
        self,
        config: StoreConfig,
        *,
        clock: Clock,
        who: str,
        functions: Callable[[LogSource], MessageTransform | None] | None = None,
    ) -> None:
        for family, part in (
            ("registry", config.registry), ("offline", config.offline_store), ("online", config.online_store),
            ("log", config.log),
        ):  # fmt: skip
            refuse_unknown(family, part)
        # How many partitions a new topic gets is for whoever makes it, not for the log.
        partitions = config.log.options.get("partitions", 1)
        connections = Connections(config)
        for name, value in (
            ("config", config), ("project", config.project), ("clock", clock), ("who", who),
            ("connections", connections), ("readers", LazyReaders(config.path, connections)),
            ("options", {"partitions": partitions}), ("_schemas", {}), ("_logs", {}), ("_logs_lock", Lock()),
            ("functions", functions),
        ):  # fmt: skip
            object.__setattr__(self, name, value)

    @cached_property
    def registry(self) -> Registry:
        return opened("registry", self.config.registry, self.config.path)

    @cached_property
    def offline(self) -> OfflineStore:
        return opened("offline", self.config.offline_store, self.config.path)

    @cached_property
    def online(self) -> OnlineStore:
        part = self.config.online_store
        made = product("online", part.type, where=part.where)
        # A store that removes expired rows by itself has to know where the clock is not the system's.
        extra = {"clock": self.clock} if getattr(made, "takes_clock", False) else {}
        return opened("online", part, self.config.path, **extra)

    @cached_property
    def log(self) -> Log:
        options = {name: value for name, value in self.config.log.options.items() if name != "partitions"}
        if self.config.log.type == "kafka":
            # A cluster is shared: another project must not read this one's pushes.
            options.setdefault("topic_prefix", f"{self.project}.")
        part = Part(self.config.log.type, options, self.config.log.where)
        extra: dict[str, Any] = {}
        if part.type == "file":
            # Nor of this folder: its topics are known by the project, too.
            user = f"project {self.project!r} of the registry {place_of(self.config.registry)}"
            extra = {"project": self.project, "user": user, "kept": partial(kept_topics, self)}
        return opened("log", part, self.config.path, clock=self.clock, **extra)

    def shared_stores(self) -> Mapping[str, Sequence[str]]:
        return shared_stores(self.config)

    def schemas_of(self, source: LogSource) -> Schemas | None:
        if not source.message_format.registry:
            return None
        found = self.connections.schema_registry(source)
        if found.label not in self._schemas:
            from asof.connections.schema_registry import SchemaRegistry  # only where one is named

            # One for all sources that name it: it keeps the schemas that it was asked for.
            self._schemas[found.label] = SchemaRegistry(**found.options, label=found.label, where=found.where)
        return self._schemas[found.label]

    def log_of(self, source: LogSource) -> Log:
        """See `Parts.log_of`. Sources on the same cluster share one log object."""
        if source.type != "kafka":
            return self.log
        connection = self.connections.of(source, "kafka")
        options = dict(connection.options)
        if "kafka_settings" in options:
            options["settings"] = options.pop("kafka_settings")
        for own in ("partitions", "replication_factor", "topic_prefix", "topic_settings"):
            # They are about topics that Asof makes.
            options.pop(own, None)
        key = repr(sorted(options.items()))
        with self._logs_lock:
            if key not in self._logs:
                part = Part("kafka", options, connection.where)
                self._logs[key] = opened("log", part, self.config.path, clock=self.clock)
            return self._logs[key]

    def function_of(self, source: LogSource) -> MessageTransform | None:
        return self.functions(source) if self.functions is not None else source.transform

    def close(self) -> None:
        """Give back what was opened."""
        self.readers.close()
        with self._logs_lock:
            for log in self._logs.values():
                log.close()
            self._logs.clear()
        for name in ("log", "online", "offline", "registry"):
            if name in self.__dict__:
                with suppress(AttributeError):
                    self.__dict__.pop(name).close()
