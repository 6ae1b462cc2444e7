"""Messages become rows through SQL or a function: nested JSON, renames, filters; what fails is a dead letter."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from asof.definitions.source_types import source_of
from asof.errors import (
    CheckFailed,
    DeadLetterLimit,
    DefinitionError,
    DerivationError,
    NotFound,
    RequestError,
)
from asof.flows.stream.transforms import transform_of
from asof.store import FeatureStore, open_store_of
from asof.timing import iso, micros

NOW = micros("2026-01-01T12:00:00+00:00")
HEAD = """
import pyarrow as pa
import pyarrow.compute as pc
from asof import Entity, FeatureView, Field, LogSource
from asof.types import Array, Int64, Json, String, Timestamp
"""
TAIL = """
clicks = LogSource(
    "clicks", transform={transform}, timestamp_field="ts", {more}
    message_schema=[Field("payload", Json), Field("kind", String), Field("ts", Timestamp)],
    schema=[Field("user_id", Int64), Field("page", String), Field("ts", Timestamp)],
)
last_page = FeatureView("last_page", entities=[Entity("user", join_keys=["user_id"])], source=clicks)
"""
SQL = '''"""
SELECT CAST(payload ->> '$.user.id' AS BIGINT) AS user_id, lower(payload ->> '$.pages[0].name') AS page, ts
FROM message WHERE kind <> 'ping'
"""'''
FUNCTION = """
def rows_of(messages: pa.Table) -> pa.Table:
    import json

    payloads = [json.loads(each or "{}") for each in messages["payload"].to_pylist()]
    return pa.table({
        "user_id": pa.array([int(each["user"]["id"]) if "user" in each else None for each in payloads], pa.int64()),
        "page": [each["pages"][0]["name"].lower() if "pages" in each else None for each in payloads],
        "ts": messages["ts"],
        "keep": pc.not_equal(messages["kind"], "ping"),
    })
"""


def message(user, page, *, kind="view", at=NOW):
    return json.dumps({
        "payload": {"user": {"id": user}, "pages": [{"name": page}]}, "kind": kind, "ts": iso(at),
    }).encode()  # fmt: skip


def store_with(root: Path, transform: str, *, function: str = "", more: str = "") -> FeatureStore:
    (root / "feature_store.yaml").write_text(f"project: shop\nclock: {iso(NOW)}\n", encoding="utf-8")
    (root / "features.py").write_text(HEAD + function + TAIL.format(transform=transform, more=more), encoding="utf-8")
    store = FeatureStore(root)
    store.apply()
    return store


def pages(store, users):
    return store.get_online_features(["last_page:page"], [{"user_id": user} for user in users]).to_dict()["page"]


@pytest.fixture(params=["sql", "function"])
def store(tmp_path, request):
    how = {"transform": SQL} if request.param == "sql" else {"transform": "rows_of", "function": FUNCTION}
    with store_with(tmp_path, **how) as store:
        yield store


def test_nested_messages_become_rows_and_some_are_left_out(store):
    messages = [
        message(1, "Home"),
        message("two", "Home", kind="ping"),
        message(3, "Cart"),
        message(1, "Ping", kind="ping"),
    ]
    open_store_of(store).stores.log.send("clicks", messages, partition=0, durable=True)

    counts = store.stream_run(until_caught_up=True)

    assert pages(store, [1, 3]) == ["home", "cart"]
    assert counts["left out by the transform"] == (2 if "sql" in store.get_source("clicks").transform.content() else 1)
    frame = pa.table({"user_id": [1, 3], "event_timestamp": pa.array([NOW, NOW - 1]).cast(pa.timestamp("us", "UTC"))})
    history = store.get_historical_features(frame, ["last_page:page"]).to_arrow()
    assert history["page"].to_pylist() == ["home", None]


def test_a_message_on_which_it_fails_is_a_dead_letter_and_the_others_go_on(store):
    bad = [message("seven", "x"), b"no json"]
    messages = [message(user, "Home") for user in range(40)]
    open_store_of(store).stores.log.send(
        "clicks", [*messages[:7], bad[0], *messages[7:], bad[1]], partition=0, durable=True
    )

    store.stream_run(until_caught_up=True)

    assert pages(store, range(40)) == ["home"] * 40
    reasons = {row["offset"]: row["reason"] for row in store.dead_letters().to_dicts()}
    assert reasons.keys() == {7, 41}
    assert reasons[7].startswith("transform") and "failed: " in reasons[7] and "seven" in reasons[7]
    assert "not a JSON object" in reasons[41]
    assert "seven" in store.dead_letter("clicks/0/7")["refused_now"]


def test_a_transform_that_is_mended_lets_the_dead_letters_in(store, tmp_path):
    open_store_of(store).stores.log.send("clicks", [message("u7", "Home")], durable=True)
    store.stream_run(until_caught_up=True)
    store.close()
    mended = SQL.replace("payload ->> '$.user.id'", "replace(payload ->> '$.user.id', 'u', '')")

    with store_with(tmp_path, mended) as mended_store:
        assert mended_store.replay_dead_letters("clicks")["sent"] == 1
        mended_store.stream_run(until_caught_up=True)
        assert pages(mended_store, [7]) == ["home"]


ROWS = """
import itertools
numbers = [0]

