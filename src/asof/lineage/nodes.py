"""What lineage speaks of: sources, columns, entities, views, features, services, training sets, each a node."""

from __future__ import annotations

from typing import NamedTuple

KINDS = (
    "source", "column", "entity", "view", "request-source", "feature", "on-demand-view", "service", "training-set"
)  # fmt: skip
"""The kinds of nodes, in the direction in which data flows."""

_NOUNS = {
    "source": ("source", "sources"), "column": ("column", "columns"), "entity": ("entity", "entities"),
    "view": ("view", "views"), "request-source": ("request source", "request sources"),
    "feature": ("feature", "features"), "on-demand-view": ("on-demand view", "on-demand views"),
    "service": ("service", "services"), "training-set": ("training set", "training sets"),
}  # fmt: skip


def noun(kind: str, count: int = 1) -> str:
    """The kind in prose, for so many of it."""
    one, many = _NOUNS[kind]
    return one if count == 1 else many


class LineageNode(NamedTuple):
    """One thing that data flows through.

    Args:
        kind: one of `KINDS`.
        name: its name; of a feature `view:feature`, of a column `source:column`.
    """

    kind: str
    name: str

    @property
    def id(self) -> str:
        """Kind and name as one text."""
        return f"{self.kind}/{self.name}"

    @property
    def label(self) -> str:
        """The name without the view's or the source's."""
        return self.name.partition(":")[2] if self.kind in ("feature", "column") else self.name

    @property
    def parent(self) -> str:
        """The view of a feature, the source of a column; else empty."""
        return self.name.partition(":")[0] if self.kind in ("feature", "column") else ""

    @property
    def title(self) -> str:
        """Kind and name in prose."""
        return f"{noun(self.kind)} {self.name}"


__all__ = ["KINDS", "LineageNode", "noun"]
