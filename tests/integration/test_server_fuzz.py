"""Fuzzers of the server, in `make soak`: raw HTTP with damaged requests, and the fast path against the general way.

The fuzzers of messages are in `test_message_fuzz.py`. `ASOF_FUZZ_SECONDS` sets the time of each, `ASOF_FUZZ_SEED` the first seed.
"""

from __future__ import annotations

import json
import os
import random
import socket
import time
from collections import Counter
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from tests.integration.test_fast_path import Serving, folder, requests, servers
from tests.integration.test_server_abuse import BODY, MB, READ, Server, built, serving

__all__ = ["built", "folder", "servers", "serving"]

pytestmark = [pytest.mark.integration, pytest.mark.soak, pytest.mark.timeout(4000)]

SECONDS = float(os.environ.get("ASOF_FUZZ_SECONDS", "600"))
FIRST_SEED = int(os.environ.get("ASOF_FUZZ_SEED", "0")) or random.SystemRandom().randrange(2**32)

PATHS = [
    READ,
    "/v1/features",
    "/push",
    "/write-to-online-store",
    "/health",
    "/ready",
    "/jobs/x",
    "/metrics",
    "/no",
    "*",
]
LINES = [
    "connection: close", "connection: keep-alive", "expect: 100-continue", "transfer-encoding: chunked",
    "transfer-encoding: gzip, chunked", "content-length: 0", "content-length: -1", "content-length: 99999999999999999999",
    "content-length: 5, 5", "upgrade: websocket", "upgrade: h2c", "accept: application/vnd.apache.arrow.stream",
    "x: " + "y" * 70_000, "x" * 300 + ": y", "origin: http://a", "content-encoding: gzip", "host: b", ": empty", "no colon",
    "a: b\r\n folded",
]  # fmt: skip
BODIES = [
    BODY, b"", b"{", b"[]", b"null", b'{"entities": {}}', b"[" * 20_000, b'{"a":' * 20_000, b"\xff" * 100, b"0" * 20_000,
    json.dumps({"features": ["profile:age"] * 3000, "entities": {"user_id": [1]}}).encode(),
    json.dumps({"features": "profile", "entities": [{"user_id": i} for i in range(100)], "statuses": True}).encode(),
    json.dumps({"features": ["profile:age", "ratio:ratio"], "entities": {"user_id": [1], "amount": [1], "mode": ["a"]}}).encode(),
    json.dumps({"push_source_name": "clicks", "df": {"user_id": [1], "page": ["a"], "amount": [1e308], "at": [-1e300]}}).encode(),
    json.dumps({"feature_view_name": "profile", "df": {"user_id": [1], "age": [2**70]}}).encode(),
]  # fmt: skip
STATUSES = {200, 202, 400, 401, 403, 404, 405, 408, 409, 411, 413, 415, 422, 424, 431, 501, 503}


def fuzzed_request(rng: random.Random, server: Server) -> bytes:
    """A request of odd parts; one in two is damaged in some bytes."""
    method = rng.choice(["POST"] * 6 + ["GET", "PUT", "OPTIONS", "HEAD", "post", "", "P" * 5000])
    version = rng.choice(["HTTP/1.1"] * 9 + ["HTTP/1.0", "HTTP/2.0", "HTTP/9", ""])
    lines = ["host: a", *rng.sample(LINES, rng.choice([0, 0, 0, 1, 2, 5]))]
    if rng.random() < 0.8:
        lines += [
            f"{name}: {value}" for name, value in server.headers(rng.choice(["read", "write", "nothing"])).items()
        ]
    body = rng.choice(BODIES)
    if rng.random() < 0.2:
        body = damaged(rng, body)
    if "transfer-encoding: chunked" in lines and rng.random() < 0.8:
        cut = rng.randrange(len(body) + 1)
        body = b"".join(
            b"%x%b\r\n%b\r\n" % (len(part), rng.choice([b"", b";a=b"]), part)
            for part in (body[:cut], body[cut:])
            if part
        )
        body += b"0\r\n" + rng.choice([b"", b"", b"x: y\r\n", b"authorization: Bearer x\r\n"]) + b"\r\n"
    elif rng.random() < 0.9:
        lines.append(f"content-length: {max(0, len(body) + rng.choice([0] * 8 + [-1, 1, 100]))}")
    rng.shuffle(lines)
    path = rng.choice(PATHS) + rng.choice(["", "", "", "?async=true", "?%ff", "?" + "a=b&" * 5000])
    head = "\r\n".join([f"{method} {path} {version}", *lines, "", ""]).encode()
    whole = head + body
    return damaged(rng, whole) if rng.random() < 0.3 else whole


