"""The online stores' suite on Redis: a single server, through TLS, under Sentinel and on a Cluster."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from asof.online.protocol import Lookup, Newest, OnlineTable
from asof.testing.online import DRIVER_7, NOON, OnlineStoreSuite
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


@pytest.mark.parametrize("servers", ["redis", "redis_cluster"])
def test_a_dropped_project_leaves_the_rows_of_stores_whose_prefix_begins_with_its_name(
    servers: str, request: pytest.FixtureRequest, key_prefix: str
) -> None:
    found = request.getfixturevalue(servers)
    nodes = found.nodes if servers == "redis_cluster" else [found]
    options = {"redis_type": "redis_cluster"} if servers == "redis_cluster" else {}
    for opened in redis_opener(nodes, key_prefix, url=found.url, **options):
        below = [
            f"{key_prefix}:",
            f"{key_prefix}:shop:",
            f"{key_prefix}:shop:v:",
            f"{key_prefix}:sh?p:",
            f"{key_prefix}:*:",
        ]
        stores = [opened(key_prefix=prefix) for prefix in below]
        tables = [OnlineTable(project, "v", "1-1", "latest") for project in ("shop", "eu", "v")]
        for store in stores:
            for table in tables:
                store.prepare(table)
                store.write(table, [DRIVER_7], [b"kept"], condition=Newest([NOON]))
                store.mark(table)

        stores[0].drop_project("shop")

        assert stores[0].tables("shop") == []
        for store in stores:
            kept = tables[1:] if store is stores[0] else tables
            assert store.unmarked(kept) == []
            for table in kept:
                assert store.read([Lookup(table, [DRIVER_7])])[0][0] is not None, table
