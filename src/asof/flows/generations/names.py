"""Names of the facts that the online store keeps as the progress of a generation."""

from __future__ import annotations

BUILT = "built"
"""Progress fact of a generation whose base has been written, so that events may follow."""

Name = tuple[str, str]
"""A view's name and a generation's."""


def progress_name(partition: int) -> str:
    """The name of a partition's offset among a generation's facts: all events up to it are in the rows."""
    return f"partition {partition}"


def live_name(partition: int) -> str:
    """The name of the fact that a worker feeds the generation from this partition as events come in."""
    return f"live {partition}"


def incomplete_name(partition: int) -> str:
    """The name of the fact that an event of this partition has made rows incomplete, which its owner recomputes."""
    return f"incomplete {partition}"
