"""How fast Redis is read, materialized into and pushed to, beside the same bytes by hand on one connection."""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from redis.cluster import RedisCluster as Cluster

from asof import Entity, FeatureStore, FeatureView, Field, FileSource, PushSource
from asof.definitions import Snapshot, project_of
from asof.flows.batch.materialize import materialize as run_materialize
from asof.flows.stores import Stores, current_generation, table_of
from asof.log.file.log import FileLog
from asof.offline.duckdb.engine import DuckDBOffline
from asof.online.protocol import Lookup, Newest, OnlineTable
from asof.online.redis.connection import RedisConnection, pack_command
from asof.online.redis.keys import RedisNames
from asof.online.redis.rows import rows_of
from asof.online.redis.scripts import NEWEST
from asof.online.redis.settings import settings_of
from asof.online.redis.store import RedisOnlineStore
from asof.registry.sqlite import SqliteRegistry
from asof.sources.file import FileReader
from asof.store import open_store_of
from asof.timing import moment
from asof.types import Float64, Int64, Timestamp
from asof.values.packing import key_bytes
from benchmarks.bench_materialize import FEATURES as MATERIALIZED_FEATURES
from benchmarks.bench_materialize import NOW, write_source
from benchmarks.bench_online import FEATURES, REQUESTS, ROWS, UNPACK, VIEWS, WINDOWS, filled_store
from benchmarks.harness import compare, judge
from tests.services import Redis, RedisCluster, private

LATEST_LIMIT, WINDOWS_LIMIT, OTHER_LIMIT = 2.0, 4.0, 3.0
"""Times a raw read and unpack of the same packed bytes on a plain connection; through TLS and on a Cluster the last."""
CLUSTER_LIMIT = 1.0
"""Times redis-py's cluster client: what our own slots, redirects and connections are kept for."""
MATERIALIZE_LIMIT = 2.0
"""At least half the rate of the same script that is fed with packed values by hand."""
PUSH_LIMITS = {1: 3.0, 1000: 1.0}
"""Times an append to the log and a pipelined HSET of the same bytes, which are all at hand."""


def main(argv: list[str]) -> bool:
    """Measure; answer whether the figures keep their limits."""
    parser = argparse.ArgumentParser(prog="bench_redis")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--users", type=int, help="keys of each view")
    parser.add_argument("--rows", type=int, help="rows to materialize")
    parser.add_argument("--only", choices=["read", "cluster", "materialize", "push"])
    options, _ = parser.parse_known_args(argv)
    kept = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with private(Redis, appendfsync="everysec") as server:
            if options.only in (None, "read"):
                kept += read(folder / "read", server, options)
            if options.only in (None, "cluster"):
                kept += in_a_cluster(options)
            if options.only in (None, "materialize"):
                kept.append(materialize(folder, server, options))
            if options.only in (None, "push"):
                kept += push(folder / "push", server, options)
    return all(kept)


# Reading


def read(folder: Path, server: Redis, options: argparse.Namespace) -> list[bool]:
    """`get_online_features` of one server, through TLS and of a cluster, all against a plain raw read."""
    users = options.users or (2_000 if options.quick else 20_000)
    folder.mkdir()
    url = f"online_store: {{type: redis, url: '{server.url}'}}\n"
    tls = f"online_store: {{type: redis, url: '{server.tls_url}', tls_ca: '{server.certificates.ca}'}}\n"
    store = filled_store(folder, users=users, settings=url)
    kept = []
    with private(RedisCluster) as cluster:
        (folder / "cluster").mkdir()
        spread = f"online_store: {{type: redis, redis_type: redis_cluster, url: '{cluster.url}'}}\n"
        on_cluster = filled_store(folder / "cluster", users=users, settings=spread)
        others = {"tls": reopened(folder, tls), "cluster": on_cluster}
        for kind, limit in (("latest", LATEST_LIMIT), ("windows", WINDOWS_LIMIT)):
            for rows in ROWS:
                kept += measure(server, store, others, kind, rows=rows, users=users, limit=limit, options=options)
        for each in (store, *others.values()):
            each.close()
    return kept


def reopened(folder: Path, settings: str) -> FeatureStore:
    """The same store, reached in another way."""
    (folder / "feature_store.yaml").write_text(f"project: bench\n{settings}")
    return FeatureStore(folder, clock=lambda: moment(NOW))


