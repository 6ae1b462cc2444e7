"""The matrix of values on PostgreSQL: tables read inside the database and from outside of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pyarrow as pa
import pytest

from asof import Aggregation, Entity, FeatureStore, FeatureView, Field, PostgresSource, Sliding
from asof.errors import SourceError
from asof.types import Array, Decimal, Float64, Int32, Int64
from tests.matrix.cases import NOON
from tests.matrix.outcomes import check
from tests.matrix.postgres import TABLE_CASES, TableCase, table_source
from tests.matrix.runs import AT, BatchRun

DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)
OFFLINE = {"inside": "offline_store: {type: postgres, connection: warehouse}\n", "outside": ""}


def store_at(folder: Path, url: str, where: str) -> FeatureStore:
    (folder / "feature_store.yaml").write_text(
        f"project: {where}\nconnections:\n  warehouse: {{type: postgres, url: '{url}'}}\n{OFFLINE[where]}",
        encoding="utf-8",
    )
    return FeatureStore(folder, clock=lambda: AT)


def _group(case: TableCase) -> str:
    if case.kind.endswith("[]"):
        return "arrays"
    if case.kind.startswith("numeric"):
        return "decimals"
    return "numbers" if case.kind.startswith(("int", "float")) and case.kind != "interval" else "others"


GROUPS = {group: {name: case for name, case in TABLE_CASES.items() if _group(case) == group}
          for group in ("numbers", "decimals", "others", "arrays")}  # fmt: skip
"""What one store reads: not too many views at once."""


@pytest.mark.parametrize("where", OFFLINE)
@pytest.mark.parametrize("group", GROUPS)
def test_values_of_tables_are_the_same_or_refused(postgres_url: str, tmp_path: Path, where: str, group: str) -> None:
    cases = GROUPS[group]
    with store_at(tmp_path, postgres_url, where) as store:
        found = BatchRun(store, table_source(postgres_url), cases=cases).run()

    for side in ("trained", "served"):
        assert found[side].keys() == cases.keys()
        check(f"table, {side}", found[side], {}, "'value'", "source 's", "feature view 'v", cases=cases)


NUMBERS = PostgresSource(name="numbers", table="numbers", timestamp_field="at", connection_ref="warehouse")
USER = Entity("user")


def view_of(name: str, *fields: Field) -> FeatureView:
    return FeatureView(name, entities=[USER], source=NUMBERS, schema=[Field("user", Int64), *fields])


@pytest.fixture(params=OFFLINE)
def store(request: pytest.FixtureRequest, postgres_url: str, tmp_path: Path) -> Iterator[FeatureStore]:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute('CREATE TABLE numbers ("user" int8, at timestamptz, odd numeric, odds numeric[], fine int4)')
        connection.execute("INSERT INTO numbers VALUES (1, '2026-01-01 12:00Z', 'NaN', '{{1,2}}', 7)")
    with store_at(tmp_path, postgres_url, request.param) as store:
        yield store


def test_a_read_of_other_columns_does_not_fail_on_one_that_it_does_not_ask_for(store: FeatureStore) -> None:
    fields = [Field("odd", Decimal(38, 0)), Field("odds", Array(Decimal(38, 0))), Field("fine", Int32)]
    store.apply([USER, NUMBERS, view_of("v", *fields)])
    frame = {"user": [1], "event_timestamp": [AT]}

    assert store.get_historical_features(frame, ["v:fine"]).to_arrow()["fine"].to_pylist() == [7]
    for name in ("odd", "odds"):
        with pytest.raises(SourceError, match=f"column '{name}'"):
            store.get_historical_features(frame, [f"v:{name}"]).to_arrow()


def test_a_numeric_of_any_digits_is_of_one_type_in_all_views(store: FeatureStore) -> None:
    plan = store.plan([USER, NUMBERS, view_of("a", Field("odd", Float64)), view_of("b", Field("odd", Decimal(38, 0)))])

    assert "column 'odd' of source 'numbers' with one type in all of its views" in "\n".join(map(str, plan.errors))


EXTREMES = {
    "float": [1.7e308, 1.7e308], "lowest": [-1.7e308, -1.7e308], "huge": [1e155, 3e155], "cancels": [1.7e308, -1.7e308, 1.0],
    "comes back": [1e308, 1e308, -1e308], "goes down and up": [-1e308, -1.7e308, 1.5e308, 1.5e308, -1.7e308],
    "beyond in the end": [-1e308, -1e308, -1e308, 1e308], "beyond and infinite": [1e308, 1e308, -math.inf],
    "subnormal": [5e-324, 5e-324], "infinite": [math.inf, 1.0], "nan": [math.nan, 1e300], "plain": [0.1, 0.2, 0.3],
}  # fmt: skip


def test_sums_and_spreads_of_extreme_floats_are_those_of_serving(store: FeatureStore, postgres_url: str) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute('CREATE TABLE events ("user" int8, at timestamptz, value float8)')
        for user, values in enumerate(EXTREMES.values()):
            for place, value in enumerate(values):
                connection.execute("INSERT INTO events VALUES (%s, %s, %s)", [user, NOON + place * MINUTE, value])
    source = PostgresSource(name="events", table="events", timestamp_field="at", connection_ref="warehouse")
    functions = ("sum", "mean", "std", "var")
    made = [
        Aggregation(column="value", function=function, name=f"{function}_{name}", **window)
        for function in functions
        for name, window in (("day", {"window": Sliding(DAY)}), ("ever", {}))
    ]
    store.apply([USER, source, FeatureView("v", entities=[USER], source=source, aggregations=made)])
    store.materialize()
    users = list(range(len(EXTREMES)))
    features = [f"v:{each.name}" for each in made]
    frame = pa.table({"user": users, "event_timestamp": pa.array([AT] * len(users), pa.timestamp("us", "UTC"))})

    trained = store.get_historical_features(frame, features).to_arrow().select([each.name for each in made]).to_pydict()
    served = store.get_online_features(features, {"user": users}).to_dict()

    for name, found in trained.items():
        for (which, values), one, other in zip(EXTREMES.items(), found, served[name], strict=True):
            near = sum(abs(value) * 1e-9 for value in values if math.isfinite(value))
            assert one == other or (one != one and other != other) or abs(one - other) <= near, (name, which)
    assert trained["sum_day"][:2] == [math.inf, -math.inf]
    found = dict(zip(EXTREMES, trained["sum_ever"], strict=True))
    assert found["comes back"] == pytest.approx(1e308, rel=1e-9)
    assert (found["beyond in the end"], found["beyond and infinite"]) == (-math.inf, -math.inf)
