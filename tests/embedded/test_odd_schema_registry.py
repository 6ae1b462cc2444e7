"""Whatever a schema registry responds makes a dead letter or a pause of its source: the worker and others go on."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from asof.connections import schema_registry
from asof.connections.schema_registry import SchemaRegistry
from asof.decoding import BrokenSchema, SchemaRegistryUnavailable
from asof.errors import AsofError
from asof.store import FeatureStore, open_store_of
from asof.timing import iso, micros
from tests.unit.test_decoding_avro import CLICK, GOOD, framed, written
from tests.unit.test_message_bounds import DEEP, SELF, record

NOW = micros("2026-11-23T12:00:00Z")


class Odd(ThreadingHTTPServer):
    """A server that sends what it is given for each path, byte by byte if it shall."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.responses: dict[str, tuple[int, bytes]] = {}
        self.default: tuple[int, bytes] = (404, json.dumps({"error_code": 40403}).encode())
        self.asked: Counter[str] = Counter()
        self.is_dripping = False
        self.is_raw = False
        self.closing = Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Odd

    def do_GET(self) -> None:  # http.server's name
        self.server.asked[self.path] += 1
        status, body = self.server.responses.get(self.path, self.server.default)
        if self.server.is_raw:
            self.wfile.write(body)
            return
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            if self.server.is_dripping:
                for i in range(len(body)):
                    if self.server.closing.wait(0.02):
                        return
                    if not self.server.is_dripping:  # it has recovered
                        self.wfile.write(body[i:])
                        return
                    self.wfile.write(body[i : i + 1])
            else:
                self.wfile.write(body)
        except OSError:
            pass  # the client has had enough

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Odd]:
    made = Odd()
    threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
    yield made
    made.closing.set()
    made.shutdown()
    made.server_close()


def schema(text: object = CLICK, **more: object) -> bytes:
    return json.dumps({"schema": text if isinstance(text, str) else json.dumps(text), **more}).encode()


def refers(*references: object) -> bytes:
    return schema(references=list(references))


PLACE = {"name": "Place", "subject": "place", "version": 1}


