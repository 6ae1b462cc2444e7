"""Facts beside the definitions: kept as they always were, typed where they are used, carried along where unknown."""

from __future__ import annotations

import json
from typing import Any

import pytest

from asof.definitions import Entity, FeatureView, Field, LogSource, Snapshot, project_of, state_hash
from asof.definitions.facts import Facts, LastRun, ViewGenerations
from asof.errors import RegistryError
from asof.flows.generations.names import has_shape_of, next_generation
from asof.types import Int64

VISITS = LogSource(
    "visits", schema=[Field("user_id", Int64), Field("at", Int64)], timestamp_field="at", timestamp_unit="ms"
)
VIEW = FeatureView(
    "seen", source=VISITS, entities=[Entity("user", ["user_id"])], schema=[Field("user_id", Int64), Field("at", Int64)]
)

FILE = {"bytes": 7, "changed_ns": 9, "hashed": "whole", "path": "u.parquet", "sha256": "76"}
KEPT: dict[str, Any] = {
    "epochs": {"visits": 2},
    "gaps": {"visits": ["2026-01-01T12:00:00Z offsets 3 to 5 accepted as lost"]},
    "generations": {"seen": {"building": None, "count": 3, "current": "0123456789ab-3"}},
    "histories": {
        "orders": {"batch": "0b", "columns": {}, "ended": 7},
        "visits": {"batch": "ab", "columns": {"0": ["user_id"], "1048576": ["user_id", "at"]}, "ended": 9, "until": 8},
    },
    "materialized": {
        "late": {"as_of": 7, "end": 9, "generation": "cd-1", "overflowed": 1, "rows": 2, "start": 5, "started": 8},
        "profile": {
            "as_of": 7, "created_until": 9, "end": None, "generation": "ab-1", "overflowed": 0, "rows": 12,
            "start": None, "started": 9, "until": 8,
        },
    },
    "replaying": {"visits": "f00d"},
    "staged": {"project": {"views": []}, "token": "abcd"},
    "starts": {"visits": {"0": 7, "10": 3, "2": 0}},
    "topics": {"visits": "an-id"},
    "training_sets": {
        "at_noon": {
            "asof_version": "0.1.0", "column_hashes": {"user_id": "aa"}, "columns": [{"name": "user_id", "type": "int64"}],
            "content_hash": "0b", "created": "2026-01-01T12:00:00Z", "created_by": "ana", "definitions": {"seen": "b7"},
            "end": None, "entity_frame": "a table", "features": ["seen:at"], "frame_columns": ["user_id"],
            "full_feature_names": False, "functions": {}, "known_at": False, "known_at_cut": False, "name": "at_noon",
            "projections": [
                {"features": ["at"], "view": "seen"},
                {"alias": "a", "features": ["at"], "join_key_map": {"user_id": "id"}, "view": "seen"},
            ], "registry_version": 7, "reproducible": True, "rows": 3,
            "sources": {
                "orders": {"kind": "archive", "offsets": {"0": 2, "10": 1, "2": 0, "500000": 1}, "version": 3},
                "rates": {"kind": "query"},
                "users": {
                    "files": [FILE], "kind": "files",
                },
                "visits": {"kind": "archive", "offsets": {}, "version": -1},
            },
            "start": None, "table": "at_noon.0123", "time_column": "event_timestamp", "why": "the archives are pinned",
        },
    },
    "where": {"feature view/seen": "features.py:3"},
    "environment": "0a1b2c3d",
}  # fmt: skip
"""Each topic as today's version writes it."""


@pytest.mark.parametrize("topic", KEPT)
def test_each_topic_is_written_as_it_was_read_byte_for_byte(topic: str) -> None:
    kept = {topic: KEPT[topic]}

    assert json.dumps(Facts.of(kept).content(), sort_keys=True) == json.dumps(kept, sort_keys=True)
    assert Facts.of(kept).others == {}, "the topic is known"


def test_all_topics_are_in_the_list_above() -> None:
    assert set(KEPT) == {*Facts.__struct_fields__} - {"others"}


