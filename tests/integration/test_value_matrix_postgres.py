"""The matrix of values on PostgreSQL: tables read inside the database and from outside of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from asof import Entity, FeatureStore, FeatureView, Field, PostgresSource
from asof.errors import SourceError
from asof.types import Array, Decimal, Float64, Int32, Int64
from tests.matrix.outcomes import check
from tests.matrix.postgres import TABLE_CASES, TableCase, table_source
from tests.matrix.runs import AT, BatchRun

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
