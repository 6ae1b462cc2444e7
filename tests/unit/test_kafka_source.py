"""Sources on Kafka as definitions: what they keep, what they refuse, and which cluster they mean."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from asof import Aggregation, Entity, FeatureView, Field, FileSource, KafkaSource
from asof.config import load_config
from asof.definitions import state_hash
from asof.definitions.source_types import source_of
from asof.errors import DefinitionError
from asof.opening.servers import SourceConnections
from asof.types import Int64, String

FIELDS = [Field("user_id", Int64), Field("page", String), Field("timestamp", Int64)]


def traffic(**options: Any) -> KafkaSource:
    return KafkaSource(
        **{"name": "traffic", "schema": FIELDS, "timestamp_field": "timestamp", "timestamp_unit": "ms", **options}
    )


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"topic": "web.traffic", "bootstrap_servers": "${KAFKA}"},
        {"kafka_bootstrap_servers": ["a:1", "b:2"], "kafka_settings": {"sasl.password": "${PW}", "fetch.min.bytes": 9}},
        {"connection_ref": "events", "start": "latest"},
        {"start": datetime(2026, 1, 31, tzinfo=UTC)},
        {"watermark_delay_threshold": timedelta(minutes=7)},
        {"batch_source": FileSource("old.parquet", timestamp_field="ts"), "stream_from": "2026-01-01"},
    ],
)
def test_a_source_is_the_same_after_a_stay_in_the_registry(options: dict[str, Any]) -> None:
    source = traffic(**options)
    assert source_of(source.content()) == source
    assert "${" not in str(options) or "${" in str(source.content())


def test_feasts_words_mean_what_they_mean_there() -> None:
    source = traffic(kafka_bootstrap_servers="a:1", watermark_delay_threshold=timedelta(minutes=7))
    assert source.connection == {"bootstrap_servers": "a:1"}
    assert source.allowed_lateness == 7 * 60 * 1_000_000
    assert traffic().allowed_lateness == 3600 * 1_000_000
    assert traffic(batch_source=FileSource("old.parquet", timestamp_field="ts")).stream_from is None


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"bootstrap_servers": "a:1", "kafka_bootstrap_servers": "b:1"}, "differ"),
        ({"bootstrap_servers": "a:1", "connection_ref": "events"}, "connection_ref= and bootstrap_servers="),
        ({"kafka_settings": {"security.protocol": "SSL"}}, "kafka_settings= and no bootstrap_servers="),
        ({"bootstrap_servers": "a:1", "kafka_settings": {"sasl.password": "hunter2"}}, "contains a secret"),
        ({"start": "yesterday"}, "start='yesterday'"),
        ({"start": 7.5}, r"start=7\.5"),
        ({"schema": []}, "has no schema"),
        ({"bootstrap_server": "a:1"}, "bootstrap_server"),
    ],
)
def test_what_cannot_be_is_refused_with_its_name(options: dict[str, Any], found: str) -> None:
    with pytest.raises(DefinitionError, match=found) as raised:
        traffic(**options)
    assert raised.value.hint and "hunter2" not in str(raised.value)


def test_moving_to_other_brokers_rebuilds_nothing() -> None:
    def hashed(**options: Any) -> str:
        view = FeatureView(
            "views", entities=[Entity("user", ["user_id"])], source=traffic(**options),
            aggregations=[Aggregation("", "count", name="n")],
        )  # fmt: skip
        return state_hash(view)

    here = hashed(bootstrap_servers="a:1")
    assert here == hashed(bootstrap_servers="b:1", kafka_settings={"fetch.min.bytes": 9})
    assert here == hashed(connection_ref="events", start="latest")
    assert here != hashed(topic="another")


def test_sources_on_one_topic_replay_their_own_letters() -> None:
    one, two = traffic(), traffic(name="clicks", topic="traffic")
    assert one.replay_topic != two.replay_topic


def test_the_cluster_is_the_sources_own_the_named_one_or_that_of_the_log(tmp_path: Path) -> None:
    (tmp_path / "feature_store.yaml").write_text(
        """
        project: shop
        connections:
          events: {type: kafka, bootstrap_servers: [a:1, b:2], settings: {sasl.password: "${PW}", fetch.min.bytes: 9}}
        log: {type: kafka, bootstrap_servers: own:1, partitions: 6, topic_settings: {min.insync.replicas: 2}}
        """
    )
    config = load_config(tmp_path, environ={"PW": "hunter2"})
    known = SourceConnections(config, {"KAFKA": "c:3"})

    assert known.of(traffic(bootstrap_servers="${KAFKA}"), "kafka").options == {"bootstrap_servers": "c:3"}
    named = known.of(traffic(connection_ref="events"), "kafka").options
    assert named["bootstrap_servers"] == ["a:1", "b:2"]
    assert named["settings"] == {"sasl.password": "hunter2", "fetch.min.bytes": 9}
    assert known.of(traffic(), "kafka").options["bootstrap_servers"] == ["own:1"]
    assert "hunter2" not in str(config.describe()) and "hunter2" not in repr(config)
