"""A batch source compared with an archive: in memory and in files, at once and in passes, with equal results."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from asof.definitions import Field, PushSource
from asof.flows.batch import known_rows, spilled_records
from asof.flows.batch.known_rows import ArchiveComparison
from asof.types import Float64, Int64, String, Timestamp

SCHEMA = [Field("item", Int64), Field("at", Timestamp), Field("price", Float64), Field("id", String)]
NAMES = [field.name for field in SCHEMA]


def random_rows(rng: random.Random, count: int, ids: list[str | None]) -> list[tuple[Any, ...]]:
    prices = [1.5, -0.0, float("nan"), None]
    return [(rng.randrange(3), rng.randrange(12), rng.choice(prices), rng.choice(ids)) for _ in range(count)]


def table(rows: list[tuple[Any, ...]]) -> pa.Table:
    columns = list(zip(*rows, strict=True)) if rows else [[] for _ in NAMES]
    return pa.table(
        [pa.array(column, field.dtype.arrow()) for column, field in zip(columns, SCHEMA, strict=True)], names=NAMES
    )


def expected(archived: list[tuple[Any, ...]], given: list[tuple[Any, ...]], *, by_id: bool) -> list[tuple[Any, ...]]:
    """Row by row: each archived copy is matched once, by the first of the source's; an ID by the first row with it."""
    copies = Counter(map(repr, archived if not by_id else [row for row in archived if row[3] is None]))
    ids = {row[3] for row in archived}
    found = []
    for row in given:
        if by_id and row[3] is not None:
            if row[3] not in ids:
                found.append(row)
            ids.add(row[3])
        elif copies[repr(row)]:
            copies[repr(row)] -= 1
        else:
            found.append(row)
    return found


@pytest.mark.parametrize("by_id", [False, True])
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("way", ["in memory", "in files", "in passes"])
def test_what_the_archive_lacks_is_found_however_much_it_is(
    way: str, seed: int, by_id: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    if way != "in memory":
        monkeypatch.setattr(spilled_records, "HELD_BYTES", 600)
    if way == "in passes":
        monkeypatch.setattr(known_rows, "MISSING_AT_ONCE", 3)
    rng = random.Random(seed)
    ids = [None, "a", "b", *(str(number) for number in range(40))]
    archived = random_rows(rng, rng.choice([0, 60]), ids)
    given = random_rows(rng, 90, ids) + archived[: rng.randrange(40)]
    rng.shuffle(given)
    compared = ArchiveComparison(PushSource("prices", SCHEMA, "at", event_id="id" if by_id else ""), {})

    for start in range(0, len(archived), 25):
        rows = table(archived[start : start + 25])
        compared.add_archived(rows, np.arange(start, start + rows.num_rows))
        if by_id:
            compared.add_archived_ids(rows.select(["id"]).filter(rows["id"].is_valid()))
    pieces = [table(given[start : start + 40]) for start in range(0, len(given), 40)]
    for piece in pieces:
        compared.add_source(piece)
    compared.find_missing()
    passes = list(compared.passes())
    found = [
        tuple(row.values())
        for each in passes
        for piece in pieces
        for row in piece.filter(pa.array(each.select(piece))).to_pylist()
    ]

    wanted = expected(archived, given, by_id=by_id)
    wanted = [tuple(row.values()) for row in table(wanted).to_pylist()]
    assert compared.missing == len(wanted)
    assert Counter(map(repr, found)) == Counter(map(repr, wanted))
    # Rows of one time come in the order of the source.
    for time in {row[1] for row in wanted}:
        assert [repr(row) for row in found if row[1] == time] == [repr(row) for row in wanted if row[1] == time]
    # Where nothing is archived, rows without an ID need no comparison.
    compares = bool(archived) or by_id
    assert bool(list(tmp_path.rglob("asof-history-*/*"))) == (compares and way != "in memory")
    assert (len(passes) > 1) == (compares and way == "in passes")
    del compared, passes
    assert not list(tmp_path.rglob("asof-history-*"))
