"""YAML whose values remember their `file:line`, with `${VAR}` expansion and overlays."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from asof.errors import ConfigError

_VARIABLE = re.compile(r"\$\$|\$\{([^}]*)\}")
_NAME = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(:-(.*))?", re.DOTALL)
MAX_CHARACTERS = 1 << 20
"""Longest configuration file that is read."""
MAX_VALUES = 50_000
"""Most values of a configuration file, each alias counted with all that it stands for.

Ten lines of aliases of aliases could stand for billions.
"""

_KINDS = {"str": "text", "int": "a number", "float": "a number", "bool": "true or false", "timestamp": "a moment",
          "null": "nothing", "list": "a list", "map": "a group of keys"}  # fmt: skip


@dataclass(frozen=True)
class LocatedValue:
    """A value and its `file:line`.

    Args:
        content: a scalar's text, a list of Values, or a dict of them.
        tag: `str, int, float, bool, timestamp, null, list` or `map`.
        plain: a scalar without quotes, whose type follows from its text.
    """

    content: Any
    tag: str
    where: str
    plain: bool = False
    expanded: bool = False

    @property
    def kind(self) -> str:
        """Description of the value for messages."""
        return _KINDS[self.tag]

    def at(self, *path: str | int) -> LocatedValue:
        """The value below under these keys and positions; the deepest existing one where some are missing."""
        found = self
        for step in path:
            children = found.content if found.tag == "map" else dict(enumerate(found.content))
            if found.tag not in ("map", "list") or step not in children:
                break
            found = children[step]
        return found

    def expand(self, environ: Mapping[str, str]) -> LocatedValue:
        """A copy with `${VAR}` and `${VAR:-default}` replaced, at any depth; `$$` is a dollar sign.

        Raises:
            ConfigError: a variable is not set, and has no default.
        """
        if self.tag == "map":
            return LocatedValue({key: value.expand(environ) for key, value in self.content.items()}, "map", self.where)
        if self.tag == "list":
            return LocatedValue([value.expand(environ) for value in self.content], "list", self.where)
        if "$" not in self.content:
            return self
        text = _VARIABLE.sub(lambda found: self._variable(found, environ), self.content)
        expanded = text != self.content.replace("$$", "$")
        return LocatedValue(text, _tag(text) if self.plain else self.tag, self.where, self.plain, expanded)

    @property
    def variables(self) -> frozenset[str]:
        """Names of the variables that the value uses, at any depth."""
        if self.tag in ("map", "list"):
            children = self.content.values() if self.tag == "map" else self.content
            return frozenset().union(*(each.variables for each in children))
        return frozenset(variables_in(self.content))

    def _variable(self, found: re.Match[str], environ: Mapping[str, str]) -> str:
        if found.group(1) is None:
            return "$"
        parsed = _NAME.fullmatch(found.group(1))
        if parsed is None:
            raise ConfigError(
                f"{found.group(0)} is not a variable",
                hint="write ${VAR} or ${VAR:-default}, or $$ for a dollar sign",
                where=self.where,
            )
        name, has_default, default = parsed.groups()
        value = environ.get(name)
        if value or (value is not None and not has_default):
            return value
        if has_default:
            return str(default)
        raise ConfigError(
            f"the environment variable {name} is not set",
            hint=f"set it (export {name}=…), or give a default (${{{name}:-…}})",
            where=self.where,
        )

    def plainly(self) -> Any:
        """The value as plain Python data, by YAML's own rules."""
        if self.tag == "map":
            return {key: value.plainly() for key, value in self.content.items()}
        if self.tag == "list":
            return [value.plainly() for value in self.content]
        if self.tag in ("int", "float", "bool", "null"):
            return yaml.safe_load(self.content)
        return self.content


def variables_in(value: object) -> list[str]:
    """Names of the variables that plain data uses in its texts, at any depth, in their order."""
    if isinstance(value, Mapping):
        return [name for each in value.values() for name in variables_in(each)]
    if isinstance(value, list | tuple):
        return [name for each in value for name in variables_in(each)]
    found = (_NAME.fullmatch(each or "") for each in _VARIABLE.findall(value)) if isinstance(value, str) else ()
    return [each.group(1) for each in found if each is not None]


