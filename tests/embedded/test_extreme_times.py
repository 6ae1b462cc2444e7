"""Event times outside the years 1 to 9999: such rows are none, for history, serving and what shows rows alike."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asof import Aggregation, Entity, FeatureStore, FeatureView, Field, FileSource, PushSource
from asof.errors import RequestError
from asof.timing import EARLIEST, LATEST, micros
from asof.types import Int64, Timestamp

AT = datetime(2026, 1, 1, 12, tzinfo=UTC)
NOW = micros(AT)
US = pa.timestamp("us", "UTC")
USER = Entity("user")
FIELDS = [Field("user", Int64), Field("value", Int64)]
FEATURES = ["latest:value", "summed:sum"]

ROWS = [
    (1, NOW - 1, 10), (1, EARLIEST - 1, 11), (2, EARLIEST, 20), (2, -(2**63), 21), (3, EARLIEST - 5, 30),
    (4, LATEST, 40), (4, LATEST + 1, 41), (5, 2**63 - 1, 50),
]  # fmt: skip
EXPECTED = {"user": [1, 2, 3, 4, 5], "value": [10, 20, None, None, None], "sum": [10, 20, None, None, None]}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FeatureStore]:
    (tmp_path / "feature_store.yaml").write_text("project: times\n", encoding="utf-8")
    with FeatureStore(tmp_path, clock=lambda: AT) as store:
        yield store


@pytest.fixture(params=["times", "integers"])
def applied(store: FeatureStore, tmp_path: Path, request: pytest.FixtureRequest) -> FeatureStore:
    users, times, values = zip(*ROWS, strict=True)
    kind = US if request.param == "times" else pa.int64()
    rows = pa.table({"user": users, "at": pa.array(times, kind), "value": values})
    pq.write_table(rows, tmp_path / "rows.parquet")
    unit = "" if request.param == "times" else "us"
    source = FileSource(name="rows", path="rows.parquet", timestamp_field="at", timestamp_unit=unit)
    total = [Aggregation("value", "sum", name="sum")]
    store.apply(
        [
            USER, source, FeatureView("latest", entities=[USER], source=source, schema=FIELDS),
            FeatureView("summed", entities=[USER], source=source, schema=FIELDS, aggregations=total),
        ]
    )  # fmt: skip
    return store


def test_rows_outside_the_years_are_passed_over_in_training_and_serving(applied: FeatureStore) -> None:
    frame = pa.table({"user": [1, 2, 3, 4, 5], "event_timestamp": pa.array([AT] * 5, US)})

    written = {each.view: (each.rows, each.undated) for each in applied.materialize()}

    assert written == {"latest": (2, 5), "summed": (2, 5)}
    assert applied.get_online_features(FEATURES, {"user": [1, 2, 3, 4, 5]}).to_dict() == EXPECTED
    trained = applied.get_historical_features(frame, FEATURES).to_arrow()
    assert trained.select(list(EXPECTED)).to_pydict() == EXPECTED
    assert [(each.online, each.historical) for each in applied.audit()] == []


def test_what_shows_rows_passes_over_them_too(applied: FeatureStore) -> None:
    known = [(1, AT), (2, datetime(1, 1, 1, tzinfo=UTC)), (4, datetime(9999, 12, 31, tzinfo=UTC))]

    for name in ("latest", "summed"):
        found = sorted(applied.sample(name).to_dicts(), key=lambda row: row["user"])
        assert [(row["user"], row["event_timestamp"].year) for row in found] == [(key, at.year) for key, at in known]
    for key, count in ((1, 1), (2, 1), (3, 0), (4, 1), (5, 0)):
        assert len(applied.explain("latest:value", {"user": key})) == count
    rows = applied.get_historical_features(None, FEATURES).to_arrow()
    assert sorted(rows["user"].to_pylist()) == [1, 2, 4]


def test_runs_count_the_rows_without_an_event_time(store: FeatureStore, tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()

    def write(name: str, *rows: tuple[int, int | None, int | None]) -> None:
        users, times, made = zip(*rows, strict=True)
        columns = {
            "user": pa.array(users),
            "value": pa.array(users),
            "at": pa.array(times, US),
            "made": pa.array(made, US),
        }
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")

    write("a", (1, NOW - 5, NOW - 5), (2, None, NOW - 5), (3, LATEST + 1, None), (4, None, None), (5, NOW - 4, None))
    source = FileSource(name="rows", path="rows", timestamp_field="at", created_timestamp_column="made")
    by_time = FileSource(name="by_time", path="rows", timestamp_field="at", lag=timedelta(hours=1))
    views = [
        FeatureView(name, entities=[USER], source=source, schema=FIELDS) for name in ("one", "two")
    ] + [FeatureView("three", entities=[USER], source=by_time, schema=FIELDS)]  # fmt: skip

    plan = store.plan([USER, source, by_time, *views])

    warned = [str(each) for each in plan.findings if "3 rows without one (null, infinite or outside)" in str(each)]
    assert len(warned) == 3 and all("event times of the years 1 to 9999 in 'at'" in each for each in warned)
    store.apply([USER, source, by_time, *views])

    def counts(*given: Any, **options: Any) -> dict[str, tuple[int, int | None]]:
        return {each.view: (each.rows, each.undated) for each in store.materialize(*given, **options)}

    assert counts() == {"one": (2, 3), "two": (2, 3), "three": (2, 3)}
    write("b", (6, None, NOW), (7, EARLIEST - 1, NOW + 1), (8, None, None), (9, NOW, NOW))
    # Of the news: those that were written since. By event time alone no run reads a row without one.
    assert {name: undated for name, (_, undated) in counts().items()} == {"one": 2, "two": 2, "three": 0}
    assert {name: undated for name, (_, undated) in counts(AT - timedelta(days=1), AT).items()} == dict.fromkeys(
        ("one", "two", "three"), 0
    )
    assert {name: undated for name, (_, undated) in counts(full=True).items()} == dict.fromkeys(
        ("one", "two", "three"), 6
    )


def test_rows_as_python_values_name_the_column_of_a_time_that_no_datetime_can_be(
    store: FeatureStore, tmp_path: Path
) -> None:
    path = tmp_path / "odd.parquet"
    pq.write_table(pa.table({"user": [1], "at": pa.array([NOW], US), "odd": pa.array([LATEST + 1], US)}), path)
    source = FileSource(name="odd", path=str(path), timestamp_field="at")
    store.apply([source])

    found = store.sample("odd")

    assert found.to_arrow()["odd"].cast(pa.int64()).to_pylist() == [LATEST + 1]
    with pytest.raises(RequestError, match="column 'odd' of the result has a time outside the years 1 to 9999"):
        found.to_dicts()


def test_history_that_a_source_loads_passes_over_them(store: FeatureStore, tmp_path: Path) -> None:
    users, times, values = zip(*ROWS, strict=True)
    rows = pa.table({"user": users, "at": pa.array(times, US), "value": values})
    pq.write_table(rows.filter(pa.array([time <= NOW for time in times])), tmp_path / "rows.parquet")
    batch = FileSource(name="rows", path="rows.parquet", timestamp_field="at")
    pushed = PushSource("pushed", [*FIELDS, Field("at", Timestamp)], "at", batch_source=batch)
    store.apply([USER, pushed, FeatureView("latest", entities=[USER], source=pushed, schema=FIELDS)])
    frame = pa.table({"user": [1, 2, 3], "event_timestamp": pa.array([AT] * 3, US)})

    served: Any = store.get_online_features(["latest:value"], {"user": [1, 2, 3]}).to_dict()["value"]

    assert served == [10, 20, None]
    assert store.get_historical_features(frame, ["latest:value"]).to_arrow()["value"].to_pylist() == served
