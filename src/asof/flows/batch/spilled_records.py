"""Records of fixed length in partitions: in memory while they are few, and in files beyond."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

PARTITIONS = 256
"""As many as a byte has values."""

HELD_BYTES = 32 << 20
"""So many bytes of records are held in memory before they are written to files."""

Records = npt.NDArray[Any]


class SpilledRecords:
    """Records, each in a partition; those of one partition keep the order in which they were added.

    Args:
        path: returns what the names of the files begin with; their folder is the caller's, who removes it.
        dtype: of a record.
    """

    def __init__(self, path: Callable[[], Path], dtype: npt.DTypeLike) -> None:
        self._path, self.dtype = path, np.dtype(dtype)
        self._held: list[tuple[npt.NDArray[np.uint8], Records]] = []
        self._size = 0
        self.count = 0
        self.counts = np.zeros(PARTITIONS, dtype=np.int64)
        self.is_spilled = False

    def add(self, partitions: npt.NDArray[np.uint8], records: Records) -> None:
        """Add n records: the partition of each, and the records."""
        self._held.append((partitions, records))
        self._size += partitions.nbytes + records.nbytes
        self.count += len(records)
        self.counts += np.bincount(partitions, minlength=PARTITIONS)
        if self._size > HELD_BYTES:
            self._spill()

    def whole(self) -> Records:
        """All records of one that is not spilled."""
        assert not self.is_spilled
        return np.concatenate([np.empty(0, self.dtype), *(records for _, records in self._held)])

    def partition(self, number: int) -> Records:
        """The records of one partition."""
        stored = np.empty(0, self.dtype)
        if self.is_spilled and self._file(number).exists():
            stored = np.fromfile(self._file(number), dtype=self.dtype)
        return np.concatenate([stored, *(records[partitions == number] for partitions, records in self._held)])

    def seal(self) -> None:
        """Spill what is held, too: nothing is added any more."""
        if self._held:
            self._spill()

    def _spill(self) -> None:
        partitions = np.concatenate([each for each, _ in self._held])
        records = np.concatenate([each for _, each in self._held])
        self._held, self._size, self.is_spilled = [], 0, True
        order = np.argsort(partitions, kind="stable")
        partitions, records = partitions[order], records[order]
        ends = np.searchsorted(partitions, np.arange(PARTITIONS + 1))
        for number, (start, end) in enumerate(zip(ends, ends[1:])):
            if end > start:
                with self._file(number).open("ab") as file:
                    records[start:end].tofile(file)

    def _file(self, number: int) -> Path:
        path = self._path()
        return path.with_name(f"{path.name}-{number}")


def together(*of: SpilledRecords) -> Iterator[tuple[Records, ...]]:
    """The records of several, all of one partition together, or all at once where none is spilled."""
    if not any(each.is_spilled for each in of):
        yield tuple(each.whole() for each in of)
        return
    for each in of:
        each.seal()
    for number in range(PARTITIONS):
        yield tuple(each.partition(number) for each in of)


__all__ = ["HELD_BYTES", "PARTITIONS", "SpilledRecords", "together"]
