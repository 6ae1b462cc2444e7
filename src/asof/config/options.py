"""Properties derived from an option's declaration: its kind, the expected value for messages, its reference line."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache, cached_property
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from msgspec import NODEFAULT, Meta, structs

from asof.config.sections.kinds import OptionDoc, Section, ValueKind

_KINDS = {str: "text", int: "integer", float: "number", bool: "flag", list: "list", dict: "part"}
_UNITS = {"_s": "seconds", "_bytes": "bytes"}
"""End of a number's name → its unit."""


@dataclass(frozen=True)
class Option:
    """One key.

    Args:
        section: the key of its section; empty for the top level.
        product: the `type:` that takes it; empty for every type.
        type: its Python type, annotated with its bounds.
        default: as it would be written; None where there is none.
        also: other spellings of the name, including Feast's.
        unset: the product's own default, where the option has none.
    """

    section: str
    product: str
    name: str
    type: Any = field(repr=False)
    default: Any
    meaning: str
    required: bool = False
    also: tuple[str, ...] = ()
    unset: str | int | float | None = None

    @property
    def path(self) -> str:
        """`offline_store.memory_limit`; `*` stands for a connection's name."""
        if self.section == "connections":
            return f"{self.section}.*.{self.name}"
        return f"{self.section}.{self.name}" if self.section else self.name

    @cached_property
    def shape(self) -> OptionType:
        """Its parsed type."""
        return shape_of(self.type, self.name)

    @property
    def kind(self) -> str:
        """The kind's name in the reference."""
        return self.shape.kind.name

    @property
    def shown_kind(self) -> str:
        """The kind, with its choices or bounds if any."""
        if self.shape.choices:
            return ", ".join(f"`{each}`" for each in self.shape.choices)
        return self.kind if self.shape.bounds in ("", " above 0") else f"{self.kind}{self.shape.bounds}"

    @property
    def shown_default(self) -> str:
        """The default as it would be written; empty where the description states it."""
        if self.required:
            return "required"
        default = self.unset if self.default is None else self.default
        if default is None:
            return ""
        if isinstance(default, bool):
            return "`true`" if default else "`false`"
        return f"`{', '.join(default) if isinstance(default, list) else default}`"


@dataclass(frozen=True)
class OptionType:
    """A parsed type.

    Args:
        type: for `msgspec.convert`: with its bounds, and without None.
        base: `str`, `int`, `float`, `bool`, `list`, `dict` or a Section.
        items: the shape of a list's items or a group's values.
        choices: the allowed texts; empty where any is allowed.
        least, most: a number's bounds; `above` where the least itself does not count.
        minimum: minimum length of a text, list or group.
    """

    type: Any
    base: type
    kind: ValueKind
    items: OptionType | None = None
    choices: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    above: bool = False
    minimum: int = 0
    unit: str = ""

    @property
    def expected(self) -> str:
        """The expected value, for messages."""
        if self.kind.expected:
            return self.kind.expected
        if self.choices:
            return " or ".join(filter(None, (", ".join(self.choices[:-1]), self.choices[-1])))
        if self.base in (int, float):
            return f"{self.unit or ('a whole number' if self.base is int else 'a number')}{self.bounds}"
        return "true or false" if self.base is bool else "text"

    @property
    def bounds(self) -> str:
        """` from 1 to 65535`, ` above 0`; empty where every number fits."""
        if self.least is None:
            return ""
        if self.most is not None:
            return f" from {self.least:g} to {self.most:g}"
        if self.base is int and self.least == 1:
            return " above 0"
        return f" above {self.least:g}" if self.above else f" from {self.least:g}"


def shape_of(declared: Any, name: str = "") -> OptionType:
    """Parse the type of an option."""
    type_, notes = _unwrapped(declared)
    metas = [each for each in notes if isinstance(each, Meta)]
    kind = next((each for each in reversed(notes) if isinstance(each, ValueKind)), None)
    origin = get_origin(type_) or type_
    choices: tuple[str, ...] = ()
    if origin is Literal:
        choices, origin = get_args(type_), str
        kind = kind or ValueKind("choice")
    bounds = {
        each: next((getattr(meta, each) for meta in metas if getattr(meta, each) is not None), None)
        for each in ("ge", "gt", "le", "min_length")
    }
    is_section = isinstance(origin, type) and issubclass(origin, Section)
    inner = get_args(type_)[-1] if origin in (list, dict) and get_args(type_) else None
    bounded = Annotated[(type_, *metas)] if metas else type_
    return OptionType(
        type=bounded,
        base=origin if isinstance(origin, type) else object,
        kind=kind or ValueKind("part" if is_section else _KINDS.get(origin, "part")),
        items=shape_of(inner, name) if inner not in (None, Any) else None,
        choices=choices,
        least=bounds["ge"] if bounds["ge"] is not None else bounds["gt"],
        most=bounds["le"],
        above=bounds["gt"] is not None,
        minimum=bounds["min_length"] or 0,
        unit=next((unit for end, unit in _UNITS.items() if name.endswith(end)), ""),
    )


def _unwrapped(declared: Any) -> tuple[Any, list[Any]]:
    """The type without None and annotations, and these annotations, the outermost last."""
    if get_origin(declared) is Annotated:
        inner, *notes = get_args(declared)
        type_, before = _unwrapped(inner)
        return type_, [*before, *notes]
    if get_origin(declared) in (Union, UnionType):
        (only,) = [each for each in get_args(declared) if each is not type(None)]
        return _unwrapped(only)
    return declared, []


@cache
def options_of_section(section: type[Section]) -> dict[str, Option]:
    """The options that a section declares itself, without inherited ones."""
    inherited = set(getattr(section.__base__, "__struct_fields__", ()))
    return {each.name: _option(section, each) for each in structs.fields(section) if each.name not in inherited}


def _option(section: type[Section], found: structs.FieldInfo) -> Option:
    _, notes = _unwrapped(found.type)
    doc = next((each for each in reversed(notes) if isinstance(each, OptionDoc)), OptionDoc(""))
    default = found.default if found.default_factory is NODEFAULT else found.default_factory()
    required = default is NODEFAULT
    return Option(
        section.SECTION, section.PRODUCT, found.name, found.type, None if required else default, doc.meaning,
        required=required, also=doc.also, unset=doc.unset,
    )  # fmt: skip
