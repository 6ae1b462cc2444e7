"""Faults of Spark Connect servers: the same rows, or one clear error, and never a part of them."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from asof.connections.spark import ServerSession, pool
from asof.errors import AsofError, EntityFrameError, StorageError
from asof.offline.spark.engine import SparkOffline
from asof.offline.spark.read import reading
from tests.embedded.test_spark_engine import EXPECTED, ROWS, lost_during, values
from tests.services import Sail, ServiceUnavailable, Spark, unavailable
from tests.services.jars import python_package

pytestmark = pytest.mark.integration

Open = Callable[..., SparkOffline]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Opens a store on a server; it is closed at the end."""
    stores: list[SparkOffline] = []

    def on(remote: str, **options: Any) -> SparkOffline:
        stores.append(SparkOffline(tmp_path / "offline", remote=remote, **options))
        return stores[-1]

    yield on
    for each in stores:
        each.close()


@pytest.fixture
def release(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Ends all sessions on their server, as an administrator would."""
    sessions: list[ServerSession] = []

    class Noted(ServerSession):
        def __init__(self, *address: Any, **options: Any) -> None:
            super().__init__(*address, **options)
            sessions.append(self)

    def all_of_them() -> None:
        while sessions:
            sessions.pop().spark.client.release_session()

    monkeypatch.setattr(pool, "ServerSession", Noted)
    return all_of_them


# -- sessions ---------------------------------------------------------------------------------------------------------


def sessions_end(store: SparkOffline, release: Callable[[], None]) -> None:
    assert values(store, ROWS) == EXPECTED
    release()
    assert values(store, ROWS) == EXPECTED
    assert values(store, lost_during(ROWS, release)) == EXPECTED


def test_a_session_that_was_released_makes_the_read_run_again(
    sail: Sail, release: Callable[[], None], opened: Open
) -> None:
    sessions_end(opened(sail.url), release)


def test_a_session_that_has_expired_makes_the_read_run_again(private_service: Any, opened: Open) -> None:
    server = private_service(Sail, environment={"SAIL_SPARK__SESSION_TIMEOUT_SECS": "1"})
    store = opened(server.url)
    assert values(store, ROWS) == EXPECTED
    with reading(store.server, "a test") as read:
        session = read.session

    wait_until_gone(session)

    assert values(store, ROWS) == EXPECTED


def wait_until_gone(session: Any) -> None:
    until = time.monotonic() + 240
    while session.is_alive:
        assert time.monotonic() < until, "the server keeps the session"
        time.sleep(2.0)  # each question is a use of it


# -- what is not a server of Spark Connect, or not one that fits ------------------------------------------------------


@contextmanager
def listening(reply: bytes) -> Iterator[int]:
    """A port that greets whoever connects, and speaks nothing else."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(reply)

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    "reply", [b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", b"-ERR unknown command\r\n"]
)
def test_another_kind_of_server_is_an_error_that_names_the_port(opened: Open, reply: bytes) -> None:
    with listening(reply) as port:
        store = opened(f"sc://127.0.0.1:{port}", retry_s=0.1)
        with pytest.raises(StorageError, match=f"127.0.0.1:{port} does not") as caught:
            values(store, ROWS)
    assert "offline_store.remote" in str(caught.value.hint)


def test_a_server_that_does_not_respond_is_one_error_and_no_warning(opened: Open) -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with pytest.raises(StorageError, match="does not respond"):
            values(opened("sc://127.0.0.1:1", retry_s=0.2), ROWS)

    assert [str(each.message) for each in seen if "RETRIES_EXCEEDED" in str(each.message)] == []


class OldSail(Sail):
    """A release of Sail that takes after Spark 3.5."""

    name = "Old Sail"

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "PYTHONPATH": str(python_package("pysail", "0.2.6"))}


@pytest.mark.soak
def test_a_server_of_an_older_spark_is_named_with_its_version(private_service: Any, opened: Open) -> None:
    store = opened(private_service(OldSail).url)

    with pytest.raises(StorageError, match=r"has version 3\.5\.\d+, and Asof needs 4\.0 or later"):
        values(store, ROWS)


