"""Audits on the embedded stores: serving equals history, and each way of not doing so is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asof.definitions import Aggregation, Entity, FeatureView, Field, FileSource, LogSource, Session, Sliding
from asof.flows.admin.audit import AuditReport, audit
from asof.flows.batch.materialize import materialize
from asof.flows.rows.archive import archive_schema
from asof.flows.stores import Stores, current_generation, table_of
from asof.flows.stream.ingest import Ingest
from asof.flows.stream.rebuild import rebuild
from asof.flows.stream.run import run_stream
from asof.online.protocol import NO_ROW, Lookup, OnlineTable, Unchanged
from asof.testing.clock import NOW
from asof.timing import HOUR, MINUTE
from asof.types import Float64, Int64, String
from asof.values.packing import key_bytes
from tests.embedded_stores import apply_by_hand, close, copied_stores, embedded_stores, read_online, typed

USER = Entity("user", ["user_id"])
TIMES = pa.timestamp("us", "UTC")
USERS = 12


def write_users(tmp_path: Path, *more: tuple[int, str, int]) -> None:
    rows = [*((user, f"c{user}", NOW - 9 * HOUR) for user in range(USERS)), *more]
    columns = {"user_id": [row[0] for row in rows], "country": [row[1] for row in rows]}
    columns["at"] = pa.array([row[2] for row in rows], TIMES)
    pq.write_table(pa.table(columns), tmp_path / "users.parquet")


def definitions(window: str = "1d") -> list[Any]:
    schema = [Field("user_id", Int64), Field("page", String), Field("price", Float64), Field("at", Int64)]
    traffic = LogSource("traffic", schema=schema, timestamp_field="at", timestamp_unit="us")
    aggregations = [
        Aggregation(function="count", window=Sliding(window), name="views"),
        Aggregation("price", "sum", window=Sliding(window), where="page = 'a'", name="spent"),
        Aggregation(function="count", window=Session("1h"), name="in_session"),
    ]
    views = typed(FeatureView("windows", entities=[USER], source=traffic, aggregations=aggregations))
    fields = [Field("user_id", Int64), Field("page", String)]
    latest = FeatureView("last_page", entities=[USER], source=traffic, schema=fields)
    users = FileSource("users.parquet", name="users", timestamp_field="at")
    country = FeatureView(
        "country", entities=[USER], source=users, schema=[Field("user_id", Int64), Field("country", String)]
    )
    return [views, latest, country]


def send(stores: Stores, *events: tuple[int, str, float, int]) -> None:
    names = ("user_id", "page", "price", "at")
    values = [json.dumps(dict(zip(names, event, strict=True))).encode() for event in events]
    stores.log.create("traffic", 2)
    stores.log.send("traffic", values, keys=[str(event[0]).encode() for event in events], durable=False)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tmp_path: Path = tmp_path_factory.mktemp("built")
    stores = embedded_stores(tmp_path)
    write_users(tmp_path)
    snapshot = apply_by_hand(stores, *definitions())
    source = snapshot.project.sources["traffic"]
    stores.offline.create(stores.archive_of(source), archive_schema(source))
    for name in ("windows", "last_page"):
        rebuild(stores, snapshot.project.views[name], wait_s=0)
    send(stores, *((i % USERS, "ab"[i % 2], 0.1 * i, NOW - (150 - i) * MINUTE) for i in range(150)))
    run_stream(stores, until_caught_up=True)
    materialize(stores)
    close(stores)
    return tmp_path


@pytest.fixture
def stores(built: Path, tmp_path: Path) -> Stores:
    return copied_stores(built, tmp_path)


def audited(stores: Stores, *names: str, **options: Any) -> AuditReport:
    return audit(stores, stores.registry.load(stores.project), list(names) or None, **options)


def table_of_view(stores: Stores, name: str) -> OnlineTable:
    snapshot = stores.registry.load(stores.project)
    view = snapshot.project.views[name]
    return table_of(stores.project, view, current_generation(snapshot, view) or "")


def test_a_store_that_serves_what_history_says_has_no_differences(stores: Stores) -> None:
    report = audited(stores, keys=20)

    assert report.ok and report.differences == [] and report.equal == report.values
    assert report.active_keys == USERS and report.keys == sum(each["keys"] for each in report.views)
    # Each view has its twelve keys, and one that no one has.
    assert {each["view"]: each["keys"] for each in report.views} == {"country": 13, "last_page": 13, "windows": 13}
    assert json.loads(json.dumps(report.to_dict()))["ok"]


def test_active_keys_come_first(stores: Stores) -> None:
    send(stores, *((100 + i, "a", 1.0, NOW - 100 * 24 * HOUR) for i in range(40)))
    run_stream(stores, until_caught_up=True)

    assert audited(stores, "windows", keys=14).active_keys >= USERS


def test_a_row_that_got_lost_is_found(stores: Stores) -> None:
    stores.online.delete(table_of_view(stores, "windows"), [key_bytes((3,))])

    report = audited(stores, "windows")

    assert not report.ok
    assert {(each["feature"], each["online"], each["historical"]) for each in report.differences} >= {("views", 0, 13)}
    assert all(each["key"] == {"user_id": 3} and "the row is missing" in each["cause"] for each in report.differences)


def test_a_row_with_another_keys_values_is_found(stores: Stores) -> None:
    table = table_of_view(stores, "last_page")
    ((one, other),) = stores.online.read([Lookup(table, [key_bytes((2,)), key_bytes((3,))])])
    assert one is not None and other is not None
    assert stores.online.write(table, [key_bytes((2,))], [other[0]], condition=Unchanged([one[1]])) == [True]

    (difference,) = audited(stores, "last_page").differences
    assert (difference["key"], difference["online"], difference["historical"]) == ({"user_id": 2}, "b", "a")
    assert "unknown" in difference["cause"]


def test_a_row_of_a_key_that_history_does_not_have_is_found(stores: Stores) -> None:
    table = table_of_view(stores, "windows")
    ((row,),) = stores.online.read([Lookup(table, [key_bytes((3,))])])
    assert row is not None
    stores.online.write(table, [key_bytes((77,))], [row[0]], condition=Unchanged([NO_ROW]))

    assert {each["key"]["user_id"] for each in audited(stores, "windows").differences} == {77}


def test_events_that_are_served_and_not_archived_are_waited_for(stores: Stores) -> None:
    send(stores, (3, "a", 1.0, NOW))
    ingest = Ingest(stores, "traffic", seconds=lambda: 0.0)
    for number, (first, _) in stores.log.bounds("traffic").items():
        start = ingest.begin("traffic", number, first=first)
        ingest.take("traffic", stores.log.read("traffic", number, start))

    report = audited(stores, "windows", wait_s=0.1)
    assert {each["key"]["user_id"] for each in report.differences} == {3}
    assert all("not archived yet" in each["cause"] for each in report.differences)
    ingest.flush()
    ingest.close()
    assert audited(stores, "windows").ok


def test_events_that_are_archived_and_not_seen_by_the_rows_are_no_difference(stores: Stores) -> None:
    before = stores.registry.load(stores.project)
    apply_by_hand(stores, *definitions(), generations={})
    send(stores, (3, "a", 1.0, NOW - MINUTE))
    run_stream(stores, until_caught_up=True)

    # Rows of the generation that no worker fed: history over what they have seen is what they answer.
    report = audit(stores, before, ["windows", "last_page"])
    assert report.ok and report.active_keys == USERS


def test_a_very_late_event_that_joins_sessions_is_recomputed_from_the_archive(stores: Stores) -> None:
    send(stores, *((200, "a", 1.0, NOW - ago * MINUTE) for ago in (250, 150, 100, 50, 0)))
    run_stream(stores, until_caught_up=True)
    send(stores, (200, "a", 1.0, NOW - 200 * MINUTE))
    counts = run_stream(stores, until_caught_up=True)

    assert counts["rows recomputed"] == 1
    assert read_online(stores, "windows", {"user_id": [200]})["in_session"] == [6]
    assert audited(stores, "windows").ok


def test_batch_rows_that_are_not_materialized_are_named(stores: Stores, tmp_path: Path) -> None:
    write_users(tmp_path, (4, "new", NOW - HOUR), (50, "first", NOW - HOUR))

    causes = {each["key"]["user_id"]: each["cause"] for each in audited(stores, "country").differences}

    assert "later batch rows (up to 2026-01-01T11:00:00Z) are not materialized" in causes[4]
    assert causes.get(50, "not materialized").startswith("not materialized")
    materialize(stores)
    assert audited(stores, "country").ok


def test_rows_of_an_earlier_definition_are_named(stores: Stores) -> None:
    apply_by_hand(stores, *definitions("2h"))

    (difference,) = audited(stores, "windows").differences
    assert "the definition changed" in difference["cause"]


def test_floats_may_differ_by_what_summing_in_another_order_gives(stores: Stores) -> None:
    # The sum is tiny beside what it was made from: the last digits depend on the order.
    send(stores, *((3, "a", price, NOW - MINUTE) for price in (1e15, 0.1, -1e15, 0.7, 3e14, -3e14)))
    run_stream(stores, until_caught_up=True)

    assert audited(stores, "windows").ok
