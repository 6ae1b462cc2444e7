"""Dead letters go to a topic as well, if asked: with their bytes, headers, origin and reason, at least once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from asof.definitions import Entity, FeatureView, Field, LogSource, project_of
from asof.errors import DefinitionError
from asof.flows.apply.apply import apply_plan
from asof.flows.apply.plan import make_plan
from asof.flows.stream.dead_letters import list_dead_letters, replay_dead_letters, show_dead_letter
from asof.flows.stream.run import run_stream
from asof.testing.clock import MicrosClock
from asof.testing.streams import CRASH_POINTS, StreamRun
from asof.timing import HOUR, micros
from asof.types import Int64, String
from tests.embedded_stores import close, embedded_stores, read_online

NOW = micros("2026-01-01T12:00:00+00:00")
SCHEMA = [Field("user_id", Int64), Field("page", String), Field("trace", String), Field("at", Int64)]


def source(**options):
    return LogSource(
        "visits", schema=SCHEMA, timestamp_field="at", timestamp_unit="us", dead_letter_topic="visits.dead",
        header_fields={"trace": "trace-id"}, **options,
    )  # fmt: skip


def applied(stores, *, of):
    view = FeatureView("newest", entities=[Entity("user", ["user_id"])], source=of)
    return apply_plan(stores, make_plan(stores, project_of([of, view])))


def value(user, after=0):
    return json.dumps({"user_id": user, "page": "a", "at": NOW + after}).encode()


def sent(stores):
    messages = stores.log.read("visits.dead", 0, 0)
    headers = [dict(each) for each in messages.headers or ()]
    return list(zip(messages.keys, messages.values, messages.timestamps_us.tolist(), headers, strict=True))


@pytest.fixture
def stores(tmp_path: Path):
    stores = embedded_stores(tmp_path, clock=MicrosClock(NOW))
    yield stores
    close(stores)


def test_a_letter_is_sent_with_its_bytes_and_what_is_known_of_it(stores):
    applied(stores, of=source())
    headers = [(), (("trace-id", b"t1"),), (("trace-id", b"t2"),)]
    stores.log.send(
        "visits", [value(1), b"bad", value(3, HOUR)], keys=[b"1", b"k", None], headers=headers,
        timestamps_us=[NOW, NOW - 5, NOW], partition=0, durable=True,
    )  # fmt: skip

    run_stream(stores, until_caught_up=True)

    first, second = sorted(sent(stores), key=lambda each: each[3]["asof.offset"])
    assert first[:3] == (b"k", b"bad", NOW - 5)
    assert first[3].pop("asof.reason").startswith(b"not a JSON object")
    assert first[3] == {
        "trace-id": b"t1", "asof.source": b"visits", "asof.topic": b"visits", "asof.partition": b"0",
        "asof.offset": b"1",
    }  # fmt: skip
    assert b"1h after the clock" in second[3]["asof.reason"]


@pytest.mark.parametrize("point", CRASH_POINTS)
def test_a_crash_anywhere_loses_no_letter(stores, point):
    made = source()
    view = FeatureView("newest", entities=[Entity("user", ["user_id"])], source=made)
    run = StreamRun(stores, stores.clock, partitions=1, definitions=(made, view))
    stores.log.send("visits", [value(1), b"bad", value(2), value(3, HOUR), b"worse"], partition=0, durable=True)
    run.crash_at(point)
    run.step()
    run.flush()
    run.finish()

    assert {each[3]["asof.offset"] for each in sent(stores)} == {b"1", b"3", b"4"}
    assert len(list_dead_letters(stores)) == 3


def test_a_replayed_letter_keeps_its_headers(stores):
    applied(stores, of=source(max_future="1m"))
    stores.log.send(
        "visits", [value(1, HOUR)], headers=[(("trace-id", b"t1"),)], partition=0, durable=True
    )  # fmt: skip
    run_stream(stores, until_caught_up=True)
    assert show_dead_letter(stores, "visits/0/0")["headers"] == (("trace-id", b"t1"),)

    stores.clock.now += HOUR
    assert replay_dead_letters(stores, "visits")["sent"] == 1
    run_stream(stores, until_caught_up=True)

    assert read_online(stores, "newest", {"user_id": [1]})["trace"] == ["t1"]
    assert len(sent(stores)) == 1


def test_a_source_does_not_write_letters_into_its_own_topic():
    with pytest.raises(DefinitionError, match="is the source's own topic"):
        LogSource("visits", schema=SCHEMA, timestamp_field="at", timestamp_unit="us", dead_letter_topic="visits")
