"""What a worker has done with the messages of one source: sums for the record of its run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from asof.flows.runs import kind_of_reason

MOST_REASONS = 20
"""So many kinds of reasons are counted apart; dead letters for further ones are counted together."""

OTHERS = "other reasons"


@dataclass
class SourceSums:
    """Sums of one source.

    Args:
        rows: accepted rows.
        dead_letters: kind of reason → number.
    """

    messages: int = 0
    rows: int = 0
    dead_letters: Counter[str] = field(default_factory=Counter)

    def count(self, messages: int, rows: int, reasons: Iterable[str]) -> None:
        """Add the verdicts on a batch of messages."""
        self.messages += messages
        self.rows += rows
        for reason in reasons:
            self._count_reason(kind_of_reason(reason), 1)

    def add(self, other: SourceSums) -> None:
        """Add the sums of another worker."""
        self.messages += other.messages
        self.rows += other.rows
        for kind, number in other.dead_letters.items():
            self._count_reason(kind, number)

    def _count_reason(self, kind: str, number: int) -> None:
        is_known = kind in self.dead_letters or len(self.dead_letters) < MOST_REASONS
        self.dead_letters[kind if is_known else OTHERS] += number
