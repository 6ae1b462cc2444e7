"""Topics that others make are looked for and never made; a plan makes none at all."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from asof import Field, KafkaSource, LogSource, PushSource
from asof.definitions.project import project_of
from asof.flows.stream.topics import check_logs, make_topic
from asof.log.protocol import UnknownTopic
from asof.types import Int64

SCHEMA = [Field("user_id", Int64), Field("ts", Int64)]


class Topics:
    """A log of which only the topics matter."""

    def __init__(self, *names: str) -> None:
        self.names, self.made = set(names), list[str]()

    def topics(self) -> set[str]:
        return self.names

    def topic_id(self, topic: str) -> str:
        if topic not in self.names:
            raise UnknownTopic(topic, where="there")
        return f"id of {topic}"

    def create(self, topic: str, partitions: int = 1) -> None:
        self.made.append(topic)


def parts_of(log: Topics) -> Any:
    return SimpleNamespace(log=log, log_of=lambda source: log, partitions=1)


OURS = [
    PushSource("pushed", SCHEMA, "ts", timestamp_unit="ms"),
    LogSource("logged", schema=SCHEMA, timestamp_field="ts", timestamp_unit="ms", dead_letter_topic="dead"),
]
THEIRS = KafkaSource(
    "theirs", schema=SCHEMA, timestamp_field="ts", timestamp_unit="ms", topic="clicks", bootstrap_servers="there:9092",
    dead_letter_topic="dead",
)  # fmt: skip


def test_a_plan_looks_for_the_topics_of_others_and_makes_none() -> None:
    there, not_there = Topics("clicks"), Topics()
    project = project_of([*OURS, THEIRS])

    assert check_logs(parts_of(there), project) == []
    (finding,) = check_logs(parts_of(not_there), project)
    assert (finding.object, finding.severity) == ("source 'theirs'", "error")
    assert there.made == not_there.made == []


@pytest.mark.parametrize("source", OURS, ids=lambda source: source.type)
def test_topics_of_our_own_are_made(source: LogSource) -> None:
    log = Topics()

    make_topic(parts_of(log), source)

    assert source.topic_is_ours and source.topic in log.made


def test_the_topic_of_others_is_not_made_but_that_of_its_dead_letters_is() -> None:
    log = Topics("clicks")

    make_topic(parts_of(log), THEIRS)

    assert not THEIRS.topic_is_ours and log.made == ["dead"]
    with pytest.raises(UnknownTopic, match="clicks") as raised:
        make_topic(parts_of(Topics()), THEIRS)
    assert "bootstrap_servers" in raised.value.hint


def test_each_source_replays_dead_letters_through_a_topic_of_its_own() -> None:
    other = KafkaSource(
        "other", schema=SCHEMA, timestamp_field="ts", timestamp_unit="ms", topic="clicks",
        bootstrap_servers="there:9092",
    )  # fmt: skip

    replays = [source.replay_topic for source in (*OURS, THEIRS, other)]
    assert replays == ["push.pushed.replay", "logged.replay", "kafka.theirs.replay", "kafka.other.replay"]
