"""Reads of sources beyond the memory limit: in partitions of the keys, with the same rows as in one go."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asof.definitions import Aggregation, Entity, FeatureView, Field, FileSource, Session, Sliding
from asof.dtypes import Bytes, Date, DType, Int32, Int64, String, Timestamp
from asof.offline.duckdb.engine import DuckDBEngine
from asof.offline.duckdb.results import DuckDBPointInTimeResult
from asof.selection import FeatureOut, ViewRead
from asof.sources.protocol import Files
from asof.sql.query import PointInTime
from asof.sql.source_rows import SpineTable
from asof.timing import DAY, HOUR, SECOND

TIMES = pa.timestamp("us", "UTC")
START = 1_600_000_000 * SECOND
CREATED = FileSource("rows.parquet", name="rows", timestamp_field="happened", created_timestamp_column="written")


@pytest.fixture(scope="module")
def whole() -> Iterator[DuckDBEngine]:
    engine = DuckDBEngine(threads=2, partitions=1)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def partitioned() -> Iterator[DuckDBEngine]:
    engine = DuckDBEngine(threads=2, partitions=4)
    yield engine
    engine.close()


def latest(*keys: Field, **options: Any) -> ViewRead:
    entities = [Entity(key.name, [key.name]) for key in keys]
    schema = [*keys, Field("amount", Int64), Field("page", String)]
    return read(FeatureView("latest", source=CREATED, entities=entities, schema=schema, **options), *keys)


def windows(*keys: Field, name: str = "windows") -> ViewRead:
    made = [
        Aggregation("", "count", name="n_1h", window=Sliding("1h")),
        Aggregation("amount", "sum", name="sum_1d", window=Sliding("1d"), where="page = 'x'"),
        Aggregation("amount", "max", name="max_1d", window=Sliding("1d")),
        Aggregation("page", "last", name="last_ever"),
        Aggregation("page", "count_distinct", name="pages", window=Sliding("1d")),
        Aggregation("amount", "sum", name="session_sum", window=Session("1h")),
    ]
    types = {"amount": Int64, "page": String, "": Int64}
    typed = [each.with_dtype(each.output_dtype(types[each.column])) for each in made]
    entities = [Entity(key.name, [key.name]) for key in keys]
    view = FeatureView(name, source=CREATED, entities=entities, schema=list(keys), aggregations=made)
    schema = [*keys, Field("amount", Int64), Field("page", String)]
    return read(view.resolved(schema=schema, aggregations=typed), *keys)


def sums(key: Field) -> ViewRead:
    made = [Aggregation("amount", "sum", name="sum_1d", window=Sliding("1d"), dtype=Int64)]
    view = FeatureView("sums", source=CREATED, entities=[Entity(key.name, [key.name])], schema=[key], aggregations=made)
    return read(view.resolved(schema=[key, Field("amount", Int64)], aggregations=made), key)


def read(view: FeatureView, *keys: Field) -> ViewRead:
    names = {key.name for key in keys}
    features = [each for each in view.features if each.name not in names]
    outputs = tuple(FeatureOut(each.name, f"{view.name}__{each.name}", each.dtype) for each in features)
    return ViewRead(view, tuple(key.name for key in keys), outputs)


def rows(rng: random.Random, count: int, **keys: tuple[list[Any], pa.DataType]) -> pa.Table:
    """Events whose first key has a tenth of them all; times, created times and values with ties and nulls."""
    columns = {
        name: pa.array([rng.choice([values[0], *values] if rng.random() < 0.1 else values) for _ in range(count)], kind)
        for name, (values, kind) in keys.items()
    }
    times = [START + rng.randrange(0, 3 * DAY, 5 * 60 * SECOND) for _ in range(count)]
    columns["happened"] = pa.array(times, TIMES)
    columns["written"] = pa.array([rng.choice((None, t, t + SECOND, t + HOUR)) for t in times], TIMES)
    columns["amount"] = pa.array([rng.choice((None, 1, 5, -3, 2**61)) for _ in times], pa.int64())
    columns["page"] = pa.array([rng.choice((None, "x", "y", "żółw")) for _ in times], pa.string())
    return pa.table(columns)


def spine(rng: random.Random, count: int, **keys: tuple[list[Any], pa.DataType]) -> pa.Table:
    columns = {
        name: pa.array([rng.choice(values) for _ in range(count)], kind) for name, (values, kind) in keys.items()
    }
    moments = [
        rng.choice((None, *[START + rng.randrange(0, 3 * DAY, 60 * SECOND) for _ in range(9)])) for _ in range(count)
    ]
    return pa.table({**columns, "event_timestamp": pa.array(moments, TIMES), "row": pa.array(range(count), pa.int32())})


NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
KEYS: dict[str, tuple[DType, tuple[list[Any], pa.DataType], tuple[list[Any], pa.DataType]]] = {
    # declared type; the source's values; the entity frame's.
    "narrow integers": (Int64, ([1, 2, 3, 4, 5, 6, None], pa.int8()), ([1, 2, 3, 4, 5, 77, None], pa.int64())),
    "wide integers": (Int32, ([1, 2, 3, 4, 5, -6, None], pa.int64()), ([1, 2, 3, 4, 5, 2**64 - 1, None], pa.uint64())),
    "integers in floats": (Int64, ([1.0, 2.0, 3.0, 4.0, None], pa.float64()), ([1, 2, 3, 4, 9, None], pa.int16())),
    "texts": (String, (["a", "b", "", "żółw" * 9, "c", None], pa.string()), (["a", "b", "", "żółw" * 9, "d"], pa.string())),
    "bytes": (Bytes, ([b"", b"a", b"\x00", b"\xff", None], pa.binary()), ([b"", b"a", b"\x00", b"b", None], pa.binary())),
    "decimals": (
        DType("Decimal", precision=9, scale=2),
        ([Decimal("1.50"), Decimal("2.00"), Decimal("-3.25"), None], pa.decimal128(9, 2)),
        ([Decimal("1.50"), Decimal("2.00"), Decimal("4.00"), None], pa.decimal128(9, 2)),
    ),
    "dates": (Date, ([date(2026, 1, day) for day in range(1, 9)], pa.date32()), ([date(2026, 1, day) for day in (1, 2, 3, 31)], pa.date32())),
    "times": (
        Timestamp,
        ([NOON.replace(hour=hour) for hour in range(8)], pa.timestamp("ms", "UTC")),
        ([NOON.replace(hour=hour) for hour in (0, 1, 2, 23)], pa.timestamp("us", "UTC")),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", KEYS)
def test_partitions_have_the_same_rows_as_one_go_for_every_type_of_key(
    whole: DuckDBEngine, partitioned: DuckDBEngine, kind: str
) -> None:
    rng = random.Random(kind)
    dtype, of_rows, of_spine = KEYS[kind]
    key = Field("key", dtype)
    given, frame = rows(rng, 400, key=of_rows), spine(rng, 150, key=of_spine)

    found = same_rows(whole, partitioned, PointInTime((latest(key), windows(key))), given, frame)

    assert found["latest__page"].null_count < found.num_rows and max(found["windows__n_1h"].drop_null().to_pylist()) > 0


@pytest.mark.parametrize(("form", "known_at"), [("table", None), ("file", True), ("sql", START + DAY)])
def test_partitions_have_the_same_rows_as_one_go_for_views_over_different_keys(
    whole: DuckDBEngine, partitioned: DuckDBEngine, tmp_path: Path, form: str, known_at: Any
) -> None:
    rng = random.Random(form)
    user, shop = Field("user", Int64), Field("shop", String)
    keys: dict[str, Any] = {
        "user": ([*range(20), None], pa.int32()),
        "shop": (["a", "b", "c", "d", None], pa.string()),
    }
    given, frame = rows(rng, 600, **keys), spine(rng, 300, **keys)
    query = PointInTime(
        (
            latest(user, ttl="1d", delay="5m"), windows(user), windows(shop, name="of_shops"),
            windows(shop, user, name="of_both"), windows(name="of_all"),
        ),
        known_at=known_at,
    )  # fmt: skip
    paths = [str(tmp_path / "rows.parquet"), str(tmp_path / "frame.parquet")]
    pq.write_table(given, paths[0])
    pq.write_table(frame, paths[1])
    frames = {"table": frame, "file": Files((paths[1],)), "sql": 'SELECT * FROM frame ORDER BY "row" DESC'}

    found = same_rows(whole, partitioned, query, Files((paths[0],)), frames[form], frame=frame)

    assert found.num_rows == frame.num_rows


def test_partitions_have_the_same_rows_as_one_go_without_an_entity_frame(
    whole: DuckDBEngine, partitioned: DuckDBEngine
) -> None:
    rng = random.Random(0)
    user = Field("user", Int64)
    given = rows(rng, 600, user=([*range(20), None], pa.int64()))
    query = PointInTime((latest(user), windows(user)), start=START + HOUR, end=START + DAY)

    expected = same_rows(whole, partitioned, query, given, None)

    result = partitioned.run(query, {"rows": given})
    assert isinstance(result, DuckDBPointInTimeResult) and expected.num_rows > 80
    # In several passes over the spine, and in small batches.
    assert replace(result, chunk_rows=50).reader(9).read_all().equals(expected)


def same_rows(
    whole: DuckDBEngine, partitioned: DuckDBEngine, query: PointInTime, given: Any, frame_given: Any, **others: Any
) -> pa.Table:
    """The rows of a read, which both engines return in the same order."""
    inputs = {"rows": given, **others}
    expected = whole.run(query, inputs, spine=frame_given).to_arrow()
    result = partitioned.run(query, inputs, spine=frame_given)
    assert "INSERT INTO" in result.text()
    assert result.to_arrow().equals(expected)
    return expected


RANGED: dict[str, tuple[DType, pa.DataType, list[Any]]] = {
    "integers": (Int64, pa.int32(), list(range(-200, 200))),
    "texts": (String, pa.string(), [f"it's {n:04} żółw" for n in range(400)]),
}


@pytest.mark.parametrize("kind", RANGED)
def test_partitions_of_a_file_sorted_by_its_key_are_ranges_with_the_same_rows(
    whole: DuckDBEngine, partitioned: DuckDBEngine, tmp_path: Path, kind: str
) -> None:
    rng = random.Random(kind)
    dtype, arrow, values = RANGED[kind]
    key, shop = Field("key", dtype), Field("shop", String)
    shops: dict[str, Any] = {"shop": (["a", "b", None], pa.string())}
    given = rows(rng, 4000, key=([*values, None], arrow), **shops).sort_by([("key", "ascending")])
    # Nulls, and keys before and behind all of the file's.
    others: list[Any] = [None, "", "zz"] if kind == "texts" else [None, -(2**31), 2**31 - 1]
    frame = spine(rng, 900, key=([*values, *others], arrow), **shops)
    query = PointInTime((latest(key), windows(key, shop)))
    found = {}
    for name, table in (("sorted", given), ("not", given.take(rng.sample(range(4000), 4000)))):
        path = str(tmp_path / f"{name}.parquet")
        pq.write_table(table, path, row_group_size=100)
        same_rows(whole, partitioned, query, Files((path,)), frame)
        found[name] = partitioned.run(query, {"rows": Files((path,))}, spine=frame).text()

    assert "hash(" not in found["sorted"] and "IS NOT FALSE" in found["sorted"]
    assert "hash(" in found["not"] and "IS NOT FALSE" not in found["not"]
    # All of it in one range: that partition would be as large as the whole.
    few = spine(rng, 900, key=(values[:50], arrow), **shops)
    same_rows(whole, partitioned, query, Files((str(tmp_path / "sorted.parquet"),)), few)
    assert "hash(" in partitioned.run(query, {"rows": Files((str(tmp_path / "sorted.parquet"),))}, spine=few).text()


def test_a_read_reports_each_step_of_each_partition_in_all_passes(partitioned: DuckDBEngine) -> None:
    user = Field("user", Int64)
    given = rows(random.Random(0), 100, user=(list(range(9)), pa.int64()))
    frame = spine(random.Random(0), 100, user=(list(range(9)), pa.int64()))
    result = partitioned.run(PointInTime((latest(user),)), {"rows": given}, spine=frame)
    assert isinstance(result, DuckDBPointInTimeResult)
    seen: list[tuple[int, int]] = []

    found = replace(result, chunk_rows=50).reporting(lambda done, total: seen.append((done, total))).to_arrow()

    # Two passes, each of two steps in four partitions, and of one that fetches the columns.
    assert found.equals(result.to_arrow())
    assert seen == [(done, 18) for done in (*range(10), *range(9, 19))]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """A file of 500,000 events of 1,000 keys, of which one has a tenth of them."""
    path = str(tmp_path_factory.mktemp("many") / "rows.parquet")
    number = np.arange(500_000)
    times = pa.array(START + number // 5 * SECOND).cast(TIMES)
    users = np.where(number % 10 == 0, 0, number % 1000)
    columns = {
        "user": users,
        "happened": times,
        "written": times,
        "amount": number,
        "page": pa.nulls(len(number), pa.string()),
    }
    pq.write_table(pa.table(columns), path, row_group_size=50_000)
    return Files((path,))


def test_rows_beyond_the_memory_limit_are_read_in_partitions_that_fit_it(many: Files) -> None:
    query = PointInTime((sums(Field("user", Int64)),))
    frame = spine(random.Random(0), 2000, user=(list(range(1000)), pa.int64()))
    bounded, roomy = (DuckDBEngine(threads=1, memory_limit=limit) for limit in ("35MB", "2GB"))

    result, at_once = (engine.run(query, {"rows": many}, spine=frame) for engine in (bounded, roomy))

    assert "INSERT INTO" in result.text() and "INSERT INTO" not in at_once.text()
    assert result.to_arrow().equals(at_once.to_arrow())


def test_long_texts_count_with_their_length(tmp_path: Path) -> None:
    frame = spine(random.Random(0), 100, user=(list(range(9)), pa.int64()))
    engine = DuckDBEngine(threads=1, memory_limit="100MB")
    number = np.arange(20_000)
    times = pa.array(START + number * SECOND).cast(TIMES)
    in_partitions = []
    for length in (5, 4000):
        page = pa.array([f"{each:0{length}}" for each in number])
        columns = {"user": number % 9, "happened": times, "written": times, "amount": number, "page": page}
        pq.write_table(pa.table(columns), tmp_path / "rows.parquet", row_group_size=1000)
        given = Files((str(tmp_path / "rows.parquet"),))

        text = engine.run(PointInTime((windows(Field("user", Int64)),)), {"rows": given}, spine=frame).text()

        in_partitions.append("INSERT INTO" in text)
    assert in_partitions == [False, True]


def test_of_a_source_much_larger_than_the_entity_frame_only_the_keys_of_the_frame_are_sorted(
    whole: DuckDBEngine, partitioned: DuckDBEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if the frame were too large to be looked up in any source.
    monkeypatch.setattr(SpineTable, "is_small", property(lambda self: False))
    rng, user, shop = random.Random(3), Field("user", Int64), Field("shop", String)
    keys: dict[str, Any] = {"user": (list(range(90)), pa.int32()), "shop": (["a", "b", "c", None], pa.string())}
    given = rows(rng, 3000, **keys)
    query = PointInTime((latest(user, shop), windows(user, shop, name="of_both"), windows(shop)))

    for count, is_looked_up in ((100, True), (200, False)):
        frame = spine(rng, count, **keys)
        assert (") IN (SELECT" in whole.run(query, {"rows": given}, spine=frame).text()) is is_looked_up
        same_rows(whole, partitioned, query, given, frame)


def test_rows_that_an_entity_frame_of_few_keys_leaves_out_take_no_partitions(many: Files) -> None:
    frame = spine(random.Random(0), 200, user=(list(range(5)), pa.int64()))
    engine = DuckDBEngine(threads=1, memory_limit="35MB")

    result = engine.run(PointInTime((sums(Field("user", Int64)),)), {"rows": many}, spine=frame)

    assert "INSERT INTO" not in result.text()
