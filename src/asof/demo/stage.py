"""The stores of the demo: embedded ones in the demo's folder, a bucket, or servers."""

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
import pyarrow as pa

from asof.demo.manifest import DemoManifest, NameTaken
from asof.demo.repository import write_bucket_repository, write_repository, write_server_repository
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
        postgres: a URL; empty where `storage` is given.
        kafka: `host:port`; with `storage`, empty for a log in the demo's folder.
        redis: `host:port`, or a URL; empty where `kafka` is, for an online store in the demo's folder.
        offline: `duckdb` or `postgres`.
        message_format: of the traffic: `json` or `avro`.
        project: the name of all that the demo creates there.
        storage: an address such as `s3://bucket/demo`, for users, orders, registry, archives and training sets.
        storage_endpoint: URL of the bucket's server; empty is the provider's own.
        spark: with `storage`, the Spark Connect server that computes history, `sc://host:port`; empty for DuckDB.
    """

    postgres: str
    kafka: str
    redis: str
    offline: str = "duckdb"
    message_format: str = "json"
    project: str = "asof_demo"
    storage: str = ""
    storage_endpoint: str = ""
    spark: str = ""

    @property
    def variables(self) -> dict[str, str]:
        """Environment variables of the repository."""
        redis = self.redis if "://" in self.redis else f"redis://{self.redis}"
        postgres = {"ASOF_POSTGRES": self.postgres} if self.postgres else {}
        return {**postgres, "ASOF_KAFKA": self.kafka, "ASOF_REDIS": redis}


class ShopTables(Protocol):
    """Where users and orders are kept, with a record of what the demo created."""

    @property
    def place(self) -> str:
        """Its address, without a secret."""

    def made_earlier(self) -> DemoManifest | None:
        """The record of an earlier demo; None if there was none.

        Raises:
            NameTaken: what is there was not created by the demo.
        """

    def drop(self) -> None:
        """Remove all that the demo created there."""

    def fill(self, tables: dict[str, pa.Table]) -> None:
        """Mark the place as the demo's own, and write the tables."""

    def remember(self, made: DemoManifest) -> None:
        """Record the topic that the demo created."""

    def close(self) -> None: ...


class BucketStage(EmbeddedStage):
    """Users, orders, registry, archive and training sets in a bucket; log and online store in the demo's folder."""

    fills = "users and orders become objects in the bucket"

    def __init__(self, output: Path, servers: DemoServers) -> None:
        super().__init__(output)
        self._servers = servers
        self._bucket = _tables_of(servers)

    def write_repository(self, clock: Micros) -> list[Path]:
        servers = self._servers
        return write_bucket_repository(
            self._repository, clock=clock, address=servers.storage, endpoint=servers.storage_endpoint,
            spark=servers.spark,
        )  # fmt: skip

    def fill(self, shop: Shop, open_store: Callable[[], FeatureStore]) -> list[str]:
        made = self._bucket.made_earlier()
        if made is not None and made.topic:
            raise NameTaken(
                f"a demo with topic {made.topic!r}", self._bucket.place,
                hint="give its --kafka and --redis again, so that it is removed there; or another prefix in --storage",
            )  # fmt: skip
        self._bucket.drop()
        self._bucket.fill({"users": shop.users, "orders": shop.orders})
        return [_objects(self._bucket)]

    def positions(self) -> dict[str, str]:
        return {"Bucket": self._bucket.place}


class ServerStage:
    """Users and orders in Postgres or a bucket, traffic on Kafka, serving from Redis."""

    def __init__(self, output: Path, servers: DemoServers) -> None:
        self._repository = output / "repo"
        self._servers = servers
        self._topic = f"{servers.project}_{TOPIC}"
        self._tables = _tables_of(servers)
        become = "objects in the bucket" if servers.storage else "Postgres tables"
        self.fills = f"users and orders become {become}; the traffic gets an empty topic"
        self.enter = f"cd {self._repository} && . ./{SERVERS_FILE}"

    def write_repository(self, clock: Micros) -> list[Path]:
        servers = self._servers
        if servers.storage:
            written = write_bucket_repository(
                self._repository, clock=clock, address=servers.storage, endpoint=servers.storage_endpoint,
                project=servers.project, message_format=servers.message_format, spark=servers.spark,
            )  # fmt: skip
        else:
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
            self._tables.close()
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value

    def fill(self, shop: Shop, open_store: Callable[[], FeatureStore]) -> list[str]:
        made = self._tables.made_earlier()
        with open_store() as store:
            self._clear(store, made)
        self._tables.fill({"users": shop.users, "orders": shop.orders})
        with open_store() as store:
            log = open_store_of(store).stores.log_of(self._source(store))
            log.create(self._topic, PARTITIONS)
            self._tables.remember(DemoManifest(self._topic, log.topic_id(self._topic)))
        schema = self._servers.project
        tables = f"tables {schema}.users and {schema}.orders in {self._tables.place}"
        return [
            _objects(self._tables) if self._servers.storage else tables,
            f"topic {self._topic} with {PARTITIONS} partitions in Kafka at {self._servers.kafka}",
        ]

    def _clear(self, store: FeatureStore, made: DemoManifest | None) -> None:
        """Remove exactly what an earlier demo with this name created, after checking all servers."""
        log = open_store_of(store).stores.log_of(self._source(store))
        exists = self._topic in log.topics()
        online = open_store_of(store).stores.online.tables(self._servers.project)
        if exists and (made is None or made.topic_id != log.topic_id(self._topic)):
            raise NameTaken(f"topic {self._topic!r}", f"Kafka at {self._servers.kafka}")
        if online and (made is None or not made.topic):
            raise NameTaken(f"project {self._servers.project!r}", f"Redis at {self.positions()['Redis']}")
        if made is not None:
            store.teardown(purge=True)
            if exists:
                log.delete(self._topic)
            self._tables.drop()

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
        position = {
            "Bucket" if self._servers.storage else "PostgreSQL": self._tables.place.removeprefix("PostgreSQL at ")
        }
        return {**position, "Kafka": self._servers.kafka, "Redis": redis}


def stage_of(output: Path, servers: DemoServers | None) -> Stage:
    """The stage for these servers; None is for embedded stores."""
    if servers is None:
        return EmbeddedStage(output)
    return ServerStage(output, servers) if servers.kafka else BucketStage(output, servers)


def _tables_of(servers: DemoServers) -> ShopTables:
    try:  # the embedded demo needs no driver
        if servers.storage:
            from asof.demo.bucket import ShopBucket

            return ShopBucket(servers.storage, servers.storage_endpoint)
        from asof.demo.postgres import ShopDatabase

        return ShopDatabase(servers.postgres, servers.project)
    except ImportError as error:
        raise MissingExtra("the demo on servers", "postgres,kafka,redis") from error


def _objects(tables: ShopTables) -> str:
    return f"objects source/users.parquet and source/orders.parquet in {tables.place}"


def _messages(shop: Shop, message_format: str) -> list[bytes]:
    views: list[dict[str, Any]] = shop.traffic.select(["user_id", "page", "timestamp"]).to_pylist()
    if message_format == "avro":
        from asof.demo.avro import encode_views

        return encode_views(views)
    return [_encode(view) for view in views]


def _keys(shop: Shop) -> list[bytes]:
    return [str(user).encode() for user in shop.traffic["user_id"].to_pylist()]
