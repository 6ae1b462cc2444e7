"""Measure the packed aggregated rows: folding a batch, finishing many rows, finishing one.

`python -m benchmarks.bench_fold [--quick] [--rows 10000]` prints one line per figure.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa

from asof import dtypes
from asof.aggregation import Events, RowLayout, answer_few, decode, encode, finish, fold
from asof.definitions import Aggregation, Session, Sliding
from asof.timing import DAY, HOUR, MINUTE

COLUMNS = {"amount": dtypes.Float64, "items": dtypes.Int64, "page": dtypes.String}
START = 20_000 * DAY

NUMBERS = [
    Aggregation("", "count", window=Sliding.of_micros(HOUR, 5 * MINUTE), name="count_1h"),
    Aggregation("items", "sum", window=Sliding.of_micros(HOUR, 5 * MINUTE), name="items_1h"),
    Aggregation("amount", "mean", window=Sliding.of_micros(10 * HOUR, HOUR), name="amount_10h"),
    Aggregation("items", "max", window=Sliding.of_micros(6 * HOUR, HOUR), name="items_6h"),
    Aggregation("", "count", window=Session.of_micros(30 * MINUTE), name="session"),
]
STRINGS = [
    *NUMBERS,
    Aggregation("page", "last", window=Sliding.of_micros(HOUR, 5 * MINUTE), name="last_page"),
    Aggregation("page", "count_distinct", window=Session.of_micros(30 * MINUTE), name="pages"),
]


def batch(layout: RowLayout, rows: np.ndarray, at: int, offset: int, seed: int) -> Events:
    """One event per entry of `rows`, all within a second after `at`."""
    random, n = np.random.default_rng(seed), len(rows)
    columns = {
        "": None, "amount": random.random(n), "items": random.integers(0, 9, n),
        "page": pa.array([f"page_{number}" for number in random.integers(0, 20, n).tolist()]),
    }  # fmt: skip
    times = at + np.sort(random.integers(0, 1_000_000, n))
    values = [(columns[column], np.ones(n, dtype=bool)) for column, _ in layout.inputs]
    return Events(rows, times, times, np.zeros(n, dtype=np.int64), offset + np.arange(n), values)


def filled(layout: RowLayout, rows: int) -> tuple[list[bytes], int, int]:
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
        for name, number, unit in figures_of(RowLayout.of(aggregations, COLUMNS), rows):
            yield f"{title}: {name}", number, unit


def figures_of(layout: RowLayout, rows: int) -> Iterator[tuple[str, float, str]]:
    """The measurements of one view."""
    blobs, at, offset = filled(layout, rows)
    clock = at + HOUR
    yield "bytes per row", sum(map(len, blobs)) / rows, "B"
    yield "records per row", float(decode(layout, blobs).counts.sum()) / rows, "records"
    for touched, unit in ((rows, "row"), (rows // 10, "event")):
        events = batch(layout, np.arange(rows) % touched, at, offset, 99)
        for step, seconds in folding(layout, blobs[:touched], events, clock):
            yield f"{step}, {rows} events over {touched} rows", seconds / rows * 1e6, f"us/{unit}"
    thousand = decode(layout, blobs[:1000])
    yield "decode, 1000 rows", best_of(lambda: decode(layout, blobs[:1000]), 20) * 1e3, "ms"
    yield "finish, 1000 rows", best_of(lambda: finish(layout, thousand, clock), 20) * 1e3, "ms"
    for few in (1, 10):
        seconds = best_of(lambda few=few: answer_few(layout, blobs[:few], clock), 200)
        yield f"answer_few, {few} rows", seconds * 1e6, "us"


def folding(layout: RowLayout, blobs: list[bytes], events: Events, clock: int) -> Iterator[tuple[str, float]]:
    """Seconds for each step of bringing a batch into its rows, and for all three."""
    state = decode(layout, blobs)
    folded, _ = fold(layout, state, events, clock_us=clock)
    yield "decode", best_of(lambda: decode(layout, blobs), 5)
    yield "fold", best_of(lambda: fold(layout, state, events, clock_us=clock), 5)
    yield "encode", best_of(lambda: encode(layout, folded), 5)
    yield "all", best_of(lambda: encode(layout, fold(layout, decode(layout, blobs), events, clock_us=clock)[0]), 5)


def main(argv: list[str]) -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="bench_fold")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rows", type=int, help="of the view, and events of a batch; at least 1,000")
    options, _ = parser.parse_known_args(argv)
    for name, number, unit in figures(options.rows or (1_000 if options.quick else 10_000)):
        print(f"{name:55} {number:10.3f} {unit}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