def expanded(value: Any, environ: Mapping[str, str], *, where: str) -> Any:
    """Plain data with `${VAR}` and `${VAR:-default}` replaced in its texts, at any depth.

    Raises:
        ConfigError: a variable is not set, and has no default.
    """
    if isinstance(value, Mapping):
        return {key: expanded(each, environ, where=where) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [expanded(each, environ, where=where) for each in value]
    return LocatedValue(value, "str", where).expand(environ).content if isinstance(value, str) else value


def read_document(path: Path, *, shown: str) -> LocatedValue:
    """The file's content, with variables not yet expanded.

    Args:
        shown: the file's name in messages.

    Raises:
        ConfigError: the file cannot be read, or is not well-formed YAML.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if len(text) > MAX_CHARACTERS:
            raise ConfigError(
                f"has {len(text)} characters; at most {MAX_CHARACTERS} are read",
                hint="check that it is the right file",
                where=shown,
            )
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except RecursionError as error:
        raise _too_deep(f"{shown}:1") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{shown}:{mark.line + 1}:{mark.column + 1}" if mark else shown
        raise ConfigError(
            f"not well-formed YAML: {' '.join((error.problem or str(error)).split())}",
            hint="check the indentation and the quotes there",
            where=place,
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(
            f"cannot be read: {' '.join(str(error).split())}", hint="check that it is a text file in UTF-8", where=shown
        ) from error
    if node is None:
        return LocatedValue({}, "map", f"{shown}:1")
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError("expected keys like `project: shop`", hint="see `asof init`", where=f"{shown}:1")
    try:
        return _NodeReader(shown).value(node)
    except RecursionError as error:
        raise _too_deep(f"{shown}:1") from error


def _too_deep(where: str) -> ConfigError:
    return ConfigError("its values are nested too deeply", hint="check the brackets", where=where)


def overlay(base: LocatedValue, over: LocatedValue) -> LocatedValue:
    """The base overlaid with the other's values, key by key; a group whose `type:` changes is replaced whole."""
    if base.tag != "map" or over.tag != "map":
        return over
    types = {key: _product(each) for key, each in (("base", base), ("over", over))}
    if types["over"] and types["base"] != types["over"]:
        return over
    merged = dict(base.content)
    for key, value in over.content.items():
        merged[key] = overlay(merged[key], value) if key in merged else value
    return LocatedValue(merged, "map", over.where)


def _product(value: LocatedValue) -> Any:
    for key in ("type", "registry_type"):
        if key in value.content:
            return value.content[key].content
    return None


class _NodeReader:
    """Turns the nodes of one file into values.

    Args:
        shown: the file's name in messages.
    """

    def __init__(self, shown: str) -> None:
        self._shown = shown
        self._count = 0

    def value(self, node: yaml.Node, *, seen: tuple[int, ...] = ()) -> LocatedValue:
        """The value of a node.

        Args:
            seen: the nodes that it is in, by their ids.

        Raises:
            ConfigError: its tag is not one of YAML's own for such a node, it contains itself, or there are too many.
        """
        where = f"{self._shown}:{node.start_mark.line + 1}"
        if id(node) in seen:
            raise ConfigError("an alias contains itself", hint="write the values out", where=where)
        self._count += 1
        if self._count > MAX_VALUES:
            raise ConfigError(
                f"the file has more than {MAX_VALUES} values, each alias counted with all that it stands for",
                hint="write out what is needed", where=where,
            )  # fmt: skip
        tag = node.tag.removeprefix(_CORE)
        if tag not in _TAGS[type(node)]:
            raise ConfigError(f"the tag {node.tag!r} has no meaning here", hint="leave it out", where=where)
        seen = (*seen, id(node))
        if isinstance(node, yaml.MappingNode):
            return LocatedValue(self._group(node, seen), "map", where)
        if isinstance(node, yaml.SequenceNode):
            return LocatedValue([self.value(each, seen=seen) for each in node.value], "list", where)
        is_plain = isinstance(node, yaml.ScalarNode) and node.style is None
        return LocatedValue(node.value, tag, where, plain=is_plain)

    def _group(self, node: yaml.MappingNode, seen: tuple[int, ...]) -> dict[str, LocatedValue]:
        content: dict[str, LocatedValue] = {}
        for key, value in node.value:
            place = f"{self._shown}:{key.start_mark.line + 1}"
            if not isinstance(key, yaml.ScalarNode):
                raise ConfigError("a key must be a name", hint="check the indentation there", where=place)
            if key.value in content:
                raise ConfigError(f"key {key.value!r} is given twice", hint="keep one of them", where=place)
            # The line of a group is that of its key, where a reader looks for it.
            each = self.value(value, seen=seen)
            content[key.value] = (
                LocatedValue(each.content, each.tag, place, each.plain) if each.tag in ("map", "list") else each
            )
        return content


_CORE = "tag:yaml.org,2002:"
_TAGS: dict[type[yaml.Node], frozenset[str]] = {
    yaml.ScalarNode: frozenset(_KINDS) - {"list", "map"},
    yaml.SequenceNode: frozenset({"seq"}),
    yaml.MappingNode: frozenset({"map"}),
}
"""Kind of node → the tags that it may have."""


def _tag(text: str) -> str:
    node = yaml.compose(text, Loader=yaml.SafeLoader) if re.fullmatch(r"[\w.+-]*", text) else None
    tag = node.tag.rpartition(":")[2] if isinstance(node, yaml.ScalarNode) else "str"
    return tag if tag in _KINDS else "str"
