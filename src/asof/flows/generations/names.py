"""What a generation is called: the hash of what shapes a view's online rows, and a counter."""

from __future__ import annotations

from asof.definitions import FeatureView, state_hash
from asof.definitions.facts import Facts

Name = tuple[str, str]
"""A view's name and a generation's."""


def next_generation(facts: Facts, view: FeatureView) -> str:
    """The name of a view's next build."""
    return f"{state_hash(view)}-{facts.generations_of(view.name).count + 1}"


def has_shape_of(generation: str, view: FeatureView) -> bool:
    """Whether the rows of a generation are what the view's definition makes of its source."""
    return generation.rpartition("-")[0] == state_hash(view)