def damaged(rng: random.Random, data: bytes) -> bytes:
    made = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 10])):
        at = rng.randrange(len(made) + 1)
        match rng.randrange(4):
            case 0:
                made[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                del made[at : at + rng.choice([1, 1, 10, 1000])]
            case 2:
                made[at:at] = rng.choice([b"\r\n", b"\n", b"\x00", b" ", b"\r\n\r\n", bytes(made[:50])])
            case _:
                made[at:at] = made[at : at + 20]
    return bytes(made)


def answered(server: Server, rng: random.Random, data: bytes) -> bytes:
    """All that comes back for these bytes, sent in some pieces."""
    with server.connect() as made:
        made.settimeout(30)
        with suppress(OSError):
            while data:
                size = rng.choice([len(data)] * 4 + [1, 7, 100, 9000])
                made.sendall(data[:size])
                data = data[size:] if size > 10 or rng.random() < 0.01 else data[size:]
                if size <= 10:
                    made.sendall(data)
                    data = b""
            made.shutdown(socket.SHUT_WR)
        found = b""
        with suppress(ConnectionError):
            while part := made.recv(1 << 16):
                found += part
        return found


def test_damaged_requests_over_http(serving: Any) -> None:
    """Each is answered as HTTP with a status that says what was wrong, or the connection is closed; nobody else notices."""
    server = serving(receive_timeout_s=2)
    began, n, seed = time.monotonic(), 0, FIRST_SEED
    statuses: Counter[int] = Counter()
    sizes = []
    while time.monotonic() - began < SECONDS:
        seed += 1
        rng = random.Random(seed)
        data = b"".join(fuzzed_request(rng, server) for _ in range(rng.choice([1, 1, 1, 2, 5])))
        answer = answered(server, rng, data)
        if answer:
            status = int(answer[9:12])
            assert answer.startswith(b"HTTP/1.1 ") and status in STATUSES | {100}, (seed, answer[:300])
            statuses[status] += 1
        else:
            statuses[0] += 1
        n += 1
        if n % 200 == 0:
            assert server.is_the_same(), seed
            assert server.is_well(), seed
            sizes.append(server.memory())
    said = server.explanation()
    assert "Traceback" not in said, said[max(0, said.find("Traceback") - 500) :][:5000]
    taken = [each // MB for each in sizes[:: max(1, len(sizes) // 8)]]
    print(f"{n} connections from seed {FIRST_SEED}: {dict(sorted(statuses.items()))}, memory {taken} MB")
    # The most that it ever took; the first requests of each kind bring modules with them.
    assert sizes[-1] - sizes[len(sizes) // 2] < 60 * MB


def test_many_requests_on_the_fast_path_and_the_general_way(servers: tuple[Serving, Serving]) -> None:
    fast, general = servers
    before, tried = fast.taken, 0
    deadline = time.monotonic() + SECONDS

    @settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(request=requests())
    def check(request: tuple[bytes, tuple[int, ...]]) -> None:
        nonlocal tried
        raw, cuts = request
        expected = general.answer(raw)
        whole = not expected.startswith(b"HTTP/1.1 200")
        assert [fast.answer(raw), fast.answer(raw), fast.answer(raw, cuts=() if whole else cuts)] == [expected] * 3
        tried += 1

    while time.monotonic() < deadline:
        check()
    print(f"{tried} requests three times each, of which the fast path took {fast.taken - before}")
    assert fast.taken - before > tried / 4
