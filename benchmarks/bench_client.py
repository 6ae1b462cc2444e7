"""The Python client against plain httpx: the same bytes from the same server, which does nothing but answer them."""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import socket
from functools import partial
from typing import Any

import httpx
import uvicorn

from asof.client import AsyncClient, Client
from benchmarks.harness import compare, judge

VIEWS, FEATURES = 3, 10
LIMITS = {1: 1.25, 100: 2.0}
"""Entity rows → the most CPU that a client may take of plain httpx that reads the JSON and makes nothing of it."""


def answer(rows: int) -> bytes:
    """What a server answers for three views of ten features: numbers, a time and a text each."""
    types = ["Float64"] * 5 + ["Int64"] * 3 + ["Timestamp", "String"]
    values = [i + 0.5 for i in range(5)] + [7, 8, 9, "2026-01-01T12:00:00.250000Z", "Köln"]
    names = [f"v{view}_f{i}" for view in range(VIEWS) for i in range(FEATURES)]
    width = len(names)
    return json.dumps(
        {
            "names": ["user_id", *names],
            "rows": [[row, *values * VIEWS] for row in range(rows)],
            "statuses": [["PRESENT"] * width] * rows,
            "event_times": [["2026-01-01T12:00:00Z"] * width] * rows,
            "types": {
                "keys": [["user_id", "Int64"]], "request": [],
                "features": [[name, types[i % FEATURES], f"v:{name}"] for i, name in enumerate(names)],
            },
            "at": "2026-01-01T12:00:00.123456Z",
        },
        separators=(",", ":"),
    ).encode()  # fmt: skip


def serve(port: int, bodies: dict[str, bytes]) -> None:
    """Answer each request with the body of its length class, after reading it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        told = bodies["100" if len(body) > 300 else "1"]
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(told))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": told})

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error", access_log=False)


def plain(client: httpx.Client, body: bytes, rows: int) -> int:
    answered = client.post("/v1/features", content=body)
    assert len(answered.json()["rows"]) == rows
    return rows


def asof(client: Client, entities: dict[str, list[int]], details: bool) -> int:
    return len(client.get_online_features("model", entities, details=details))


def plain_awaited(loop: asyncio.AbstractEventLoop, client: httpx.AsyncClient, body: bytes, rows: int) -> int:
    answered = loop.run_until_complete(client.post("/v1/features", content=body))
    assert len(answered.json()["rows"]) == rows
    return rows


def awaited(loop: asyncio.AbstractEventLoop, client: AsyncClient, entities: dict[str, list[int]]) -> int:
    return len(loop.run_until_complete(client.get_online_features("model", entities)))


def main(argv: list[str]) -> bool:
    """Measure; False where a limit is missed."""
    parser = argparse.ArgumentParser(prog="bench_client")
    parser.add_argument("--quick", action="store_true")
    options, _ = parser.parse_known_args(argv)
    quick = options.quick
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    server = multiprocessing.get_context("spawn").Process(
        target=serve, args=(port, {str(rows): answer(rows) for rows in LIMITS}), daemon=True
    )
    server.start()
    kept = True
    loop = asyncio.new_event_loop()
    try:
        with httpx.Client(base_url=url, trust_env=False) as raw, Client(url, connect_timeout_s=10, retries=8) as client:
            asynchronous, raw_asynchronous = AsyncClient(url), httpx.AsyncClient(base_url=url, trust_env=False)
            for rows, limit in LIMITS.items():
                entities = {"user_id": list(range(rows))}
                body = json.dumps({"entities": entities, "features": "model"} | {"pad": " " * (400 if rows > 1 else 0)})
                client.get_online_features("model", entities)
                found = compare(
                    f"client/{rows}-rows",
                    {
                        "httpx": partial(plain, raw, body.encode(), rows),
                        "asof.Client": partial(asof, client, entities, True),
                        "httpx, async": partial(plain_awaited, loop, raw_asynchronous, body.encode(), rows),
                        "asof.AsyncClient": partial(awaited, loop, asynchronous, entities),
                    },
                    runs=3 if quick else 7, calls=20 if quick else 300, fresh=False, unit="rows", items=rows,
                    note=f"{rows} entity rows, {VIEWS} views × {FEATURES} features with statuses and event times",
                )  # fmt: skip
                kept &= judge(f"{rows} rows, CPU", found["asof.Client"].cpu_ratio or 0, limit, unit="×") or quick
            loop.run_until_complete(asynchronous.aclose())
            loop.run_until_complete(raw_asynchronous.aclose())
    finally:
        server.terminate()
        server.join()
        loop.close()
    return kept
