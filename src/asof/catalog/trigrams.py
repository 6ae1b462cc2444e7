"""Texts that are nearly the same: found by the trigrams that they share, ordered by edit distance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_EDGE = "\0"
"""Stands before and after each text, so that its ends make trigrams too and a text of one character has any."""

_MIDDLE_AND_ONE_SIDE = ((1 << 63) - (1 << 21), (1 << 42) - 1)
"""Bits of a trigram's first and second code point, and of its second and third."""

_NONE = np.array([], np.int32)


class TrigramTable:
    """Texts by their trigrams. A typo changes at most four of a text's trigrams; the others still find it.

    Args:
        texts: what is looked for, in lower case; a result is their positions in this sequence.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts
        trigrams = _trigrams("".join(f"{_EDGE}{text}{_EDGE}" for text in texts))
        lengths = np.fromiter((len(text) + 2 for text in texts), np.int64, len(texts))
        positions = np.repeat(np.arange(len(texts), dtype=np.int32), lengths)[: len(trigrams)]
        # Two edges next to each other are the end of one text and the start of the next.
        inside = (trigrams & _MIDDLE_AND_ONE_SIDE[0] != 0) & (trigrams & _MIDDLE_AND_ONE_SIDE[1] != 0)
        order = np.argsort(trigrams[inside], kind="stable")
        # The texts of a trigram are those between its first and its last position in the sorted trigrams.
        self._trigrams, self._positions = trigrams[inside][order], positions[inside][order]

    def near(self, text: str, *, distance: int, candidates: int = 64) -> list[tuple[int, int]]:
        """Texts within an edit distance of `text`: (distance, position), nearest first.

        Args:
            distance: the most insertions, deletions, substitutions and swaps of neighbours.
            candidates: how many of the texts that share most trigrams are compared.
        """
        wanted = np.unique(_trigrams(f"{_EDGE}{text}{_EDGE}"))
        first = np.searchsorted(self._trigrams, wanted, "left")
        last = np.searchsorted(self._trigrams, wanted, "right")
        found = [self._positions[start:end] for start, end in zip(first, last, strict=True)]
        shared = np.bincount(np.concatenate([*found, _NONE]))
        positions = np.flatnonzero(shared)
        best = positions[np.argsort(-shared[positions], kind="stable")[:candidates]]
        compared = ((edit_distance(text, self._texts[position], most=distance), int(position)) for position in best)
        return sorted(each for each in compared if each[0] <= distance)


def edit_distance(one: str, other: str, *, most: int) -> int:
    """Insertions, deletions, substitutions and swaps of neighbours between two texts; `most + 1` where it is more.

    Only the cells within `most` of the diagonal are computed: outside of them every path is longer.

    Source: optimal string alignment, https://en.wikipedia.org/wiki/Damerau-Levenshtein_distance
    """
    if abs(len(one) - len(other)) > most:
        return most + 1
    far = most + 1
    before: list[int] = []
    previous = [column if column <= most else far for column in range(len(other) + 1)]
    for row, character in enumerate(one, 1):
        current = [row if row <= most else far] + [far] * len(other)
        for column in range(max(1, row - most), min(len(other), row + most) + 1):
            cost = min(
                previous[column] + 1,
                current[column - 1] + 1,
                previous[column - 1] + (character != other[column - 1]),
            )
            swapped = row > 1 and column > 1 and character == other[column - 2] and one[row - 2] == other[column - 1]
            current[column] = min(cost, before[column - 2] + 1, far) if swapped else min(cost, far)
        if min(current) > most:
            return far
        before, previous = previous, current
    return previous[-1]


def _trigrams(text: str) -> npt.NDArray[np.int64]:
    """The trigrams of a text in order, each as one number: three code points of 21 bits."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.int64)
    return (points[:-2] << 42) | (points[1:-1] << 21) | points[2:]
