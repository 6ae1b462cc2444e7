"""Two runs of a training set's rows side by side, in batches."""

from __future__ import annotations

import math
import random

import pyarrow as pa

from asof.flows.offline.compare import RowComparison, side_by_side


def batches(table: pa.Table, sizes: list[int]) -> list[pa.RecordBatch]:
    made, at = [], 0
    for size in sizes:
        made += table.slice(at, size).combine_chunks().to_batches() or [pa.RecordBatch.from_pylist([], table.schema)]
        at += size
    return made


def test_batches_of_any_sizes_stand_side_by_side_and_the_rest_comes_alone() -> None:
    rng = random.Random(1)
    for _ in range(50):
        one, other = (pa.table({"n": range(rng.randrange(12))}) for _ in range(2))
        left, right = (iter(batches(table, [rng.randrange(5) for _ in range(20)] + [20])) for table in (one, other))

        pairs = list(side_by_side(left, right))

        assert all(a is None or b is None or a.num_rows == b.num_rows > 0 for a, b in pairs)
        assert [n for a, _ in pairs if a is not None for n in a["n"].to_pylist()] == one["n"].to_pylist()
        assert [n for _, b in pairs if b is not None for n in b["n"].to_pylist()] == other["n"].to_pylist()


def test_differing_rows_are_counted_once_and_the_first_of_each_column_are_kept() -> None:
    then = pa.table({"user": [1, 2, 3, 4, 5, 6], "a": [1, 2, None, 4, 5, 6], "b": [0.5, math.nan, 1.0, 1.0, 2.0, None]})
    now = pa.table(
        {"user": [1, 2, 3, 4, 5, 6], "a": [1, 3, 9, 4, 5, 7], "b": [0.5, math.nan, 1 + 1e-12, 3.0, 2.0, 1.0]}
    )
    comparison = RowComparison(["a", "b"], shown=["user"], limit=2)

    for pair in side_by_side(iter(batches(then, [2, 1, 3])), iter(batches(now, [6]))):
        comparison.add(*pair)  # type: ignore[arg-type]

    # Rows 1, 2 and 5 differ in a, 3 and 5 in b: NaN equals itself, and floats may differ by 1e-9 of their size.
    assert (comparison.differing(["a"]), comparison.differing(["b"]), comparison.differing(["a", "b"])) == (3, 2, 4)
    assert comparison.differing([]) == 0 and comparison.examples("c") == []
    assert [(each["row"], each["user"], each["then"], each["now"]) for each in comparison.examples("a")] == [
        (1, 2, 2, 3),
        (2, 3, None, 9),
    ]
    assert comparison.examples("b")[1] == {"row": 5, "user": 6, "column": "b", "then": None, "now": 1.0}
