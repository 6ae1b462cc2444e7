"""Postgres as an offline store: what only it can do, and failures in our words."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from decimal import Decimal as Number

import pyarrow as pa
import pytest

from asof.definitions import Entity, FeatureView, Field
from asof.dtypes import Array, Date, Decimal, DType, Int32, Int64, Json, String, Timestamp
from asof.errors import Interrupted, SourceError, StorageError
from asof.offline.postgres.engine import PostgresOffline
from asof.offline.protocol import Archive
from asof.sources.protocol import Relation
from asof.sql.query import PointInTime
from asof.testing.archive import clicks
from asof.testing.offline import EVENTS, NOON, reads, spine, view

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def shared(postgres) -> Iterator[PostgresOffline]:
    name = f"offline_{uuid.uuid4().hex}"
    store = PostgresOffline(url=postgres.create_database(name))
    yield store
    store.close()
    postgres.drop_database(name)


def latest(shared: PostgresOffline, table: str, *fields: Field, **options: object) -> list[object]:
    """The features of user 1 at noon, out of a table of the database."""
    made = view(*fields, **options)
    answer = shared.run(PointInTime(reads(made)), {"events": Relation(table)}, spine=spine((1, NOON)))
    return list(answer.reader().read_all().to_pylist()[0].values())[3:]


def execute(shared: PostgresOffline, *statements: str) -> None:
    with shared.database.connection("the test's tables") as connection:
        for statement in statements:
            connection.execute(statement)  # type: ignore[call-overload]


def test_types_that_only_postgres_has_are_read_as_ours(shared: PostgresOffline) -> None:
    execute(
        shared,
        'CREATE TABLE odd ("user" int2, happened timestamp(3), n numeric(12,2), many numeric[], id uuid, doc jsonb)',
        "INSERT INTO odd VALUES (1, '2020-09-13 12:26:39', 1.5, '{1.25,NULL}', "
        "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', '{\"a\": 1}'), (1, '-infinity', 9, NULL, NULL, NULL)",
    )
    fields = [Field("n", Decimal(12, 2)), Field("many", Array(Decimal(12, 2))), Field("id", String), Field("doc", Json)]

    assert latest(shared, "odd", *fields) == [
        Number("1.50"), [Number("1.25"), None], "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", '{"a": 1}',
    ]  # fmt: skip


def test_an_event_at_infinity_is_passed_over_and_a_value_there_is_an_error(shared: PostgresOffline) -> None:
    execute(
        shared, 'CREATE TABLE ends ("user" int8, happened timestamptz, until timestamptz)',
        "INSERT INTO ends VALUES (1, '-infinity', now()), (1, 'infinity', now())",
    )  # fmt: skip

    assert latest(shared, "ends", Field("until", Timestamp)) == [None]
    execute(shared, "INSERT INTO ends VALUES (1, '2020-01-01', 'infinity')", 'CREATE INDEX ON ends ("user", happened)')
    with pytest.raises(SourceError, match="column 'until' of source 'events' holds infinity, which is no Timestamp"):
        latest(shared, "ends", Field("until", Timestamp))


@pytest.mark.parametrize(
    ("dtype", "kind", "good", "odd"),
    [
        (Int32, "int8", "1", "1099511627776"), (Int64, "float8", "1", "1.5"),
        (Date, "date", "1970-01-02", "10000-01-01"), (Date, "date", "1970-01-02", "infinity"),
        (Timestamp, "timestamptz", "1970-01-01 00:00:00.000001+00", "0001-12-31 BC"),
        (Timestamp, "timestamp", "1970-01-01 00:00:00.000001", "10000-01-01"),
    ],
)  # fmt: skip
def test_a_key_that_does_not_fit_is_an_error_that_names_it(
    shared: PostgresOffline, dtype: DType, kind: str, good: str, odd: str
) -> None:
    table = f"keys_{uuid.uuid4().hex}"
    execute(
        shared, f'CREATE TABLE {table} ("user" {kind}, happened timestamptz, value int8)',
        f"INSERT INTO {table} VALUES ('{good}', '2020-01-01', 7)",
    )  # fmt: skip
    key = pa.array([1], pa.int32() if dtype.name == "Date" else pa.int64()).cast(dtype.arrow())
    frame = pa.table({"user": key, "event_timestamp": pa.array([NOON], pa.timestamp("us", "UTC"))})
    keyed = view(Field("value", Int64)).resolved(schema=(Field("user", dtype), Field("value", Int64)), aggregations=())

    def asked() -> list[object]:
        result = shared.run(PointInTime(reads(keyed)), {"events": Relation(table)}, spine=frame)
        return list(result.reader().read_all()["value"].to_pylist())

    assert asked() == [7]
    execute(shared, f"INSERT INTO {table} VALUES ('{odd}', '2020-01-01', 8)")
    with pytest.raises(SourceError, match=f"column 'user' of source 'events' holds .*, which is no {dtype}"):
        asked()


def test_a_key_longer_than_an_index_takes_is_found_and_told_from_its_like(shared: PostgresOffline) -> None:
    noise = "".join(random.Random(2).choice("abcdefghijklmnop0123456789") for _ in range(20_000))
    like = [f"{noise}a", f"{noise}b", "short"]
    rows = pa.table({"page": like, "happened": pa.array([NOON - 3, NOON - 2, NOON - 1], pa.timestamp("us", "UTC")),
                     "value": [1, 2, 3]})  # fmt: skip
    frame = pa.table({"page": [*like, noise, None], "event_timestamp": pa.array([NOON] * 5, pa.timestamp("us", "UTC"))})
    schema = [Field("page", String), Field("value", Int64)]
    made = FeatureView("view", source=EVENTS, entities=[Entity("page", ["page"])], schema=schema)

    answer = shared.run(PointInTime(reads(made)), {"events": rows}, spine=frame).reader().read_all()

    assert answer["value"].to_pylist() == [1, 2, 3, None, None]


def test_of_equal_moments_in_an_index_the_last_row_is_found_for_every_spine_row(shared: PostgresOffline) -> None:
    execute(
        shared, 'CREATE TABLE corrected ("user" int8, happened timestamptz, value int8)',
        "INSERT INTO corrected SELECT u, '2020-09-13 12:26:39', v * u FROM generate_series(1, 50) u, "
        "generate_series(1, 2 + u::int % 2 - (u % 5 = 0)::int) v",
        'CREATE INDEX ON corrected ("user", happened)',
    )  # fmt: skip
    users = [*range(50, 0, -1), 99, 7, 7]
    made = view(Field("value", Int64))

    answer = shared.run(
        PointInTime(reads(made)), {"events": Relation("corrected")}, spine=spine(*((u, NOON) for u in users))
    )

    last = [None if u == 99 else u * (2 + u % 2 - (u % 5 == 0)) for u in users]
    assert answer.reader().read_all()["value"].to_pylist() == last


def test_saved_tables_come_back_in_their_order_and_types(shared: PostgresOffline) -> None:
    table = pa.table(
        {
            "n": pa.array([3, None, 1], pa.uint8()), "at": pa.array([1, None, -3], pa.timestamp("ns", "UTC")),
            "kind": pa.array(["a", None, "a"]).dictionary_encode(), "x" * 80: pa.array([[1.5], None, []]),
            "d": pa.array([Number("1.25"), None, Number("-9.99")], pa.decimal128(38, 2)), "none": pa.nulls(3),
        }
    )  # fmt: skip
    shared.save_table("shop", "march", table.to_reader(max_chunksize=2))

    found = shared.load_table("shop", "march")
    assert found is not None and found.read_all().equals(table)

    def broken() -> Iterator[pa.RecordBatch]:
        yield table.to_batches()[0]
        raise StorageError("the source went away")

    with pytest.raises(StorageError, match="the source went away"):
        shared.save_table("shop", "march", pa.RecordBatchReader.from_batches(table.schema, broken()))
    found = shared.load_table("shop", "march")
    assert found is not None and found.read_all().equals(table)
    shared.drop_table("shop", "march")
    shared.drop_table("shop", "march")
    assert shared.load_table("shop", "march") is None


def test_a_key_that_no_index_can_hold_does_not_stop_its_log(shared: PostgresOffline) -> None:
    archive = Archive("shop", "long")
    rows = clicks(0, 0, 2, page="x")
    shared.create(archive, rows.schema, lookups=[["page", "ingested_at"]])
    assert shared.append(archive, rows, {0: 1}) == 2
    noise = "".join(random.Random(1).choice("abcdefghijklmnop0123456789") for _ in range(20_000))

    assert shared.append(archive, clicks(0, 2, 1, page=noise), {0: 2}) == 1
    assert shared.offsets(archive, [0]) == {0: 2}


def test_ctrl_c_cancels_the_statement_in_the_server(shared: PostgresOffline) -> None:
    threading.Timer(1.0, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    begun = time.monotonic()

    with pytest.raises((KeyboardInterrupt, Interrupted)):
        shared.sql("SELECT pg_sleep(20)::text AS s", {}).reader().read_all()

    assert time.monotonic() - begun < 15, "it did not wait for the server"
    with shared.database.connection("what runs") as connection:
        text = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep(20)%' AND pid <> pg_backend_pid()"
        for _ in range(50):
            (running,) = connection.execute(text).fetchone()
            if not running:
                break
            time.sleep(0.1)
    assert running == 0


def test_a_version_is_read_with_one_connection_and_is_empty_before_the_first_append(postgres_url: str) -> None:
    store = PostgresOffline(url=postgres_url, max_connections=1, connect_timeout_s=2)
    archive = Archive("shop", "narrow")
    store.create(archive, clicks(0, 0, 1).schema)
    empty = store.version(archive)
    store.append(archive, clicks(0, 0, 1), {0: 0})

    assert store.rows(archive, version=empty) is None
    assert store.rows(archive, version=store.version(archive)) is not None
    store.close()
