"""A client that asks one path as fast as it is answered, or at a rate: run as a process, it prints what it measured.

`python -m benchmarks.load PORT PATH BODIES.jsonl --seconds 3 --connections 16 [--rate 2000]`

At a rate each request has its moment, one after the other at equal distances, whether the earlier ones are answered or
not; one that finds no free connection waits for it, and that counts. It sleeps between them, as exactly as the system
can (a timer of milliseconds would send them in bunches, a loop that spins would take a core from the server): how late
it woke is measured, too.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import select
import socket
import time
from collections import deque
from itertools import cycle
from pathlib import Path

LAST_S = 2.0
"""How long after the end answers are waited for."""


class Load:
    """All connections of a run, each with one request on its way at a time, and what they saw."""

    def __init__(self, requests: list[bytes], port: int, connections: int) -> None:
        self.requests = cycle(requests)
        self.times: list[float] = []
        self.lates: list[float] = []
        self.statuses: dict[bytes, int] = {}
        self.bytes = 0
        self.lost = 0
        self._sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(connections)]
        for each in self._sockets:
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # By number, which is what the system calls take: this process must cost little beside the server.
        self._connections = [each.fileno() for each in self._sockets]
        self._idle = deque(self._connections)
        self._began: dict[int, float] = {}
        self._parts: dict[int, bytes] = {}

    def run(self, seconds: float, rate: float | None) -> None:
        """Ask for so many seconds; at no rate a connection asks anew as soon as it is answered."""
        clock = time.perf_counter
        begins = now = clock()
        ends = begins + seconds
        due: deque[float] = deque()
        asked = 0
        moment = begins
        while now < ends or (self._began and now < ends + LAST_S):
            if now >= ends:
                due.clear()
            elif rate is None:
                due.extend([now] * len(self._idle))
            else:
                while moment <= now:
                    self.lates.append(now - moment)
                    due.append(now)
                    asked += 1
                    moment = begins + asked / rate
            while due and self._idle:
                connection = self._idle.popleft()
                self._began[connection] = due.popleft()
                self._send(connection, next(self.requests))
            until = moment if rate is not None and now < ends else ends + LAST_S
            for each in select.select(self._connections, (), (), max(0.0, until - clock()))[0]:
                self._receive(each)
            now = clock()

    def _send(self, connection: int, data: bytes) -> None:
        while (sent := os.write(connection, data)) < len(data):
            data = data[sent:]

    def _receive(self, connection: int) -> None:
        data = os.read(connection, 1 << 16)
        if not data:
            self.lost += 1
            self._connections.remove(connection)
            if self._began.pop(connection, None) is None:
                self._idle.remove(connection)
            return
        if connection in self._parts:
            data = self._parts.pop(connection) + data
        end = data.find(b"\r\n\r\n") + 4
        at = data.find(b"content-length: ", 0, end) + 16
        if end < 4 or len(data) < (size := end + int(data[at : data.find(b"\r", at)])):
            self._parts[connection] = data
            return
        self.times.append(time.perf_counter() - self._began.pop(connection))
        status = data[9:12]
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self.bytes = size
        self._idle.append(connection)


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
        b"POST %b HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
        % (options.path.encode(), len(body), body)
        for body in options.bodies.read_bytes().splitlines()
    ]
    load = Load(requests, options.port, options.connections)
    # Nothing here is a cycle, and a look for some would be measured as the server's.
    gc.disable()
    load.run(options.seconds, options.rate)
    times, lates = sorted(load.times), sorted(load.lates) or [0.0]
    print(
        json.dumps(
            {
                "requests": len(times), "rate": len(times) / options.seconds, "p50_s": times[len(times) // 2],
                "p99_s": times[int(len(times) * 0.99)], "late_p99_s": lates[int(len(lates) * 0.99)],
                "statuses": {name.decode(): n for name, n in load.statuses.items()},
                "bytes": load.bytes, "lost": load.lost,
            }
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
