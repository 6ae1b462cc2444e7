"""Request counts of a worker: plain numbers, summed over all workers when metrics are scraped."""

from __future__ import annotations

import json
import os
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from asof.connections.private_files import make_folder
from asof.online_response import NOT_FOUND, OUTSIDE_MAX_AGE, OnlineResponse

BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Upper bounds of a histogram's buckets in seconds; one more bucket is above the last."""


class LatencyHistogram:
    """A histogram of durations."""

    __slots__ = ("buckets", "total")

    def __init__(self, buckets: Iterable[int] | None = None, total: float = 0.0) -> None:
        self.buckets = list(buckets) if buckets is not None else [0] * (len(BUCKETS) + 1)
        self.total = total

    def add(self, seconds: float) -> None:
        self.buckets[bisect_left(BUCKETS, seconds)] += 1
        self.total += seconds


class RequestCounts:
    """Counts of one process. Flat attributes and dicts, so that counting a request takes microseconds."""

    def __init__(self) -> None:
        self.requests: dict[tuple[str, str, int], int] = {}
        self.seconds: dict[tuple[str, str], LatencyHistogram] = {}
        self.rows: dict[tuple[str, str], int] = {}
        self.errors: dict[str, int] = {}
        # View → rows found, missing, expired; and the newest event time served.
        self.views: dict[str, list[int]] = {}
        self.store = LatencyHistogram()
        self.others: dict[str, int] = {}

    def request(self, route: str, service: str, status: int, seconds: float, rows: int) -> None:
        """Count a request with its response."""
        key = (route, service, status)
        self.requests[key] = self.requests.get(key, 0) + 1
        pair = (route, service)
        known = self.seconds.get(pair)
        if known is None:
            known = self.seconds[pair] = LatencyHistogram()
        known.add(seconds)
        if rows:
            self.rows[pair] = self.rows.get(pair, 0) + rows

    def error(self, kind: str) -> None:
        """Count a failed request by its error class."""
        self.errors[kind] = self.errors.get(kind, 0) + 1

    def other(self, name: str, n: int = 1) -> None:
        """Add to another named count."""
        self.others[name] = self.others.get(name, 0) + n

    def answered(self, response: OnlineResponse) -> None:
        """Count the rows that were found, missing and expired, per view."""
        n = len(response)
        selection: Any = response.selection  # a store's own response: its selection has reads
        for read, found in zip(selection.reads, response.found, strict=True):
            name = read.view.name
            known = self.views.get(name)
            if known is None:
                known = self.views[name] = [0, 0, 0, 0]
            marks = found.marks
            if marks is None:
                known[0] += n
            else:
                missing, expired = marks.count(NOT_FOUND), marks.count(OUTSIDE_MAX_AGE)
                known[0] += n - missing - expired
                known[1] += missing
                known[2] += expired
            for time in found.times if n <= 4 else found.times[:4]:
                if time is not None and time > known[3]:
                    known[3] = time

    def answered_one(self, views: Sequence[str], times: Sequence[int]) -> None:
        """Count one entity row that was found in each of these views."""
        for name, time in zip(views, times):
            known = self.views.get(name)
            if known is None:
                known = self.views[name] = [0, 0, 0, 0]
            known[0] += 1
            if time > known[3]:
                known[3] = time

    # ---- between processes ----

    def as_dict(self) -> dict[str, Any]:
        """The counts as JSON values."""
        return {
            "requests": [[*key, n] for key, n in self.requests.items()],
            "seconds": [[*key, each.buckets, each.total] for key, each in self.seconds.items()],
            "rows": [[*key, n] for key, n in self.rows.items()],
            "errors": self.errors,
            "views": self.views,
            "store": [self.store.buckets, self.store.total],
            "others": self.others,
        }

    def add(self, counts: Mapping[str, Any]) -> None:
        """Add the counts of another process."""
        for route, service, status, n in counts["requests"]:
            self.requests[route, service, status] = self.requests.get((route, service, status), 0) + n
        for route, service, buckets, total in counts["seconds"]:
            _merge(self.seconds.setdefault((route, service), LatencyHistogram()), buckets, total)
        for route, service, n in counts["rows"]:
            self.rows[route, service] = self.rows.get((route, service), 0) + n
        for kind, n in counts["errors"].items():
            self.errors[kind] = self.errors.get(kind, 0) + n
        for view, numbers in counts["views"].items():
            known = self.views.setdefault(view, [0, 0, 0, 0])
            sums = (a + b for a, b in zip(known[:3], numbers[:3], strict=True))
            self.views[view] = [*sums, max(known[3], numbers[3])]
        _merge(self.store, *counts["store"])
        for name, n in counts["others"].items():
            self.others[name] = self.others.get(name, 0) + n


def _merge(histogram: LatencyHistogram, buckets: list[int], total: float) -> None:
    histogram.buckets = [a + b for a, b in zip(histogram.buckets, buckets, strict=True)]
    histogram.total += total


class SharedCounts:
    """The counts of all workers of a server. Each writes its own to a file, which stays when the worker ends.

    Args:
        folder: shared by the workers.
    """

    def __init__(self, folder: Path, counts: RequestCounts) -> None:
        self._folder = folder / "counts"
        make_folder(self._folder)
        # Files of ended workers stay, and process IDs are reused.
        self._file = self._folder / f"{os.getpid()}-{os.urandom(4).hex()}.json"
        self._counts = counts

    def leave(self) -> None:
        """Write this process's counts to its file."""
        other = self._file.with_suffix(".new")
        other.write_text(json.dumps(self._counts.as_dict()))
        other.rename(self._file)

    def all(self) -> RequestCounts:
        """The sum over all workers; this process's counts are current, the others' as last written."""
        total = RequestCounts()
        total.add(self._counts.as_dict())
        for path in self._folder.glob("*.json"):
            if path != self._file:
                try:
                    total.add(json.loads(path.read_text()))
                except (OSError, ValueError, KeyError):
                    continue
        return total
