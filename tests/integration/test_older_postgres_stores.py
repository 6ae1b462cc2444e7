"""Stores that an older version made, opened by a role that may read and write their tables, and not change them."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from asof import Aggregation, Entity, FeatureStore, FeatureView, Field, PostgresSource, PushSource, Sliding
from asof.errors import StorageError
from asof.offline.protocol import LATER_COLUMNS
from asof.store import open_store_of
from asof.types import Float64, Int64, String, Timestamp

pytestmark = pytest.mark.integration

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
USER = Entity(name="user", join_keys=["user_id"])
USERS = PostgresSource(name="users", table="public.users", timestamp_field="registered_at")
PAYMENTS = PushSource(
    "payments", schema=[Field("user_id", Int64), Field("amount", Float64), Field("at", Timestamp)], timestamp_field="at"
)
PROFILE = FeatureView(name="profile", entities=[USER], source=USERS, schema=[Field("country", String)])
PAID = FeatureView(
    name="paid", entities=[USER], source=PAYMENTS,
    aggregations=[Aggregation("amount", "sum", window=Sliding("1d"), name="paid_1d")],
)  # fmt: skip
DEFINED = [USER, USERS, PAYMENTS, PROFILE, PAID]
ARCHIVE = "asof.shop__events__payments"
FEATURES = ["profile:country", "paid:paid_1d"]


def open_store(folder: Path, url: str) -> FeatureStore:
    folder.mkdir(exist_ok=True)
    stores = "\n".join(
        f'{name}: {{type: postgres, url: "{url}", schema: asof}}'
        for name in ("registry", "offline_store", "online_store")
    )
    log = folder.parent / "log"
    (folder / "feature_store.yaml").write_text(f"project: shop\n{stores}\nlog: {{type: file, path: {log}}}\n")
    return FeatureStore(folder, clock=lambda: NOON)


def pay(store: FeatureStore, amount: float) -> None:
    store.push("payments", [{"user_id": 7, "amount": amount, "at": NOON - timedelta(minutes=amount)}])


def values(store: FeatureStore) -> tuple[dict[str, Any], dict[str, Any]]:
    """What serving and history answer."""
    online = store.get_online_features(FEATURES, [{"user_id": 7}]).to_dict()
    spine = {"user_id": [7], "event_timestamp": [NOON]}
    offline = store.get_historical_features(spine, FEATURES).to_arrow().to_pylist()[0]
    names = ("country", "paid_1d")
    return {name: online[name][0] for name in names}, {name: offline[name] for name in names}


@pytest.fixture
def older(tmp_path: Path, postgres: Any, postgres_url: str, request: pytest.FixtureRequest) -> Iterator[FeatureStore]:
    """A store as an older version kept it, opened by a role that has these rights on its tables, and owns none."""
    database = postgres_url.rpartition("/")[2]
    role = f"role_{database[-8:]}"
    with psycopg.connect(postgres_url, autocommit=True) as owner:
        owner.execute("CREATE TABLE public.users (user_id bigint, registered_at timestamptz, country text)")
        owner.execute("INSERT INTO public.users VALUES (7, '2026-11-01Z', 'Poland')")
        with open_store(tmp_path / "owner", postgres_url) as store:
            store.apply(DEFINED)
            store.materialize()
            pay(store, 1.0)
            store.stream_run(until_caught_up=True)
            assert values(store) == ({"country": "Poland", "paid_1d": 1.0},) * 2
        for name in LATER_COLUMNS:
            owner.execute(f'ALTER TABLE {ARCHIVE} DROP COLUMN "{name}"')
        owner.execute("DROP TABLE asof.records, asof.counts")
        owner.execute("DELETE FROM asof.formats WHERE part = 'registry records'")
        owner.execute("DELETE FROM asof.online_progress WHERE name = '!marker'")
    with psycopg.connect(postgres.url(database, user="postgres", password="admin-secret"), autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'role-secret'")
        admin.execute(f"GRANT USAGE ON SCHEMA asof, public TO {role}")
        admin.execute(f"GRANT {request.param} ON ALL TABLES IN SCHEMA asof TO {role}")
        admin.execute(f"GRANT SELECT ON public.users TO {role}")
        with open_store(tmp_path / "role", postgres.url(database, user=role, password="role-secret")) as store:
            yield store
        admin.execute(f"DROP OWNED BY {role} CASCADE")
        admin.execute(f"DROP ROLE {role}")


def commands(text: str) -> list[str]:
    """The SQL that a message names."""
    return [each for each in re.findall("`([^`]*)`", text) if each.startswith(("ALTER", "DROP", "GRANT"))]


@pytest.mark.parametrize("older", ["SELECT"], indirect=True)
def test_who_may_only_read_reads_an_older_store(older: FeatureStore) -> None:
    assert values(older) == ({"country": "Poland", "paid_1d": 1.0},) * 2
    plan = older.plan(DEFINED)
    assert plan.is_empty and not plan.errors
    assert [check.part for check in older.doctor() if not check.ok] == ["online store"], "of its server's settings"
    assert older.audit().ok
    assert open_store_of(older).stores.registry.records("shop", "run") == []


@pytest.mark.parametrize("older", ["SELECT, INSERT, UPDATE, DELETE"], indirect=True)
def test_who_may_write_rows_goes_on_in_an_older_store_and_hears_what_to_run_for_the_rest(
    older: FeatureStore, postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    assert values(older) == ({"country": "Poland", "paid_1d": 1.0},) * 2
    for amount in (2.0, 3.0):
        pay(older, amount)
        assert older.stream_run(until_caught_up=True)["dead letters"] == 0
    assert values(older) == ({"country": "Poland", "paid_1d": 6.0},) * 2

    (archived,) = {each for each in caplog.messages if each.startswith("archive ")}
    assert "archive 'payments' lacks columns" in archived and "rows are archived without them" in archived
    assert caplog.messages.count(archived) == 1
    unkept = [each for each in caplog.messages if each.startswith("no record of this was kept")]
    assert unkept and "may not make its tables: permission denied for schema asof" in unkept[0]
    with pytest.raises(StorageError) as refused:
        older.rebuild(["paid"])
    assert "only the owner of its table, asof, may add them" in refused.value.message
    add_columns, act_as_owner = commands(refused.value.hint)
    (make_tables,) = commands(unkept[0])
    assert commands(archived) == [add_columns, act_as_owner]
    assert values(older) == ({"country": "Poland", "paid_1d": 6.0},) * 2, "nothing was changed"

    # What the messages say is enough.
    with psycopg.connect(postgres_url, autocommit=True) as owner:
        owner.execute(add_columns)
        owner.execute(make_tables)
        assert older.rebuild(["paid"])
        (left,) = [each for each in caplog.messages if each.startswith("online table shop/paid@")]
        assert "only the owner of its rows may drop them" in left
        owner.execute(commands(left)[0])
        pay(older, 4.0)
        older.stream_run(until_caught_up=True)
        assert values(older) == ({"country": "Poland", "paid_1d": 10.0},) * 2
        stamped = owner.execute(f"SELECT amount FROM {ARCHIVE} WHERE {LATER_COLUMNS[0]} IS NOT NULL").fetchall()
        assert stamped == [(4.0,)]
    assert older.audit().ok
    assert {each.subject for each in open_store_of(older).stores.registry.records("shop", "run")} >= {"rebuild"}


@pytest.mark.parametrize("older", ["SELECT, INSERT, UPDATE, DELETE"], indirect=True)
def test_who_acts_as_the_owner_adds_what_an_older_store_lacks(older: FeatureStore, postgres: Any) -> None:
    with pytest.raises(StorageError) as refused:
        older.rebuild(["paid"])
    postgres.execute(commands(refused.value.hint)[1])

    assert older.rebuild(["paid"])
    pay(older, 2.0)
    older.stream_run(until_caught_up=True)

    assert values(older) == ({"country": "Poland", "paid_1d": 3.0},) * 2


@pytest.mark.parametrize("older", ["SELECT, INSERT, UPDATE, DELETE"], indirect=True)
def test_an_apply_without_changes_adds_the_columns_where_the_role_owns_the_archive(
    older: FeatureStore, postgres_url: str, tmp_path: Path
) -> None:
    def columns() -> set[str]:
        with psycopg.connect(postgres_url) as connection:
            return {each.name for each in connection.execute(f"SELECT * FROM {ARCHIVE} LIMIT 0").description or ()}

    older.apply(DEFINED)
    assert not columns() & set(LATER_COLUMNS)
    with open_store(tmp_path / "again", postgres_url) as owner:
        assert owner.plan(DEFINED).is_empty
        owner.apply(DEFINED)
    assert set(LATER_COLUMNS) <= columns()