def rows(messages, page="x"):
    return pa.table({"user_id": [1] * len(messages), "page": [page] * len(messages), "ts": messages["ts"]})
"""


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("return messages", "does not return column 'user_id'"),
        ("return 5", "returns int"),
        ("return rows(messages).slice(1)", "returns 0 rows for 1 message"),
        ("return rows(messages, str(len(messages)))", "in column 'page' among 24 messages, and '1' for the message alone"),
        ("numbers.append(1); return rows(messages, str(len(numbers)))", "in a second run"),
        ("return rows(messages).append_column('keep', pa.array([True] + [False] * (len(messages) - 1)))",
         "returns False in column 'keep' among 24 messages, and True for the message alone"),
        ("return rows(messages) if len(messages) < 2 else 1 / 0", "fails on 24 messages of which each succeeds alone"),
        ("return rows(messages) if len(messages) < 2 else 5", "returns int"),
    ],
)  # fmt: skip
def test_plan_refuses_a_function_that_does_not_depend_on_single_messages(tmp_path, body, reason):
    function = f"{ROWS}\n\ndef wrong(messages):\n    {body}\n"

    with pytest.raises(CheckFailed, match="source 'clicks'.*transform 'wrong'") as refused:
        store_with(tmp_path, "wrong", function=function, more="transform_version='1',")
    assert reason in str(refused.value)


def test_plan_warns_of_a_function_that_it_could_not_check(tmp_path):
    function = "\ndef fails(messages):\n    raise SystemExit(3)\n"
    with store_with(tmp_path, "fails", function=function) as store:
        (finding,) = [each for each in store.plan().findings if each.severity == "warning"]
        assert "transform 'fails' failed on all 24 generated messages (SystemExit: 3)" in finding.found


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("return messages", "does not return column 'user_id'"),
        ("return 5", "returns int"),
        ("return rows(messages).slice(1)", "returns 1 row for 2 messages"),
        (
            "return rows(messages, page=str(len(messages)))",
            "returns '2' in column 'page' among other messages, and '1' alone",
        ),
    ],
)
def test_a_function_that_is_not_of_single_messages_stops_the_worker(tmp_path, body, reason):
    # The plan's generated messages are of other kinds.
    function = f"""{ROWS}

def wrong(messages):
    if set(messages["kind"].to_pylist()) != {{"view"}}:
        raise ValueError("none of ours")
    {body}
