"""Names of generations: a hash of all that shapes a view's online rows, and a counter."""

from __future__ import annotations

from asof.definitions import FeatureView, is_ordered_by_arrival, state_hash
from asof.definitions.facts import Facts

Name = tuple[str, str]
"""Names of a view and a generation."""


def next_generation(facts: Facts, view: FeatureView) -> str:
    """The name of a view's next generation."""
    return f"{state_hash(view)}-{facts.generations_of(view.name).count + 1}"


def keeps_arrival(generation: str | None, view: FeatureView) -> bool:
    """Whether the rows of a generation keep their arrival; those of an earlier version of Asof do not.

    Both formats are read and written, so that processes of both versions may share a generation, until a rebuild.
    """
    return is_ordered_by_arrival(view) and generation is not None and has_shape_of(generation, view)


def has_shape_of(generation: str, view: FeatureView) -> bool:
    """Whether a generation's rows have the shape of the view's current definition."""
    return generation.rpartition("-")[0] == state_hash(view)


def is_of_earlier_version(generation: str, view: FeatureView) -> bool:
    """Whether an earlier version of Asof built the generation, of this definition; it serves until a rebuild."""
    return not has_shape_of(generation, view) and generation.rpartition("-")[0] == state_hash(view, earlier=True)
