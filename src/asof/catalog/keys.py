"""Keys in addresses: which join keys a key has, as text, and the values behind the text."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from asof.catalog.index import CatalogIndex, View
from asof.catalog.urls import page_url
from asof.definitions import FeatureView, Field, OnDemandFeatureView, Projection
from asof.dtypes import DType
from asof.errors import RequestError
from asof.values.check import checker
from asof.values.json import reader, writer

_OWN = ("at", "explain", "from", "part")
"""Parameters of the page itself: a join key of that name is `key.at`."""

_PREFIX = "key."


@dataclass(frozen=True)
class KeyInput:
    """One join key of a form.

    Args:
        parameter: its name in the address.
        text: what is given; empty if nothing is.
        is_needed: whether the entity itself has it; where not, some views have it in addition.
    """

    name: str
    parameter: str
    type: str
    text: str
    is_needed: bool


def key_url(entity: str, key: Mapping[str, object], fields: Mapping[str, DType], **more: object) -> str:
    """The address of a key's page."""
    texts = {parameter_of(name): text_of(value, fields[name]) for name, value in key.items()}
    return page_url("key", entity, query={**texts, **more})


def parameter_of(name: str) -> str:
    """The name of a join key in an address."""
    return f"{_PREFIX}{name}" if name in _OWN or name.startswith(_PREFIX) else name


def text_of(value: object, dtype: DType) -> str:
    """A join key's value as text; `value_of` reads it back."""
    write = writer(dtype)
    plain = value if write is None else write(value)
    return plain if isinstance(plain, str) else json.dumps(plain)


def value_of(field: Field, text: str) -> object:
    """The value of a join key that is given as text.

    Raises:
        RequestError: it is not of the join key's type.
    """
    read = reader(field.dtype)
    try:
        if read is not None:
            return checker(field.dtype)(read(text))
        return checker(field.dtype)(text if field.dtype.is_text else json.loads(text))
    except (ValueError, TypeError, OverflowError, ArithmeticError) as error:
        raise RequestError(
            f"join key {field.name!r}: {text[:40]!r} is not {field.dtype}", hint=f"give a value of type {field.dtype}"
        ) from error


def key_fields_of(view: View) -> dict[str, DType]:
    """The join keys of a view, also of an on-demand one, as a request names them, with their types."""
    if isinstance(view, FeatureView):
        return {each.name: each.dtype for each in view.key_fields}
    found: dict[str, DType] = {}
    for each in view.sources:
        if isinstance(each, Projection) and isinstance(each.view, FeatureView | OnDemandFeatureView):
            own = key_fields_of(each.view)
            found |= {each.join_key_map.get(name, name): dtype for name, dtype in own.items()}
    return found


def views_of_key(index: CatalogIndex, entity: str, shows: Callable[[View], bool]) -> list[View]:
    """The views about an entity that may be shown: feature views, then the on-demand views made of them alone."""
    views: list[View] = [each for each in index.views_of_entity(entity) if shows(each)]
    found: dict[str, View] = {each.name: each for each in views}
    # On-demand views may be made of others.
    waiting = list(found)
    while waiting:
        for each in index.on_demand_of(waiting.pop()):
            if each.name not in found and not each.request_fields and shows(each):
                found[each.name] = each
                waiting.append(each.name)
    return list(found.values())


def key_inputs(index: CatalogIndex, entity: str, views: Sequence[View], query: Mapping[str, str]) -> list[KeyInput]:
    """The inputs of a form for keys: those of the entity first."""
    types: dict[str, DType] = {}
    for view in views:
        types |= key_fields_of(view)
    needed = index.project.entities[entity].join_keys
    names = [*needed, *(name for name in types if name not in needed)]
    return [
        KeyInput(
            name, parameter_of(name), str(types[name]), query.get(parameter_of(name), "").strip(), name in needed
        )
        for name in names if name in types
    ]  # fmt: skip


def given_key(views: Sequence[View], inputs: Sequence[KeyInput]) -> dict[str, Any]:
    """The values of the join keys that are given.

    Raises:
        RequestError: one is not of its type, or one of the entity's is missing.
    """
    types: dict[str, DType] = {}
    for view in views:
        types |= key_fields_of(view)
    given = {each.name: value_of(Field(each.name, types[each.name]), each.text) for each in inputs if each.text}
    missing = [each for each in inputs if each.is_needed and not each.text]
    if given and missing:
        raise RequestError(
            f"join key {missing[0].name!r} is missing", hint=f"give a value of type {missing[0].type} for it too"
        )
    return given


__all__ = [
    "KeyInput", "given_key", "key_fields_of", "key_inputs", "key_url", "parameter_of", "text_of", "value_of",
    "views_of_key",
]  # fmt: skip
