"""Tables, views and queries of a real PostgreSQL as sources: described, fetched exactly, and no more than is needed."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime
from decimal import Decimal as Number

import psycopg
import pyarrow as pa
import pytest
from psycopg.conninfo import conninfo_to_dict

from asof import Entity, FeatureView, Field, PostgresSource
from asof.dtypes import Array, Bool, Bytes, Date, Decimal, Float32, Float64, Int32, Int64, Json, String, Timestamp
from asof.errors import SourceError
from asof.offline.duckdb.engine import DuckDBOffline
from asof.selection import FeatureOut, ViewRead
from asof.sources.postgres.reader import PostgresReader, Scan
from asof.sources.protocol import ScanRequest
from asof.sql.query import PointInTime
from tests.connections import OneServer

pytestmark = pytest.mark.integration

US = pa.timestamp("us", "UTC")


@pytest.fixture
def reader(tmp_path, postgres_url):
    reader = PostgresReader(tmp_path, connections=OneServer(postgres_url))
    yield reader
    reader.close()


@pytest.fixture
def engine(tmp_path):
    return DuckDBOffline(tmp_path / "offline", threads=1)


@pytest.fixture
def execute(postgres_url):
    def run(text, *arguments):
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute(text, *arguments)

    return run


def everything(engine, reader, source, text):
    return engine.sql(text, {source.name: reader.scan(source, ScanRequest())}).reader().read_all()


TYPES = {
    "small": ("int2", "-7", Int32, -7),
    "whole": ("int4", "7", Int32, 7),
    "big": ("int8", "9223372036854775807", Int64, 2**63 - 1),
    "single": ("float4", "1.5", Float32, 1.5),
    "double": ("float8", "'nan'", Float64, float("nan")),
    "price": ("numeric(12,2)", "-1234567890.10", Decimal(12, 2), Number("-1234567890.10")),
    "exact": ("numeric", "12345678901234567890.123456789", Decimal(38, 9), Number("12345678901234567890.123456789")),
    "round": ("numeric(3,-2)", "12345", Decimal(5, 0), Number("12300")),
    "tiny": ("numeric(2,4)", "0.0012", Decimal(4, 4), Number("0.0012")),
    "words": ("text", "'Łódź'", String, "Łódź"),
    "short": ("varchar(9)", "'x '", String, "x "),
    "padded": ("char(5)", "'ab'", String, "ab"),
    "yes": ("bool", "true", Bool, True),
    "raw": ("bytea", "'\\x00ff'", Bytes, b"\x00\xff"),
    "day": ("date", "'0001-01-02'", Date, date(1, 1, 2)),
    "aware": ("timestamptz", "'2026-01-01 00:00:00.000001+02'", Timestamp, datetime(2025, 12, 31, 22, 0, 0, 1, tzinfo=UTC)),
    "naive": ("timestamp", "'2026-01-01 00:00:00.000001'", Timestamp, datetime(2026, 1, 1, 0, 0, 0, 1)),
    "doc": ("jsonb", """'{"a": [1, null]}'""", Json, '{"a": [1, null]}'),
    "text_doc": ("json", """'{"a":1}'""", Json, '{"a":1}'),
    "id": ("uuid", "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", String, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
    "mood": ("mood", "'ok'", String, "ok"),
    "positive": ("positive", "5", Int32, 5),
    "numbers": ("int8[]", "'{1,null,3}'", Array(Int64), [1, None, 3]),
    "names": ("text[]", "'{a,\"\"}'", Array(String), ["a", ""]),
    "prices": ("numeric(9,2)[]", "'{1.50}'", Array(Decimal(9, 2)), [Number("1.50")]),
    "moods": ("mood[]", "'{ok,sad}'", Array(String), ["ok", "sad"]),
    "moments": ("timestamptz[]", "'{2026-01-01 00:00+00}'", Array(Timestamp), [datetime(2026, 1, 1, tzinfo=UTC)]),
}  # fmt: skip


@pytest.fixture
def all_types(execute):
    execute("CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN positive AS int CHECK (value > 0)")
    columns = ", ".join(f"{name} {kind}" for name, (kind, *_) in TYPES.items())
    execute(f"CREATE TABLE kinds ({columns}, span interval, place point)")
    values = ", ".join(text for _, text, *_ in TYPES.values())
    execute(f"INSERT INTO kinds VALUES ({values}, '1 day', '(1,2)')")
    execute("INSERT INTO kinds DEFAULT VALUES")
    return PostgresSource(table="kinds", timestamp_field="aware")


def test_every_type_is_described_as_ours_and_what_has_none_by_its_name(reader, all_types):
    described = {column.name: column for column in reader.describe(all_types)}

    assert {name: described[name].dtype for name in TYPES} == {name: row[2] for name, row in TYPES.items()}
    assert described["price"].arrow == "numeric(12,2)"
    assert described["numbers"].arrow == "bigint[]"
    assert (described["span"].dtype, described["span"].arrow) == (None, "interval")
    assert (described["place"].dtype, described["place"].arrow) == (None, "point")


def test_every_type_comes_exactly_and_null_stays_null(reader, engine, all_types, postgres_url, execute):
    # Whatever the session's zone is, a naive timestamp stays as it was written.
    execute(f"ALTER DATABASE \"{conninfo_to_dict(postgres_url)['dbname']}\" SET TimeZone = 'Asia/Tokyo'")

    row, empty = everything(engine, reader, all_types, "SELECT * FROM kinds").to_pylist()

    nan = row.pop("double")
    assert nan != nan
    assert row == {name: value for name, (*_, value) in TYPES.items() if name != "double"}
    assert set(empty.values()) == {None}


@pytest.mark.parametrize(
    ("kind", "value", "shown"),
    [
        ("timestamptz", "'infinity'", "infinity"),
        ("timestamp", "'-infinity'", "-infinity"),
        ("timestamptz", "'294260-01-01 00:00+00'", "294260"),
        ("date", "'infinity'", "infinity"),
        ("int4[]", "'{{1,2},{3,4}}'", "{{1,2},{3,4}}"),
        ("timestamptz[]", "'{infinity}'", "{infinity}"),
        ("numeric", "'NaN'", "NaN"),
        ("numeric", "0.1234567891", "0.1234567891"),
    ],
)
def test_a_value_that_no_type_of_ours_can_hold_is_an_error_and_never_bent(reader, engine, execute, kind, value, shown):
    execute(f"CREATE TABLE odd (at timestamptz, value {kind}); INSERT INTO odd VALUES (now(), {value})")
    source = PostgresSource(table="odd", timestamp_field="at")

    with pytest.raises(SourceError) as caught:
        everything(engine, reader, source, "SELECT * FROM odd")

    assert "source 'odd'" in caught.value.message
    assert "column 'value'" in caught.value.message
    assert shown in caught.value.message
    assert "query=" in caught.value.hint


def test_an_odd_value_in_a_column_that_is_not_asked_for_does_no_harm(reader, engine, execute):
    execute(
        "CREATE TABLE odd (id int, at timestamptz, ends timestamptz); INSERT INTO odd VALUES (1, now(), 'infinity')"
    )
    source = PostgresSource(table="odd", timestamp_field="at")

    assert everything(engine, reader, source, "SELECT o.id FROM odd o WHERE o.at IS NOT NULL").to_pylist() == [
        {"id": 1}
    ]


def test_a_numeric_without_precision_takes_the_type_that_the_source_declares(reader, engine, execute):
    execute("CREATE TABLE sums (at timestamptz, mean numeric, big numeric)")
    execute("INSERT INTO sums VALUES (now(), 1 / 3.0, 12345678901234567890123456789012345678)")
    schema = [Field("at", Timestamp), Field("mean", Float64), Field("big", Decimal(38, 0))]
    source = PostgresSource(table="sums", timestamp_field="at", schema=schema)

    (row,) = everything(engine, reader, source, "SELECT mean, big FROM sums").to_pylist()

    assert row == {"mean": 1 / 3, "big": Number("12345678901234567890123456789012345678")}


# ---- What is fetched ----


@pytest.fixture
def statements(reader, monkeypatch):
    """The SELECTs that fetch rows."""
    sent = []
    original = Scan.text

    def text(self, need, columns):
        sent.append(original(self, need, columns))
        return sent[-1]

    monkeypatch.setattr(Scan, "text", text)
    return sent


USER = Entity("user", join_keys=["user_id"])


def view(source, *fields, keys=None, **options):
    made = FeatureView(
        source.name, source=source, entities=[USER], schema=[keys or Field("user_id", Int64), *fields], **options
    )
    return ViewRead(made, ("user_id",), tuple(FeatureOut(f.name, f.name, f.dtype, f.default) for f in fields))


def moment(hour):
    return datetime(2026, 1, 1, hour, tzinfo=UTC)


@pytest.fixture
def orders(execute):
    execute("CREATE TABLE orders (user_id int8, at timestamptz, amount int8, note text)")
    execute(
        "INSERT INTO orders SELECT user_id, timestamptz '2026-01-01 00:00+00' + hour * interval '1 hour', hour, 'x' "
        "FROM generate_series(1, 50) user_id, generate_series(0, 23) hour"
    )
    return PostgresSource(table="orders", timestamp_field="at")


def test_only_the_columns_times_and_keys_of_a_small_frame_are_fetched(reader, engine, orders, statements):
    read = view(orders, Field("amount", Int64), ttl="2h")
    frame = pa.table(
        {"user_id": pa.array([7, 8], pa.int64()), "event_timestamp": pa.array([moment(12), moment(3)], US)}
    )

    result = engine.run(PointInTime((read,)), {"orders": reader.scan(orders, ScanRequest())}, spine=frame)

    assert result.reader().read_all()["amount"].to_pylist() == [12, 3]
    (text,) = statements
    assert "note" not in text
    assert "2026-01-01T01:00:00" in text and "2026-01-01T12:00:00" in text
    assert "{7,8}" in text.replace(" ", "").replace("'", "")


def test_keys_that_are_no_plain_words_are_only_values(reader, engine, execute):
    names = ["O'Hara", 'say "hi"', "a\\b", "{x,y}", "--", "NULL", "", "Łódź", "a\0b"]
    execute("CREATE TABLE people (user_id text, at timestamptz, n int8)")
    for n, name in enumerate(names[:-1]):
        execute("INSERT INTO people VALUES (%s, '2026-01-01 00:00+00', %s)", [name, n])
    source = PostgresSource(table="people", timestamp_field="at")
    read = view(source, Field("n", Int64), keys=Field("user_id", String))
    frame = pa.table({"user_id": names, "event_timestamp": pa.array([moment(1)] * len(names), US)})

    result = engine.run(PointInTime((read,)), {"people": reader.scan(source, ScanRequest())}, spine=frame)

    assert result.reader().read_all()["n"].to_pylist() == [*range(len(names) - 1), None]


@pytest.mark.parametrize("kind", ["int2", "int4", "uuid", "varchar(40)", "char(40)", "numeric(5,0)"])
def test_keys_of_every_type_meet_those_of_the_frame(reader, engine, execute, kind):
    execute(f"CREATE TABLE people (user_id {kind}, at timestamptz, n int8)")
    is_text = kind in ("uuid", "varchar(40)", "char(40)")
    key = str(uuid.UUID(int=5)) if is_text else 5
    execute("INSERT INTO people VALUES (%s, '2026-01-01 00:00+00', 1)", [key])
    source = PostgresSource(table="people", timestamp_field="at")
    others = ["no uuid"] if is_text else [3_000_000_000]
    dtype = String if is_text else Int64
    read = view(source, Field("n", Int64), keys=Field("user_id", dtype))
    frame = pa.table(
        {"user_id": pa.array([key, *others], dtype.arrow()), "event_timestamp": pa.array([moment(1)] * 2, US)}
    )

    result = engine.run(PointInTime((read,)), {"people": reader.scan(source, ScanRequest())}, spine=frame)

    assert result.reader().read_all()["n"].to_pylist() == [1, None]


@pytest.mark.parametrize(
    ("kind", "unit", "value"),
    [
        ("timestamp", None, "'2026-01-01 05:00:00'"),
        ("timestamptz", None, "'2026-01-01 07:00:00+02'"),
        ("date", None, "'2026-01-01'"),
        ("int8", "s", "1767243600"),
        ("int8", "ms", "1767243600000"),
        ("int4", "s", "1767243600"),
        ("int8", "ns", "1767243600000000000"),
    ],
)
def test_event_times_of_every_kind_are_cut_to_the_frames_range(reader, engine, execute, statements, kind, unit, value):
    execute(f"CREATE TABLE facts (user_id int8, at {kind}, n int8)")
    execute(f"INSERT INTO facts VALUES (1, {value}, 1)")
    source = PostgresSource(table="facts", timestamp_field="at", timestamp_unit=unit)
    read = view(source, Field("n", Int64), ttl="5h")
    times = [moment(5), moment(10)] if kind != "date" else [moment(0), moment(5)]
    frame = pa.table({"user_id": pa.array([1, 1], pa.int64()), "event_timestamp": pa.array(times, US)})

    result = engine.run(PointInTime((read,)), {"facts": reader.scan(source, ScanRequest())}, spine=frame)

    assert result.reader().read_all()["n"].to_pylist() == [1, 1]
    assert '"at" >= ' in statements[0] and '"at" <= ' in statements[0]


def test_all_sources_of_a_read_are_seen_as_of_one_moment(reader, engine, execute, monkeypatch):
    execute("CREATE TABLE a (id int8, at timestamptz); CREATE TABLE b (id int8, at timestamptz)")
    sources = [PostgresSource(table=name, timestamp_field="at") for name in "ab"]
    inputs = {source.name: reader.scan(source, ScanRequest()) for source in sources}
    fetched = Scan.fetched

    def then_write(self, *arguments):
        yield from fetched(self, *arguments)
        execute("INSERT INTO a VALUES (1, now()); INSERT INTO b VALUES (1, now())")

    monkeypatch.setattr(Scan, "fetched", then_write)

    found = (
        engine.sql("SELECT (SELECT count(*) FROM a) AS a, (SELECT count(*) FROM b) AS b", inputs).reader().read_all()
    )

    assert found.to_pylist() == [{"a": 0, "b": 0}]


def test_of_rows_that_nothing_orders_the_greatest_by_column_order_wins(reader, engine, execute):
    execute("CREATE TABLE ties (user_id int8, at timestamptz, a int8, b text)")
    execute(
        "INSERT INTO ties SELECT 1, '2026-01-01 00:00+00', a, b FROM (VALUES (1, 'z'), (2, 'a'), (2, 'b')) v (a, b)"
    )
    source = PostgresSource(table="ties", timestamp_field="at")
    read = view(source, Field("a", Int64), Field("b", String))
    frame = pa.table({"user_id": pa.array([1], pa.int64()), "event_timestamp": pa.array([moment(1)], US)})

    result = engine.run(PointInTime((read,)), {"ties": reader.scan(source, ScanRequest())}, spine=frame)

    assert result.reader().read_all().select(["a", "b"]).to_pylist() == [{"a": 2, "b": "b"}]


def test_a_table_is_named_in_full_for_engines_that_search_other_schemas(tmp_path, postgres_url, execute):
    execute('CREATE SCHEMA "Sales"; CREATE TABLE "Sales".orders (user_id int8, at timestamptz)')
    reader = PostgresReader(tmp_path, connections=OneServer(postgres_url, schema="Sales"))

    scanned = reader.scan(PostgresSource(table="orders", timestamp_field="at"), ScanRequest())

    assert scanned.relation == '"Sales"."orders"'
    reader.close()


@pytest.mark.parametrize("given", [{"table": "orders"}, {"query": "SELECT * FROM orders"}], ids=["table", "query"])
def test_sources_of_two_schemas_in_one_read_see_each_its_own_table(tmp_path, postgres_url, execute, engine, given):
    inputs, readers = {}, []
    for schema in ("east", "west"):
        execute(f"CREATE SCHEMA {schema}; CREATE TABLE {schema}.orders (place text, at timestamptz)")
        execute(f"INSERT INTO {schema}.orders VALUES ('{schema}', '2026-01-01 00:00+00')")
        readers.append(PostgresReader(tmp_path, connections=OneServer(postgres_url, schema=schema)))
        inputs[schema] = readers[-1].scan(PostgresSource(name=schema, timestamp_field="at", **given), ScanRequest())

    found = engine.sql("SELECT e.place AS e, w.place AS w FROM east e, west w", inputs).reader().read_all()

    assert found.to_pylist() == [{"e": "east", "w": "west"}]
    for each in readers:
        each.close()
