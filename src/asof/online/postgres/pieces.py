"""Rows of a write in chunks of one statement each, ordered by key."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import numpy as np

from asof.dtypes import GREATEST_INT64
from asof.online.postgres.statements import ByteaArray, Int8Array
from asof.online.protocol import NO_ROW

ROWS_PER_STATEMENT = 5_000
BYTES_PER_STATEMENT = 16 << 20
"""Limits of a statement, in rows and bytes, so that other writers are not blocked for long."""


class Piece:
    """Rows of one statement, ordered by key, each key once."""

    def __init__(self, keys: list[bytes], values: list[bytes], expiry: list[int]) -> None:
        self.keys, self.values, self.expiry = keys, values, expiry

    @property
    def key_array(self) -> ByteaArray:
        """The keys, as a parameter."""
        return ByteaArray.of(self.keys)

    @property
    def value_array(self) -> ByteaArray:
        """The values, as a parameter."""
        return ByteaArray.of(self.values)

    @property
    def expiry_array(self) -> Int8Array:
        """The expiries, as a parameter."""
        return Int8Array.of(self.expiry)

    def take(self, positions: Sequence[int]) -> Piece:
        """The rows at these indexes."""
        return Piece(
            [self.keys[at] for at in positions],
            [self.values[at] for at in positions],
            [self.expiry[at] for at in positions],
        )


def pieces_of(keys: Sequence[bytes], values: Sequence[bytes]) -> Iterator[list[int]]:
    """Indexes of the rows, in chunks for one statement each, ordered by key so that writers cannot deadlock.

    A repeated key is in a later chunk, which is compared with the row of the earlier one.
    """
    rounds: list[list[int]] = [list(range(len(keys)))]
    if len(set(keys)) < len(keys):
        seen: dict[bytes, int] = {}
        rounds = []
        for at, key in enumerate(keys):
            turn = seen[key] = seen.get(key, -1) + 1
            if turn == len(rounds):
                rounds.append([])
            rounds[turn].append(at)
    for positions in rounds:
        positions.sort(key=keys.__getitem__)
        start, size = 0, 0
        for end, at in enumerate(positions):
            if end > start and (end - start >= ROWS_PER_STATEMENT or size + len(values[at]) > BYTES_PER_STATEMENT):
                yield positions[start:end]
                start, size = end, 0
            size += len(values[at])
        if start < len(positions):
            yield positions[start:]


def fresh_tokens(n: int) -> list[int]:
    """New tokens: 63 random bits, so that not even a fail-over to an older state repeats one."""
    numbers = np.frombuffer(os.urandom(8 * n), dtype=np.int64) & np.int64(GREATEST_INT64)
    return np.where(numbers == NO_ROW, 1, numbers).tolist()
