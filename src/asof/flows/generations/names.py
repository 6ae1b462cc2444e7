"""Names of generations: a hash of all that shapes a view's online rows, and a counter."""

from __future__ import annotations

from asof.definitions import FeatureView, state_hash
from asof.definitions.facts import Facts

Name = tuple[str, str]
"""Names of a view and a generation."""


def next_generation(facts: Facts, view: FeatureView) -> str:
    """The name of a view's next generation."""
    return f"{state_hash(view)}-{facts.generations_of(view.name).count + 1}"


def has_shape_of(generation: str, view: FeatureView) -> bool:
    """Whether a generation's rows have the shape of the view's current definition."""
    return generation.rpartition("-")[0] == state_hash(view)
