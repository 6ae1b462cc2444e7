"""Measure the packed aggregated rows: folding a batch, finishing many rows, finishing one.

Run `python -m benchmarks.bench_fold`; it prints one line per figure.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa

from asof import dtypes
from asof.aggregation import Events, Layout, decode, encode, finish, fold
from asof.definitions import Aggregation, Session, Sliding
from asof.timing import DAY, HOUR, MINUTE

COLUMNS = {"amount": dtypes.Float64, "items": dtypes.Int64, "page": dtypes.String}
START = 20_000 * DAY

NUMBERS = [
    Aggregation("", "count", window=Sliding(HOUR, 5 * MINUTE), name="count_1h"),
    Aggregation("items", "sum", window=Sliding(HOUR, 5 * MINUTE), name="items_1h"),
    Aggregation("amount", "mean", window=Sliding(10 * HOUR, HOUR), name="amount_10h"),
    Aggregation("items", "max", window=Sliding(6 * HOUR, HOUR), name="items_6h"),
    Aggregation("", "count", window=Session(30 * MINUTE), name="session"),
]
STRINGS = [
    *NUMBERS,
    Aggregation("page", "last", window=Sliding(HOUR, 5 * MINUTE), name="last_page"),
    Aggregation("page", "count_distinct", window=Session(30 * MINUTE), name="pages"),
]


def batch(layout: Layout, rows: np.ndarray, at: int, offset: int, seed: int) -> Events:
    """One event per entry of `rows`, all within a second after `at`."""
    random, n = np.random.default_rng(seed), len(rows)
    columns = {
        "": None, "amount": random.random(n), "items": random.integers(0, 9, n),
        "page": pa.array([f"page_{number}" for number in random.integers(0, 20, n).tolist()]),
    }  # fmt: skip
    times = at + np.sort(random.integers(0, 1_000_000, n))
    values = [(columns[column], np.ones(n, dtype=bool)) for column, _ in layout.inputs]
    return Events(rows, times, times, np.zeros(n, dtype=np.int64), offset + np.arange(n), values)


def filled(layout: Layout, rows: int) -> tuple[list[bytes], int, int]:
    """Rows with about ten records per family, and the time and offset to go on from."""
    blobs: list[bytes | None] = [None] * rows
    moments = [*(START + hour * HOUR for hour in range(10)), *(START + 9 * HOUR + k * 5 * MINUTE for k in range(1, 11))]
    for number, at in enumerate(moments):
        events = batch(layout, np.arange(rows), at, number * rows, number)
        state, _ = fold(layout, decode(layout, blobs), events, clock_us=at + HOUR)
        blobs = list(encode(layout, state))
    return blobs, moments[-1] + 10_000_000, len(moments) * rows  # type: ignore[return-value]


def best_of(work: Callable[[], object], times: int) -> float:
    """The shortest of several runs, in seconds."""
    taken = []
    for _ in range(times):
        begin = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begin)
    return min(taken)


def figures(rows: int = 10_000) -> Iterator[tuple[str, float, str]]:
    """(name, number, unit) of each measurement."""
    for title, aggregations in (("numbers", NUMBERS), ("strings", STRINGS)):
        layout = Layout.of(aggregations, COLUMNS)
        blobs, at, offset = filled(layout, rows)
        yield f"{title}: bytes per row", sum(map(len, blobs)) / rows, "B"
        yield f"{title}: records per row", float(decode(layout, blobs).counts.sum()) / rows, "records"
        for touched, unit in ((rows, "row"), (rows // 10, "event")):
            events = batch(layout, np.arange(rows) % touched, at, offset, 99)
            chosen = blobs[:touched]
            state = decode(layout, chosen)
            folded, _ = fold(layout, state, events, clock_us=at + HOUR)
            steps: dict[str, Callable[[], object]] = {
                "decode": lambda chosen=chosen: decode(layout, chosen),
                "fold": lambda state=state, events=events: fold(layout, state, events, clock_us=at + HOUR),
                "encode": lambda folded=folded: encode(layout, folded),
                "all": lambda chosen=chosen, events=events: encode(
                    layout, fold(layout, decode(layout, chosen), events, clock_us=at + HOUR)[0]
                ),
            }
            for step, work in steps.items():
                yield f"{title}: {step}, {rows} events over {touched} rows", best_of(work, 5) / rows * 1e6, f"us/{unit}"
        thousand = decode(layout, blobs[:1000])
        yield f"{title}: finish, 1000 rows", best_of(lambda: finish(layout, thousand, at + HOUR), 20) * 1e3, "ms"
        yield f"{title}: decode, 1000 rows", best_of(lambda: decode(layout, blobs[:1000]), 20) * 1e3, "ms"
        one = blobs[:1]
        work = lambda: finish(layout, decode(layout, one), at + MINUTE)  # noqa: E731
        yield f"{title}: finish(decode), 1 row", best_of(work, 200) * 1e6, "us"


if __name__ == "__main__":
    for name, number, unit in figures():
        print(f"{name:55} {number:10.3f} {unit}")
