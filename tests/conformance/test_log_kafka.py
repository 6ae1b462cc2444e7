"""The log suite on a real Kafka broker."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from asof.log.kafka.log import KafkaLog
from asof.testing.log import LogSuite, OpenLog
from tests.services import Kafka

pytestmark = pytest.mark.integration


def now() -> int:
    return int(time.time() * 1e6)


class TestKafkaLog(LogSuite):
    # Kafka keeps every record as it was written until retention passes it; librdkafka takes time 0 for now.
    unsupported = frozenset({"erase", "epoch"})

    @pytest.fixture
    def open_log(self, kafka: Kafka, topic_prefix: str) -> Iterator[OpenLog]:
        opened: list[KafkaLog] = []

        def make() -> KafkaLog:
            # A member learns of a rebalance by its next heartbeat.
            quick = {"heartbeat.interval.ms": 200}
            log = KafkaLog(kafka.bootstrap, clock=now, topic_prefix=topic_prefix, session_timeout_s=6, settings=quick)
            opened.append(log)
            return log

        yield make
        for each in opened:
            each.close()
