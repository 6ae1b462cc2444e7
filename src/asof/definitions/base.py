"""The base of all definitions: a kind, a name, the `file:line` of the definition, and equality by content."""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar

from asof.display import cell, html_table
from asof.errors import DefinitionError, nearest
from asof.timing import Micros, span, span_text

_PACKAGE = str(Path(__file__).resolve().parents[1])
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]*")


def written_at() -> str:
    """`file:line` of the nearest caller outside this package: where the user wrote the definition."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        filename = frame.f_code.co_filename
        # The demo's and the suites' definitions are users' code although they are shipped inside the package.
        if not filename.startswith(_PACKAGE) or "/demo/" in filename or "/testing/" in filename:
            return f"{filename}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


_BUILT = frozenset({"_codec", "_key_codec"})
"""What `asof.decoding.codecs` keeps with a source."""


class Definition:
    """A named, frozen piece of the feature repository.

    Two definitions are equal if their content is equal, wherever they were written.
    """

    kind: ClassVar[str] = "definition"

    name: str
    description: str
    tags: dict[str, str]
    owner: str
    where: str
    notes: tuple[str, ...]
    is_applied: bool = False
    """Whether a registry returned it: then it is no definition of the module that holds it."""

    def _set(self, **values: Any) -> None:
        for key, value in values.items():
            object.__setattr__(self, key, value)

    def _begin(
        self, name: str, *, description: str, tags: Mapping[str, str] | None, owner: str, ignored: Mapping[str, Any]
    ) -> None:
        """Set the attributes that every definition has; ignored parameters of Feast become notes."""
        where = written_at()
        if not isinstance(name, str) or not _NAME.fullmatch(name) or "__" in name:
            raise DefinitionError(
                f"{self.kind} name {name!r}: expected letters, digits, '_', '-' or '.', beginning with a letter, "
                "without a double underscore",
                hint="choose another name",
                where=where,
            )
        notes = [
            f"{self.kind} {name!r}: {parameter}= has no meaning in Asof and is ignored"
            for parameter, value in ignored.items()
            if value not in (None, False, "", 0, [], {}) and parameter in self.accepted
        ]
        for parameter in ignored:
            if parameter not in self.accepted:
                raise DefinitionError(
                    f"{self.kind} {name!r} has no parameter {parameter!r}",
                    hint=nearest(parameter, _parameters(type(self))) or f"see help(asof.{type(self).__name__})",
                    where=where,
                )
        self._set(
            name=name, description=description, tags=dict(tags or {}), owner=owner, where=where, notes=tuple(notes)
        )

    def _duration(self, parameter: str, value: timedelta | str | None) -> Micros:
        """Convert a duration parameter to microseconds; integers other than 0 are refused, since they have no unit."""
        if value == 0:
            return 0
        try:
            return span(value)
        except ValueError:
            pass
        raise self.refuse(f"{parameter}={value!r} is not a duration", hint="give a timedelta, or text like '1h30m'")

    accepted: ClassVar[frozenset[str]] = frozenset()
    """Feast's parameters that are accepted and ignored, with a note."""

    def refuse(self, problem: str, *, hint: str = "") -> DefinitionError:
        """A DefinitionError about this object."""
        return DefinitionError(f"{self.kind} {self.name!r}: {problem}", hint=hint, where=self.where)

    def refuse_odd_text(self, what: str, text: str) -> None:
        """Refuse SQL with a character that has no form in UTF-8.

        Raises:
            DefinitionError: it has a lone surrogate.
        """
        if any("\ud800" <= each <= "\udfff" for each in text):
            raise self.refuse(f"{what} has a lone surrogate, which is no character", hint="remove it from the text")

    def content(self) -> dict[str, object]:
        """The definition as JSON-ready data, without `where` and `notes`."""
        raise NotImplementedError

    def _common(self) -> dict[str, Any]:
        common: dict[str, Any] = {"name": self.name}
        if self.description:
            common["description"] = self.description
        if self.tags:
            common["tags"] = dict(sorted(self.tags.items()))
        if self.owner:
            common["owner"] = self.owner
        return common

    def __getstate__(self) -> dict[str, object]:
        # A decoder that was built for a definition stays in its process: it cannot be pickled, and executors build one.
        return {key: value for key, value in self.__dict__.items() if key not in _BUILT}

    def __setattr__(self, key: str, value: object) -> None:
        raise AttributeError(f"{self.kind} {self.name!r} is frozen: define a new one instead of setting {key!r}")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.content() == other.content()

    def __hash__(self) -> int:
        return hash((self.kind, self.name))

    def __repr__(self) -> str:
        facts = "; ".join(f"{name} {cell(value)}" for name, value in self._shown() if name != "name")
        return f"<{type(self).__name__} {self.name!r}{': ' if facts else ''}{facts}>"

    def _repr_html_(self) -> str:
        facts = self._shown()
        return html_table(f"{type(self).__name__} {self.name!r}", ["field", "value"], facts, most=len(facts))

    def _shown(self) -> list[tuple[str, object]]:
        """What the definition says, for people: durations as `1h30m`, parts by their names."""
        return [
            (name, span_text(value) if name in _DURATIONS and isinstance(value, int) else _names(value))
            for name, value in self.content().items()
            if value not in ("", [], {}, None)
        ]


_DURATIONS = ("ttl", "delay", "lookback", "lag", "allowed_lateness", "max_future")


def _names(value: object) -> object:
    """Parts that have names of their own by those."""
    if not isinstance(value, list):
        return value
    return [each.get("name") or each.get("view") or each if isinstance(each, Mapping) else each for each in value]


def _parameters(definition: type) -> list[str]:
    return [name for name in inspect.signature(definition).parameters if name not in ("self", "ignored")]


def as_list(value: Any) -> list[Any]:
    """A list of one value or several; None gives an empty list."""
    if value is None:
        return []
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return list(value)
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        return list(value)
    return [value]


def text_of(function: Callable[..., object]) -> str:
    """Source text of the function, used to recognise it later."""
    try:
        return textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError):
        # Typed at a prompt, a function has no source file: its compiled form identifies it.
        code = getattr(function, "__code__", None)
        return repr((code.co_code.hex(), code.co_names, code.co_consts)) if code else repr(function)
