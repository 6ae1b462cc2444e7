"""`asof serve` under callers who mean it no good: others are answered meanwhile, and its memory stays within bounds."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice, permutations
from pathlib import Path
from typing import Any

import httpx
import pytest

from asof import FeatureStore
from asof.server.security.keys import NewKey, new_key
from tests.embedded.test_server import DEFINITIONS, NOW, write_sources

pytestmark = pytest.mark.integration

MB = 1 << 20
READ = "/get-online-features"
BODY = json.dumps({"features": ["profile:age"], "entities": {"user_id": [1]}}).encode()
CHUNKED = b"transfer-encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("abused")
    (folder / "feature_store.yaml").write_text(f"project: shop\nclock: {NOW.isoformat()}\n")
    (folder / "features.py").write_text(DEFINITIONS)
    write_sources(folder)
    with FeatureStore(folder) as store:
        store.apply()
        store.materialize()
    return folder


class Server:
    """A running `asof serve` with one worker, and a key for each role."""

    def __init__(self, folder: Path, options: dict[str, Any], *, is_guarded: bool) -> None:
        self.keys: dict[str, NewKey] = {role: new_key() for role in ("read", "write", "nothing")} if is_guarded else {}
        entries = [{"id": key.id, "hash": key.hash, "name": role, "roles": [role]} for role, key in self.keys.items()]
        auth = {
            "auth": {"keys": entries, "audit": "off", "roles": {"nothing": {"allow": "read", "projects": ["other"]}}}
        }
        sections = {"project": "shop", "clock": NOW.isoformat(), "server": options, **(auth if is_guarded else {})}
        # YAML is a superset of JSON.
        (folder / "feature_store.yaml").write_text(json.dumps(sections))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "asof", "--repo", str(folder), "serve", "--port", "0"],
            stderr=subprocess.PIPE, text=True,
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
        wait_until(self.is_well, self.explanation)
        (self.worker,) = self._children()

    def explanation(self) -> str:
        return "".join(self.said)

    def is_well(self) -> bool:
        """Whether somebody who may read is answered, and the server says that it is live and ready."""
        try:
            return self.ask(READ, BODY) == 200 and [self.get(path) for path in ("/health", "/ready")] == [200, 200]
        except OSError:
            return False

    def get(self, path: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        finally:
            connection.close()

    def ask(self, path: str, body: bytes, *, role: str = "read") -> int:
        return self.answer(path, body, role=role)[0]

    def answer(self, path: str, body: bytes, *, role: str = "read") -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("POST", path, body, self.headers(role))
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def headers(self, role: str) -> dict[str, str]:
        return {"authorization": f"Bearer {self.keys[role].text}"} if role in self.keys else {}

    def head(self, path: str, *lines: str, role: str = "") -> bytes:
        """The first lines of a request, without the empty one."""
        more = [*lines, *(f"{name}: {value}" for name, value in self.headers(role).items())]
        return "".join(f"{line}\r\n" for line in [f"POST {path} HTTP/1.1", "host: localhost", *more]).encode()

    def connect(self) -> socket.socket:
        made = socket.create_connection(("127.0.0.1", self.port))
        made.settimeout(60)
        return made

    def memory(self) -> int:
        """The most that the worker ever took, in bytes."""
        text = Path(f"/proc/{self.worker}/status").read_text()
        return next(int(line.split()[1]) << 10 for line in text.splitlines() if line.startswith("VmHWM"))

    def connections(self) -> int:
        """How many the worker has."""
        links = []
        for each in Path(f"/proc/{self.worker}/fd").iterdir():
            with suppress(OSError):
                links.append(str(each.readlink()))
        return sum(link.startswith("socket:") for link in links)

    def is_the_same(self) -> bool:
        return self._children() == [self.worker]

    def _children(self) -> list[int]:
        found = []
        for each in Path("/proc").iterdir():
            if each.name.isdigit():
                with suppress(OSError):
                    if (each / "stat").read_text().rpartition(")")[2].split()[1] == str(self.process.pid):
                        found.append(int(each.name))
        return found

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(timeout=60)
        self._reading.join(timeout=10)


@pytest.fixture(scope="module", params=[True, False], ids=["guarded", "open"])
def patient(built: Path, tmp_path_factory: pytest.TempPathFactory, request: Any) -> Iterator[Server]:
    """A server that waits for ever, for tests that look at no more than its answers."""
    folder = tmp_path_factory.mktemp("patient") / "repo"
    shutil.copytree(built, folder)
    server = Server(folder, {"receive_timeout_s": 10_000, "max_waiting": 20}, is_guarded=request.param)
    yield server
    server.end()


@pytest.fixture
def serving(built: Path, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    started: list[Server] = []

    def serve(*, is_guarded: bool = True, **options: Any) -> Server:
        folder = tmp_path / f"repo{len(started)}"
        shutil.copytree(built, folder)
        started.append(Server(folder, options, is_guarded=is_guarded))
        return started[-1]

    yield serve
    for each in started:
        each.end()


@contextmanager
def connections(server: Server, n: int, first: bytes) -> Iterator[list[socket.socket]]:
    """So many connections that have sent this."""
    made = []
    try:
        for _ in range(n):
            made.append(server.connect())
            with suppress(ConnectionError):
                made[-1].sendall(first)
        yield made
    finally:
        for each in made:
            each.close()


def wait_until(holds: Callable[[], Any], explanation: Callable[[], str] = str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"it did not come about {explanation()}"
        time.sleep(0.05)


def send_all(made: socket.socket, piece: bytes, times: int) -> None:
    """Send it so often, or until the other side has had enough."""
    with suppress(ConnectionError):
        for _ in range(times):
            made.sendall(piece)


def received(made: socket.socket) -> bytes:
    """All that comes until the connection is closed."""
    answer = b""
    with suppress(ConnectionError):
        while part := made.recv(65536):
            answer += part
    return answer


# ---- without a key ----


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (b"5\r\nhello\r\n0\r\n", b"a: b\r\n" * 10_000),
        (b"0\r\n", b"x-" + b"n" * 60_000 + b": v\r\n"),
        (b"0\r\nx: ", b"v" * 65_536),
        (b"5;ext=", b"e" * 65_536),
        (b"5\r\nhello\r\n3;a=", b'"' + b"e" * 65_535),
    ],
    ids=["many", "long names", "one long value", "chunk extensions", "extensions behind a chunk"],
)
def test_what_stands_around_a_chunked_body_takes_no_memory(serving, start, piece):
    server = serving()
    before = server.memory()
    for path, role in ((READ, ""), (READ, "read"), ("/no-such", ""), ("/health", "")):
        with connections(server, 8, server.head(path, role=role) + CHUNKED + start) as made:
            for each in made:
                send_all(each, piece, 10 * MB // len(piece))

            assert server.is_well()
    assert server.memory() - before < 60 * MB
    assert server.is_the_same()


@pytest.mark.parametrize("patient", [True], indirect=True, ids=["guarded"])
def test_a_trailer_never_passes_for_a_header(patient):
    whole = b"%x\r\n%b\r\n0\r\n" % (len(BODY), BODY)
    for trailer, status in ((f"authorization: Bearer {patient.keys['read'].text}", 400), ("x: y", 401)):
        with patient.connect() as made:
            made.sendall(patient.head(READ) + CHUNKED + whole + trailer.encode() + b"\r\n\r\n")
            assert made.recv(65536).startswith(b"HTTP/1.1 %d " % status)
    for trailer, status in (("authorization: Bearer asof_no", 400), ("x: y", 200)):
        with patient.connect() as made:
            made.sendall(patient.head(READ, role="read") + CHUNKED + whole + trailer.encode() + b"\r\n\r\n")
            assert made.recv(65536).startswith(b"HTTP/1.1 %d " % status)


@pytest.mark.parametrize(
    ("path", "more"),
    [
        (READ, b"content-length: 1000\r\n\r\n"), (READ, b"content-length: 1000\r\n\r\n{"),
        (READ, CHUNKED), (READ, b"content-length: 99999999999\r\n\r\n"), (READ, b"x: "),
        ("/push", b"content-length: 1000\r\nexpect: 100-continue\r\n\r\n"),
        ("/materialize", b"content-length: 1000\r\n\r\n"), ("/no-such", b"content-length: 1000\r\n\r\n"),
    ],
    ids=["length", "a byte", "chunks", "too long", "header", "expect", "materialize", "no path"],
)  # fmt: skip
def test_requests_that_do_not_arrive_keep_nobody_else_from_being_answered(patient, path, more):
    with connections(patient, 100, patient.head(path) + more):
        for _ in range(20):
            assert patient.ask(READ, BODY) == 200


@pytest.mark.parametrize("patient", [True], indirect=True, ids=["guarded"])
@pytest.mark.parametrize("more", [b"content-length: 1000\r\n\r\n", b"content-length: 900000000\r\n\r\n", CHUNKED])
def test_of_an_unknown_caller_no_body_is_waited_for(patient, more):
    with connections(patient, 20, patient.head(READ) + more) as made:
        for each in made:
            answer = received(each)
            assert answer.startswith(b"HTTP/1.1 401 ") and b"connection: close" in answer
        wait_until(lambda: patient.connections() < 15)


def len_of(answer: bytes) -> int:
    """How many bytes an answer has whose head has come."""
    head, end, _ = answer.partition(b"\r\n\r\n")
    return len(head + end) + int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])


@pytest.mark.parametrize("patient", [True], indirect=True, ids=["guarded"])
def test_an_unknown_caller_who_sends_all_at_once_keeps_the_connection(patient):
    with patient.connect() as made:
        for _ in range(3):
            made.sendall(patient.head(READ, f"content-length: {len(BODY)}") + b"\r\n" + BODY)
            answer = b""
            while b"\r\n\r\n" not in answer or len(answer) < len_of(answer):
                part = made.recv(65536)
                assert part, answer
                answer += part
            assert answer.startswith(b"HTTP/1.1 401 ") and b"connection: close" not in answer


@pytest.mark.parametrize("patient", [True], indirect=True, ids=["guarded"])
def test_an_unknown_caller_with_much_to_send_reads_the_refusal(patient):
    answers = [
        httpx.post(f"http://127.0.0.1:{patient.port}{READ}", content=b"x" * (4 * MB), timeout=60) for _ in range(5)
    ]
    assert {each.status_code for each in answers} == {401}


def test_open_paths_wait_for_no_body(patient):
    for path in ("/health", "/ready", "/openapi.json", "/no-such"):
        with patient.connect() as made:
            made.sendall(f"GET {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\n".encode())
            assert received(made).startswith(b"HTTP/1.1 404 " if path == "/no-such" else b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "first", [b"", b"P", b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n"], ids=["silent", "begun", "idle"]
)
def test_idle_connections_make_room_for_others(serving, first):
    server = serving(max_connections=50, receive_timeout_s=10_000, keep_alive_s=10_000)
    with connections(server, 300, first):
        assert server.is_well()
        assert server.connections() < 100
        # One that is kept in use is not among those that go.
        with connections(server, 40, first):
            assert server.is_well()


def test_connections_that_send_a_head_byte_by_byte_keep_nobody_waiting(serving):
    server = serving(receive_timeout_s=1, max_waiting=20)
    with connections(server, 100, server.head(READ)) as made:
        ended = 0
        for each in made:
            each.settimeout(0)
        deadline = time.monotonic() + 60
        while ended < len(made) and time.monotonic() < deadline:
            ended = 0
            for each in made:
                try:
                    each.send(b"x")
                except BlockingIOError:
                    pass
                except OSError:
                    ended += 1
            assert server.is_well()
            time.sleep(0.1)
        assert ended == len(made)


@pytest.mark.parametrize("path", ["/openapi.json", "/health", pytest.param("/no-such", marks=pytest.mark.soak)])
def test_requests_whose_answers_are_not_read_take_little_memory_and_end(serving, path):
    server = serving(receive_timeout_s=1)
    before = server.memory()
    many = f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode() * 40_000
    with connections(server, 3, b"") as made:
        sending = [threading.Thread(target=send_all, args=(each, many, 4)) for each in made]
        for each in sending:
            each.start()
        assert server.is_well()
        # Those are cut off: what they wait for is that somebody reads.
        for each in sending:
            each.join(timeout=60)
            assert not each.is_alive()
        assert server.is_well()
    assert server.memory() - before < 100 * MB


@pytest.mark.parametrize("patient", [True], indirect=True, ids=["guarded"])
def test_pipelined_requests_are_all_answered_in_order(patient):
    n = 3000
    with patient.connect() as made:
        one = (
            f"POST {READ} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {patient.keys['read'].text}\r\n".encode()
        )
        bodies = [
            json.dumps({"features": ["profile:age"], "entities": {"user_id": [1] * (1 + i % 5)}}).encode()
            for i in range(n)
        ]
        text = b"".join(one + b"content-length: %d\r\n\r\n%b" % (len(body), body) for body in bodies)
        sending = threading.Thread(
            target=made.sendall, args=(text + b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",)
        )
        sending.start()
        answers = received(made).split(b"HTTP/1.1 ")[1:]
        sending.join(timeout=60)

    assert len(answers) == n + 1
    assert all(each.startswith(b"200 ") for each in answers)
    found = [len(json.loads(each.partition(b"\r\n\r\n")[2])["results"][0]["values"]) for each in answers[:-1]]
    assert found == [1 + i % 5 for i in range(n)]


# ---- with a key ----


def names(n: int, *, length: int = 8) -> list[str]:
    return [f"n{i:0{length}}" for i in range(n)]


def columns(n: int, **options: Any) -> dict[str, list[int]]:
    return {name: [1] for name in names(n, **options)}


def bodies() -> dict[str, tuple[str, Any]]:
    """Case → path and content; made where they are sent, for each process of a run loads this file."""
    return {
        "keys of a read": (READ, {"features": ["profile:age"], "entities": columns(45_000)}),
        "keys beside the right one": (READ, {"features": ["profile:age"], "entities": {**columns(45_000), "user_id": [1]}}),
        "keys of the lean route": ("/v1/features", {"features": ["profile:age"], "entities": columns(45_000)}),
        "keys of one row": ("/v1/features", {"features": ["profile:age"], "entities": [columns(45_000)]}),
        "pushed columns": ("/push", {"push_source_name": "clicks", "df": columns(45_000)}),
        "pushed columns of long names": ("/push", {"push_source_name": "clicks", "df": columns(45_000, length=150)}),
        "written columns": ("/write-to-online-store", {"feature_view_name": "profile", "df": columns(45_000)}),
        "features that repeat": (READ, {"features": ["profile:age"] * 500_000, "entities": {"user_id": [1]}}),
        "features that are not there": (READ, {"features": names(500_000), "entities": {"user_id": [1]}}),
        "a long service": (READ, {"feature_service": "s" * (12 * MB), "entities": {"user_id": [1]}}),
        "a long feature": (READ, {"features": ["profile:" + "ab" * (6 * MB)], "entities": {"user_id": [1]}}),
        "a long source": ("/push", {"push_source_name": "ab" * (6 * MB), "df": {}}),
        "a long view": ("/write-to-online-store", {"feature_view_name": "ab" * (6 * MB), "df": {}}),
        "a long column": ("/push", {"push_source_name": "clicks", "df": {"user_i" * MB: [1]}}),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("role", "is_wide"), [("nothing", False), ("read", False), ("write", False), ("write", True)],
    ids=["nothing", "read", "write", "write without a limit"],
)  # fmt: skip
def test_no_body_stops_a_worker(serving, role, is_wide):
    # However busy the machine is: what is asked here is whether the worker lives.
    server = serving(request_timeout_s=10_000, **({"max_features": 1_000_000} if is_wide else {}))
    statuses = {}
    for case, (path, content) in bodies().items():
        raw = json.dumps(content).encode()
        asking = [threading.Thread(target=server.ask, args=(path, raw), kwargs={"role": role}) for _ in range(2)]
        for each in asking:
            each.start()
        statuses[case] = server.ask(path, raw, role=role)
        assert server.is_well(), case
        for each in asking:
            each.join(timeout=60)
            assert not each.is_alive(), case
        assert server.is_the_same(), case

    if role == "nothing":
        assert set(statuses.values()) == {403}
    else:
        served = {case for case, status in statuses.items() if status == 200}
        assert served == ({"keys beside the right one"} if is_wide else set())
        refused = {case for case, status in statuses.items() if status == 413}
        wide = {case for case in statuses if case.startswith(("keys", "features")) or "columns" in case}
        # Whoever may not write is told that, and nothing of what was sent.
        foreign = {case for case in wide if case.startswith(("pushed", "written"))} if role == "read" else set()
        assert {case for case, status in statuses.items() if status == 403} >= foreign
        assert refused == (set() if is_wide else wide - foreign)
        assert all(status in (200, 403, 404, 413, 422) for status in statuses.values()), str(statuses)


@pytest.mark.parametrize("patient", [True], indirect=True, ids=["guarded"])
def test_a_name_that_is_said_twice_among_very_many_is_refused(patient):
    many = json.dumps(columns(1_900))[1:-1]
    for twice, status in ((', "n00000007": [2]', 422), ("", 200)):
        text = f'{{"features": ["profile:age"], "entities": {{"user_id": [1], {many}{twice}}}}}'
        found, content = patient.answer(READ, text.encode())
        assert found == status
        assert (b"n00000007" in content and b"twice in one object" in content) == bool(twice)


def test_what_many_different_requests_name_is_not_kept(serving):
    server = serving()
    for at in range(4):
        # What any request of the kind takes while it is answered is taken now.
        server.ask(READ, varied(at))
        server.ask("/push", varied(at))
    before = server.memory()
    for at in range(4, 34):
        assert server.ask(READ, varied(at)) == 200
        assert server.ask("/push", varied(at)) == 422
    assert server.memory() - before < 150 * MB


def varied(at: int) -> bytes:
    """Another 12 MB in each request: names of 3 MB that nobody asks for."""
    entities = {f"{at} {i} " + "x" * (3 * MB): [1] for i in range(4)}
    return json.dumps({"features": ["profile:age"], "entities": {"user_id": [1], **entities}}).encode()


ROW = {"user_id": [1], "page": ["a"], "amount": [1.0], "at": ["2026-01-01T11:00:00Z"]}


def test_a_large_value_that_is_read_very_often_is_refused_before_it_is_written(serving):
    server = serving()
    page = {**ROW, "page": ["x" * 200_000]}
    assert server.ask("/push", json.dumps({"push_source_name": "clicks", "df": page}).encode(), role="write") == 200
    body = json.dumps({"features": ["newest:page"], "entities": {"user_id": [1] * 2000}}).encode()
    before = server.memory()
    for path in (READ, "/v1/features"):
        asking = [threading.Thread(target=server.ask, args=(path, body)) for _ in range(3)]
        for each in asking:
            each.start()
        assert server.ask(path, body) == 413
        assert server.is_well()
        for each in asking:
            each.join(timeout=60)
            assert not each.is_alive()
    # The answer would have 400 MB, and there are four of them at once.
    assert server.memory() - before < 400 * MB
    assert server.is_the_same()


@pytest.mark.parametrize(
    "piece", [b"[],", b"{},", b"1,", b'"",', b'"\\"[,",'], ids=["lists", "objects", "numbers", "texts", "escapes"]
)
def test_very_many_values_are_counted_and_refused_while_others_are_answered(serving, piece):
    server = serving()
    body = b'{"features": ["profile:age"], "entities": {"user_id": [' + piece * (15 * MB // len(piece)) + b"1]}}"
    before = server.memory()
    asking = [threading.Thread(target=server.ask, args=(READ, body)) for _ in range(2)]
    for each in asking:
        each.start()
    assert server.ask(READ, body) == 413
    assert server.is_well()
    for each in asking:
        each.join(timeout=60)
        assert not each.is_alive()
    # As objects one of the bodies would have 300 MB.
    assert server.memory() - before < 200 * MB
    assert server.is_the_same()


def test_requests_in_any_order_of_features_take_little_memory_and_delay_no_apply(serving, built, tmp_path):
    server = serving()
    names = ["age", "score", "city", "is_new", "half", "price", "raw", "day", "seen", "tags", "doc", "scores"]
    before = server.memory()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    for order in islice(permutations(names), 2500):
        body = {"features": [f"profile:{name}" for name in order], "entities": {"user_id": [1] * (1 + len(order[0]))}}
        connection.request("POST", READ, json.dumps(body), server.headers("read"))
        response = connection.getresponse()
        response.read()
        assert response.status == 200
    connection.close()
    assert server.memory() - before < 100 * MB

    repository = tmp_path / "repo0"
    (repository / "features.py").write_text(
        DEFINITIONS + 'more = FeatureView("more", entities=[user], source=clicks, schema=[Field("page", String)])\n'
    )
    with FeatureStore(repository) as store:
        store.apply()
    lean = json.dumps({"features": ["more:page"], "entities": {"user_id": [1]}}).encode()
    wait_until(lambda: server.ask("/v1/features", lean) == 200, server.explanation)
    assert server.is_the_same()


def test_bodies_on_their_way_are_bounded_together(serving):
    server = serving(max_body_bytes=2 * MB, receive_timeout_s=10_000)
    before = server.memory()
    with connections(server, 150, server.head(READ, f"content-length: {2 * MB}", role="read") + b"\r\n") as made:
        sending = [threading.Thread(target=send_all, args=(each, b"x" * (MB // 8), 15)) for each in made]
        for each in sending:
            each.start()
        for each in sending:
            each.join(timeout=60)
            assert not each.is_alive()
        # Between two of these the worker takes up to a quarter of a megabyte from each connection.
        for _ in range(30):
            assert server.is_well()
    # The bodies have 281 MB.
    assert server.memory() - before < 200 * MB


@pytest.mark.parametrize("role", ["read", "write"])
def test_bodies_that_come_slowly_keep_nobody_waiting(serving, role):
    server = serving(max_waiting=20, receive_timeout_s=2)
    with connections(server, 100, server.head(READ, "content-length: 1000", role=role) + b"\r\n") as made:
        for _ in range(5):
            for each in made:
                with suppress(OSError):
                    each.send(b"{")
            assert server.ask(READ, BODY) == 200
        for each in made:
            answer = received(each)
            assert not answer or answer.startswith(b"HTTP/1.1 408 ")


def test_a_refused_body_of_a_known_caller_is_read_so_that_the_refusal_is_too(serving):
    server = serving(max_body_bytes=MB)
    assert server.ask(READ, b"x" * (50 * MB)) == 413


@pytest.mark.parametrize("patient", [True], indirect=True, ids=["guarded"])
def test_a_batch_id_is_short(patient):
    row = {"user_id": [1], "page": ["a"], "at": [NOW.isoformat()]}
    status, content = patient.answer(
        "/push", json.dumps({"push_source_name": "clicks", "df": row, "batch_id": "b" * 300}).encode(), role="write"
    )
    assert status == 422 and b"batch_id= has 300 characters" in content
