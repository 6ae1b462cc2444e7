"""An archive's partition number: which partition of which of a source's topics a row came from, in one integer.

500_001 = epoch 0, replay topic, partition 1        -1 = rows that `backfill` loaded from the batch source
2_000_003 = epoch 2, own topic, partition 3
"""

from __future__ import annotations

_REPLAYED = 500_000
TOPIC_PARTITIONS = 1_000_000
"""How many numbers the partitions of one topic, and of its replay topic, have among them."""


class ArchivePartition(int):
    """A partition as an archive numbers it, so that offsets of different topics are never taken for one another's.

    It is the integer that archives, online rows and progress keep.
    """

    __slots__ = ()

    @classmethod
    def of(cls, number: int, *, epoch: int = 0, is_replayed: bool = False) -> ArchivePartition:
        """The archive's number of a topic's partition.

        Args:
            number: the partition's own, as the log has it.
            epoch: how often the source's topic was deleted and made again, and the gap was accepted.
            is_replayed: it is a partition of the source's replay topic, through which dead letters come back.
        """
        return cls(epoch * TOPIC_PARTITIONS + (_REPLAYED if is_replayed else 0) + number)

    @property
    def is_history(self) -> bool:
        """Whether `backfill` loaded its rows from a batch source; then it is no partition of a log."""
        return self == -1

    @property
    def epoch(self) -> int:
        """How often the topic was made again before this one; 0 for history."""
        return 0 if self.is_history else int(self) // TOPIC_PARTITIONS

    @property
    def is_replayed(self) -> bool:
        """Whether it is of the source's replay topic."""
        return not self.is_history and int(self) % TOPIC_PARTITIONS >= _REPLAYED

    @property
    def number(self) -> int:
        """The partition's own number in its topic; -1 for history."""
        return -1 if self.is_history else int(self) % _REPLAYED

    @property
    def described(self) -> str:
        """It as messages name it, with the numbers that the log has."""
        if self.is_history:
            return "the loaded history"
        text = f"{'replay partition' if self.is_replayed else 'partition'} {self.number}"
        return f"{text} of the topic's epoch {self.epoch}" if self.epoch else text


HISTORY = ArchivePartition(-1)
"""The partition of rows that `backfill` loaded from the batch source."""
