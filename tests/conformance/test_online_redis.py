"""The online stores' suite on Redis: a single server, through TLS, under Sentinel and on a Cluster."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from asof.testing.online import OnlineStoreSuite
from tests.redis_stores import Open, of_sentinel, redis_opener

pytestmark = pytest.mark.integration


class TestRedis(OnlineStoreSuite):
    @pytest.fixture
    def open_store(self, redis, key_prefix: str) -> Iterator[Open]:
        yield from redis_opener([redis], key_prefix, url=redis.url)


class TestRedisThroughTls(OnlineStoreSuite):
    @pytest.fixture
    def open_store(self, redis, key_prefix: str) -> Iterator[Open]:
        yield from redis_opener([redis], key_prefix, url=redis.tls_url, tls_ca=str(redis.certificates.ca))


class TestRedisSentinel(OnlineStoreSuite):
    @pytest.fixture
    def open_store(self, redis_sentinel, key_prefix: str) -> Iterator[Open]:
        yield from redis_opener([redis_sentinel.master], key_prefix, **of_sentinel(redis_sentinel))


class TestRedisCluster(OnlineStoreSuite):
    @pytest.fixture
    def open_store(self, redis_cluster, key_prefix: str) -> Iterator[Open]:
        yield from redis_opener(redis_cluster.nodes, key_prefix, url=redis_cluster.url, redis_type="redis_cluster")
