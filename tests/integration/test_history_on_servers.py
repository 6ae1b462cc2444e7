"""History of every type is known again, whatever the archive is kept in; and a Postgres table as batch source."""

from __future__ import annotations

import math
import struct
from datetime import date
from decimal import Decimal as Number
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asof.definitions import Aggregation, Entity, FeatureView, Field, FileSource, PostgresSource, PushSource, project_of
from asof.errors import SourceError
from asof.flows.apply.apply import apply_plan
from asof.flows.apply.plan import make_plan
from asof.flows.batch.backfill import backfill
from asof.flows.batch.materialize import materialize
from asof.flows.offline.key_rows import view_as_of, whole_view
from asof.flows.stores import Stores
from asof.offline.postgres.engine import PostgresOffline
from asof.sources.postgres.reader import PostgresReader
from asof.testing.clock import NOW
from asof.timing import HOUR, moment
from asof.types import (
    Array,
    Bool,
    Bytes,
    Date,
    Decimal,
    Embedding,
    Float32,
    Float64,
    Int32,
    Int64,
    Json,
    String,
    Timestamp,
)  # fmt: skip
from tests.connections import OneServer
from tests.embedded_stores import close, embedded_stores, read_online

pytestmark = pytest.mark.integration

ITEM = Entity("item", ["item"])
NEGATIVE_NAN = struct.unpack("<d", struct.pack("<Q", 0xFFF8000000000001))[0]
VALUES: dict[str, tuple[Any, list[Any]]] = {
    "bool": (Bool, [True, False, None]),
    "small": (Int32, [-(2**31), 2**31 - 1, None]),
    "large": (Int64, [-(2**63), 2**63 - 1, None]),
    "single": (Float32, [math.nan, -0.0, None]),
    "double": (Float64, [NEGATIVE_NAN, -math.inf, 5e-324]),
    "exact": (Decimal(38, 9), [Number("-12345678901234567890123456789.123456789"), Number("0.1"), None]),
    "text": (String, ["", "a'\"\\ \u00e9\U0001f600", None]),
    "raw": (Bytes, [b"", b"\x00\xff", None]),
    "day": (Date, [date(1, 1, 1), date(9999, 12, 31), None]),
    "when": (Timestamp, [moment(NOW + 1), moment(-1), None]),
    "json": (Json, ['{"b": 1,  "a": [null, 1.50]}', "null", None]),
    "floats": (Array(Float64), [[NEGATIVE_NAN, math.inf, 0.1], [], None]),
    "times": (Array(Timestamp), [[moment(NOW), moment(1)], [], None]),
    "vector": (Embedding(2), [[0.1, math.nan], [1.0, -0.0], None]),
}


@pytest.fixture(params=["delta", "postgres"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    made = embedded_stores(tmp_path)
    if request.param == "postgres":
        made = made.replaced(offline=PostgresOffline(url=request.getfixturevalue("postgres_url")))
    yield made
    close(made)


def columns_of(values: dict[str, list[Any]], times: list[int]) -> pa.Table:
    fields = {name: dtype for name, (dtype, _) in VALUES.items()}
    columns = {name: pa.array(each, fields[name].arrow()) for name, each in values.items()}
    columns["item"] = pa.array([1] * len(times), pa.int64())
    return pa.table({**columns, "at": pa.array(times, pa.timestamp("us", "UTC"))})


def test_a_row_of_any_values_is_known_again(stores: Stores, tmp_path: Path) -> None:
    schema = [
        Field("item", Int64),
        *(Field(name, dtype) for name, (dtype, _) in VALUES.items()),
        Field("at", Timestamp),
    ]
    path = tmp_path / "old.parquet"
    times = [NOW - HOUR * place for place in range(3)]
    pq.write_table(columns_of({name: values for name, (_, values) in VALUES.items()}, times), path)
    source = PushSource("rows", schema, "at", batch_source=FileSource("old.parquet", timestamp_field="at"))
    view = FeatureView("newest", entities=[ITEM], source=source, schema=[Field("large", Int64)])
    apply_plan(stores, make_plan(stores, project_of([source, ITEM, view])))

    assert backfill(stores, "rows") == 0, "apply has loaded all of them"
    # One value after the other changes: each makes a row that was not there.
    for name, (_, values) in VALUES.items():
        others = {each: [made[1]] for each, (_, made) in VALUES.items()}
        others[name] = [values[2]]
        table = pa.concat_tables([pq.read_table(path), columns_of(others, [NOW - HOUR])])
        pq.write_table(table, path)
        assert (name, backfill(stores, "rows")) == (name, 1)
    assert backfill(stores, "rows") == 0


def test_text_that_the_archive_cannot_keep_is_refused_by_name(postgres_url: str, tmp_path: Path) -> None:
    stores = embedded_stores(tmp_path).replaced(offline=PostgresOffline(url=postgres_url))
    columns = {"item": [1], "text": ["a\0b"], "at": pa.array([NOW], pa.timestamp("us", "UTC"))}
    pq.write_table(pa.table(columns), tmp_path / "old.parquet")
    schema = [Field("item", Int64), Field("text", String), Field("at", Timestamp)]
    source = PushSource("rows", schema, "at", batch_source=FileSource("old.parquet", timestamp_field="at"))
    view = FeatureView("newest", entities=[ITEM], source=source, schema=[Field("text", String)])
    with pytest.raises(SourceError, match=r"batch source 'old', which source 'rows' loads, has text with a NUL"):
        apply_plan(stores, make_plan(stores, project_of([source, ITEM, view])))
    assert not list(stores.registry.load("shop").project)
    close(stores)


@pytest.mark.parametrize("offline", ["delta", "postgres"])
def test_a_table_whose_rows_move_gives_each_row_once(offline: str, postgres_url: str, tmp_path: Path) -> None:
    stores = embedded_stores(
        tmp_path, readers={"postgres": PostgresReader(tmp_path, connections=OneServer(postgres_url))}
    )
    if offline == "postgres":
        stores = stores.replaced(offline=PostgresOffline(url=postgres_url))
    source = PushSource(
        "rows", [Field("item", Int64), Field("price", Int64), Field("at", Timestamp)], "at",
        batch_source=PostgresSource("old", table="old", timestamp_field="happened", field_mapping={"cost": "price"}),
    )  # fmt: skip
    view = FeatureView("ever", entities=[ITEM], source=source, aggregations=[Aggregation("price", "sum", name="sum")])

    def agreed() -> Any:
        snapshot = stores.registry.load("shop")
        found = view_as_of(stores, snapshot, whole_view(snapshot.project.views["ever"]), {"item": [1]}, NOW)
        assert read_online(stores, "ever", {"item": [1]})["sum"] == found["sum"]
        return found["sum"][0]

    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE old (item int, cost int, happened timestamp)")
        insert = "INSERT INTO old VALUES (1, %s, %s)"
        times = [moment(NOW - place * HOUR).replace(tzinfo=None) for place in range(1, 6)]
        for time in times:
            connection.execute(insert, [10, time])
        apply_plan(stores, make_plan(stores, project_of([source, ITEM, view])))
        assert agreed() == 50
        # An update moves a row in the table, and a vacuum into the place of another one.
        connection.execute("UPDATE old SET cost = cost WHERE happened < %s", [times[1]])
        connection.execute("VACUUM FULL old")
        connection.execute(insert, [100, times[3]])
        connection.execute(insert, [10, times[0]])
        assert {each.loaded for each in materialize(stores)} == {2}
        assert agreed() == 160
        assert backfill(stores, "rows") == 0
    close(stores)