def measure(
    server: Redis, store: FeatureStore, others: dict[str, FeatureStore], kind: str, *, rows: int, users: int,
    limit: float, options: argparse.Namespace,
) -> list[bool]:  # fmt: skip
    rng = random.Random(rows)
    requests = [rng.sample(range(users), rows) for _ in range(REQUESTS)]
    views = [f"{kind}{i}" for i in range(VIEWS)]
    names = FEATURES if kind == "latest" else [each.name for each in WINDOWS]
    references = [f"{view}:{name}" for view in views for name in names]
    packed = [[key_bytes((user,)) for user in chosen] for chosen in requests]
    raw, mget = raw_readers(server, store, views, unpack=UNPACK[kind])

    def by_hand(reader: Callable[..., list[Any]], keys: Any) -> int:
        return len(names) * len(reader(next(keys)))

    def asof(store: FeatureStore, entity_rows: Any) -> int:
        answer = store.get_online_features(references, next(entity_rows), full_feature_names=True).to_dict()
        return len(answer) - 1

    def rows_of_requests() -> Any:
        return cycle([[{"user_id": user} for user in chosen] for chosen in requests])

    candidates: dict[str, Any] = {
        "by hand": partial(by_hand, raw, cycle(packed)),
        "asof": partial(asof, store, rows_of_requests()),
        "redis-py by hand": partial(by_hand, mget, cycle(packed)),
        **{f"asof, {name}": partial(asof, other, rows_of_requests()) for name, other in others.items()},
    }
    calls = max(REQUESTS // 4, (200 if options.quick else 2_000) // rows)
    figures = compare(
        f"redis/{kind}-{rows}", candidates, fresh=False, calls=calls, runs=3 if options.quick else 7, items=rows,
        note=f"{VIEWS} views × {len(names)} features of {rows} of {users:,} keys, other ones in each call",
    )  # fmt: skip
    verdicts = []
    for candidate, its_limit in (("asof", limit), *((f"asof, {name}", max(limit, OTHER_LIMIT)) for name in others)):
        ratio = figures[candidate].wall_ratio
        assert ratio is not None
        verdicts.append(judge(f"{kind}, {rows} rows: {candidate} / by hand, wall", ratio, its_limit, unit="×"))
    return verdicts


def raw_readers(
    server: Redis, store: FeatureStore, views: list[str], *, unpack: Callable[[list[bytes]], Any]
) -> tuple[Callable[..., list[Any]], Callable[..., list[Any]]]:
    """One MGET of packed keys and the values to columns: on a connection of our own, and through redis-py."""
    tables = [
        table_of("bench", view, str(current_generation(open_store_of(store).snapshot(), view)))
        for view in map(store.get_feature_view, views)
    ]
    head = 32 if tables[0].kind == "latest" else 8
    names = RedisNames("asof:")
    befores = [names.rows(table) for table in tables]
    settings = settings_of(url=server.url)
    connection = RedisConnection(settings.addresses[0], settings)
    client = server.client()

    def columns(values: list[bytes], count: int) -> list[Any]:
        return [unpack([value[head:] for value in values[i * count : (i + 1) * count]]) for i in range(len(tables))]

    def asked(keys: list[bytes]) -> list[bytes]:
        return [before + key + b"}" for before in befores for key in keys]

    def own(keys: list[bytes]) -> list[Any]:
        connection.send(pack_command((b"MGET", *asked(keys))))
        return columns(connection.receive(), len(keys))

    def through_redis_py(keys: list[bytes]) -> list[Any]:
        return columns(client.mget(asked(keys)), len(keys))

    return own, through_redis_py


def in_a_cluster(options: argparse.Namespace) -> list[bool]:
    """The store's `read` of one key in three tables each, against redis-py's cluster client for the same names."""
    count = 2_000
    tables = [OnlineTable("bench", f"latest{i}", "1", "latest") for i in range(VIEWS)]
    keys = [key_bytes((user,)) for user in range(count)]
    versions = Newest([bytes(31) + b"\1"] * count)
    verdicts = []
    with private(RedisCluster) as cluster:
        store = RedisOnlineStore(cluster.url, redis_type="redis_cluster")
        settings, names = store.settings, RedisNames("asof:")
        host, port = settings.addresses[0]
        client = Cluster(host=host, port=port, username=settings.username, password=settings.password)
        for table in tables:
            store.prepare(table)
            store.write(table, keys, [bytes(106)] * count, condition=versions)

        def lookups(chosen: list[bytes]) -> list[Lookup]:
            return [Lookup(table, chosen) for table in tables]

        def nonatomic(requests: Any) -> Any:
            asked = lookups(next(requests))
            return rows_of(asked, client.mget_nonatomic(names.of(asked)))

        def pipelined(requests: Any) -> Any:
            asked = lookups(next(requests))
            all_names = names.of(asked)
            slots: dict[int, list[int]] = {}
            for place, name in enumerate(all_names):
                slots.setdefault(client.keyslot(name), []).append(place)
            pipeline = client.pipeline()
            for positions in slots.values():
                pipeline.execute_command("MGET", *[all_names[place] for place in positions])
            values: list[bytes | None] = [None] * len(all_names)
            for positions, reply in zip(slots.values(), pipeline.execute(), strict=True):
                for place, value in zip(positions, reply, strict=True):
                    values[place] = value
            return rows_of(asked, values)

        def own(requests: Any) -> Any:
            return store.read(lookups(next(requests)))

        for rows in ROWS:
            rng = random.Random(rows)
            requests = [rng.sample(keys, rows) for _ in range(REQUESTS)]
            candidates: dict[str, Any] = {
                "redis-py, mget_nonatomic": partial(nonatomic, cycle(requests)),
                "redis-py, pipeline": partial(pipelined, cycle(requests)),
                "asof": partial(own, cycle(requests)),
            }
            figures = compare(
                f"redis/cluster-{rows}", candidates, fresh=False, calls=max(8, 200 // rows),
                runs=3 if options.quick else 7, items=rows,
                note=f"a Cluster of 3 masters, {rows} of {count:,} keys in {VIEWS} tables",
            )  # fmt: skip
            ratio = figures["asof"].cpu_ratio
            assert ratio is not None
            verdicts.append(judge(f"cluster, {rows} rows: asof / redis-py, CPU", ratio, CLUSTER_LIMIT, unit="×"))
        client.close()
        store.close()
    return verdicts


# Materializing


def materialize(folder: Path, server: Redis, options: argparse.Namespace) -> bool:
    """A first materialize of rows in Parquet, against the script that is given the packed values."""
    rows = options.rows or (20_000 if options.quick else 1_000_000)
    write_source(folder, rows=rows)
    runs = 3
    figures = compare(
        "redis/materialize",
        {"script, fed by hand": partial(fed_by_hand, server, rows), "materialize": partial(by_asof, folder, server)},
        fresh=False, runs=runs, items=rows,
        note=f"{rows:,} rows × {MATERIALIZED_FEATURES} features from Parquet; by hand: values that are packed already",
    )  # fmt: skip
    ratio = figures["materialize"].wall_ratio
    assert ratio is not None
    return judge("materialize / script fed by hand, wall", ratio, MATERIALIZE_LIMIT, unit="×")


_packed: dict[int, tuple[list[bytes], list[bytes]]] = {}


def fed_by_hand(server: Redis, rows: int) -> int:
    """Calls of 500 rows, four of them under way at once, on a plain connection; the packing is not measured."""
    if rows not in _packed:
        value = bytes(32) + bytes(106)
        _packed[rows] = [b"hand:{%d}" % i for i in np.random.default_rng(2).permutation(rows)], [value] * rows
    names, values = _packed[rows]
    settings = settings_of(url=server.url)
    connection = RedisConnection(settings.addresses[0], settings)
    connection.ask("UNLINK", *names[:1])
    connection.ask("SCRIPT", "LOAD", NEWEST.text)
    waiting = 0
    for start in range(0, rows, 500):
        keys = names[start : start + 500]
        if waiting == 4:
            assert connection.receive() == []
            waiting -= 1
        blobs = values[start : start + 500]
        connection.send(pack_command(("EVALSHA", NEWEST.hash, len(keys), *keys, b"", b"", 1, *blobs)))
        waiting += 1
    for _ in range(waiting):
        assert connection.receive() == []
    connection.close()
    return rows


def by_asof(folder: Path, server: Redis) -> int:
    """A first materialize into a project of its own."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        where = Path(name)
        stores = Stores(
            "bench", SqliteRegistry(where / "registry.db"), DuckDBOffline(where / "archive"),
            RedisOnlineStore(server.url, key_prefix=f"m{time.monotonic_ns()}:"),
            FileLog(where / "log", clock=lambda: NOW), {"file": FileReader(folder)}, lambda: NOW,
        )  # fmt: skip
        user, rows = Entity("user", ["user_id"]), FileSource("rows.parquet", timestamp_field="at")
        schema = [Field("user_id", Int64), *(Field(f"f{i}", Float64) for i in range(MATERIALIZED_FEATURES))]
        view = FeatureView("profile", source=rows, entities=user, schema=schema)
        stores.registry.commit(Snapshot(0, "bench", project_of([view])), expected=0, who="bench", when=NOW)
        (done,) = run_materialize(stores, views=["profile"])
        stores.online.close()
        return done.rows


# Pushing


def written(
    store: FeatureStore, connection: RedisConnection, batch: list[dict[str, Any]]
) -> tuple[list[bytes | None], list[tuple[bytes, bytes]]]:
    """Push rows, and answer what that wrote: messages of the log, then names (for hashes) and values in Redis."""
    log, topic = open_store_of(store).stores.log, store.get_feature_view("latest_click").source.topic
    ((number, (_, first)),) = (log.bounds(topic) if topic in log.topics() else {0: (0, 0)}).items()
    store.push("clicks", batch)
    view = store.get_feature_view("latest_click")
    before = RedisNames("asof:").rows(
        table_of("pushes", view, str(current_generation(open_store_of(store).snapshot(), view)))
    )
    names = [before + key_bytes((row["user_id"],)) + b"}" for row in batch]
    values = connection.ask("MGET", *names)
    return log.read(topic, number, first).values, [
        (name.replace(b"asof:", b"hset:", 1), value) for name, value in zip(names, values, strict=True)
    ]


def push(folder: Path, server: Redis, options: argparse.Namespace) -> list[bool]:
    """`push` of rows of other keys each time, against a durable append to a log and an HSET per row."""
    folder.mkdir()
    (folder / "feature_store.yaml").write_text(f"project: pushes\nonline_store: {{type: redis, url: '{server.url}'}}\n")
    store = FeatureStore(folder, clock=lambda: moment(NOW))
    user = Entity("user", join_keys=["user_id"])
    schema = [Field("user_id", Int64), *(Field(f"f{i}", Float64) for i in range(10)), Field("at", Timestamp)]
    source = PushSource("clicks", schema=schema, timestamp_field="at")
    latest = FeatureView("latest_click", source=source, entities=[user], schema=schema[:-1])
    store.apply([latest])
    settings = settings_of(url=server.url)
    connection = RedisConnection(settings.addresses[0], settings)
    log = open_store_of(store).stores.log
    log.create("raw", partitions=1)
    at = moment(NOW)
    verdicts = []
    rng = random.Random(1)
    for rows, limit in PUSH_LIMITS.items():
        given = [
            [
                {"user_id": user, **{f"f{i}": rng.random() for i in range(10)}, "at": at}
                for user in rng.sample(range(100_000), rows)
            ]
            for _ in range(20)
        ]
        ready, batches = cycle([written(store, connection, batch) for batch in given]), cycle(given)

        def by_hand(ready: Any = ready) -> int:
            messages, values = next(ready)
            log.send("raw", messages, partition=0, durable=True)
            connection.send(b"".join([pack_command((b"HSET", key, b"v", value)) for key, value in values]))
            for _ in values:
                connection.receive()
            return len(messages)

        def asof(batches: Any = batches) -> int:
            return store.push("clicks", next(batches))

        figures = compare(
            f"redis/push-{rows}", {"append and HSET": by_hand, "push": asof}, fresh=False, items=rows,
            calls=20 if options.quick else max(20, 400 // rows), runs=3 if options.quick else 7,
            note="fsync of the log on each append on both sides; Redis appendonly, everysec; 10 features, other keys "
            "in each call; by hand: the bytes that a push of these rows writes, made before",
        )  # fmt: skip
        ratio = figures["push"].wall_ratio
        assert ratio is not None
        verdicts.append(judge(f"push of {rows} / append and HSET, wall", ratio, limit, unit="×"))
    store.close()
    return verdicts
