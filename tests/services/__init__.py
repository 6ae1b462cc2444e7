"""The real servers of the tests, and what a test does when one cannot be had: skip aloud, but fail in CI."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

from tests.services.kafka import Kafka
from tests.services.postgres import Postgres
from tests.services.processes import Server, ServiceUnavailable
from tests.services.redis import Redis, RedisCluster, RedisSentinel
from tests.services.s3 import S3, S3Proxy
from tests.services.schema_registry import SchemaRegistry
from tests.services.sharing import private, shared
from tests.services.spark import Sail, SailCluster, Spark, SparkCluster

__all__ = [
    "S3",
    "Kafka",
    "Postgres",
    "Redis",
    "RedisCluster",
    "RedisSentinel",
    "S3Proxy",
    "Sail",
    "SailCluster",
    "SchemaRegistry",
    "Server",
    "ServiceUnavailable",
    "Spark",
    "SparkCluster",
    "private",
    "shared",
    "unavailable",
]


def unavailable(service: str, reason: str) -> NoReturn:
    """Skip the running test because `service` cannot be had; with `CI=true` fail it.

    Args:
        service: the service's name, like `Kafka`.
        reason: why it cannot be had, as the system said it.
    """
    message = f"{service} cannot be had: {reason}"
    if os.environ.get("CI", "").lower() in ("true", "1"):
        pytest.fail(f"{message} (a failure, because CI is set)", pytrace=False)
    pytest.skip(message)