@pytest.mark.soak
@pytest.mark.parametrize("version", ["4.0.4", "4.1.3"])
def test_clients_of_earlier_releases_read_the_same_rows(sail: Sail, tmp_path: Path, version: str) -> None:
    try:
        package = python_package("pyspark-client", version)
    except ServiceUnavailable as error:
        unavailable(error.service, error.reason)
    script = (
        "import sys, pathlib, pyspark\n"
        "from tests.embedded.test_spark_engine import *\n"
        f"assert pyspark.__version__ == {version!r}\n"
        "assert values(SparkOffline(pathlib.Path(sys.argv[1]), remote=sys.argv[2]), ROWS) == EXPECTED\n"
        "try:\n"
        "    values(SparkOffline(pathlib.Path(sys.argv[1]), remote='sc://127.0.0.1:1', retry_s=0.2), ROWS)\n"
        "except StorageError as error:\n"
        "    print(error.message)\n"
    )
    path = os.pathsep.join([str(package), str(Path(__file__).parents[2])])

    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), sail.url],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert "127.0.0.1:1 does not respond" in done.stdout
    assert done.stderr == ""


# -- Spark on the JVM -------------------------------------------------------------------------------------------------


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_sessions_of_spark_that_end_make_the_read_run_again(
    private_service: Any, release: Callable[[], None], opened: Open
) -> None:
    server = private_service(
        Spark,
        settings={
            "spark.connect.session.manager.defaultSessionTimeout": "3s",
            "spark.connect.session.manager.maintenanceInterval": "1s",
        },
    )
    store = opened(server.url, retry_s=60.0)
    sessions_end(store, release)
    with reading(store.server, "a test") as read:
        session = read.session
    wait_until_gone(session)
    assert values(store, ROWS) == EXPECTED

    # Restarted between two reads, and in the middle of one.
    server.restart(kill=True)
    assert values(store, ROWS) == EXPECTED
    assert values(store, lost_during(ROWS, lambda: server.restart(kill=True))) == EXPECTED


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_what_spark_lacks_is_named(spark: Spark, opened: Open) -> None:
    from asof.offline.spark.arrow import struct_of

    store = opened(spark.url)

    missing = pytest.raises(StorageError, match=r"lacks a library: .*S3AFileSystem")
    with missing as caught, reading(store.server, "historical read") as read:
        read.session.files(["s3a://bucket/rows.parquet"], struct_of([("a", "int")])).count()
    assert "spark.jars.packages" in str(caught.value.hint)

    with pytest.raises(EntityFrameError, match="nosuch") as asked:
        values(store, ROWS, "SELECT nosuch FROM events")
    assert "org.apache" not in str(asked.value)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_executors_with_another_python_are_named_with_both_versions(
    private_service: Any, opened: Open, tmp_path: Path
) -> None:
    store = opened(private_service(Spark, python=other_python(tmp_path)).url)

    with reading(store.server, "a test") as read:
        refusal = store.server.executors.trial(read.session).refusal

    assert refusal is not None
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert f"this process Python {here}" in str(refusal) and "functions cannot be sent" in str(refusal)


def other_python(folder: Path) -> str:
    """A Python of another minor version, with the packages of this one; those in Python suffice."""
    here = sys.version_info[:2]
    names = [f"python3.{minor}" for minor in range(10, 16) if (3, minor) != here]
    folders = [*os.environ["PATH"].split(os.pathsep), *map(str, Path.home().glob(".pyenv/versions/*/bin"))]
    found = [path for each in folders for name in names if (path := shutil.which(name, path=each))]
    works = [each for each in found if subprocess.run([each, "-c", ""], capture_output=True).returncode == 0]
    if not works:
        unavailable("Python", f"no other minor version than {here[0]}.{here[1]} here")
    script = folder / "python"
    paths = ":".join(each for each in sys.path if each.endswith("site-packages"))
    script.write_text(f'#!/bin/sh\nPYTHONPATH="$PYTHONPATH:{paths}" exec {works[-1]} "$@"\n')
    script.chmod(0o755)
    return str(script)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_an_executor_out_of_memory_is_one_error(private_service: Any, opened: Open) -> None:
    # One row of 800 million bytes does not fit beside itself, however often it is tried.
    too_much = "SELECT sha2(concat_ws('', collect_list(repeat(cast(id AS string), 1000))), 256) AS h FROM range(200000)"
    store = opened(private_service(Spark, heap_mb=700).url, retry_s=5.0)
    assert values(store, ROWS) == EXPECTED

    with pytest.raises(AsofError) as caught, reading(store.server, "historical read") as read:
        read.table(too_much)
    assert "memory" in str(caught.value) or "lost the session" in str(caught.value)
    assert "Traceback" not in str(caught.value) and "\tat " not in str(caught.value) and caught.value.hint
