"""Redis online stores for tests: under a prefix of their own, on any kind of server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from asof.flows.stores import Stores
from asof.online.redis.store import RedisOnlineStore
from asof.testing.clock import MicrosClock
from tests.embedded_stores import embedded_stores
from tests.services import Redis

Open = Callable[..., RedisOnlineStore]


def redis_opener(servers: list[Redis], prefix: str, **options: Any) -> Iterator[Open]:
    """Opens stores whose keys begin with `prefix`, and afterwards closes them and removes the keys."""
    opened: list[RedisOnlineStore] = []

    def open_one(**more: Any) -> RedisOnlineStore:
        opened.append(RedisOnlineStore(**{"key_prefix": f"{prefix}:", **options, **more}))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()
    for server in servers:
        with server.client() as client:
            pipeline = client.pipeline(transaction=False)
            for name in client.scan_iter(f"{prefix}*", 1000):
                pipeline.unlink(name)
            pipeline.execute()


def of_sentinel(services: Any) -> dict[str, Any]:
    hosts = ",".join(f"{host}:{port}" for host, port in services.sentinels)
    return {
        "connection_string": f"{hosts},username=asof,password=asof-secret", "redis_type": "redis_sentinel",
        "sentinel_master": services.group, "sentinel_password": services.sentinel_password,
    }  # fmt: skip


def redis_parts(path: Path, clock: MicrosClock, **options: Any) -> Stores:
    stores = embedded_stores(path, clock=clock)
    stores.online.close()
    return stores.replaced(online=RedisOnlineStore(clock=clock, **options))
