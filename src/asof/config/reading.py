"""Check and convert configured values by the declarations of their options; mistakes name `file:line`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from asof.config.documents import LocatedValue
from asof.config.options import Option, OptionType, options_of_section
from asof.config.paths import address_of, fitting, read_path
from asof.config.sections import Section
from asof.errors import ConfigError, nearest
from asof.secrets import masked
from asof.timing import iso, micros
from asof.values.local_paths import is_object_address, scheme_of

S = TypeVar("S", bound=Section)


def read_section(section: type[S], written: LocatedValue, *, path: str, root: Path) -> S:
    """Convert a group of keys to its section.

    Args:
        path: its name in messages, such as `auth.keys`.
        root: what relative paths are relative to.

    Raises:
        ConfigError: a key is unknown or missing, or a value does not fit its declaration.
    """
    return section(**read_options(options_of_section(section), written, path=path, root=root))


def read_options(known: Mapping[str, Option], written: LocatedValue, *, path: str, root: Path) -> dict[str, Any]:
    """The options given in a group of keys; omitted ones are absent.

    Raises:
        ConfigError: as `read_section`.
    """
    content = _group(path, written)
    refuse_unknown(path, content, known)
    for name, option in known.items():
        if option.required and name not in content:
            raise ConfigError(f"{path}: `{name}` is missing", hint=f"give {name}", where=written.where)
    return {
        key: read_value(known[key].shape, value, path=f"{path}.{key}" if path else key, root=root)
        for key, value in content.items()
    }


def refuse_unknown(path: str, content: Mapping[str, LocatedValue], known: Collection[str]) -> None:
    """Refuse an unknown key, and suggest the nearest known one.

    Raises:
        ConfigError: there is one.
    """
    for key, value in content.items():
        if key not in known:
            hint = nearest(key, known) or f"the keys are {', '.join(known)}"
            raise ConfigError(f"{path} has no key {key!r}", hint=hint, where=value.where)


def read_value(shape: OptionType, value: LocatedValue, *, path: str, root: Path) -> Any:
    """Convert a value to its declared type; paths become absolute.

    Raises:
        ConfigError: it is of another type, out of bounds, or malformed.
    """
    if issubclass(shape.base, Section):
        return read_section(shape.base, value, path=path, root=root)
    if shape.base is list:
        return _list(shape, value, path=path, root=root)
    if shape.base is dict:
        return _names(shape, value, path=path, root=root)
    return _scalar(shape, value, path=path, root=root)


def refuse_misfit(option: Option, value: object) -> None:
    """Refuse a value from code or the command line that does not fit its option's declaration.

    Raises:
        ConfigError: it is not.
    """
    try:
        msgspec.convert(value, option.shape.type)
    except msgspec.ValidationError as error:
        near = nearest(value, option.shape.choices) if isinstance(value, str) else ""
        raise ConfigError(
            f"{option.path}: expected {option.shape.expected}, found {masked(value, name=option.name)!r}",
            hint=near or f"give {option.path} {option.shape.expected}",
        ) from error


def wrong(path: str, value: LocatedValue, expected: str, *, hint: str = "") -> ConfigError:
    """The error that a value is not what was expected; secrets in it are hidden."""
    found = value.kind
    if value.tag not in ("map", "list", "null"):
        found += f" {masked(value.content, name=path.rpartition('.')[2])!r}"
    if value.tag in ("int", "float", "bool") and expected == "text":
        hint = "put it in quotes"
    return ConfigError(
        f"{path}: expected {expected}, found {found}", hint=hint or f"give {path} {expected}", where=value.where
    )


def _group(path: str, value: LocatedValue) -> dict[str, LocatedValue]:
    if value.tag != "map":
        raise wrong(path, value, "a group of keys", hint="indent its keys below it")
    return value.content


def _list(shape: OptionType, value: LocatedValue, *, path: str, root: Path) -> list[Any]:
    assert shape.items is not None
    items = value.content
    if value.tag != "list":
        # A variable's value is text, even if it looks like a number.
        is_text = value.tag == "str" or value.expanded
        if not shape.kind.expected or not is_text:
            raise wrong(
                path, value, shape.kind.expected or "a list", hint="" if shape.kind.expected else "begin lines with -"
            )
        texts = [each.strip() for each in value.content.split(",")] if shape.kind.splits else [value.content]
        items = [LocatedValue(each, "str", value.where) for each in texts]
    if len(items) < shape.minimum:
        raise ConfigError(f"{path} is empty", hint=shape.kind.hint, where=value.where)
    return [read_value(shape.items, each, path=path, root=root) for each in items]


def _names(shape: OptionType, value: LocatedValue, *, path: str, root: Path) -> dict[str, Any]:
    if shape.items is not None:
        content = _group(path, value)
        if len(content) < shape.minimum:
            raise ConfigError(f"{path} is empty", hint=shape.kind.hint, where=value.where)
        return {name: read_value(shape.items, each, path=f"{path}.{name}", root=root) for name, each in content.items()}
    if value.tag != "map":
        raise wrong(path, value, "names, each with a value")
    for name, each in value.content.items():
        if each.tag in ("map", "list", "null"):
            raise wrong(f"{path}.{name}", each, "text, a number, true or false")
    return {name: each.plainly() for name, each in value.content.items()}


def _scalar(shape: OptionType, value: LocatedValue, *, path: str, root: Path) -> Any:
    # A variable's value is text: a project named 2024 must not become a number.
    fits = value.tag == "str" or value.expanded or shape.kind.takes_scalars
    fits = fits or (value.tag == "timestamp" and shape.kind.name == "moment")
    if value.tag in ("map", "list", "null") or (shape.base is str and not fits):
        raise wrong(path, value, shape.expected)
    try:
        converted = msgspec.convert(_converted(shape, value.content), shape.type)
    except ValueError as error:
        # msgspec's own messages name neither the key nor the line.
        if shape.kind.refusal:
            shown = repr(masked(value.content, name=path.rpartition(".")[2]))
            hint = fitting(path, value.content) if scheme_of(value.content) == "sqlite" else shape.kind.hint
            raise ConfigError(
                shape.kind.refusal.format(path=path, found=shown), hint=hint, where=value.where
            ) from error
        raise wrong(path, value, shape.expected, hint=nearest(value.content, shape.choices)) from error
    if shape.kind.takes_addresses and is_object_address(value.content):
        return address_of(value, path=path)
    is_path = shape.kind.name in ("path", "path or address") and converted not in shape.kind.literals
    return read_path(value, path=path, root=root) if is_path else converted


def _converted(shape: OptionType, text: str) -> Any:
    """Convert text to its type, without checking bounds."""
    if shape.base is int:
        return int(text.replace("_", ""))
    if shape.base is float:
        number = float(text)
        if not isfinite(number):
            raise ValueError("not finite")
        return number
    if shape.base is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError("neither")
        return text.lower() == "true"
    return iso(micros(text)) if shape.kind.name == "moment" else text
