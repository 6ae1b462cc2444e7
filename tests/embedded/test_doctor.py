"""The doctor on the embedded stores: one line per part, also where one is broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asof.definitions import Aggregation, Entity, FeatureView, Field, FileSource, LogSource, Sliding
from asof.flows.admin.doctor import Check, doctor
from asof.flows.batch.materialize import materialize
from asof.flows.facts import change_facts
from asof.flows.rows.archive import archive_schema
from asof.flows.stores import Stores
from asof.flows.stream.rebuild import rebuild
from asof.flows.stream.run import run_stream
from asof.testing.clock import NOW
from asof.timing import HOUR, MINUTE
from asof.types import Int64, String
from asof.values.packing import key_bytes
from tests.embedded_stores import apply_by_hand, close, copied_stores, embedded_stores, typed

USER = Entity("user", ["user_id"])
TIMES = pa.timestamp("us", "UTC")


def definitions(window: str = "1d") -> list[Any]:
    schema = [Field("user_id", Int64), Field("at", Int64)]
    traffic = LogSource("traffic", schema=schema, timestamp_field="at", timestamp_unit="us")
    counted = Aggregation(function="count", window=Sliding(window), name="n")
    views = typed(FeatureView("windows", entities=[USER], source=traffic, aggregations=[counted]))
    users = FileSource("users.parquet", name="users", timestamp_field="at")
    fields = [Field("user_id", Int64), Field("country", String)]
    return [views, FeatureView("country", entities=[USER], source=users, schema=fields)]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tmp_path: Path = tmp_path_factory.mktemp("built")
    stores = embedded_stores(tmp_path)
    rows = {"user_id": [7, 8], "country": ["PL", "DE"], "at": pa.array([NOW - HOUR] * 2, TIMES)}
    pq.write_table(pa.table(rows), tmp_path / "users.parquet")
    snapshot = apply_by_hand(stores, *definitions())
    source = snapshot.project.sources["traffic"]
    stores.offline.create(stores.archive_of(source), archive_schema(source))
    rebuild(stores, snapshot.project.views["windows"], wait_s=0)
    stores.log.create("traffic", 1)
    events = [json.dumps({"user_id": i % 3, "at": NOW - i * MINUTE}).encode() for i in range(9)]
    stores.log.send("traffic", [*events, b"garbage"], partition=0, durable=False)
    run_stream(stores, until_caught_up=True)
    materialize(stores)
    close(stores)
    return tmp_path


@pytest.fixture
def stores(built: Path, tmp_path: Path) -> Stores:
    return copied_stores(built, tmp_path)


def checks_of(stores: Stores, **options: Any) -> dict[str, Check]:
    return {check.part: check for check in doctor(stores, **options)}


def test_a_healthy_store_has_a_good_line_for_each_part(stores: Stores) -> None:
    checks = checks_of(stores, clock_note="a given clock")

    assert list(checks) == [
        "clock", "registry", "online store", "source traffic", "messages traffic", "archive traffic", "dead letters traffic", "source users",
        "view country", "view windows", "training sets",
    ]  # fmt: skip
    assert all(check.ok for check in checks.values())
    assert checks["clock"].text == "a given clock (2026-01-01T12:00:00Z)"
    assert checks["source traffic"].text == "offsets traffic/0 0..9; 0 not archived"
    assert "9 rows, 1 file " in checks["archive traffic"].text
    assert checks["dead letters traffic"].text == "1 dead letter"
    assert checks["source users"].text == "2 rows, 3 columns"
    assert checks_of(stores, rows=False)["source users"] == Check("source users", True, "3 columns")
    assert "last materialized 2026-01-01T12:00:00Z, 2 rows" in checks["view country"].text
    assert "fed as far as the archive; 3 rows" in checks["view windows"].text


def test_a_source_that_is_gone_is_a_line(stores: Stores, tmp_path: Path) -> None:
    (tmp_path / "users.parquet").unlink()

    check = checks_of(stores)["source users"]
    assert not check.ok and "there is no file" in check.text and check.hint


def test_an_empty_registry_and_a_broken_one_are_lines(tmp_path: Path) -> None:
    stores = embedded_stores(tmp_path)
    assert not checks_of(stores)["registry"].ok
    (tmp_path / "registry.db").write_bytes(b"this is no database" * 100)
    check = checks_of(embedded_stores(tmp_path))["registry"]
    assert not check.ok and check.text


def test_keys_whose_rows_passed_the_limit_are_named(stores: Stores) -> None:
    small = stores.replaced(max_row_bytes=10)
    rebuild(small, stores.registry.load("shop").project.views["windows"], wait_s=0)

    check = checks_of(small)["view windows"]
    assert not check.ok and "rows of 3 keys exceed 10 bytes and return null: 'user_id=0', 'user_id=1'" in check.text


def test_rows_of_an_earlier_definition_and_rows_that_never_were_are_named(stores: Stores) -> None:
    apply_by_hand(stores, *definitions("2h"))
    assert "earlier definition" in checks_of(stores)["view windows"].text
    apply_by_hand(stores, *definitions(), generations={})

    assert checks_of(stores)["view country"].hint == "run `asof materialize`"


def test_accepted_gaps_and_lag_are_told(stores: Stores) -> None:
    change_facts(stores, lambda facts: facts.with_gap("traffic", "offsets 3 to 5 accepted as lost"), note="a gap")
    stores.log.send("traffic", [b"{}"], partition=0, durable=False)

    text = checks_of(stores)["source traffic"].text
    assert "1 not archived" in text and "1 accepted gap, the last: offsets 3 to 5 accepted as lost" in text


def test_online_rows_that_are_gone_are_named_with_what_brings_them_back(stores: Stores) -> None:
    for table in stores.online.tables(stores.project):
        stores.online.drop(table)

    found = {check.part: check for check in doctor(stores)}

    assert (found["view windows"].ok, found["view windows"].hint) == (False, "run `asof rebuild windows`")
    assert (found["view country"].ok, found["view country"].hint) == (False, "run `asof materialize country`")


def test_an_archive_that_was_left_behind_is_told_until_a_worker_has_filled_the_new_one(
    stores: Stores, tmp_path: Path
) -> None:
    moved = stores.replaced(offline=embedded_stores(tmp_path / "new").offline)
    check = checks_of(moved)["archive traffic"]
    assert not check.ok and "events in the online rows of view 'windows' are missing here" in check.text
    assert "`asof stream run`" in check.hint

    run_stream(moved, until_caught_up=True)
    assert checks_of(moved)["archive traffic"].ok and checks_of(stores)["archive traffic"].ok


def sent(root: Path, messages: list[Any], **options: Any) -> Stores:
    """A store whose log has these messages; none of them was read by a worker."""
    stores = embedded_stores(root)
    schema = [Field("user_id", Int64), Field("at", Int64), Field("page", String), Field("unused", String)]
    source = LogSource("traffic", schema=schema, timestamp_field="at", timestamp_unit="us", **options)
    fields = [Field("user_id", Int64), Field("page", String)]
    apply_by_hand(stores, FeatureView("pages", entities=[USER], source=source, schema=fields))
    stores.log.create("traffic", 2)
    made = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in messages]
    stores.log.send("traffic", made, partition=1, durable=False)
    return stores


GOOD_MESSAGE = {"user_id": 7, "at": NOW, "page": "home", "unused": "x"}
RENAMED = {"user_id": 7, "at": NOW, "pages": "home", "unused": None}


@pytest.mark.parametrize(
    ("messages", "ok", "text"),
    [
        ([], True, "no messages"),
        ([GOOD_MESSAGE], True, "all columns that are read are in the last message"),
        ([GOOD_MESSAGE, RENAMED], True, "all columns that are read are in the last 2 messages; not declared: 'pages' (in 1)"),
        ([{**GOOD_MESSAGE, "page": None}], True, "all columns that are read are in the last message"),
        ([RENAMED] * 400, False, "none of the last 300 messages has 'page': what reads it is null; not declared: "
         "'pages' (in 300)"),
        ([GOOD_MESSAGE] * 9 + [RENAMED] * 300, False, "none of the last 300 messages has 'page'"),
        ([{"user_id": 7, "at": NOW, "page": "x"}], True, "'unused' in none, and no view reads that"),
        ([b"garbage", b"\xff"], False, "none of the last 2 messages can be decoded: "),
        ([b"garbage", GOOD_MESSAGE], True, "1 message cannot be decoded"),
        ([{**GOOD_MESSAGE, "page": 3}] * 3, False, "none of the last 3 messages can be decoded: column 'page'"),
    ],
)  # fmt: skip
def test_doctor_compares_the_newest_messages_with_the_declared_columns(
    tmp_path: Path, messages: list[Any], ok: bool, text: str
) -> None:
    stores = sent(tmp_path, messages)

    check = checks_of(stores)["messages traffic"]

    assert (check.ok, text in check.text) == (ok, True), check
    assert ("for 'page' did you mean 'pages'?" in check.hint) == (RENAMED in messages and not ok)
    close(stores)


def test_doctor_names_a_header_that_no_message_has(tmp_path: Path) -> None:
    stores = sent(tmp_path, [GOOD_MESSAGE], header_fields={"page": "x-page"})

    check = checks_of(stores)["messages traffic"]

    assert not check.ok and "the last message has 'page'" in check.text
    close(stores)


def test_doctor_checks_the_columns_that_a_transform_reads(tmp_path: Path) -> None:
    message_schema = [Field("user_id", Int64), Field("at", Int64), Field("raw_page", String)]
    transform = "SELECT user_id, at, lower(raw_page) AS page, '' AS unused FROM message"
    stores = sent(tmp_path, [GOOD_MESSAGE], transform=transform, message_schema=message_schema)

    check = checks_of(stores)["messages traffic"]

    assert not check.ok and "has 'raw_page'" in check.text
    close(stores)


def test_online_rows_that_were_lost_one_by_one_are_found_by_the_keys_of_the_archive(stores: Stores) -> None:
    assert checks_of(stores)["view windows"].ok
    (table,) = [each for each in stores.online.tables(stores.project) if each.view == "windows"]
    stores.online.delete(table, [key_bytes((1,))])

    check = checks_of(stores)["view windows"]

    assert not check.ok and check.hint == "run `asof rebuild windows`"
    assert check.text.endswith("of 3 keys of the archive the online rows of 1 are lost: 'user_id=1'")
    rebuild(stores, stores.registry.load("shop").project.views["windows"], wait_s=0)
    assert checks_of(stores)["view windows"].ok


def test_keys_without_a_row_because_nothing_of_them_counts_are_not_lost(stores: Stores) -> None:
    (table,) = [each for each in stores.online.tables(stores.project) if each.view == "windows"]
    stores.online.delete(table, [key_bytes((1,))])

    later = stores.replaced()
    later.clock = lambda: NOW + 48 * HOUR

    assert checks_of(later)["view windows"].ok
