"""The stores of the demo: embedded ones in the demo's folder, or servers."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec

from asof.demo.repository import write_repository, write_server_repository
from asof.demo.shop import Shop
from asof.errors import MissingExtra
from asof.store import FeatureStore, open_store_of
from asof.timing import Micros

TOPIC = "traffic"
PARTITIONS = 4
SERVERS_FILE = "servers.env"

_encode = msgspec.json.Encoder().encode


class Stage(Protocol):
    """The differences between embedded stores and servers."""

    fills: str
    """Description of what is filled before definitions are applied; empty for source files only."""
    enter: str
    """The shell command to enter the repository."""

    def write_repository(self, clock: Micros) -> list[Path]:
        """Write the feature repository for a store whose clock starts then."""

    def environment(self) -> AbstractContextManager[None]:
        """A context in which the repository's `${VAR}` are set."""

    def fill(self, shop: Shop, open_store: Callable[[], FeatureStore]) -> list[str]:
        """Remove what an earlier demo left, and create the shop's tables and an empty topic; returns descriptions."""

    def send(self, store: FeatureStore, shop: Shop) -> None:
        """Send the shop's traffic, as the website would, keyed by user."""

    def positions(self) -> dict[str, str]:
        """Server → its address, without secrets."""


class EmbeddedStage:
    """Embedded stores, in the demo's folder."""

    fills = ""

    def __init__(self, output: Path) -> None:
        self._repository = output / "repo"
        self.enter = f"cd {self._repository}"

    def write_repository(self, clock: Micros) -> list[Path]:
        return write_repository(self._repository, clock=clock)

    @contextmanager
    def environment(self) -> Iterator[None]:
        yield

    def fill(self, shop: Shop, open_store: Callable[[], FeatureStore]) -> list[str]:
        return []

    def send(self, store: FeatureStore, shop: Shop) -> None:
        log = open_store_of(store).stores.log
        log.create(TOPIC)
        log.send(
            TOPIC, _messages(shop, "json"), durable=True, keys=_keys(shop),
            timestamps_us=[time_ms * 1000 for time_ms in shop.traffic["timestamp"].to_pylist()],
        )  # fmt: skip

    def positions(self) -> dict[str, str]:
        return {}


@dataclass(frozen=True)
class DemoServers:
    """The demo's servers, and options for them.

    Args:
        postgres: a URL.
        kafka: `host:port`.
        redis: `host:port`, or a URL.
        offline: `duckdb` or `postgres`.
        message_format: of the traffic: `json` or `avro`.
        project: the name of all that the demo creates there.
    """

    postgres: str
    kafka: str
    redis: str
    offline: str = "duckdb"
    message_format: str = "json"
    project: str = "asof_demo"

    @property
    def variables(self) -> dict[str, str]:
        """Environment variables of the repository."""
        redis = self.redis if "://" in self.redis else f"redis://{self.redis}"
        return {"ASOF_POSTGRES": self.postgres, "ASOF_KAFKA": self.kafka, "ASOF_REDIS": redis}


class ServerStage:
    """Users and orders in Postgres, traffic on Kafka, serving from Redis."""

    fills = "users and orders become Postgres tables; the traffic gets an empty topic"

    def __init__(self, output: Path, servers: DemoServers) -> None:
        try:
            from asof.demo.postgres import ShopDatabase  # the embedded demo needs no driver
        except ImportError as error:
            raise MissingExtra("the demo on servers", "postgres,kafka,redis") from error

        self._repository = output / "repo"
        self._servers = servers
        self._topic = f"{servers.project}_{TOPIC}"
        self._database = ShopDatabase(servers.postgres, servers.project)
        self.enter = f"cd {self._repository} && . ./{SERVERS_FILE}"

    def write_repository(self, clock: Micros) -> list[Path]:
        servers = self._servers
        written = write_server_repository(
            self._repository, clock=clock, project=servers.project, offline=servers.offline,
            message_format=servers.message_format,
        )  # fmt: skip
        file = self._repository / SERVERS_FILE
        lines = [f"export {name}={shlex.quote(value)}\n" for name, value in servers.variables.items()]
        # It may have passwords: readable by its owner only, from its creation on.
        file.unlink(missing_ok=True)
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as out:
            out.write("".join(("# Where the servers of feature_store.yaml are; may hold passwords.\n", *lines)))
        return [*written, file]

    @contextmanager
    def environment(self) -> Iterator[None]:
        before = {name: os.environ.get(name) for name in self._servers.variables}
        os.environ.update(self._servers.variables)
        try:
            yield
        finally:
            self._database.close()
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value

    def fill(self, shop: Shop, open_store: Callable[[], FeatureStore]) -> list[str]:
        from asof.demo.postgres import DemoManifest

        with open_store() as store:
            self._clear(store)
        self._database.fill({"users": shop.users, "orders": shop.orders})
        with open_store() as store:
            log = open_store_of(store).stores.log_of(self._source(store))
            log.create(self._topic, PARTITIONS)
            self._database.remember(DemoManifest(self._topic, log.topic_id(self._topic)))
        schema = self._servers.project
        return [
            f"tables {schema}.users and {schema}.orders in {self._database.place}",
            f"topic {self._topic} with {PARTITIONS} partitions in Kafka at {self._servers.kafka}",
        ]

    def _clear(self, store: FeatureStore) -> None:
        """Remove exactly what an earlier demo with this name created, after checking all servers."""
        from asof.demo.postgres import NameTaken

        made = self._database.made_earlier()
        log = open_store_of(store).stores.log_of(self._source(store))
        exists = self._topic in log.topics()
        online = open_store_of(store).stores.online.tables(self._servers.project)
        if exists and (made is None or made.topic_id != log.topic_id(self._topic)):
            raise NameTaken(f"topic {self._topic!r}", f"Kafka at {self._servers.kafka}")
        if online and made is None:
            raise NameTaken(f"project {self._servers.project!r}", f"Redis at {self.positions()['Redis']}")
        if made is not None:
            store.teardown(purge=True)
            if exists:
                log.delete(self._topic)
            self._database.drop()

    def _source(self, store: FeatureStore) -> Any:
        return open_store_of(store).definitions().sources[TOPIC]

    def send(self, store: FeatureStore, shop: Shop) -> None:
        # A broker's retention goes by the times of records, and the shop's events are from 2020: they were sent today.
        messages, now_us = _messages(shop, self._servers.message_format), time.time_ns() // 1000
        open_store_of(store).stores.log_of(self._source(store)).send(
            self._topic, messages, durable=True, keys=_keys(shop), timestamps_us=[now_us] * len(messages)
        )

    def positions(self) -> dict[str, str]:
        redis = self._servers.variables["ASOF_REDIS"].rpartition("://")[2].rpartition("@")[2].partition("/")[0]
        return {"PostgreSQL": self._database.place.removeprefix("PostgreSQL at "), "Kafka": self._servers.kafka,
                "Redis": redis}  # fmt: skip


def _messages(shop: Shop, message_format: str) -> list[bytes]:
    views: list[dict[str, Any]] = shop.traffic.select(["user_id", "page", "timestamp"]).to_pylist()
    if message_format == "avro":
        from asof.demo.avro import encode_views

        return encode_views(views)
    return [_encode(view) for view in views]


def _keys(shop: Shop) -> list[bytes]:
    return [str(user).encode() for user in shop.traffic["user_id"].to_pylist()]
