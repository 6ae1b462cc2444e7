"""From the configuration's names to the products: which class serves which part, loaded when it is needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from asof.config import Part, StoreConfig
from asof.errors import AsofError, ConfigError, MissingExtra, nearest
from asof.flows.parts import Parts
from asof.timing import Clock

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
    known = products(family)
    raise ConfigError(
        f"there is no {family} product {name!r}", hint=nearest(name, known) or f"choose one of {known}", where=where
    )


def opened(family: str, part: Part, root: Path, **extra: Any) -> Any:
    """A product with the options of its part of the configuration; relative paths are relative to `root`.

    Raises:
        ConfigError: an option is unknown or of the wrong type.
    """
    options = dict(part.options)
    if "path" in options and "://" not in str(options["path"]):
        options["path"] = root / str(options["path"])
    made = product(family, part.type, where=part.where)
    path = options.pop("path", None)
    try:
        return made(*([path] if path is not None else []), **options, **extra)
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


class LazyReaders(Mapping[str, Any]):
    """Source type → its reader, loaded when the first source of that type is read."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._readers: dict[str, Any] = {}
        self._names = products("sources")

    def __getitem__(self, name: str) -> Any:
        if name not in self._names:
            raise KeyError(name)
        if name not in self._readers:
            self._readers[name] = product("sources", name)(self._root)
        return self._readers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def open_parts(config: StoreConfig, *, clock: Clock, who: str) -> Parts:
    """Every part of a store, as its configuration says."""
    root = config.path
    options = dict(config.log.options)
    # How many partitions a new topic gets is for whoever makes it, not for the log.
    partitions = options.pop("partitions", 1)
    log = opened("log", Part(config.log.type, options, config.log.where), root, clock=clock)
    try:
        return Parts(
            project=config.project,
            registry=opened("registry", config.registry, root),
            offline=opened("offline", config.offline_store, root),
            online=opened("online", config.online_store, root),
            log=log,
            readers=LazyReaders(root),
            clock=clock,
            who=who,
            options={"partitions": partitions},
        )
    except AsofError:
        log.close()
        raise
