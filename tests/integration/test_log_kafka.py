"""The log suite on a real Kafka broker."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from asof.log.kafka import KafkaLog
from asof.testing.log import LogSuite, OpenLog

pytestmark = pytest.mark.integration


def now() -> int:
    return int(time.time() * 1e6)


class TestKafkaLog(LogSuite):
    # Kafka keeps every record as it was written until retention passes it; librdkafka takes time 0 for now.
    unsupported = frozenset({"erase", "epoch"})

    @pytest.fixture
    def open_log(self) -> Iterator[OpenLog]:
        opened: list[KafkaLog] = []

        def make() -> KafkaLog:
            log = KafkaLog(os.environ["KAFKA"], clock=now, replication_factor=1, session_timeout_s=6)
            opened.append(log)
            return log

        yield make
        for each in opened:
            each.close()
