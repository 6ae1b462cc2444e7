"""From the configuration's names to the products: which class serves which part, loaded when it is needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cached_property
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from asof.config import Part, StoreConfig
from asof.errors import ConfigError, MissingExtra, nearest
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


class OpenedParts(Parts):
    """Parts that are opened when they are first used: listing what is applied needs no engine.

    Args:
        config: what to open.
    """

    def __init__(self, config: StoreConfig, *, clock: Clock, who: str) -> None:
        for family, part in (
            ("registry", config.registry), ("offline", config.offline_store), ("online", config.online_store),
            ("log", config.log),
        ):  # fmt: skip
            refuse_unknown(family, part)
        # How many partitions a new topic gets is for whoever makes it, not for the log.
        partitions = config.log.options.get("partitions", 1)
        for name, value in (
            ("config", config), ("project", config.project), ("clock", clock), ("who", who),
            ("readers", LazyReaders(config.path)), ("options", {"partitions": partitions}),
        ):  # fmt: skip
            object.__setattr__(self, name, value)

    @cached_property
    def registry(self) -> Any:  # type: ignore[override]
        return opened("registry", self.config.registry, self.config.path)

    @cached_property
    def offline(self) -> Any:  # type: ignore[override]
        return opened("offline", self.config.offline_store, self.config.path)

    @cached_property
    def online(self) -> Any:  # type: ignore[override]
        return opened("online", self.config.online_store, self.config.path)

    @cached_property
    def log(self) -> Any:  # type: ignore[override]
        options = {name: value for name, value in self.config.log.options.items() if name != "partitions"}
        part = Part(self.config.log.type, options, self.config.log.where)
        return opened("log", part, self.config.path, clock=self.clock)

    def close(self) -> None:
        """Give back what was opened."""
        for name in ("log", "online", "offline", "registry"):
            if name in self.__dict__:
                with suppress(AttributeError):
                    self.__dict__.pop(name).close()
