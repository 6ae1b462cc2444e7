"""From product names in the configuration to their classes, loaded on first use."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from asof.config import ProductConfig
from asof.errors import ConfigError, MissingExtra, nearest, some
from asof.log.protocol import Log
from asof.offline.protocol import OfflineStore
from asof.online.protocol import OnlineStore
from asof.registry.protocol import Registry
from asof.sources.protocol import SourceReader
from asof.values.local_paths import (
    NotAnAddress,
    NotLocal,
    checked_object_address,
    is_object_address,
    local_path,
    scheme_of,
)

EMBEDDED: dict[tuple[str, str], str] = {
    ("registry", "sqlite"): "asof.registry.sqlite:SqliteRegistry",
    ("registry", "object"): "asof.registry.object:ObjectRegistry",
    ("sources", "file"): "asof.sources.file:FileReader",
    ("offline", "duckdb"): "asof.offline.duckdb:DuckDBOffline",
    ("online", "sqlite"): "asof.online.sqlite:SqliteOnlineStore",
    ("log", "file"): "asof.log.file:FileLog",
}
"""The products of the base install, known without listing installed packages."""

IN_BUCKETS = {("offline", "duckdb"), ("offline", "spark"), ("registry", "object")}
"""The products whose path may be an address in object storage."""

EXTRAS = {"postgres": "postgres", "kafka": "kafka", "redis": "redis", "spark": "spark", "object": "s3"}
"""Product → the extra that installs its driver."""

PROTOCOLS: dict[str, tuple[type, str]] = {
    "registry": (Registry, "asof.registry.protocol.RegistryDefaults"),
    "sources": (SourceReader, "asof.sources.protocol.SourceReaderDefaults"),
    "offline": (OfflineStore, "asof.offline.protocol.OfflineStoreDefaults"),
    "online": (OnlineStore, "asof.online.protocol.OnlineStoreDefaults"),
    "log": (Log, "asof.log.protocol.LogDefaults"),
}
"""Family → its protocol, and the base class with defaults for optional members."""


def products(family: str) -> list[str]:
    """The names of the products of one family: the embedded ones, and those registered by installed packages."""
    installed = {point.name for point in entry_points(group=f"asof.{family}")}
    return sorted(installed | {name for known, name in EMBEDDED if known == family})


def product(family: str, name: str, *, where: str = "") -> Any:
    """The class of a product.

    Raises:
        ConfigError: it does not exist, or lacks a member of its family's protocol.
        MissingExtra: its driver is not installed.
    """
    home = EMBEDDED.get((family, name))
    try:
        if home is not None:
            module, _, attribute = home.partition(":")
            return getattr(import_module(module), attribute)
        for point in entry_points(group=f"asof.{family}", name=name):
            made = point.load()
            refuse_incomplete(family, name, made, where=where)
            return made
    except ImportError as error:
        raise MissingExtra(f"the {family} product {name!r}", EXTRAS.get(name, name)) from error
    names = products(family)
    raise ConfigError(
        f"there is no {family} product {name!r}", hint=nearest(name, names) or f"choose one of {names}", where=where
    )


def refuse_incomplete(family: str, name: str, made: Any, *, where: str = "") -> None:
    """Refuse a product that lacks members of its family's protocol, before it is used.

    Raises:
        ConfigError: it is not a class, or members are missing.
    """
    protocol, defaults = PROTOCOLS[family]
    if not isinstance(made, type):
        raise ConfigError(
            f"{family} product {name!r} is {made!r}, not a class", hint="name a class in its entry point", where=where
        )
    missing = [each for each in members_of(protocol) if not hasattr(made, each)]
    if missing:
        raise ConfigError(
            f"{family} product {name!r}: {made.__module__}.{made.__qualname__} lacks {some(missing)} of "
            f"{protocol.__module__}.{protocol.__qualname__}",
            hint=f"make it a subclass of {defaults}, which has the optional members; write the rest",
            where=where,
        )


def members_of(protocol: type) -> list[str]:
    """The methods and class attributes of a protocol, without instance attributes."""
    found: set[str] = set()
    for each in protocol.__mro__:
        if each is not object and each.__module__.startswith("asof."):
            found |= {name for name, value in vars(each).items() if callable(value) or isinstance(value, property)}
    return sorted(name for name in found if not name.startswith("_"))


def refuse_unknown(family: str, part: ProductConfig) -> None:
    """Refuse the name of a product that does not exist, before anything is opened.

    Raises:
        ConfigError: it does not exist.
    """
    if (family, part.type) not in EMBEDDED and part.type not in products(family):
        product(family, part.type, where=part.where)


def opened(family: str, part: ProductConfig, root: Path, *, made: Any = None, **extra: Any) -> Any:
    """Open a product with the options of its section; relative paths are relative to `root`.

    Args:
        made: its class, where that is known.

    Raises:
        ConfigError: an option is unknown or of the wrong type.
    """
    options = dict(part.options)
    if is_object_address(str(options.get("path", ""))) and (family, part.type) in IN_BUCKETS:
        try:
            options["path"] = checked_object_address(str(options["path"]))
        except NotAnAddress as error:
            raise ConfigError(
                f"path of {family} product {part.type!r}: {error}",
                hint="write s3://BUCKET/PREFIX, with credentials in `storage:`", where=part.where,
            ) from error  # fmt: skip
    elif "path" in options and (family, part.type) in EMBEDDED:
        # A configuration made in code was not checked by `load_config`.
        try:
            options["path"] = root / local_path(str(options["path"]))
        except NotLocal as error:
            raise ConfigError(
                f"path of {family} product {part.type!r}: {error}", hint="write a path on this machine, or file:///…",
                where=part.where,
            ) from error  # fmt: skip
    elif "path" in options and not scheme_of(str(options["path"])):
        options["path"] = root / str(options["path"])
    made = made or product(family, part.type, where=part.where)
    path = options.pop("path", None)
    try:
        return made(*([path] if path is not None else []), **options, **extra)
    except ConfigError as error:
        # The product's own errors about options get the line of the section.
        error.where = error.where or part.where
        raise
    except TypeError as error:
        raise ConfigError(
            f"{family} product {part.type!r}: {str(error).split('() ')[-1]}", hint="check its options", where=part.where
        ) from error
    except OSError as error:
        raise ConfigError(
            f"{family} product {part.type!r} cannot be opened at {path}: {error.strerror or error}",
            hint=f"check {family}'s path and its permissions",
            where=part.where,
        ) from error
