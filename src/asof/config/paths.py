"""Options that are paths: make them absolute, or say what to give instead of a URL."""

from __future__ import annotations

from pathlib import Path

from asof.config.documents import LocatedValue
from asof.config.reference import options_of
from asof.config.sections import PRODUCTS
from asof.errors import ConfigError
from asof.secrets import masked
from asof.values.local_paths import NotAnAddress, NotLocal, checked_object_address, local_path, scheme_of

_SERVERS = {"postgres": "postgres", "postgresql": "postgres", "redis": "redis", "rediss": "redis"}
"""Scheme of a URL → the product that is reached by it."""


def read_path(value: LocatedValue, *, path: str, root: Path) -> str:
    """Make a configured path absolute.

    Args:
        path: the option, such as `registry.path`.
        root: what it is relative to.

    Raises:
        ConfigError: it is a URL.
    """
    try:
        return absolute(value.content, root)
    except NotLocal as error:
        found = masked(value.content, name="path")
        raise ConfigError(f"{path} {found!r}: {error}", hint=fitting(path, value.content), where=value.where) from error


def address_of(value: LocatedValue, *, path: str) -> str:
    """An address in object storage, without a slash at its end.

    Raises:
        ConfigError: it names no bucket, or has credentials in it.
    """
    try:
        return checked_object_address(value.content)
    except NotAnAddress as error:
        shown = masked(value.content, name="path")
        raise ConfigError(
            f"{path} {shown!r}: expected an address such as s3://bucket/prefix, found {error}",
            hint="write s3://BUCKET/PREFIX, with credentials in `storage:`, or a path on this machine",
            where=value.where,
        ) from error


def absolute(text: str, root: Path) -> str:
    """A path, or a `file://` URL, as an absolute path.

    Raises:
        NotLocal: it is another URL.
    """
    return str(root / Path(local_path(text)).expanduser())


def fitting(path: str, url: str) -> str:
    """The next step for an option that expects a path and got a URL."""
    local = "write a path on this machine, or file:///…"
    scheme = scheme_of(url).partition("+")[0]
    if scheme == "sqlite":
        return "write the path of the file alone, such as data/registry.db, with `type: sqlite` or without a type"
    section, _, name = path.partition(".")
    product = _SERVERS.get(scheme, "")
    on_url = [
        each.PRODUCT for each in PRODUCTS if section == each.SECTION and "url" in options_of(section, each.PRODUCT)
    ]
    if name == "path" and product in on_url:
        return f"give {section} `type: {product}` and `url:` instead of path; or {local}"
    if path == "registry.path":
        return f"{local}; or postgresql://…, for a registry on a server"
    return local
