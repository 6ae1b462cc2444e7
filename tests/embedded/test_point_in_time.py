"""Historical reads on DuckDB against the brute-force oracle, on generated histories full of ties and edges."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asof.definitions import Aggregation, Entity, FeatureView, Field, FileSource, PushSource, Session, Sliding
from asof.dtypes import Float64, Int64, String, Timestamp
from asof.expressions import parse
from asof.offline.duckdb.engine import DuckDBEngine
from asof.planning.sources import copy_of
from asof.selection import FeatureOut, ViewRead
from asof.sources.protocol import Files
from asof.sql.query import PointInTime
from asof.testing.evaluator import evaluate
from asof.timing import SECOND
from tests.oracle import Row, arrival_by_columns, features_as_of, numbered, remembering, same

MODEST = settings(
    max_examples=2, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

SCHEMA = {"user": Int64, "shop": String, "amount": Int64, "price": Float64, "page": String}
FIELDS = [Field(name, dtype) for name, dtype in SCHEMA.items()]
USER, SHOP = Entity("user"), Entity("shop")
START = 1_600_000_000 * SECOND
TIMES = pa.timestamp("us", "UTC")
"""Few distinct moments, whole seconds and their neighbours, so that ties and boundaries are hit all the time."""


@pytest.fixture(scope="module", params=[0, 3], ids=["in one go", "in partitions"])
def engine(request: pytest.FixtureRequest) -> Iterator[DuckDBEngine]:
    engine = DuckDBEngine(threads=2, partitions=request.param)
    yield engine
    engine.close()


def events(rng: random.Random, count: int = 120) -> list[dict[str, Any]]:
    rows = []
    for arrival in range(count):
        moment = START + rng.choice((0, 1, 2, 3, 5, 8, 9, 10, 20, 21, 40, 60)) * SECOND + rng.choice((0, 0, 0, 1, -1))
        rows.append(
            {
                "user": rng.choice((1, 1, 1, 2, 2, 3, None)),
                "shop": rng.choice(("a", "a", "b", None)),
                "amount": rng.choice((None, 0, 1, -3, 7, 2**62, 2**62, -(2**63))),
                "price": rng.choice((None, 0.0, 1.5, -2.25, 1e9, math.nan, math.inf, 0.1)),
                "page": rng.choice((None, "x", "y", "żółw", "Z")),
                "event_time": None if rng.random() < 0.03 else moment,
                "created": rng.choice((None, moment, moment, moment + SECOND, moment + 7 * SECOND, moment - SECOND)),
                "arrival": arrival,
            }
        )
    return rows


def spine_rows(rng: random.Random, count: int = 90) -> list[dict[str, Any]]:
    return [
        {
            "user": rng.choice((1, 1, 2, 3, 4, None)),
            "shop": rng.choice(("a", "b", "c", None)),
            "t": rng.choice(
                (None, *[START + rng.randrange(-5, 80) * SECOND + rng.choice((0, 0, 1, -1)) for _ in range(12)])
            ),
            "label": number,
        }
        for number in range(count)
    ]


def table_of(rows: list[dict[str, Any]]) -> pa.Table:
    columns = {name: pa.array([row[name] for row in rows], dtype.arrow()) for name, dtype in SCHEMA.items()}
    columns["happened"] = pa.array([row["event_time"] for row in rows], TIMES)
    columns["written"] = pa.array([row["created"] for row in rows], TIMES)
    return pa.table(columns)


def frame_of(spine: list[dict[str, Any]]) -> pa.Table:
    return pa.table(
        {
            "label": pa.array([row["label"] for row in spine], pa.int16()),
            "user": pa.array([row["user"] for row in spine], pa.int32()),
            "event_timestamp": pa.array([row["t"] for row in spine], TIMES),
            "shop": pa.array([row["shop"] for row in spine]),
        }
    )


def source(**options: Any) -> FileSource:
    return FileSource("rows.parquet", name="rows", timestamp_field="happened", schema=None, **options)


def with_created() -> FileSource:
    return source(created_timestamp_column="written")


def latest_view(name: str, entities: list[Entity], **options: Any) -> FeatureView:
    return FeatureView(
        name, source=options.pop("source", None) or with_created(), entities=entities, schema=FIELDS, **options
    )


def aggregated_view(name: str, aggregations: list[Aggregation], entities: list[Entity], **options: Any) -> FeatureView:
    view = FeatureView(
        name, source=options.pop("source", None) or with_created(), entities=entities, schema=FIELDS,
        aggregations=aggregations, **options,
    )  # fmt: skip
    typed = [
        each.with_dtype(each.output_dtype(SCHEMA.get(each.column, Int64) if each.column else None))
        for each in aggregations
    ]
    return view.resolved(schema=FIELDS, aggregations=typed)


def every_function(window: Any) -> list[Aggregation]:
    made = [Aggregation("", "count", name="rows", window=window)]
    for column in ("amount", "price"):
        made += [Aggregation(column, f, name=f"{f}_{column}", window=window) for f in ("sum", "mean", "std", "var")]
    for column in ("amount", "price", "page"):
        for function in ("count", "min", "max", "first", "last", "count_distinct"):
            made.append(Aggregation(column, function, name=f"{function}_{column}", window=window))
        made.append(Aggregation(column, "last_n", name=f"last_n_{column}", n=3, window=window))
    made.append(Aggregation("amount", "sum", name="sum_where", window=window, where="page = 'x' OR price > 1"))
    made.append(Aggregation("", "count", name="count_where", window=window, where="page <> 'x'"))
    made.append(Aggregation("amount * 2 + 1", "max", name="max_expression", window=window, dtype=Int64))
    return made


def by_language(text: str, row: Row) -> Any:
    return evaluate(parse(text), row, schema=SCHEMA)


def reads_of(views: list[FeatureView]) -> tuple[ViewRead, ...]:
    return tuple(
        ViewRead(
            view, view.join_keys,
            tuple(
                FeatureOut(each.name, f"{view.name}__{each.name}", each.dtype, each.default)
                for each in view.features
            ),
        )
        for view in views
    )  # fmt: skip


def compare(
    engine: DuckDBEngine,
    views: list[FeatureView],
    rows: list[dict[str, Any]],
    spine: list[dict[str, Any]],
    given_rows: Any,
    **options: Any,
) -> None:
    request = PointInTime(reads_of(views), **options)
    result = engine.run(request, {views[0].source.name: given_rows}, spine=frame_of(spine))
    answer = replace(result, chunk_rows=options.pop("chunk_rows", 0) or 37).to_arrow()

    assert answer.select(frame_of(spine).schema.names).equals(frame_of(spine))
    history, all_found, evaluated = numbered(rows), answer.to_pylist(), remembering(by_language)
    for view in views:
        for number, (row, found) in enumerate(zip(spine, all_found, strict=True)):
            expected = features_as_of(
                history, view, [row[key] for key in view.join_keys], row["t"],
                known_at=options.get("known_at"), evaluate=evaluated,
            )  # fmt: skip
            for name, value in expected.items():
                assert same(value, found[f"{view.name}__{name}"]), (view.name, name, number, row, value, found)


def files_of(path: Any, rows: list[dict[str, Any]]) -> Files:
    """The rows in two files whose names sort the other way round: arrival follows the order of the paths."""
    middle = len(rows) // 2
    first, second = path / "z.parquet", path / "a.parquet"
    pq.write_table(table_of(rows[:middle]), first, row_group_size=16)
    pq.write_table(table_of(rows[middle:]), second)
    return Files((str(first), str(second)))


def views_of_every_kind() -> list[FeatureView]:
    return [
        latest_view("forever", [USER]),
        latest_view("ttl", [USER], ttl="10s"),
        latest_view("late", [USER], ttl="5s", delay="2s"),
        latest_view("both", [USER, SHOP]),
        latest_view("all", []),
        aggregated_view("sliding", every_function(Sliding("10s", "2s")), [USER]),
        aggregated_view("second", every_function(Sliding("1s")), [USER, SHOP]),
        aggregated_view("session", every_function(Session("2s")), [USER]),
        aggregated_view("ever", every_function(None), [USER]),
        aggregated_view(
            "exclusive",
            [*every_function(Sliding("5s", "1s")), Aggregation("", "count", name="s", window=Session("1s"))],
            [USER],
            boundary="exclusive", delay="1s",
        ),
        aggregated_view("exclusive_session", every_function(Session("5s")), [SHOP], boundary="exclusive"),
        aggregated_view("whole", every_function(Session("1s")), []),
    ]  # fmt: skip


def some_views(rng: random.Random) -> list[FeatureView]:
    """Few of the kinds, with few of the functions: many seeds see them all, and one is fast."""
    views = rng.sample(views_of_every_kind(), 3)
    if rng.random() < 0.5:
        # With such few moments a key comes back at, before and after the moment of its end all the time.
        mortal = source(created_timestamp_column="written", delete_when="page = 'y' OR amount > 6")
        views = [copy_of(view, source=mortal) for view in views]
    return [
        view.resolved(schema=FIELDS, aggregations=rng.sample(view.aggregations, min(8, len(view.aggregations))))
        for view in views
    ]


def check_against_the_oracle(
    engine: DuckDBEngine, path: Any, seed: int, views: list[FeatureView] | None = None
) -> None:
    rng = random.Random(seed)
    rows, spine = events(rng, 90), spine_rows(rng, 60)

    compare(engine, views or some_views(rng), rows, spine, files_of(path, rows))


def check_what_was_known(engine: DuckDBEngine, path: Any, seed: int, views: list[FeatureView] | None = None) -> None:
    rng = random.Random(seed)
    rows, spine = events(rng, 60), spine_rows(rng, 37)
    files = files_of(path, rows)

    compare(engine, views or some_views(rng), rows, spine, files, known_at=True)
    compare(engine, views or some_views(rng), rows, spine, files, known_at=START + rng.randrange(-5, 70) * SECOND)


@MODEST
@given(seed=st.integers(0, 2**32))
def test_every_view_answers_like_the_oracle(engine: DuckDBEngine, tmp_path_factory: Any, seed: int) -> None:
    check_against_the_oracle(engine, tmp_path_factory.mktemp("rows"), seed)


@MODEST
@given(seed=st.integers(0, 2**32))
def test_only_what_was_known_counts(engine: DuckDBEngine, tmp_path_factory: Any, seed: int) -> None:
    check_what_was_known(engine, tmp_path_factory.mktemp("rows"), seed)


def archived(rng: random.Random, rows: list[dict[str, Any]]) -> tuple[pa.Table, list[dict[str, Any]]]:
    """The rows as an archive has them, and with their arrival for the oracle.

    Of backfilled history, of two topics and their replayed letters; some pushes have stamps, of two hosts whose clocks
    differ, and some letters the place that they had before.
    """
    placed = []
    for number, row in enumerate(rows):
        topic = rng.choice([None, 0, 0, 1])
        partition = -1 if topic is None else topic * 1_000_000 + rng.choice([0, 1, 500_000])
        place: dict[str, Any] = {"partition": partition, "offset": number, "stamp": None, "origin": (None, None)}
        if topic is not None and rng.random() < 0.6:
            place["stamp"] = START + rng.randrange(3)
        if topic is not None and partition % 1_000_000 >= 500_000 and rng.random() < 0.7:
            place["origin"] = (rng.randrange(topic + 1) * 1_000_000 + rng.randrange(2), 100 + number)
        ingested = START + number * SECOND
        placed.append({**row, **place, "ingested": ingested, "tombstone": number % 7 == 3 or None})
    table = table_of(placed)
    for name, values in (
        ("partition", pa.array([row["partition"] for row in placed], pa.int32())),
        ("offset", pa.array([row["offset"] for row in placed], pa.int64())),
        ("tombstone", pa.array([row["tombstone"] for row in placed], pa.bool_())),
        ("ingested_at", pa.array([row["ingested"] for row in placed], TIMES)),
        ("asof_pushed_at", pa.array([row["stamp"] for row in placed], pa.int64())),
        ("asof_origin_partition", pa.array([row["origin"][0] for row in placed], pa.int32())),
        ("asof_origin_offset", pa.array([row["origin"][1] for row in placed], pa.int64())),
    ):
        table = table.append_column(name, values)
    return table, [{**row, "arrival": arrival_of(row), "created": None} for row in placed]


def arrival_of(row: dict[str, Any]) -> tuple[int, ...]:
    """History, then by topic, then what has no stamp, then by what the design says of each."""
    partition, offset = row["origin"] if row["origin"][0] is not None else (row["partition"], row["offset"])
    topic = -1 if partition == -1 else partition // 1_000_000
    if row["stamp"] is None:
        return topic, 0, offset, partition
    return topic, row["stamp"], partition, offset


def pushes(**options: Any) -> PushSource:
    schema = [*FIELDS, Field("happened", Timestamp), Field("written", Timestamp)]
    return PushSource("rows", schema, "happened", **options)


ARCHIVES = ["plain", "known", "seen", "stream_from", "mortal", "earlier", "by_offsets", "offsets", "stamps"]


def check_archive(engine: Any, kind: str, seed: int, stored: Callable[[pa.Table], Any]) -> None:
    """Reads over an archive's rows answer as the oracle does.

    Args:
        kind: one of `ARCHIVES`.
        stored: makes rows visible to the engine.
    """
    rng = random.Random(seed)
    table, rows = archived(rng, events(rng, 90))
    spine = spine_rows(rng, 60)
    options: dict[str, Any] = {}
    log = pushes()
    if kind == "mortal":
        log = copy_of(pushes(delete_when="amount = 7"), has_tombstones=True)
    else:
        rows = [{**row, "tombstone": None} for row in rows]
    if kind == "seen":
        last = {0: 12, 1: 20}
        options["seen"] = {"rows": last}
        rows = [row for row in rows if row["partition"] == -1 or row["offset"] <= last.get(row["partition"], -1)]
    if kind == "earlier":
        # As an earlier version archived them, which knew of no stamps and kept no origins.
        table = table.select([name for name in table.column_names if not name.startswith("asof_")])
        rows = [{**row, "stamp": None, "origin": (None, None)} for row in rows]
        rows = [{**row, "arrival": arrival_of(row)} for row in rows]
    if kind in ("offsets", "stamps"):
        # The short ways, of archives of one topic of which no row was replayed.
        kept = [row["partition"] in (0, 1) and (row["stamp"] is None) == (kind == "offsets") for row in rows]
        table, rows = table.filter(pa.array(kept)), [row for row, keep in zip(rows, kept, strict=True) if keep]
    if kind == "by_offsets":
        options["by_offsets"] = True
        rows = [{**row, "arrival": (row["offset"], row["partition"])} for row in rows]
    if kind == "stream_from":
        begins = START + 9 * SECOND
        history = FileSource("history.parquet", timestamp_field="happened", schema=log.schema)
        log = pushes(batch_source=history, stream_from="2020-09-13T12:26:49Z")
        rows = [
            row
            for row in rows
            if row["event_time"] is not None and (row["partition"] == -1) == (row["event_time"] < begins)
        ]
    views = [
        latest_view("latest", [USER], source=log, ttl="20s"),
        aggregated_view(
            "counts",
            [
                Aggregation("amount", "last", name="l"), Aggregation("amount", "first", name="f"),
                Aggregation("page", "last_n", name="n", n=4),
            ],
            [USER],
            source=log,
        ),
        aggregated_view("session", [Aggregation("page", "count", name="c", window=Session("2s"))], [SHOP], source=log),
    ]  # fmt: skip
    if kind == "known":
        compare_known_archive(engine, views, rows, spine, stored(table))
        return
    given = stored(table)
    if kind in ("offsets", "stamps"):
        given = replace(given, order=kind)
        compare_known_archive(engine, views, rows, spine, given)
    compare(engine, views, rows, spine, given, **options)


@pytest.mark.parametrize("seed", [7, 8])
@pytest.mark.parametrize("kind", ARCHIVES)
def test_archives_are_ordered_by_arrival(engine: DuckDBEngine, tmp_path: Any, kind: str, seed: int) -> None:
    def stored(table: pa.Table) -> Files:
        pq.write_table(table, tmp_path / "archive.parquet")
        return Files((str(tmp_path / "archive.parquet"),))

    check_archive(engine, kind, seed, stored)


def compare_known_archive(engine: Any, views: list[FeatureView], rows: Any, spine: Any, files: Any) -> None:
    """An archive without a created time knows a row from its stamp on, or from when it was archived."""
    request = PointInTime(reads_of(views), known_at=True)
    answer = engine.run(request, {"rows": files}, spine=frame_of(spine)).to_arrow().to_pylist()
    for row, found in zip(spine, answer, strict=True):
        known = [each for each in rows if row["t"] is not None and (each["stamp"] or each["ingested"]) <= row["t"]]
        for view in views:
            expected = features_as_of(known, view, [row[key] for key in view.join_keys], row["t"], evaluate=by_language)
            for name, value in expected.items():
                assert same(value, found[f"{view.name}__{name}"]), (view.name, name, row, value, found)


def test_without_an_arrival_the_columns_decide_between_equal_rows(engine: DuckDBEngine) -> None:
    rng = random.Random(3)
    rows, spine = events(rng, 90), spine_rows(rng, 60)
    view = latest_view("latest", [USER])
    ordered = arrival_by_columns(rows, view.feature_names)

    compare(engine, [view], ordered, spine, table_of(rows))


@MODEST
@given(seed=st.integers(0, 2**32))
def test_without_an_arrival_equal_rows_are_told_apart_whatever_the_view(engine: DuckDBEngine, seed: int) -> None:
    rng = random.Random(seed)
    rows, spine = events(rng, 60), spine_rows(rng, 40)
    # Many rows of few moments, some of them equal in everything.
    rows += [{**row, "amount": rng.choice([None, 1, 2])} for row in rng.choices(rows, k=30)] + rng.choices(rows, k=5)
    for view in (
        latest_view("latest", [USER], ttl=f"{rng.randrange(1, 20)}s", delay="1s"),
        latest_view("of_two_keys", [USER, SHOP]),
        latest_view("of_nobody", [], source=source()),
    ):
        ordered = arrival_by_columns(rows, view.feature_names)
        if not view.source.created_timestamp_column:
            ordered = [{**row, "created": None} for row in ordered]
        compare(engine, [view], ordered, spine, table_of(rows))


def test_without_an_arrival_a_row_that_ends_its_key_comes_last(engine: DuckDBEngine) -> None:
    rng = random.Random(4)
    rows, spine = events(rng, 90), spine_rows(rng, 60)
    mortal = source(created_timestamp_column="written", delete_when="shop = 'a'")
    view = FeatureView("latest", source=mortal, entities=[USER], schema=[Field("user", Int64), FIELDS[2]])
    marked = [{**row, "ends": row["shop"] == "a"} for row in rows]
    ordered = arrival_by_columns(marked, [*view.feature_names, "ends"])

    compare(engine, [view], ordered, spine, table_of(rows))
