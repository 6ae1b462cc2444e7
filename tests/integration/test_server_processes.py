"""`asof serve` as processes: what it takes to lose a request, and what a client may do to it."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from asof import FeatureStore
from tests.embedded.test_server import DEFINITIONS, NOW, write_sources

pytestmark = pytest.mark.integration

BODY = json.dumps({"features": ["profile:age", "profile:city"], "entities": {"user_id": [1, 2]}}).encode()
HEADERS = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    (folder / "feature_store.yaml").write_text(f"project: shop\nclock: {NOW.isoformat()}\n")
    (folder / "features.py").write_text(DEFINITIONS)
    write_sources(folder)
    with FeatureStore(folder) as store:
        store.apply()
        store.materialize()
    return folder


@pytest.fixture
def folder(built: Path, tmp_path: Path) -> Path:
    shutil.copytree(built, tmp_path / "repo")
    return tmp_path / "repo"


class Server:
    """A running `asof serve`."""

    def __init__(
        self, folder: Path, *options: str, start: Sequence[str] = ("-m", "asof"), place: Sequence[str] = (),
        cwd: Path | None = None,
    ) -> None:  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, *start, *(place or ("--repo", str(folder))), "serve", "--port", "0", *options],
            stderr=subprocess.PIPE, text=True, cwd=cwd,
        )  # fmt: skip
        assert self.process.stderr is not None
        self.said: list[str] = []
        for line in self.process.stderr:
            self.said.append(line)
            if "Serving on" in line:
                self.port = int(line.split(" with ")[0].rpartition(":")[2])
                break
        else:
            raise AssertionError("".join(self.said))
        self._reading = threading.Thread(target=lambda: self.said.extend(self.process.stderr), daemon=True)
        self._reading.start()
        deadline = time.monotonic() + 60
        while True:
            try:
                if self.ask("GET", "/ready").status == 200:
                    break
            except OSError:
                pass
            assert self.process.poll() is None and time.monotonic() < deadline, "".join(self.said)
            time.sleep(0.05)

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def ask(self, method: str, path: str, body: bytes | None = None) -> Any:
        connection = self.connect()
        try:
            connection.request(method, path, body, HEADERS)
            response = connection.getresponse()
            response.content = response.read()  # type: ignore[attr-defined]
            return response
        finally:
            connection.close()

    def workers(self) -> list[int]:
        found = []
        for each in Path("/proc").iterdir():
            if each.name.isdigit():
                try:
                    parent = (each / "stat").read_text().rpartition(")")[2].split()[1]
                except OSError:
                    continue
                if parent == str(self.process.pid):
                    found.append(int(each.name))
        return found

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self) -> int:
        if self.process.poll() is None:
            self.process.terminate()
        code = self.process.wait(timeout=60)
        self._reading.join(timeout=10)
        return code


@contextmanager
def serving(folder: Path, *options: str, **how: Any) -> Iterator[Server]:
    server = Server(folder, *options, **how)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.end()


class Callers:
    """Threads that ask all the time, each on a connection that it keeps; what became of each request."""

    def __init__(self, server: Server, threads: int = 6) -> None:
        self.server = server
        self.outcomes: Counter[str] = Counter()
        self.wrong: list[Any] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(threads)]
        for each in self._threads:
            each.start()

    def _ask(self) -> None:
        connection = None
        while not self._stop.is_set():
            if connection is None:
                connection = self.server.connect()
                try:
                    connection.connect()
                except OSError:
                    # Nothing was asked, so nothing is lost.
                    self.outcomes["refused"] += 1
                    connection = None
                    time.sleep(0.01)
                    continue
            try:
                connection.request("POST", "/get-online-features", BODY, HEADERS)
                response = connection.getresponse()
                content = response.read()
            except (OSError, http.client.HTTPException) as error:
                self.outcomes["lost"] += 1
                self.wrong.append(repr(error))
                connection = None
                continue
            self.outcomes[str(response.status)] += 1
            if response.status == 200 and json.loads(content)["results"][1]["values"] != [30, None]:
                self.wrong.append(content)
            if response.headers.get("connection") == "close":
                connection.close()
                connection = None

    def finish(self) -> Counter[str]:
        self._stop.set()
        for each in self._threads:
            each.join(timeout=60)
        return self.outcomes


def wait_until(condition: Any, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)


def test_a_reload_replaces_all_workers_and_loses_no_request(folder):
    with serving(folder, "--workers", "2") as server:
        before = set(server.workers())
        callers = Callers(server)
        wait_until(lambda: callers.outcomes["200"] > 50)
        server.send(signal.SIGHUP)
        wait_until(lambda: len(set(server.workers()) - before) == 2 and not set(server.workers()) & before)
        so_far = callers.outcomes["200"]
        wait_until(lambda: callers.outcomes["200"] > so_far + 50)
        outcomes = callers.finish()

        assert callers.wrong == []
        assert set(outcomes) == {"200"}
        assert server.end() == 0


def test_a_correction_at_the_same_time_counts_whichever_worker_takes_it(folder):
    at = NOW.isoformat()

    def pushed(number: int, users: int = 1) -> bytes:
        rows = {"user_id": [*range(users)], "page": [f"p{number}"] * users, "amount": [0.5] * users, "at": [at] * users}
        return json.dumps({"push_source_name": "clicks", "df": rows}).encode()

    read = json.dumps({"features": ["newest:page"], "entities": {"user_id": [0]}}).encode()
    with serving(folder, "--workers", "2") as server:
        # Offsets run ahead in the partition of whichever worker takes this.
        assert server.ask("POST", "/push", pushed(-1, users=50)).status == 200
        for number in range(30):
            assert server.ask("POST", "/push", pushed(number)).status == 200
            found = json.loads(server.ask("POST", "/get-online-features", read).content)
            assert found["results"][-1]["values"] == [f"p{number}"]
        assert server.end() == 0

    with FeatureStore(folder) as store:
        frame = {"user_id": [0], "event_timestamp": [NOW]}
        found = store.get_historical_features(frame, ["newest:page", "activity:n_1h"]).to_arrow().to_pylist()
        partitions = {each.partition for each in store.stream_status() if each.source == "clicks"}
    assert [(each["page"], each["n_1h"]) for each in found] == [("p29", 31)]
    assert len(partitions) == 2, "both workers have pushed"


def test_a_stop_answers_what_was_asked(folder):
    with serving(folder, "--workers", "2") as server:
        callers = Callers(server)
        wait_until(lambda: callers.outcomes["200"] > 50)
        server.send(signal.SIGTERM)
        assert server.process.wait(timeout=30) == 0
        outcomes = callers.finish()

        assert callers.wrong == []
        assert set(outcomes) == {"200", "refused"}


def test_the_use_of_features_adds_up_over_workers_and_outlives_them(folder):
    def used() -> dict[str, int]:
        with FeatureStore(folder) as store:
            return {each.feature: each.requests for each in store.use(days=1)}

    model = json.dumps(
        {"feature_service": "model", "entities": {"user_id": [1], "amount": [1.0], "mode": ["a"]}}
    ).encode()  # fmt: skip
    with serving(folder, "--workers", "2") as server:
        callers = Callers(server)
        wait_until(lambda: callers.outcomes["200"] > 50)
        outcomes = callers.finish()
        assert server.ask("POST", "/get-online-features", model).status == 200
        assert server.ask("POST", "/get-online-features", b"{}").status == 422
        server.send(signal.SIGTERM)
        assert server.process.wait(timeout=60) == 0
    asked = outcomes["200"]
    # The inputs of the on-demand view are used too, and each request counts once, whatever its number of rows.
    expected = {
        "profile:age": asked + 1, "profile:city": asked + 1, "profile:score": 1, "ratio:ratio": 1, "ratio:label": 1
    }  # fmt: skip
    assert used() == expected

    with serving(folder) as server:
        assert server.ask("POST", "/get-online-features", BODY).status == 200
        server.send(signal.SIGTERM)
        assert server.process.wait(timeout=60) == 0
    assert used() == {**expected, "profile:age": asked + 2, "profile:city": asked + 2}


def test_a_killed_worker_is_replaced(folder):
    with serving(folder) as server:
        (victim,) = server.workers()
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: server.workers() not in ([], [victim]))

        wait_until(lambda: server.ask("POST", "/get-online-features", BODY).status == 200)
        assert any("ended with code -9: restarting it in 0 s" in line for line in server.said)

        # One that ends soon after another was started for it is not started again at once.
        (victim,) = server.workers()
        os.kill(victim, signal.SIGKILL)
        wait_until(
            lambda: any("ended with code -9 (2 in a row): restarting it in 0.5 s" in line for line in server.said)
        )
        wait_until(lambda: server.workers() not in ([], [victim]))


def test_a_reload_with_broken_definitions_keeps_the_old_workers(folder):
    with serving(folder) as server:
        before = server.workers()
        (folder / "feature_store.yaml").write_text("project: [")
        server.send(signal.SIGHUP)
        wait_until(lambda: any("reload failed" in line for line in server.said))

        assert server.workers() == before
        assert server.ask("POST", "/get-online-features", BODY).status == 200


def test_a_hundred_megabytes_are_refused_with_an_answer(folder):
    with serving(folder) as server:
        connection = server.connect()
        connection.request("POST", "/get-online-features", b"x" * (100 << 20), HEADERS)
        response = connection.getresponse()

        assert response.status == 413
        assert "larger than 16777216 bytes" in json.loads(json.loads(response.read()))["message"]
        peak = max(
            int(line.split()[1]) for pid in server.workers() for line in Path(f"/proc/{pid}/status").read_text().splitlines()
            if line.startswith("VmHWM")
        )  # fmt: skip
        assert peak < 200 << 10


def test_slow_clients_are_cut_off_and_do_not_keep_others_waiting(folder):
    (folder / "feature_store.yaml").write_text(
        (folder / "feature_store.yaml").read_text() + "server:\n  receive_timeout_s: 1\n"
    )
    with serving(folder) as server:
        slow = []
        for start in (
            b"",
            b"POST /get-online",
            b"POST /get-online-features HTTP/1.1\r\nhost: localhost\r\nx: ",
            b"POST /get-online-features HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\n{",
        ):
            made = socket.create_connection(("127.0.0.1", server.port))
            made.sendall(start)
            slow.append(made)
        assert server.ask("POST", "/get-online-features", BODY).status == 200

        for made in slow:
            made.settimeout(20)
            answer = b""
            while part := made.recv(4096):
                answer += part
            assert answer.startswith(b"HTTP/1.1 408 ")
            assert b"did not arrive within 1 s" in answer


def test_endless_headers_and_what_is_no_http_are_refused(folder):
    with serving(folder) as server:
        for text, status in (
            (b"GET / HTTP/1.1\r\n" + b"x: " + b"y" * 400_000, b"431"),
            (b"\x16\x03\x01\x02\x00hello\r\n\r\n", b"400"),
        ):
            made = socket.create_connection(("127.0.0.1", server.port))
            made.settimeout(20)
            try:
                made.sendall(text)
            except ConnectionError:
                pass
            try:
                assert made.recv(4096).startswith(b"HTTP/1.1 " + status)
            except ConnectionResetError:
                pass  # it hung up before all was sent
        assert server.ask("GET", "/health").status == 200


def test_a_server_that_cannot_start_says_why(folder):
    taken = socket.create_server(("127.0.0.1", 0))
    port = str(taken.getsockname()[1])
    command = [sys.executable, "-m", "asof", "--repo", str(folder), "serve", "--port"]
    in_use = subprocess.run([*command, port], capture_output=True, text=True, timeout=60)
    is_open = subprocess.run([*command, "0", "--host", "0.0.0.0"], capture_output=True, text=True, timeout=60)
    (folder / "feature_store.yaml").write_text("project: shop\nserver:\n  portt: 1\n")
    misspelt = subprocess.run([*command, "0"], capture_output=True, text=True, timeout=60)

    assert (in_use.returncode, is_open.returncode, misspelt.returncode) == (3, 3, 3)
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in in_use.stderr
    assert "would let everyone" in is_open.stderr
    assert "did you mean 'port'" in misspelt.stderr


def test_sigint_stops_the_server(folder):
    with serving(folder) as server:
        server.send(signal.SIGINT)

        assert server.process.wait(timeout=30) in (0, 130)
        assert "Traceback" not in "".join(server.said)


def test_workers_and_jobs_use_the_configuration_file_that_was_named(folder: Path, tmp_path: Path) -> None:
    text = (folder / "feature_store.yaml").read_text() + "online_store: {path: o/online.db}\n"
    (tmp_path / "other.yaml").write_text(text.replace("o/online.db", str(tmp_path / "online.db")))
    (folder / "other.yaml").write_text(text)

    for start, online in (
        (("--feature-store-yaml", str(folder / "other.yaml")), folder / "o" / "online.db"),
        (("--feature-store-yaml", "other.yaml", "--repo", str(folder)), tmp_path / "online.db"),
    ):
        with serving(folder, start=("-m", "asof"), place=start, cwd=tmp_path) as server:
            asked = server.ask("POST", "/get-online-features", BODY)
            # The registry knows of rows that this file has not: they are lost, and no unknown keys.
            assert asked.status == 503 and b"OnlineRowsLost" in asked.content
            done = server.ask("POST", "/materialize-incremental", json.dumps({"end_ts": NOW.isoformat()}).encode())
            assert done.status == 200, done.content
            asked = server.ask("POST", "/get-online-features", BODY)
            assert json.loads(asked.content)["results"][1]["values"][0] == 30
        assert online.exists()


STRAY = (
    "orjson",
    "uvicorn",
    "starlette",
    "duckdb",
    "pyarrow",
    "numpy",
    "msgspec",
    "yaml",
    "click",
    "deltalake",
    "email",
)


@pytest.mark.parametrize("start", [("-m", "asof"), ("-P", "-m", "asof")])
def test_no_process_of_a_server_imports_from_the_working_directory(
    folder: Path, tmp_path: Path, start: tuple[str, ...]
) -> None:
    stray = tmp_path / "stray"
    stray.mkdir()
    for name in STRAY:
        (stray / f"{name}.py").write_text(
            f"import os, sys\nopen({str(tmp_path / 'ran')!r}, 'a').write(f'{name} {{sys.argv}}\\n')\nraise SystemExit(9)\n"
        )

    with serving(folder, start=start, cwd=stray) as server:
        assert server.ask("POST", "/get-online-features", BODY).status == 200
        job = server.ask("POST", "/materialize-incremental", json.dumps({"end_ts": NOW.isoformat()}).encode())
        assert (job.status, job.content) == (200, b"null")
    assert not (tmp_path / "ran").exists(), (tmp_path / "ran").read_text()
