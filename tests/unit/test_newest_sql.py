"""The SQL of the reads of a view's own rows, as text. `ASOF_WRITE_GOLDEN=1` writes the files anew."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from asof.definitions import Aggregation, Entity, FeatureView, Field, FileSource, Sliding
from asof.dtypes import Int64, String, Timestamp
from asof.sql.duckdb.dialect import DUCKDB
from asof.sql.duckdb.view_rows import compile_rows
from asof.sql.query import NewestRows, RowFilter, RowsOfKeys, TouchedKeys, UndatedRows
from asof.sql.source_rows import SourceTable

GOLDEN = Path(__file__).parent / "golden" / "duckdb"
FIELDS = [Field("user_id", Int64), Field("shop", String), Field("amount", Int64)]
TYPES = {
    "user_id": "INTEGER", "shop": "VARCHAR", "amount": "DOUBLE", "happened": "TIMESTAMP WITH TIME ZONE",
    "written": "TIMESTAMP WITH TIME ZONE",
}  # fmt: skip
DTYPES = {"user_id": Int64, "shop": String, "amount": Int64, "happened": Timestamp, "written": Timestamp}
KEYS = [Entity("user", ["user_id"]), Entity("shop")]
SOURCE = FileSource("orders.parquet", name="orders", timestamp_field="happened", created_timestamp_column="written")
FILES = SourceTable("asof_source_0", TYPES, DTYPES, "row", DUCKDB)
TABLES = {"orders": FILES}
QUERIED = {"orders": replace(FILES, arrival="columns")}
NEWS = RowFilter(2_000, news_from=1_000, events_from=1_500)
INTERVAL = RowFilter(2_000, earliest=1_000)


def latest() -> FeatureView:
    return FeatureView("latest", source=SOURCE, entities=KEYS, schema=FIELDS)


def windows() -> FeatureView:
    made = [Aggregation("amount", "last", name="last_1h", window=Sliding("1h")).with_dtype(Int64)]
    return FeatureView("windows", source=SOURCE, entities=KEYS, schema=FIELDS, aggregations=made)


CASES = {
    "newest_news": (NewestRows(latest(), NEWS), TABLES),
    "newest_interval_without_arrival": (NewestRows(latest(), INTERVAL), QUERIED),
    "undated_rows": (UndatedRows(latest(), RowFilter(2_000)), TABLES),
    "undated_rows_of_the_news": (UndatedRows(latest(), NEWS), TABLES),
    "touched_keys": (TouchedKeys(windows(), NEWS), TABLES),
    "rows_of_keys": (RowsOfKeys(windows(), NEWS), TABLES),
    "rows_of_keys_without_arrival": (RowsOfKeys(windows(), NEWS), QUERIED),
}


@pytest.mark.parametrize("name", CASES)
def test_the_text_of_each_read(name: str) -> None:
    query, tables = CASES[name]
    text = compile_rows(query, tables) + "\n"
    path = GOLDEN / f"{name}.sql"
    if os.environ.get("ASOF_WRITE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_a_source_is_asked_only_for_the_event_times_that_can_be_chosen() -> None:
    assert (NewestRows(latest(), INTERVAL).start, NewestRows(latest(), INTERVAL).end) == (1_000, 2_000)
    assert NewestRows(latest(), RowFilter(2_000, events_from=1_200)).start == 1_200
    # A row that was written down lately may be of any time.
    assert NewestRows(latest(), NEWS).start is None
