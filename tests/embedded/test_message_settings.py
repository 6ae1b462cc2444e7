"""`messages:` in feature_store.yaml bounds what a worker, a push and a child process take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from asof.config import load_config
from asof.errors import CheckFailed, ConfigError, DefinitionError, RowsRefused
from asof.store import FeatureStore, open_store_of
from asof.timing import iso, micros
from tests.unit.test_message_bounds import NODE, SELF, record, types_in_a_chain

NOW = micros("2026-01-01T12:00:00+00:00")
REPOSITORY = """
from asof import AvroFormat, Entity, FeatureView, Field, LogSource, ProtoFormat, PushSource
from asof.types import Int64, Json, String, Timestamp

user = Entity("user", join_keys=["user_id"])
clicks = LogSource("clicks", timestamp_field="ts", {more}
    schema=[Field("user_id", Int64), Field("doc", Json), Field("ts", Timestamp)])
orders = PushSource("orders", timestamp_field="ts",
    schema=[Field("user_id", Int64), Field("text", String), Field("ts", Timestamp)])
last_doc = FeatureView("last_doc", entities=[user], source=clicks)
last_text = FeatureView("last_text", entities=[user], source=orders)
"""


def opened(folder: Path, *, messages: str = "", more: str = "") -> FeatureStore:
    settings = f"project: shop\nclock: {iso(NOW)}\nmessages: {{{messages}}}\n"
    (folder / "feature_store.yaml").write_text(settings, encoding="utf-8")
    (folder / "features.py").write_text(REPOSITORY.format(more=more), encoding="utf-8")
    return FeatureStore(folder)


def message(doc: Any) -> bytes:
    return json.dumps({"user_id": 1, "ts": iso(NOW), "doc": doc}).encode()


def test_a_worker_bounds_size_and_depth_as_configured(tmp_path: Path) -> None:
    with opened(tmp_path, messages="max_bytes: 200, max_depth: 4") as store:
        store.apply()
        store.send("clicks", [message([[[]]]), message([[[[]]]]), message("x" * 200)])
        counts = store.stream_run(until_caught_up=True)

        assert counts["events"] == 3 and counts["dead letters"] == 2
        dead_letters = {each["offset"]: each["reason"] for each in store.dead_letters().to_dicts()}
        assert dead_letters[1] == "not a JSON object: it is nested too deeply; the most are 4 levels"
        assert dead_letters[2] == f"the message has {len(message('x' * 200))} bytes; the most are 200"


def test_a_push_of_a_row_that_is_too_large_is_refused_and_an_earlier_one_is_never_lost(tmp_path: Path) -> None:
    row = {"user_id": 1, "ts": iso(NOW), "text": "x" * 200}
    with opened(tmp_path) as store:
        store.apply()
        assert store.push("orders", [row]) == 1
    with opened(tmp_path, messages="max_bytes: 200") as store:
        with pytest.raises(RowsRefused, match=r"row 1: its message has \d+ bytes; the most are 200") as refused:
            store.push("orders", [{**row, "text": ""}, row])
        assert "messages.max_bytes" in refused.value.hint
        store.rebuild(["last_text"])
        assert store.get_online_features(["last_text:text"], {"user_id": [1]}).to_dict()["text"] == ["x" * 200]
        assert not len(store.dead_letters())


def schema(field: Any) -> str:
    return json.dumps(
        {
            "type": "record",
            "name": "Click",
            "fields": [{"name": "user_id", "type": "long"}, {"name": "doc", "type": field}],
        }
    )


@pytest.mark.parametrize(
    ("more", "messages", "found"),
    [
        (f"message_format=AvroFormat({schema(SELF)!r}),", "", "record 'R1' contains itself"),
        (f"message_format=AvroFormat({schema(SELF)!r}, registry='http://localhost'),", "", "record 'R1' contains itself"),
        (f"key_fields='user_id', key_format=AvroFormat({schema(SELF)!r}),", "", "record 'R1' contains itself"),
        (f"message_format=AvroFormat({schema({'type': 'array', 'items': {'type': 'array', 'items': 'long'}})!r}),",
         "max_depth: 2", "is nested too deeply; the most are 2 levels"),
        (f"message_format=ProtoFormat(descriptor_set={types_in_a_chain(1000)!r}, message_type='x.M999'),", "",
         "'x.M999' cannot be used: it is nested too deeply; the most are 200 levels"),
        ("message_format=ProtoFormat('no_such_package.x_pb2.Click'),", "", "cannot be imported"),
    ],
    ids=["avro", "reader's schema", "key", "setting", "protobuf", "class"],
)  # fmt: skip
def test_plan_names_a_format_that_no_worker_could_use(tmp_path: Path, more: str, messages: str, found: str) -> None:
    with opened(tmp_path, messages=messages, more=more) as store:
        (finding,) = [each for each in store.plan().findings if each.severity == "error"]
        assert finding.object == "source 'clicks'" and found in finding.found
        with pytest.raises(CheckFailed):
            store.apply()


def test_a_recursive_schema_with_a_null_in_between_is_fine(tmp_path: Path) -> None:
    fields = [{"name": "user_id", "type": "long"}, {"name": "ts", "type": "string"}, {"name": "doc", "type": NODE}]
    text = json.dumps({"type": "record", "name": "Click", "fields": fields})
    with opened(tmp_path, more=f"message_format=AvroFormat({text!r}),") as store:
        assert not store.plan().errors


def test_the_child_process_gets_its_memory_and_time_from_the_settings(tmp_path: Path) -> None:
    with opened(tmp_path, messages="child_memory_bytes: 1_000_000, child_timeout_s: 7.5") as store:
        store.apply()
        child: Any = open_store_of(store).stores.isolated("clicks")
        assert (child.memory_bytes, child.timeout_s) == (1_000_000, 7.5)


@pytest.mark.parametrize(
    ("messages", "problem"),
    [
        ("max_depth: 201", "messages.max_depth: expected a whole number from 1 to 200"),
        ("max_bytes: 0", "messages.max_bytes: expected bytes above 0"),
        ("max_byte: 1", "messages has no key 'max_byte'"),
        ("child_timeout_s: 0", "messages.child_timeout_s: expected seconds above 0"),
    ],
)
def test_settings_out_of_range_are_refused(tmp_path: Path, messages: str, problem: str) -> None:
    (tmp_path / "feature_store.yaml").write_text(f"project: shop\nmessages: {{{messages}}}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=problem):
        load_config(tmp_path)


def test_a_bound_that_was_lowered_below_an_applied_schema_pauses_its_source_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = f"message_format=AvroFormat({schema(record(0, record(1, record(2, 'long'))))!r}),"
    with opened(tmp_path, more=more) as store:
        store.apply()
    with opened(tmp_path, messages="max_depth: 3", more=more) as store:
        store.send("clicks", [b"x"])
        store.push("orders", [{"user_id": 1, "ts": iso(NOW), "text": "kept"}])
        said: list[Any] = []
        with pytest.raises(DefinitionError, match="nested too deeply; the most are 3 levels"):
            store.stream_run(until_caught_up=True, waiting=said.append)
        assert len(said) == 1 and not len(store.dead_letters())
        status = {each.source: each.lag for each in store.stream_status()}
        assert status["orders"] == 0 and status["clicks"] == 1
    with opened(tmp_path, more=more) as store:
        assert store.stream_run(until_caught_up=True)["dead letters"] == 1
