"""The SQL of each plan as text; a change of the compiler shows here. `ASOF_WRITE_GOLDEN=1` writes the files anew."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from asof.definitions import Aggregation, Entity, FeatureView, Field, FileSource, PushSource, Session, Sliding
from asof.dtypes import Float64, Int64, String, Timestamp
from asof.selection import FeatureOut, ViewRead
from asof.sql.duckdb import point_in_time as duckdb_read
from asof.sql.duckdb.dialect import DUCKDB
from asof.sql.duckdb.hash_partition import InOneGo, SortedRow
from asof.sql.postgres import point_in_time as postgres_read
from asof.sql.postgres.dialect import POSTGRES
from asof.sql.postgres.view_rows import compile_rows
from asof.sql.query import NewestRows, PointInTime, RowFilter, RowsOfKeys, TouchedKeys
from asof.sql.quoting import quote_spark
from asof.sql.source_rows import SourceRows, SourceTable, SpineTable
from asof.sql.spark import point_in_time as spark_read
from asof.sql.spark.capabilities import Capabilities
from asof.sql.spark.dialect import SPARK
from asof.sql.spark.view_rows import compile_rows as compile_spark_rows

GOLDEN = Path(__file__).parent / "golden"
FIELDS = [Field("user_id", Int64), Field("amount", Int64), Field("price", Float64, default=0.5), Field("page", String)]
TYPES = {
    "user_id": "BIGINT", "amount": "BIGINT", "price": "DOUBLE", "page": "VARCHAR", "happened": "TIMESTAMP_NS",
    "written": "TIMESTAMP WITH TIME ZONE",
}  # fmt: skip
DTYPES = {
    "user_id": Int64,
    "amount": Int64,
    "price": Float64,
    "page": String,
    "happened": Timestamp,
    "written": Timestamp,
}
ORDERS = FileSource("orders.parquet", name="orders", timestamp_field="happened", created_timestamp_column="written")
CLICKS = PushSource(
    "clicks", [*FIELDS, Field("happened", Timestamp)], "happened", stream_from="2024-01-01",
    batch_source=FileSource("old.parquet", timestamp_field="happened"),
)  # fmt: skip
ARRIVAL = {
    "partition": "INTEGER", "offset": "BIGINT", "ingested_at": "TIMESTAMP WITH TIME ZONE", "asof_pushed_at": "BIGINT",
    "asof_origin_partition": "INTEGER", "asof_origin_offset": "BIGINT",
}  # fmt: skip
TABLES = {
    "orders": SourceTable("asof_source_0", TYPES, DTYPES, "row", DUCKDB),
    "clicks": SourceTable("asof_source_1", {**TYPES, **ARRIVAL}, DTYPES, "log", DUCKDB),
}  # fmt: skip
SMALL = SpineTable(
    "asof_spine", {"user_id": "INTEGER", "event_timestamp": "TIMESTAMP WITH TIME ZONE"}, "event_timestamp",
    first=1_704_067_200_000_000, last=1_706_745_600_000_000, rows=1000,
)  # fmt: skip
LARGE = SpineTable(SMALL.relation, SMALL.sql_types, SMALL.time)

IN_POSTGRES = {
    "user_id": "bigint", "amount": "integer", "price": "double precision", "page": "character varying(20)",
    "happened": "timestamp without time zone", "written": "timestamp with time zone",
}  # fmt: skip
ARRIVAL_IN_POSTGRES = {
    "partition": "integer", "offset": "bigint", "ingested_at": "timestamp with time zone", "asof_pushed_at": "bigint",
    "asof_origin_partition": "integer", "asof_origin_offset": "bigint",
}  # fmt: skip
STORED = {
    "orders": SourceTable('"public"."orders"', IN_POSTGRES, DTYPES, "columns", POSTGRES),
    "clicks": SourceTable(
        '"asof"."shop__events__clicks"', {**IN_POSTGRES, **ARRIVAL_IN_POSTGRES}, DTYPES, "log", POSTGRES,
        (("partition", "offset"), ("user_id", "happened", "offset", "partition")),
    ),
}  # fmt: skip
INDEXED = {**STORED, "orders": replace(STORED["orders"], indexes=(("user_id", "happened"),))}
SMALL_IN_POSTGRES = replace(SMALL, sql_types={"user_id": "integer", "event_timestamp": "timestamp with time zone"})

IN_SPARK = {
    "user_id": "int", "amount": "bigint", "price": "double", "page": "string", "happened": "timestamp_ntz",
    "written": "timestamp",
}  # fmt: skip
ARRIVAL_IN_SPARK = {
    "partition": "int", "offset": "bigint", "ingested_at": "timestamp", "asof_pushed_at": "bigint",
    "asof_origin_partition": "int", "asof_origin_offset": "bigint",
}  # fmt: skip
VIEWS_IN_SPARK = {
    "orders": SourceTable("asof_source_0", IN_SPARK, DTYPES, "columns", SPARK),
    "clicks": SourceTable("asof_source_1", {**IN_SPARK, **ARRIVAL_IN_SPARK}, DTYPES, "log", SPARK),
}  # fmt: skip
SMALL_IN_SPARK = replace(SMALL, sql_types={"user_id": "int", "event_timestamp": "timestamp"}, quote=quote_spark)


def latest(**options: object) -> ViewRead:
    view = FeatureView("latest", source=ORDERS, entities=[Entity("user", ["user_id"])], schema=FIELDS, **options)  # type: ignore[arg-type]
    return _read(view)


def windows(**options: object) -> ViewRead:
    made = [
        Aggregation("", "count", name="n_1h", window=Sliding("1h")),
        Aggregation("amount", "sum", name="sum_1d", window=Sliding("1d"), where="page = 'x'"),
        Aggregation("page", "last", name="last_ever"),
        Aggregation("", "count", name="session_views", window=Session("1h"), where="page <> 'y'"),
        Aggregation("price * 2", "max", name="session_max", window=Session("1h")),
    ]
    types = {field.name: field.dtype for field in FIELDS}
    typed = [each.with_dtype(each.output_dtype(types.get(each.column, Float64))) for each in made]
    view = FeatureView(
        "windows", source=CLICKS, entities=[Entity("user", ["user_id"])], schema=FIELDS, aggregations=made, **options  # type: ignore[arg-type]
    )  # fmt: skip
    return _read(view.resolved(schema=FIELDS, aggregations=typed))


def _read(view: FeatureView) -> ViewRead:
    features = tuple(
        FeatureOut(each.name, f"{view.name}__{each.name}", each.dtype, each.default) for each in view.features
    )
    return ViewRead(view, view.join_keys, features)


CASES = {
    "latest": (PointInTime((latest(),)), LARGE),
    "latest_small_spine_ttl_delay": (PointInTime((latest(ttl="1d", delay="5m"),)), SMALL),
    "latest_known_at": (PointInTime((latest(ttl="1d"),), known_at=True), LARGE),
    "windows": (PointInTime((windows(),)), LARGE),
    "windows_exclusive_seen": (
        PointInTime((windows(boundary="exclusive", delay="1m"),), seen={"clicks": {0: 10, 1: 7}}),
        SMALL,
    ),
    "windows_by_offsets": (PointInTime((windows(),), known_at=1_705_000_000_000_000, by_offsets=True), LARGE),
    "windows_known_at": (PointInTime((windows(),), known_at=True), LARGE),
    "both": (PointInTime((windows(), latest()), known_at=1_705_000_000_000_000), LARGE),
}


@pytest.mark.parametrize("name", CASES)
def test_the_text_of_each_plan(name: str) -> None:
    request, spine = CASES[name]

    _check(f"duckdb/{name}", duckdb_read.compile_program(request, TABLES, spine).text)


@pytest.mark.parametrize("name", ["latest", "latest_small_spine_ttl_delay"])
def test_the_text_where_rows_have_no_arrival(name: str) -> None:
    request, spine = CASES[name]
    tables = {**TABLES, "orders": replace(TABLES["orders"], arrival="columns")}

    _check(f"duckdb/{name}_by_columns", duckdb_read.compile_program(request, tables, spine).text)


class InTwo(InOneGo):
    def partitions(self, rows: SourceRows, size: SortedRow) -> int:
        return 2


@pytest.mark.parametrize("name", ["both", "windows_known_at", "latest_small_spine_ttl_delay"])
def test_the_text_of_a_read_in_partitions(name: str) -> None:
    request, spine = CASES[name]
    tables = {**TABLES, "orders": replace(TABLES["orders"], arrival="columns")}
    made = duckdb_read.compile_program(request, tables, spine, partitioner=InTwo())

    _check(f"duckdb/{name}_in_partitions", made.text)


def test_the_text_over_an_archive_whose_row_groups_are_sorted_by_key() -> None:
    request, spine = CASES["latest_small_spine_ttl_delay"]
    tables = {**TABLES, "orders": replace(TABLES["orders"], arrival="offsets", sql_types={**TYPES, **ARRIVAL})}

    _check("duckdb/latest_small_spine_of_archive", duckdb_read.compile_program(request, tables, spine).text)


@pytest.mark.parametrize("tables", ["indexed", "plain"])
@pytest.mark.parametrize("name", CASES)
def test_the_text_of_each_plan_in_postgres(name: str, tables: str) -> None:
    request, spine = CASES[name]
    if tables == "indexed" and "latest" not in name:
        pytest.skip("windows have the same plan with an index and without one")
    spine = replace(SMALL_IN_POSTGRES, first=spine.first, last=spine.last, rows=spine.rows)
    made = postgres_read.compile_statements(request, INDEXED if tables == "indexed" else STORED, spine)

    _check(f"postgres/{name}{'_indexed' if tables == 'indexed' else ''}", made.text)


@pytest.mark.parametrize("kind", [NewestRows, TouchedKeys, RowsOfKeys])
def test_the_text_of_a_read_of_a_view_s_own_rows_in_postgres(kind: type) -> None:
    chosen = RowFilter(latest=1_706_745_600_000_000, news_from=1_704_067_200_000_000, events_from=1_704_000_000_000_000)
    view = (windows() if kind is RowsOfKeys else latest()).view

    _check(f"postgres/{kind.__name__}", compile_rows(kind(view, chosen), STORED))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("carries_last", [True, False])
def test_the_text_of_each_plan_in_spark(name: str, carries_last: bool) -> None:
    request, spine = CASES[name]
    if not carries_last and "latest" not in name:
        pytest.skip("windows have the same plan on all engines")
    spine = replace(SMALL_IN_SPARK, first=spine.first, last=spine.last, rows=spine.rows)
    made = spark_read.compile_select(
        request, VIEWS_IN_SPARK, spine, capabilities=Capabilities(carries_last=carries_last)
    )  # fmt: skip

    _check(f"spark/{name}{'' if carries_last else '_fetched'}", made)


def test_the_text_of_a_hot_key_cut_by_day_in_spark() -> None:
    request, _ = CASES["latest_small_spine_ttl_delay"]
    made = spark_read.compile_select(request, VIEWS_IN_SPARK, SMALL_IN_SPARK, hot=frozenset(["latest"]))
    windowed, _ = CASES["windows"]

    _check("spark/latest_by_day", made)
    made = spark_read.compile_select(windowed, VIEWS_IN_SPARK, SMALL_IN_SPARK, hot=frozenset(["windows"]))
    _check("spark/windows_by_day", made)


@pytest.mark.parametrize("boundary", ["inclusive", "exclusive"])
def test_the_text_of_windows_of_two_states_in_spark(boundary: str) -> None:
    made = [Aggregation("price", each, name=each, window=Sliding("7d"), dtype=Float64) for each in ("max", "std")]
    view = FeatureView(
        "merged", source=ORDERS, entities=[Entity("user", ["user_id"])], schema=FIELDS, aggregations=made,
        boundary=boundary,  # type: ignore[arg-type]
    ).resolved(schema=FIELDS, aggregations=made)  # fmt: skip
    text = spark_read.compile_select(PointInTime((_read(view),)), VIEWS_IN_SPARK, SMALL_IN_SPARK)

    _check(f"spark/windows_merged_{boundary}", text)


@pytest.mark.parametrize("kind", [NewestRows, TouchedKeys, RowsOfKeys])
def test_the_text_of_a_read_of_a_view_s_own_rows_in_spark(kind: type) -> None:
    chosen = RowFilter(latest=1_706_745_600_000_000, news_from=1_704_067_200_000_000, events_from=1_704_000_000_000_000)
    view = (windows() if kind is RowsOfKeys else latest()).view

    _check(f"spark/{kind.__name__}", compile_spark_rows(kind(view, chosen), VIEWS_IN_SPARK))


def test_the_text_of_a_spine_made_of_a_time_range() -> None:
    request = PointInTime((latest(), windows()), start=1_704_067_200_000_000, end=1_706_745_600_000_000)

    _check("duckdb/range_spine", duckdb_read.range_spine(request, TABLES))
    _check("postgres/range_spine", postgres_read.range_spine(request, STORED))
    _check("spark/range_spine", spark_read.range_spine(request, VIEWS_IN_SPARK))


def _check(name: str, text: str) -> None:
    path = GOLDEN / f"{name}.sql"
    if os.environ.get("ASOF_WRITE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")
    assert text + "\n" == path.read_text(encoding="utf-8")
