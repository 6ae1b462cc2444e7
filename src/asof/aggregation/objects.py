"""The objects that records refer to (strings, sets and lists), decoded only when needed.

A record's word names an object: it is `NONE`, or the position of an encoded object (first word << 24 | bytes), or,
below `NONE`, the number of an object made since the rows were read. Packed rows have only the second form, relative to
the row's start.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from asof.aggregation.segments import ranges

Ints = NDArray[np.int64]

NONE = -1
"""The word of an absent object."""
LENGTH_BITS = 24
LENGTH_MASK = (1 << LENGTH_BITS) - 1

read_object = msgspec.msgpack.Decoder().decode
write_object = msgspec.msgpack.Encoder(order="deterministic").encode


@dataclass
class ObjectPool:
    """The objects of many rows.

    Attributes:
        words: int64[m], the bytes of the decoded rows.
        made: the objects added since then.
    """

    words: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    made: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._bytes = self.words.data.cast("B") if len(self.words) else memoryview(b"")

    def __getitem__(self, name: int) -> Any:
        # Made objects are named downwards from `NONE`: -2 is the first.
        if name < NONE:
            return self.made[NONE - 1 - name]
        begin = (name >> LENGTH_BITS) * 8
        return read_object(self._bytes[begin : begin + (name & LENGTH_MASK)])

    def add(self, value: Any) -> int:
        """Add an object; returns its name."""
        self.made.append(value)
        return NONE - len(self.made)

    def add_where(self, values: list[Any], mask: NDArray[np.bool_]) -> Ints:
        """Add the values where the mask is true; returns their names, and `NONE` elsewhere."""
        # The running count names the kept values as calls of `add`, one after the other, would.
        names = np.where(mask, NONE - (np.cumsum(mask) + len(self.made)), NONE)
        self.made.extend(values if mask.all() else [value for value, keep in zip(values, mask.tolist()) if keep])
        return names

    def copy(self) -> ObjectPool:
        """A copy to which objects can be added without changing this pool."""
        return ObjectPool(self.words, list(self.made))

    def joined(self, other: ObjectPool) -> ObjectPool:
        """This pool's objects under their names, and the other's under `renamed`."""
        return ObjectPool(np.concatenate([self.words, other.words]), [*self.made, *other.made])

    def renamed(self, names: Ints) -> Ints:
        """The names in `self.joined(other)` of the other pool's objects."""
        # In the joined pool the other's words lie behind this pool's, and so do its made objects, whose names descend.
        moved = np.where(names > NONE, names + (len(self.words) << LENGTH_BITS), names - len(self.made))
        return np.where(names == NONE, NONE, moved)

    def packed(self, names: Ints) -> PackedObjects:
        """Encode these objects (none absent) one after the other, each starting on a word."""
        # Of made objects both are meaningless bits until they are encoded: lengths are replaced, begins not used.
        lengths, begins = names & LENGTH_MASK, names >> LENGTH_BITS
        is_made = names < NONE
        made = [write_object(self.made[NONE - 1 - name]) for name in names[is_made].tolist()]
        lengths[is_made] = np.fromiter(map(len, made), dtype=np.int64, count=len(made))
        sizes = (lengths + 7) >> 3
        positions = np.cumsum(sizes) - sizes
        words = np.zeros(int(sizes.sum()), dtype=np.int64)
        # What was read is copied as it is, never decoded: a fold that does not touch a set does not pay for it.
        kept = ~is_made
        words[ranges(positions[kept], sizes[kept])] = self.words[ranges(begins[kept], sizes[kept])]
        words[ranges(positions[is_made], sizes[is_made])] = np.frombuffer(b"".join(_padded(made)), dtype=np.int64)
        return PackedObjects(words, positions, sizes, lengths)


@dataclass(frozen=True)
class PackedObjects:
    """Encoded objects: their words, and for each its start, number of words and number of bytes."""

    words: Ints
    positions: Ints
    sizes: Ints
    lengths: Ints


def _padded(encoded: Iterable[bytes]) -> Iterable[bytes]:
    return (each.ljust((len(each) + 7) & ~7, b"\0") for each in encoded)
