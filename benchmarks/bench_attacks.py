"""A well-behaved client of the server while another one attacks it: its p99, and the server's memory afterwards."""

from __future__ import annotations

import argparse
import json
import random
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from itertools import count
from pathlib import Path

from benchmarks.bench_online import filled_store
from benchmarks.bench_serve import LATEST, NOW_TEXT, PATH, ask_once, asof_server, load, memory_mb, write_bodies
from benchmarks.harness import judge

USERS = 2_000
RATE = 200.0
"""Requests per second of the well-behaved client, far from what the server can do."""

PAUSE_S = 0.02
"""Of an attacker between two requests: it has one connection."""


def main(argv: list[str]) -> bool:
    """Measure; answer whether the figures keep their limits."""
    parser = argparse.ArgumentParser(prog="bench_attacks")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", choices=list(ATTACKS), action="append")
    options, _ = parser.parse_known_args(argv)
    seconds, pairs = (1.0, 3) if options.quick else (3.0, 5)
    kept = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with filled_store(folder, users=USERS, settings=f"clock: {NOW_TEXT}\n"):
            pass
        bodies = folder / "one.jsonl"
        write_bodies(bodies, LATEST, rows=1, users=USERS)
        for attack in options.only or ATTACKS:
            with asof_server(folder) as (port, pid):
                ask_once(port, bodies)
                load(port, bodies, seconds=0.5, pid=pid)
                before = memory_mb(pid)
                print(f"\nattacks/{attack}: SQLite, {RATE:g} requests/s beside it, {2 * pairs} pairs of {seconds:g} s")
                ratios, rounds = [], []
                for _ in range(2):
                    for _ in range(pairs):
                        calm = load(port, bodies, seconds=seconds, pid=pid, rate=RATE).p99_s
                        with attacked(attack, port):
                            ratios.append(load(port, bodies, seconds=seconds, pid=pid, rate=RATE).p99_s / calm)
                    rounds.append(memory_mb(pid))
                print(f"  p99 / calm p99: {', '.join(f'{each:.1f}' for each in ratios)}; memory {before:.0f} MB before")
                kept.append(judge("p99 / the calm p99, median", statistics.median(ratios), 2, unit="×"))
                kept.append(judge("memory after a round / before", rounds[0] / before, 1.2, unit="×"))
                kept.append(judge("memory after two rounds / after one", rounds[1] / rounds[0], 1.05, unit="×"))
    return all(kept)


@contextmanager
def attacked(attack: str, port: int) -> Iterator[None]:
    """Attack in a loop meanwhile."""
    stop = threading.Event()
    attacking = threading.Thread(target=ATTACKS[attack], args=(port, stop))
    attacking.start()
    try:
        yield
    finally:
        stop.set()
        attacking.join()


def asking(body: Callable[[int], bytes]) -> Callable[[int, threading.Event], None]:
    """An attack of requests, each of them another one."""
    numbers = count()

    def attack(port: int, stop: threading.Event) -> None:
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        while not stop.is_set():
            with suppress(OSError, HTTPException):
                connection.request("POST", PATH, body(next(numbers)))
                connection.getresponse().read()
            stop.wait(PAUSE_S)
        connection.close()

    return attack


def begin_connections(port: int, stop: threading.Event) -> None:
    """Connections that send the start of a request, and are closed by the hundred."""
    while not stop.is_set():
        made = [socket.create_connection(("127.0.0.1", port)) for _ in range(100)]
        for each in made:
            with suppress(OSError):
                each.sendall(b"POST / HTTP/1.1\r\nhost: a\r\nx: ")
        stop.wait(PAUSE_S)
        for each in made:
            each.close()
        time.sleep(PAUSE_S)


def shuffled(number: int) -> bytes:
    features = list(LATEST)
    random.Random(number).shuffle(features)
    return json.dumps(
        {"features": features, "full_feature_names": True, "entities": {"user_id": [number % USERS]}}
    ).encode()


def rows(number: int) -> bytes:
    users = [(number + i) % USERS for i in range(9_000)]
    return json.dumps({"features": LATEST, "full_feature_names": True, "entities": {"user_id": users}}).encode()


def repeated(piece: bytes, size: int) -> bytes:
    return b'{"features": ["latest0:f0"], "entities": {"user_id": [' + piece * (size // len(piece)) + b"1]}}"


LISTS, NUMBERS, WIDE = repeated(b"[],", 15 << 20), repeated(b"1,", 1_900_000), json.dumps(
    {"features": LATEST, "entities": {f"n{i}": [1] for i in range(45_000)}}
).encode()  # fmt: skip

ATTACKS: dict[str, Callable[[int, threading.Event], None]] = {
    "connections": begin_connections,
    "values": asking(lambda number: LISTS),
    "numbers": asking(lambda number: NUMBERS),
    "columns": asking(lambda number: WIDE),
    "orders": asking(shuffled),
    "rows": asking(rows),
}
"""Name → what attacks a port until it is told to stop."""
