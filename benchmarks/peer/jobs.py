"""What both sides are asked, so that it is the same; standard library only, for both environments import it."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle
from typing import Any

from benchmarks.harness import report

HISTORICAL_VIEWS = 5
ONLINE_VIEWS = 3
FEATURES = 10
REQUESTS = 20

HISTORICAL = [f"view{view}:f{view}_{index}" for view in range(HISTORICAL_VIEWS) for index in range(FEATURES)]
ONLINE = [f"online{view}:o{view}_{index}" for view in range(ONLINE_VIEWS) for index in range(FEATURES)]


@dataclass(frozen=True)
class Jobs:
    """One side's way of doing each job; `folder` holds the data, and the store that `prepare_*` made.

    Args:
        prepare_historical: (folder, ttl in hours, 0 for none) → define and apply the views.
        historical: (folder, spine) → work that reads the training set and answers what `facts_of` says.
        prepare_online: (folder) → apply the views and fill the online store.
        online: (folder) → work that takes a request's rows and answers a dict of columns.
        materialize: (folder) → work that fills a new, empty online store from `rows.parquet`.
    """

    prepare_historical: Callable[[str, int], None]
    historical: Callable[[str, str], Callable[[], Any]]
    prepare_online: Callable[[str], None]
    online: Callable[[str], Callable[[list[dict[str, Any]]], dict[str, list[Any]]]]
    materialize: Callable[[str], Callable[[], Any]]


def run(jobs: Jobs, argv: list[str]) -> None:
    """Do the job that the arguments name: what is prepared is not timed, and the work reports itself."""
    match argv:
        case ["prepare-historical", folder, ttl_hours]:
            jobs.prepare_historical(folder, int(ttl_hours))
        case ["historical", folder, spine]:
            report(jobs.historical(folder, spine))
        case ["prepare-online", folder]:
            jobs.prepare_online(folder)
        case ["online", folder, keys, rows, calls]:
            read = jobs.online(folder)
            requests = requests_of(int(keys), int(rows))
            read(next(requests))  # the first read opens files and compiles: a server has that behind it
            report(lambda: round(read(next(requests))["o2_9"][-1], 9), calls=int(calls))
        case ["materialize", folder]:
            report(jobs.materialize(folder))
        case _:
            sys.exit(f"no job {argv}")


def requests_of(keys: int, rows: int) -> Iterator[list[dict[str, Any]]]:
    """The entity rows of `REQUESTS` different requests, over and over."""
    seeded = random.Random(7)
    return cycle([[{"user_id": seeded.randrange(keys)} for _ in range(rows)] for _ in range(REQUESTS)])


def facts_of(table: Any) -> list[int]:
    """Of an Arrow table: its rows, then per view how many have no value, in which both sides must agree."""
    return [table.num_rows, *(table.column(f"f{view}_0").null_count for view in range(HISTORICAL_VIEWS))]
