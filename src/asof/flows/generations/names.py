"""What a generation is called, and the facts that the online store keeps as its progress."""

from __future__ import annotations

from asof.definitions import FeatureView, state_hash
from asof.definitions.facts import Facts

BUILT = "built"
"""Progress fact of a generation whose base has been written, so that events may follow."""

Name = tuple[str, str]
"""A view's name and a generation's."""


def next_generation(facts: Facts, view: FeatureView) -> str:
    """The name of a view's next build: the hash of what shapes its online rows, and a counter."""
    return f"{state_hash(view)}-{facts.generations_of(view.name).count + 1}"


def has_shape_of(generation: str, view: FeatureView) -> bool:
    """Whether the rows of a generation are what the view's definition makes of its source."""
    return generation.rpartition("-")[0] == state_hash(view)


def progress_name(partition: int) -> str:
    """The name of a partition's offset among a generation's facts: all events up to it are in the rows."""
    return f"partition {partition}"


def live_name(partition: int) -> str:
    """The name of the fact that a worker feeds the generation from this partition as events come in."""
    return f"live {partition}"


def incomplete_name(partition: int) -> str:
    """The name of the fact that an event of this partition has made rows incomplete, which its owner recomputes."""
    return f"incomplete {partition}"