"""
    with store_with(tmp_path, "wrong", function=function) as store:
        open_store_of(store).stores.log.send("clicks", [message(1, "a"), message(2, "b")], partition=0, durable=True)

        with pytest.raises(DerivationError, match=reason) as refused:
            store.stream_run(until_caught_up=True)
        assert "transform 'wrong'" in str(refused.value)
        assert len(store.dead_letters()) == 0


def test_a_function_that_fails_on_everything_hits_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr("asof.flows.stream.dead_letter_limit.LIMIT_AFTER_S", 0.0)
    function = "\ndef fails(messages):\n    raise KeyError('no such thing')\n"
    with store_with(tmp_path, "fails", function=function) as store:
        open_store_of(store).stores.log.send("clicks", [message(1, "a")] * 1500, partition=0, durable=True)

        with pytest.raises(DeadLetterLimit):
            store.stream_run(until_caught_up=True)
        assert "transform 'fails' failed: KeyError: 'no such thing'" in store.dead_letters(limit=1)[0].reason


def test_another_function_than_the_applied_one_is_refused(tmp_path):
    with store_with(tmp_path, "rows_of", function=FUNCTION) as store:
        open_store_of(store).stores.log.send("clicks", [message(1, "a")], durable=True)
    (tmp_path / "features.py").write_text(
        HEAD + FUNCTION.replace("lower()", "upper()") + TAIL.format(transform="rows_of", more=""), encoding="utf-8"
    )
    with FeatureStore(tmp_path) as store, pytest.raises(RequestError, match="differs from the applied one"):
        store.stream_run(until_caught_up=True)
    (tmp_path / "features.py").write_text("", encoding="utf-8")
    with FeatureStore(tmp_path) as store, pytest.raises(NotFound, match="is applied, but not in the repository"):
        store.stream_run(until_caught_up=True)


def test_keys_and_tombstones_go_round_the_transform(tmp_path):
    more = 'key_fields="user_id",'
    sql = "\"SELECT user_id, payload ->> '$.page' AS page, ts FROM message\""
    tail = TAIL.replace('[Field("payload", Json),', '[Field("user_id", Int64), Field("payload", Json),')
    (tmp_path / "feature_store.yaml").write_text(f"project: shop\nclock: {iso(NOW)}\n", encoding="utf-8")
    (tmp_path / "features.py").write_text(HEAD + tail.format(transform=sql, more=more), encoding="utf-8")
    with FeatureStore(tmp_path) as store:
        store.apply()
        value = json.dumps({"payload": {"page": "home"}, "ts": iso(NOW - 5)}).encode()
        open_store_of(store).stores.log.send(
            "clicks", [value, value, None], keys=[b"1", b"2", b"2"], timestamps_us=[NOW] * 3, partition=0, durable=True
        )
        store.stream_run(until_caught_up=True)

        answer = store.get_online_features(["last_page:page"], [{"user_id": 1}, {"user_id": 2}])
        assert answer.statuses["page"] == ["PRESENT", "NOT_FOUND"]
        assert store.audit().ok


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        ("SELECT no_such_function(kind) AS user_id, kind AS page, ts FROM message", "no_such_function is not a function"),
        ("SELECT kind AS user_id, kind AS page, ts FROM message", "the transform's column 'user_id' to be Int64"),
        ("SELECT 1 AS user_id, 'a' AS page, ts, 2 AS more FROM message", "'more', which is not in its schema"),
        ("SELECT 1 AS user_id, ts FROM message", "does not return column 'page'"),
        ("SELECT ts FROM messages", "does not select FROM message"),
        ("SELECT 1 AS user_id, getenv('HOME') AS page, ts FROM message", "getenv is not a function of the engine"),
        ("SELECT 1 AS user_id, (SELECT content FROM read_text('x')) AS page, ts FROM message", "a subquery reads"),
        ("SELECT length(1) + kind AS user_id, kind AS page, ts FROM message", "Binder Error"),
    ],
)  # fmt: skip
def test_sql_that_makes_no_row_of_one_message_is_found_by_plan(tmp_path, sql, found):
    with pytest.raises(CheckFailed) as refused:
        store_with(tmp_path, f'"{sql}"')

    said = str(refused.value)
    assert found in said and "source 'clicks'" in said and "features.py:" in said and "next: " in said


def test_a_worker_refuses_the_sql_of_a_registry_that_no_plan_has_seen(tmp_path):
    with store_with(tmp_path, SQL) as store:
        content = store.get_source("clicks").content()
        content["transform"] = {"sql": "SELECT 1 AS user_id, read_text('/etc/passwd') AS page, ts FROM message"}

        with pytest.raises(DefinitionError, match="read_text is not a function of single values") as refused:
            transform_of(open_store_of(store).stores, source_of(content))
    assert "source 'clicks': transform" in str(refused.value)
    assert "write SELECT" in str(refused.value)


def test_a_column_keep_beside_a_condition_is_refused(tmp_path):
    """The condition takes that name itself, so the column's values would be lost."""
    (tmp_path / "feature_store.yaml").write_text(f"project: shop\nclock: {iso(NOW)}\n", encoding="utf-8")
    tail = TAIL.replace('Field("page", String)', 'Field("page", String), Field("keep", String)')
    sql = "\"SELECT 1 AS user_id, kind AS page, kind AS keep, ts FROM message WHERE kind <> 'ping'\""
    (tmp_path / "features.py").write_text(HEAD + tail.format(transform=sql, more=""), encoding="utf-8")

    with (
        FeatureStore(tmp_path) as store,
        pytest.raises(CheckFailed, match="returns column 'keep' next to WHERE"),
    ):
        store.apply()
