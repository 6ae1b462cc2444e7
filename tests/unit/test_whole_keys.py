"""Sorted rows in tables of whole keys, and in pieces where one key has more rows than a table."""

from __future__ import annotations

import random
from itertools import groupby
from typing import Any

import pyarrow as pa
import pytest

from asof.flows.rows import whole_keys
from asof.flows.rows.whole_keys import by_key


def batches(rng: random.Random, rows: pa.Table) -> list[pa.RecordBatch]:
    """The rows in batches of random sizes, empty ones among them."""
    cuts = sorted(rng.randrange(rows.num_rows + 1) for _ in range(rng.randrange(9)))
    pieces = [rows.slice(a, b - a) for a, b in zip([0, *cuts], [*cuts, rows.num_rows], strict=True)]
    return [batch for each in pieces for batch in each.combine_chunks().to_batches()]


@pytest.mark.parametrize("seed", range(30))
def test_rows_come_once_in_their_order_and_only_a_large_key_in_pieces(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(seed)
    if seed % 2:
        monkeypatch.setattr(whole_keys, "TABLE_BYTES", 100)
    keys = [key for key in ((0, "a"), (0, None), (1, "a"), (2, "c")) for _ in range(rng.choice([0, 1, 3, 40]))]
    columns: dict[str, Any] = {
        "k0": pa.array([key[0] for key in keys], pa.int64()),
        "k1": pa.array([key[1] for key in keys], pa.string()),
        "number": pa.array(range(len(keys)), pa.int64()),
    }
    rows = pa.table(columns)

    found = list(by_key(batches(rng, rows), ["k0", "k1"], 8))

    assert [number for table, _ in found for number in table["number"].to_pylist()] == list(range(len(keys)))
    assert all(table.num_rows for table, _ in found)
    sizes = {key: len(list(group)) for key, group in groupby(keys)}
    seen: list[tuple[Any, ...]] = []
    before = False
    for table, goes_on in found:
        own = list(dict.fromkeys(zip(table["k0"].to_pylist(), table["k1"].to_pylist(), strict=True)))
        assert table.num_rows < 3 * 8
        if goes_on or before:
            assert len(own) == 1
            seen += [] if before else own
        else:
            assert sum(sizes[key] for key in own) == table.num_rows
            seen += own
        before = goes_on
    assert not before and seen == list(sizes)


def test_without_key_columns_all_rows_have_one_key() -> None:
    rows = pa.table({"number": list(range(20))})

    found = list(by_key(rows.to_batches(), [], 8))

    assert [goes_on for _, goes_on in found] == [True] * (len(found) - 1) + [False]
    assert [number for table, _ in found for number in table["number"].to_pylist()] == list(range(20))