@pytest.mark.parametrize(
    ("first", "place", "reason"),
    [
        (schema("x" * 3000), None, "it has more than 2000 bytes"),
        (schema(schemaType=5), None, "its schemaType is int, not text"),
        (schema(references=5), None, "its references are int, not a list"),
        (schema(references={"subject": "place"}), None, "its references are dict, not a list"),
        (refers(5), None, "a reference of it has no subject and version"),
        (refers({"subject": "place"}), None, "a reference of it has no subject and version"),
        (refers({"subject": "place", "version": "../../ids/7"}), None, "a reference of it has no subject and version"),
        (refers({"subject": "\ud800", "version": 1}), None, "a reference of it has no subject and version"),
        (refers({"subject": "none", "version": 1}), None, "version 1 of subject 'none', which the schema registry does not"),
        (refers(PLACE), refers(PLACE), "refers to itself"),
        (refers(PLACE), refers({"subject": "other", "version": 1}), "refers to itself"),
        (refers(PLACE), schema("y" * 1900), "it has more than 2000 bytes"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_one_schema_is_the_reason_of_its_messages(
    server: Odd, first: bytes, place: bytes | None, reason: str
) -> None:
    server.responses["/schemas/ids/7"] = 200, first
    server.responses["/schemas/ids/8"] = 200, schema()
    server.responses["/subjects/other/versions/1"] = 200, refers(PLACE)
    if place is not None:
        server.responses["/subjects/place/versions/1"] = 200, place
    registry = SchemaRegistry(server.url, max_schema_bytes=2000, timeout_s=30)

    for _ in range(2):
        with pytest.raises(BrokenSchema, match=reason):
            registry(7)
    found = registry(8)
    assert found is not None and found.kind == "AVRO"


def test_references_without_end_are_not_followed(server: Odd) -> None:
    class Endless(dict[str, tuple[int, bytes]]):
        def get(self, path: str, default: Any = None) -> Any:
            number = int(path.rpartition("/")[2])
            return 200, refers({"subject": "s", "version": number + 1})

    server.responses = Endless()

    with pytest.raises(BrokenSchema, match="more than 100 others"):
        SchemaRegistry(server.url, timeout_s=60)(7)


def test_a_schema_that_two_others_refer_to_is_fetched_once_and_comes_first(server: Odd) -> None:
    def place(name: str) -> dict[str, object]:
        return {"subject": name, "version": 1}

    server.responses = {
        "/schemas/ids/7": (200, refers(place("a"), place("b"))),
        "/subjects/a/versions/1": (200, schema("A", references=[place("b"), place("c")])),
        "/subjects/b/versions/1": (200, schema("B", references=[place("c")])),
        "/subjects/c/versions/1": (200, schema("C", references=None)),
    }
    found = SchemaRegistry(server.url)(7)
    assert found is not None and found.references == ("C", "B", "A")


ODD_RESPONSES: dict[str, tuple[int, bytes]] = {
    "text": (200, b"<html>hello</html>"), "nothing": (200, b""), "list": (200, b"[]"), "number": (200, b"5"),
    "null": (200, b"null"), "no schema": (200, b"{}"), "schema 5": (200, b'{"schema": 5}'),
    "no UTF-8": (200, b'{"schema": "\xff"}'), "deep": (200, DEEP.encode()), "204": (204, b""), "302": (302, b""),
    "400": (400, b"{}"), "401": (401, b""), "403": (403, b""), "404": (404, b"not here"), "404 list": (404, b"[1]"),
    "404 deep": (404, DEEP.encode()), "429": (429, b""), "500": (500, b"x" * 10_000_000), "503": (503, b""),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD_RESPONSES)
def test_what_is_wrong_with_the_registry_is_no_messages_fault(server: Odd, name: str) -> None:
    server.responses["/schemas/ids/7"] = ODD_RESPONSES[name]

    with pytest.raises(SchemaRegistryUnavailable, match=r"schema registry http://127.0.0.1:\d+ \(label\)") as error:
        SchemaRegistry(server.url, timeout_s=0.3, label="label")(7)
    assert error.value.may_pass and error.value.hint


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"\0" * 100, b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000 + b"\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}", b"HTTP/1.1 200 OK\r\nContent-Length: abc\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}", b"HTTP/1.1 302 Found\r\nLocation: \xff\0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffff\r\n{}", b"SSH-2.0-OpenSSH_9.2\r\n",
    ],
)  # fmt: skip
def test_what_is_no_http_is_no_messages_fault(server: Odd, raw: bytes) -> None:
    server.is_raw, server.default = True, (0, raw)

    with pytest.raises(SchemaRegistryUnavailable):
        SchemaRegistry(server.url, timeout_s=0.3)(7)


def test_a_registry_that_sends_a_byte_now_and_then_does_not_hold_a_worker(server: Odd) -> None:
    """Each byte comes well within the time limit, and all of them never would."""
    server.is_dripping = True
    server.responses["/schemas/ids/7"] = 200, schema(doc="x" * 1_000_000)

    with pytest.raises(SchemaRegistryUnavailable, match="cannot be reached within 0.3 s: timed out"):
        SchemaRegistry(server.url, timeout_s=0.3)(7)


def test_ids_that_a_producer_makes_up_do_not_fill_the_memory(server: Odd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema_registry, "MOST_UNKNOWN", 10)
    registry = SchemaRegistry(server.url)

    assert {registry(number) for number in (*range(35), 34, 0)} == {None}
    # The last is remembered, the first is not any more.
    assert (server.asked["/schemas/ids/34"], server.asked["/schemas/ids/0"]) == (1, 2)


REPOSITORY = """
from asof import AvroFormat, Entity, FeatureView, Field, LogSource
from asof.types import Int64, String, Timestamp

user = Entity("user", join_keys=["user_id"])
clicks = LogSource("clicks", message_format=AvroFormat(registry=True), timestamp_field="ts",
    schema=[Field("user_id", Int64), Field("page", String), Field("ts", Timestamp)])
plain = LogSource("plain", timestamp_field="ts",
    schema=[Field("user_id", Int64), Field("n", Int64), Field("ts", Timestamp)])
last_page = FeatureView("last_page", entities=[user], source=clicks)
last_plain = FeatureView("last_plain", entities=[user], source=plain)
"""


@pytest.fixture
def store(server: Odd, tmp_path: Path) -> Iterator[FeatureStore]:
    connection = f"{{type: schema_registry, url: '{server.url}', timeout_s: 0.2, max_schema_bytes: 2000}}"
    (tmp_path / "feature_store.yaml").write_text(
        f"project: shop\nclock: {iso(NOW)}\nconnections: {{schemas: {connection}}}\n", encoding="utf-8"
    )
    (tmp_path / "features.py").write_text(REPOSITORY, encoding="utf-8")
    with FeatureStore(tmp_path) as made:
        made.apply()
        yield made


def test_odd_schemas_make_dead_letters_and_the_others_go_on(server: Odd, store: FeatureStore) -> None:
    schemas: dict[int, bytes] = {
        1: schema(CLICK), 2: schema("x" * 3000), 3: refers(PLACE), 4: schema(SELF), 5: schema("{"),
        6: schema("[" * 500 + "]" * 500), 7: schema(record(1, "nosuch")), 8: schema("{}", schemaType="JSON"),
        9: schema("null"), 10: schema(references="x"),
    }  # fmt: skip
    server.responses = {f"/schemas/ids/{number}": (200, body) for number, body in schemas.items()}
    (good,) = written(CLICK, GOOD)
    store.send("clicks", [message for number in (*range(2, 12), 1) for message in framed(number, [good])])

    counts = store.stream_run(until_caught_up=True)

    assert counts["dead letters"] == 10 and counts["events"] == 11
    assert all("names schema" in each["reason"] for each in store.dead_letters().to_dicts())
    assert store.get_online_features(["last_page:page"], {"user_id": [7]}).to_dict()["page"] == ["home"]


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < until, "it never came to this"
        time.sleep(0.02)


@pytest.mark.parametrize("name", ["text", "401"])
def test_while_the_registry_is_odd_its_source_pauses_and_others_go_on(
    server: Odd, store: FeatureStore, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asof.flows.stream.topic_member.PAUSE_S", 0.05)
    server.responses["/schemas/ids/7"] = ODD_RESPONSES[name]
    store.send("clicks", framed(7, written(CLICK, GOOD)))
    said: list[AsofError] = []
    stop, counts = Event(), {}

    def work() -> None:
        counts.update(store.stream_run(stop=stop, patience_s=0.1, waiting=said.append))

    worker = threading.Thread(target=work)
    worker.start()
    try:
        wait_for(lambda: bool(said))
        log = open_store_of(store).stores.log
        log.send("plain", [json.dumps({"user_id": 1, "n": 5, "ts": iso(NOW)}).encode()], durable=True)
        wait_for(lambda: _seen(store, "last_plain:n", 1))
        assert worker.is_alive() and not len(store.dead_letters())
        server.responses["/schemas/ids/7"] = 200, schema(CLICK)
        wait_for(lambda: _seen(store, "last_page:page", 7))
    finally:
        stop.set()
        worker.join()
    assert counts["events"] == 2 and counts["pauses for a schema registry"] == 1 == len(said)
    assert isinstance(said[0], SchemaRegistryUnavailable) and not len(store.dead_letters())


def _seen(store: FeatureStore, feature: str, user: int) -> bool:
    read = store.get_online_features([feature], {"user_id": [user]})
    return read.to_dict()[feature.partition(":")[2]][0] is not None


def test_a_registry_that_does_not_respond_costs_the_other_sources_no_time(
    server: Odd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A byte now and then for an hour: the worker goes on with the other topic, and reads the schema once it is there."""
    monkeypatch.setattr("asof.flows.stream.topic_member.PAUSE_S", 0.05)
    server.is_dripping, server.default = True, (200, schema(CLICK, doc="x" * 200_000))
    connection = f"{{type: schema_registry, url: '{server.url}', timeout_s: 3600}}"
    (tmp_path / "feature_store.yaml").write_text(
        f"project: shop\nclock: {iso(NOW)}\nconnections: {{schemas: {connection}}}\n", encoding="utf-8"
    )
    (tmp_path / "features.py").write_text(REPOSITORY, encoding="utf-8")
    with FeatureStore(tmp_path) as store:
        monkeypatch.setattr("asof.flows.apply.plan.check_message_schemas", lambda stores, project: [])
        store.apply()
        store.send("clicks", framed(7, written(CLICK, GOOD)))
        said: list[AsofError] = []
        stop = Event()
        worker = threading.Thread(target=lambda: store.stream_run(stop=stop, waiting=said.append))
        worker.start()
        try:
            wait_for(lambda: bool(said))
            log = open_store_of(store).stores.log
            log.send("plain", [json.dumps({"user_id": 1, "n": 5, "ts": iso(NOW)}).encode()], durable=True)
            wait_for(lambda: _seen(store, "last_plain:n", 1))
            assert server.asked["/schemas/ids/7"] == 1
            server.is_dripping = False
            wait_for(lambda: _seen(store, "last_page:page", 7))
        finally:
            server.closing.set()
            stop.set()
            worker.join()
    assert "has not responded yet about schema 7" in said[0].message and server.asked["/schemas/ids/7"] == 1
