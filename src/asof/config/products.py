"""Read and check each section that is a product (`type:`) and its options, and resolve its connection."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asof.config.documents import LocatedValue
from asof.config.options import Option, options_of_section
from asof.config.paths import absolute
from asof.config.reading import read_value, refuse_unknown, wrong
from asof.config.reference import CONNECTIONS, feast_keys, options_of
from asof.config.sections import FAMILIES
from asof.errors import ConfigError, nearest, some
from asof.secrets import masked


@dataclass(frozen=True)
class ProductConfig:
    """A product and its checked options. Its `repr` hides secrets.

    Args:
        options: by name, converted; paths are absolute; defaults are filled in.
        where: `file:line`; empty where the section was left out.
    """

    type: str
    options: Mapping[str, Any] = field(default_factory=dict)
    where: str = ""

    def describe(self) -> dict[str, Any]:
        """Type and options for display, without secrets."""
        return {"type": self.type, **masked(dict(self.options))}

    def __repr__(self) -> str:
        return f"ProductConfig({self.describe()})"


def default_type(section: str) -> str:
    """The default product of a section; empty where `type:` is required."""
    return str(options_of_section(FAMILIES[section])["type"].default or "")


def ignored(path: str, value: LocatedValue) -> str:
    """The note on an ignored key of Feast."""
    return f"{value.where}: {path} has no meaning in Asof and is ignored"


class ProductConfigReader:
    """Reads the sections of one document, and collects notes on ignored keys.

    Args:
        root: what relative paths are relative to.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.notes: list[str] = []

    def connections(self, written: LocatedValue | None) -> dict[str, ProductConfig]:
        """The servers by name."""
        if written is None:
            return {}
        if written.tag != "map":
            raise wrong(CONNECTIONS, written, "names, each with a group of keys such as `type: postgres`")
        return {name: self.part(CONNECTIONS, each, name=name) for name, each in written.content.items()}

    def part(
        self,
        section: str,
        written: LocatedValue | None,
        *,
        name: str = "",
        connections: Mapping[str, ProductConfig] | None = None,
    ) -> ProductConfig:
        """One part.

        Args:
            section: a key of `FAMILIES`.
            name: of a connection.
            connections: the ones it may refer to.

        Raises:
            ConfigError: the product does not accept a key or a value.
        """
        shown = f"{section}.{name}" if name else section
        written = _group(section, written, shown)
        content, where = dict(written.content), written.where
        product = self._product(section, content, shown=shown, where=where)
        known = options_of(section, product)
        given = self._given(section, product, content, known=known, shown=shown)
        named: Mapping[str, Any] = {}
        if "connection" in known and "connection" in given:
            named = _named(given.pop("connection"), product, connections or {}, where)
        left_out = {
            option.name: absolute(str(option.default), self.root)
            if option.kind in ("path", "path or address")
            else option.default
            for option in known.values()
            if option.default is not None
        }
        return ProductConfig(product, {**left_out, **named, **given}, where)

    def _given(
        self,
        section: str,
        product: str,
        content: Mapping[str, LocatedValue],
        *,
        known: Mapping[str, Option],
        shown: str,
    ) -> dict[str, Any]:
        if not known:
            # A product of another package, which checks its own options.
            return self._foreign(section, content)
        spelled = {other: each.name for each in known.values() for other in each.also} | {each: each for each in known}
        feast = feast_keys(section, product)
        options: dict[str, Any] = {}
        for key, value in content.items():
            if key in spelled:
                name = spelled[key]
                if name in options:
                    raise ConfigError(f"{shown} has {name!r} twice", hint="keep one of them", where=value.where)
                options[name] = read_value(known[name].shape, value, path=f"{shown}.{name}", root=self.root)
            elif key in feast:
                self.notes.append(ignored(f"{section}.{key}", value))
            else:
                refuse_unknown(f"{shown} (type {product})", {key: value}, [*known, "type"])
        return options

    def _foreign(self, section: str, content: Mapping[str, LocatedValue]) -> dict[str, Any]:
        feast = feast_keys(section)
        self.notes += [ignored(f"{section}.{key}", value) for key, value in content.items() if key in feast]
        return {key: value.plainly() for key, value in content.items() if key not in feast}

    def _product(self, section: str, content: dict[str, LocatedValue], *, shown: str, where: str) -> str:
        option = options_of_section(FAMILIES[section])["type"]
        keys = [key for key in ("type", *option.also) if key in content]
        if not keys and option.default is None:
            raise ConfigError(f"{shown} has no type", hint="add a line such as `type: postgres`", where=where)
        if not keys:
            return str(option.default)
        if len(keys) > 1:
            raise ConfigError(f"both `type` and `{keys[1]}`", hint="keep `type`", where=content[keys[1]].where)
        value = content.pop(keys[0])
        if value.tag != "str" or not value.content:
            raise wrong(f"{shown}.{keys[0]}", value, "a product's name")
        ours = FAMILIES[section].FEAST_TYPES.get(value.content)
        if ours:
            self.notes.append(f"{value.where}: {section}.type {value.content} is {ours} here")
        return str(ours or value.content)


def _group(section: str, written: LocatedValue | None, shown: str) -> LocatedValue:
    """The section's group of keys; a registry may also be just a URL or a path, as in Feast."""
    if written is None:
        return LocatedValue({}, "map", "")
    if section == "registry" and written.tag == "str":
        content = {"path": written}
        if re.match(r"postgres(ql)?(\+\w+)?://", written.content):
            content["type"] = LocatedValue("postgres", "str", written.where)
        return LocatedValue(content, "map", written.where)
    if written.tag != "map":
        raise wrong(shown, written, "a group of keys such as `type: …`")
    return written


def _named(name: str, product: str, connections: Mapping[str, ProductConfig], where: str) -> Mapping[str, Any]:
    """The options of a store's connection."""
    found = connections.get(name)
    if found is None:
        raise ConfigError(
            f"there is no connection {name!r}",
            hint=nearest(name, connections) or f"the connections are {some(connections)}", where=where,
        )  # fmt: skip
    if found.type != product:
        raise ConfigError(
            f"connection {name!r} is of type {found.type!r}", hint=f"name one of type {product!r}", where=where
        )
    return found.options
