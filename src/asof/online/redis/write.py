"""A write in progress: its script and arguments, and which rows were written so far."""

from __future__ import annotations

import secrets
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from asof.online.protocol import NO_ROW, Newest, OnlineTable, Unchanged
from asof.online.redis.connection import Argument, pack_command
from asof.online.redis.rows import TOKEN_BYTES, VERSION_BYTES
from asof.online.redis.scripts import NEWEST, UNCHANGED, UNCHANGED_SMALL, Script

ROWS_PER_CALL = 500
BYTES_PER_CALL = 1 << 20
"""Limits of a script call, in rows and bytes: Redis serves no other client meanwhile."""
SMALL_BYTES = 1024
"""Up to this mean size, whole rows are read although only their tokens are needed."""


@dataclass
class RowWrite:
    """A conditional write of n rows.

    Args:
        values: packed rows, each after its version (`NEWEST`) or its token (`UNCHANGED`).
        expected, new: the tokens of n rows, 8 bytes each.
        tills: expiry of each row in ms, as text; empty for never.
        within: the expected incarnation.
    """

    table: OnlineTable
    keys: Sequence[bytes]
    script: Script
    values: Sequence[bytes]
    expected: bytes = b""
    new: bytes = b""
    tills: list[bytes] | None = None
    within: str = ""
    done: int = 0
    was_checked: bool = False
    kept: list[bool] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.kept = [True] * len(self.keys)

    @classmethod
    def of(
        cls, table: OnlineTable, keys: Sequence[bytes], values: Sequence[bytes], condition: Newest | Unchanged
    ) -> RowWrite:
        """The write for the arguments of `OnlineStore.write`."""
        if isinstance(condition, Newest):
            if set(map(len, condition.versions)) - {VERSION_BYTES}:
                raise ValueError("a version is not one of `pack_version`")
            return cls(table, keys, NEWEST, [a + b for a, b in zip(condition.versions, values, strict=True)])
        # Random, so that it is new on any server, whatever it has lost; per row, so that a retry finds its own writes.
        count, first = len(keys), secrets.randbits(62) | 1
        new = struct.pack(f">{count}Q", *range(first, first + 2 * count, 2))
        expected = struct.pack(f">{count}Q", *condition.tokens)
        script = UNCHANGED
        if len(set(keys)) == count and sum(map(len, values)) <= SMALL_BYTES * count:
            script = UNCHANGED_SMALL
        else:
            values = [new[i * TOKEN_BYTES : (i + 1) * TOKEN_BYTES] + value for i, value in enumerate(values)]
        return cls(table, keys, script, values, expected, new, within=condition.within)

    def pieces(self, rows: int = ROWS_PER_CALL) -> Iterator[tuple[int, int]]:
        """[start, end) of the calls without a reply so far."""
        start = end = self.done
        sizes = list(map(len, self.values))
        if sum(sizes[start:]) <= BYTES_PER_CALL:
            yield from ((at, min(at + rows, len(sizes))) for at in range(start, len(sizes), rows))
            return
        size = 0
        for end in range(self.done, len(sizes)):
            if end - start == rows or (size > BYTES_PER_CALL and end > start):
                yield start, end
                start, size = end, 0
            size += sizes[end]
        if start < len(sizes):
            yield start, len(sizes)

    def arguments(self, positions: Sequence[int]) -> Sequence[Argument]:
        """The script's arguments for some of the rows, after field and kind."""
        values = _picked(self.values, positions)
        tills = None if self.tills is None else _picked(self.tills, positions)
        if self.script is UNCHANGED_SMALL:
            return [_tokens(self.expected, positions), _tokens(self.new, positions), *values, *(tills or ())]
        columns = [values] if self.script is NEWEST else [self._expected(positions), values]
        if tills is not None:
            columns.append(tills)
        return [len(columns), *(part for row in zip(*columns, strict=True) for part in row)]

    def _expected(self, positions: Sequence[int]) -> list[bytes]:
        nothing = struct.pack(">Q", NO_ROW)
        tokens = [self.expected[i * TOKEN_BYTES : (i + 1) * TOKEN_BYTES] for i in positions]
        return [b"" if token == nothing else token for token in tokens]


def _picked(column: Sequence[bytes], positions: Sequence[int]) -> Sequence[bytes]:
    if isinstance(positions, range):
        return column[positions.start : positions.stop]
    return [column[i] for i in positions]


def _tokens(all_of_them: bytes, positions: Sequence[int]) -> bytes:
    if isinstance(positions, range):
        return all_of_them[positions.start * TOKEN_BYTES : positions.stop * TOKEN_BYTES]
    return b"".join([all_of_them[i * TOKEN_BYTES : (i + 1) * TOKEN_BYTES] for i in positions])


def packed_call(write: RowWrite, keys: list[bytes], field: bytes, kind: bytes, positions: Sequence[int]) -> bytes:
    """The packed script call for some rows of a write."""
    return pack_command(("EVALSHA", write.script.hash, len(keys), *keys, field, kind, *write.arguments(positions)))