@pytest.mark.parametrize(
    "unknown",
    [
        {"moons": {"phase": [1, None, {"deep": 2.5}]}},
        {"moons": []},
        {"moons": None},
        {"others": {"a": 1}},
        {"generations": {"seen": {"building": None, "count": 1, "current": None, "shadow": {"of": "ab-1"}}}},
        {"materialized": {"seen": {**KEPT["materialized"]["late"], "bytes": 12}}},
        {"staged": {"project": {}, "token": "t", "by": ["ana"]}},
        {"training_sets": {"at_noon": {**KEPT["training_sets"]["at_noon"], "others": {"x": 1}}}},
        {
            "training_sets": {
                "at_noon": {
                    **KEPT["training_sets"]["at_noon"],
                    "sources": {
                        "stream": {"kind": "snapshot", "id": 12},
                        "users": {"kind": "files", "files": [{**FILE, "inode": 3}]},
                    },
                }
            }
        },
    ],
)
def test_what_a_newer_version_wrote_survives_the_changes_of_this_one(unknown: dict[str, Any]) -> None:
    text = Snapshot(3, "shop", project_of([VIEW]), Facts.of(unknown)).encode()
    read = Snapshot.decode(text)
    changed = read.with_facts(read.facts.with_gap("visits", "lost").with_building("other", "ab-1"))

    found = json.loads(Snapshot.decode(changed.encode()).encode())["facts"]

    assert found.pop("gaps") == {"visits": ["lost"]}
    assert found["generations"].pop("other") == {"building": "ab-1", "count": 1, "current": None}
    assert {topic: value for topic, value in found.items() if value != {}} == {
        topic: value for topic, value in unknown.items() if value != {}
    }


def test_a_view_that_is_switched_keeps_what_a_newer_version_said_of_it() -> None:
    facts = Facts.of({"generations": {"seen": {"current": "ab-1", "building": "ab-2", "count": 2, "shadow": 1}}})

    (seen,) = facts.with_applied(["seen"], {}).with_current("seen", "ab-2").generations.values()

    assert seen == ViewGenerations(current="ab-2", building=None, count=2, others={"shadow": 1})


def test_what_older_versions_left_out_is_read() -> None:
    facts = Facts.of({"generations": {"seen": {"current": "ab-1"}}, "materialized": {"old": {"generation": "ab-1"}},
                      "replaying": {}})  # fmt: skip

    assert facts.generations_of("seen") == ViewGenerations(current="ab-1")
    assert facts.last_run("old", "ab-1") == LastRun(generation="ab-1")
    assert facts.last_run("old", "ab-2") is facts.last_run("never", "ab-1") is None
    assert facts.generations_of("never") == ViewGenerations()
    assert facts.epoch_of("never") == 0
    assert facts.replaying == {}


@pytest.mark.parametrize(
    "damaged",
    [
        {"epochs": {"visits": "two"}}, {"generations": {"seen": "ab12"}}, {"generations": ["ab12"]}, {"staged": 1},
        {"materialized": {"seen": {"rows": 1}}}, {"starts": {"visits": {"zero": 1}}}, {"gaps": {"visits": "lost"}},
        {"training_sets": {"a": {"name": "a"}}}, {"training_sets": {"a": {"name": "a", "table": "t", "sources": [1]}}},
        ["generations"], "facts", None,
    ],
)  # fmt: skip
def test_facts_of_another_shape_are_a_damaged_registry_and_no_traceback(damaged: Any) -> None:
    content = {**json.loads(Snapshot(1, "shop", project_of([VIEW])).encode()), "facts": damaged}

    with pytest.raises(RegistryError, match="the registry is damaged"):
        Snapshot.decode(json.dumps(content))


def test_a_build_is_named_by_what_shapes_its_rows_and_a_counter() -> None:
    facts = Facts()
    names = []
    for _ in range(3):
        names.append(next_generation(facts, VIEW))
        facts = facts.with_building("seen", names[-1])
    facts = facts.with_current("seen", names[-1])

    assert names == [f"{state_hash(VIEW)}-{number}" for number in (1, 2, 3)]
    assert next_generation(facts, VIEW) == f"{state_hash(VIEW)}-4"
    assert [has_shape_of(each, VIEW) for each in (*names, "", "0123456789ab-1")] == [True] * 3 + [False] * 2


def test_named_generations_are_those_in_use_and_under_way() -> None:
    facts = Facts().with_building("seen", "ab-1").with_current("seen", "ab-1").with_building("seen", "ab-2")

    assert facts.named_generations() == {("seen", "ab-1"), ("seen", "ab-2")}
    assert facts.with_current("seen", "ab-2").named_generations() == {("seen", "ab-2")}
    assert facts.with_applied([], {}).named_generations() == set()


def test_a_replay_gives_back_only_its_own_turn() -> None:
    facts = Facts().with_replay("visits", "mine").with_replay("orders", "mine")

    assert facts.without_replay("visits", "others").replaying == {"visits": "mine", "orders": "mine"}
    assert facts.without_replay("visits", "mine").replaying == {"orders": "mine"}
