"""Which files of an archive a compaction joins: those of the newest flushes, and sorted runs that are not much larger.

A run is what one compaction wrote for one ingest date: files sorted by the same columns. Runs of a date grow like

    flushes ▪▪▪▪▪▪  +  run ▬▬  +  run ▬▬▬▬     →    run ▬▬▬▬▬▬▬▬        run ▬▬▬▬▬▬▬▬▬▬▬▬▬▬▬▬▬▬▬▬▬▬▬▬ stays

A run is joined if it has at most `GROWTH` times as many rows as all that is joined with it already. So each of the runs
that stay is more than that much larger than the next smaller one: there are few of them, and a row is written again a
logarithmic number of times, however often `compact` runs. Rows count, and not bytes: most of a small file is no rows.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

GROWTH = 2

_FORMAT = "1"
"""Of how files are sorted; files of another one are sorted again."""

_NAME = re.compile(r"sorted-(?P<order>[0-9a-f]{8})-(?P<run>[0-9a-f]{32})-\d+\.parquet")


@dataclass(frozen=True)
class ArchiveFile:
    """One file of an archive.

    Args:
        path: below the archive's folder, as its log has it.
        date: the ingest date of its rows, as the log has it.
    """

    path: str
    bytes: int
    rows: int
    date: str

    def run(self, order: str) -> str:
        """The run of which it is, if that is sorted by these columns; else empty."""
        found = _NAME.fullmatch(self.path.rpartition("/")[2])
        return found["run"] if found is not None and found["order"] == order else ""


def order_id(columns: Sequence[str]) -> str:
    """The ID, in names of files, of rows sorted by these columns."""
    return hashlib.sha256("\0".join((_FORMAT, *columns)).encode()).hexdigest()[:8]


def file_name(order: str, run: str, number: int) -> str:
    """The name of a sorted file; `ArchiveFile.run` reads it."""
    return f"sorted-{order}-{run}-{number}.parquet"


def is_sorted(path: str) -> bool:
    """Whether a compaction wrote the file."""
    return _NAME.fullmatch(path.rpartition("/")[2]) is not None


def to_join(files: Iterable[ArchiveFile], order: str, *, few_rows: int) -> list[list[ArchiveFile]]:
    """The files to be joined and sorted, date by date in the order of the dates.

    Args:
        order: the ID of the columns by which runs are sorted.
        few_rows: a single file of so few rows is read whole anyway, and stays.
    """
    by_date: dict[str, list[ArchiveFile]] = {}
    for each in files:
        by_date.setdefault(each.date, []).append(each)
    groups = [_to_join(by_date[date], order) for date in sorted(by_date)]
    return [each for each in groups if len(each) > 1 or (each and each[0].rows > few_rows)]


def _to_join(files: Sequence[ArchiveFile], order: str) -> list[ArchiveFile]:
    runs: dict[str, list[ArchiveFile]] = {}
    for each in files:
        runs.setdefault(each.run(order), []).append(each)
    joined = runs.pop("", [])
    size = _rows(joined)
    for run in sorted(runs.values(), key=_rows):
        length = _rows(run)
        if not joined or length > GROWTH * size:
            break
        joined += run
        size += length
    return joined


def _rows(files: Sequence[ArchiveFile]) -> int:
    return sum(each.rows for each in files)


__all__ = ["ArchiveFile", "file_name", "is_sorted", "order_id", "to_join"]
