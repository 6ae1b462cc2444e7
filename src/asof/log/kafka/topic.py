"""A topic of a Kafka cluster: its names, its id and how many partitions it has."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as Kafka described it.

    Args:
        name: as this log's users name it.
        full_name: its name in Kafka.
        id: Kafka's, another one after it was deleted and made again.
    """

    name: str
    full_name: str
    id: str
    partitions: int

    def grown(self, partitions: int) -> Topic:
        """The same with more partitions."""
        return replace(self, partitions=partitions)
