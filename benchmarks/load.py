"""A client that asks one path as fast as it is answered, or at a rate: run as a process, it prints what it measured.

`python -m benchmarks.load PORT PATH BODIES.jsonl --seconds 3 --connections 16 [--rate 2000]`
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from itertools import cycle
from pathlib import Path
from typing import Any

import uvloop


class _Connection(asyncio.Protocol):
    """One connection, with one request on its way at a time."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.transport: Any = None
        self.began = 0.0
        self._buffer = b""
        self._wanted = -1
        self._status = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def ask(self) -> None:
        self.began = time.perf_counter()
        self.transport.write(next(self.load.requests))

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        if self._wanted < 0:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self._buffer[:end]
            at = head.find(b"content-length: ")
            stop = head.find(b"\r", at)
            self._wanted = end + 4 + int(head[at + 16 : stop if stop > 0 else None])
            self._status = head[9:12]
        if len(self._buffer) >= self._wanted:
            self.load.answered(self, time.perf_counter() - self.began, self._status, self._wanted)
            self._buffer, self._wanted = b"", -1

    def connection_lost(self, error: Exception | None) -> None:
        self.load.lost += 1


class Load:
    """All connections of a run, and what they saw."""

    def __init__(self, requests: list[bytes], rate: float | None) -> None:
        self.requests = cycle(requests)
        self.times: list[float] = []
        self.statuses: dict[str, int] = {}
        self.bytes = 0
        self.lost = 0
        self.ends = 0.0
        self.rate = rate
        self._idle: list[_Connection] = []

    def answered(self, connection: _Connection, seconds: float, status: bytes, size: int) -> None:
        self.times.append(seconds)
        word = status.decode()
        self.statuses[word] = self.statuses.get(word, 0) + 1
        self.bytes = size
        if time.perf_counter() >= self.ends:
            return
        if self.rate is None:
            connection.ask()
        else:
            self._idle.append(connection)

    async def run(self, port: int, connections: int, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        made = []
        for _ in range(connections):
            made.append((await loop.create_connection(lambda: _Connection(self), "127.0.0.1", port))[1])
        self.ends = time.perf_counter() + seconds
        if self.rate is None:
            for each in made:
                each.ask()
            await asyncio.sleep(seconds + 0.2)
            return
        self._idle = list(made)
        began, sent = time.perf_counter(), 0
        while (now := time.perf_counter()) < self.ends:
            due = int((now - began) * self.rate) - sent
            while due > 0 and self._idle:
                self._idle.pop().ask()
                sent, due = sent + 1, due - 1
            await asyncio.sleep(0.0005)
        await asyncio.sleep(0.2)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("path")
    parser.add_argument("bodies", type=Path)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--rate", type=float)
    options = parser.parse_args()
    requests = [
        b"POST %b HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
        % (options.path.encode(), len(body), body)
        for body in options.bodies.read_bytes().splitlines()
    ]
    load = Load(requests, options.rate)
    uvloop.run(load.run(options.port, options.connections, options.seconds))
    times = sorted(load.times)
    print(
        json.dumps(
            {
                "requests": len(times), "rate": len(times) / options.seconds, "p50_s": times[len(times) // 2],
                "p99_s": times[int(len(times) * 0.99)], "statuses": load.statuses,
                "bytes": load.bytes, "lost": load.lost,
            }
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
