"""Servers from the command line, for people: `python -m tests.services install | start [NAME…] | run [NAME…] | stop`.

They keep their ports and data until `stop`. `install spark` fetches Spark's jars, too. Names: postgres, redis,
redis-sentinel, redis-cluster, kafka, schema-registry, s3, sail, sail-cluster, spark, spark-cluster.
"""

from __future__ import annotations

import getpass
import hashlib
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.services.jars import fetch_all
from tests.services.kafka import Kafka
from tests.services.postgres import Postgres
from tests.services.processes import ServiceUnavailable, end_all, processes_below
from tests.services.redis import Redis, RedisCluster, RedisSentinel
from tests.services.s3 import ACCESS_KEY, S3, SECRET_KEY
from tests.services.schema_registry import SchemaRegistry
from tests.services.sharing import locked, make_directory, shared
from tests.services.spark import Sail, SailCluster, Spark, SparkCluster

KINDS = {
    "postgres": Postgres,
    "redis": Redis,
    "redis-sentinel": RedisSentinel,
    "redis-cluster": RedisCluster,
    "kafka": Kafka,
    "schema-registry": SchemaRegistry,
    "s3": S3,
    "sail": Sail,
    "sail-cluster": SailCluster,
    "spark": Spark,
    "spark-cluster": SparkCluster,
}
# What a bare `start` does not start: other forms of servers that it does, and those that take much memory.
ON_REQUEST = {"sail-cluster", "spark", "spark-cluster"}
# Those of docker-compose.yml, where they are free.
PORTS = {"postgres": 15432, "redis": 16379, "kafka": 19092, "schema-registry": 18081, "s3": 19000, "sail": 15051}
DATABASE = "asof"
BUCKET = "asof"


def place() -> Path:
    """Where this checkout's servers live: PostgreSQL's user cannot always look into the checkout itself."""
    checkout = hashlib.sha256(str(Path(__file__).resolve()).encode()).hexdigest()[:8]
    return Path(tempfile.gettempdir()) / f"asof-services-of-{getpass.getuser()}-{checkout}"


def start(names: Sequence[str]) -> dict[str, str]:
    """Start servers that do not run yet; answer the variables that say where they are."""
    directory = place()
    with locked(directory.with_suffix(".lock")):
        if not directory.exists():
            make_directory(directory)
    for refused in directory.glob("*.refused"):
        refused.unlink()  # what was missing then may be here now

    def launch(name: str) -> object:
        return shared(KINDS[name], directory, **({"ports": {"port": PORTS[name]}} if name in PORTS else {}))

    with ThreadPoolExecutor() as pool:
        servers = dict(zip(names, pool.map(launch, names), strict=True))
    return dict(pair for name, server in servers.items() for pair in _variables(name, server))


def _variables(name: str, server: object) -> Iterator[tuple[str, str]]:
    prefix = f"ASOF_{name.upper().replace('-', '_')}"
    match server:
        case Postgres():
            server.ensure_database(DATABASE)
            yield prefix, server.url(DATABASE)
        case RedisSentinel():
            yield prefix, ",".join(f"{host}:{port}" for host, port in server.sentinels)
            yield f"{prefix}_MASTER", server.group
        case S3():
            yield prefix, server.url
            yield "ASOF_STORAGE", f"{server.create_bucket(BUCKET)}/demo"
            # By these names every client of S3 looks for them.
            yield "AWS_ACCESS_KEY_ID", ACCESS_KEY
            yield "AWS_SECRET_ACCESS_KEY", SECRET_KEY
        case _:
            yield prefix, server.url


def main(arguments: Sequence[str]) -> int:
    verb, *names = arguments or ["help"]
    unknown = [name for name in names if name not in KINDS]
    if verb not in ("install", "start", "run", "stop") or unknown:
        print(__doc__ if not unknown else f"no such server: {' '.join(unknown)}\n{__doc__}", file=sys.stderr)
        return 2
    try:
        if verb == "install":
            fetch_all(with_spark="spark" in names)
        elif verb == "stop":
            count = len(processes_below(place()))
            end_all(place())
            print(f"{count} servers stopped; their data is gone")
        else:
            for variable, value in start(names or [name for name in KINDS if name not in ON_REQUEST]).items():
                print(f"export {variable}='{value}'")
            if verb == "run":
                _wait_for_the_end()
                end_all(place())
    except ServiceUnavailable as error:
        print(f"{error.service} cannot be had: {error.reason}", file=sys.stderr)
        # Without them `make test` goes on, and its tests skip aloud.
        return 0 if verb == "install" else 1
    return 0


def _wait_for_the_end() -> None:
    print("# Ctrl-C ends them.", flush=True)
    signals = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    signal.sigwait(signals)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
