"""Every key that `feature_store.yaml` takes, as tables derived from the sections."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from asof.config.options import Option, options_of_section
from asof.config.sections import (
    AUTH,
    FAMILIES,
    PRODUCTS,
    LoggingSection,
    MessagesSection,
    ProjectSection,
    ScheduledJobSection,
    Section,
    ServerSection,
    StorageSection,
)
from asof.config.sections.kinds import Text

CONNECTIONS = "connections"
"""The section of named connections; each is a server's type and settings."""

SECTIONS = tuple(name for name in FAMILIES if name != CONNECTIONS)
"""The stores; each is a product (`type:`) and its options."""

_OF_PRODUCT = {(each.SECTION, each.PRODUCT): each for each in PRODUCTS}

REFERENCE: tuple[Option, ...] = tuple(
    option
    for section in (
        ProjectSection,
        *(each for family in FAMILIES.values() for each in (family, *(p for p in PRODUCTS if issubclass(p, family)))),
        StorageSection,
        MessagesSection,
        ServerSection,
        LoggingSection,
        ScheduledJobSection,
        *AUTH,
    )
    for option in options_of_section(section).values()
)

ON_SERVERS = {place for place, each in _OF_PRODUCT.items() if each.SERVER is not None}
"""The products, by section, that take a connection's keys."""


@cache
def options_of(section: str, product: str) -> dict[str, Option]:
    """The options of one product; empty for products of other packages.

    A store on a server takes the keys of a connection in addition to its own, or `connection`, the name of one.
    """
    declared = _OF_PRODUCT.get((section, product))
    if declared is None:
        return {}
    own = options_of_section(declared)
    if declared.SERVER is None:
        return own
    shared = {
        name: replace(each, section=section, required=False)
        for name, each in options_of_section(declared.SERVER).items()
    }
    named = Option(
        section, product, "connection", Text | None, None, "The name of a connection, whose keys it takes."
    )  # fmt: skip
    return {"connection": named, **shared, **own}


def feast_keys(section: str, product: str = "") -> tuple[str, ...]:
    """Keys of Feast that a section or product accepts and ignores, with a note."""
    family: type[Section] = FAMILIES.get(section, ProjectSection)
    declared = _OF_PRODUCT.get((section, product))
    own = declared.FEAST_KEYS if declared is not None else ()
    return (*family.FEAST_KEYS, *(each for each in own if each not in family.FEAST_KEYS))


def feast_tables() -> dict[str, tuple[str, ...]]:
    """Those keys by section, and by section and product where only one product takes them."""
    tables = {"": ProjectSection.FEAST_KEYS, **{name: family.FEAST_KEYS for name, family in FAMILIES.items()}}
    for (section, product), declared in _OF_PRODUCT.items():
        if declared.FEAST_KEYS != FAMILIES[section].FEAST_KEYS:
            tables[f"{section}.{product}"] = declared.FEAST_KEYS
    return tables
