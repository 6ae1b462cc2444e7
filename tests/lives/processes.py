"""What pushes and reads: stores opened in this process, a process of its own, and a server behind the client."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from asof import FeatureStore
from asof.server.app import App
from asof.server.process.service import Service
from asof.timing import Micros, moment
from tests.embedded.test_client import Bridge, client_over
from tests.lives.rows import Values

Read = tuple[dict[str, list[Any]], dict[str, list[str]]]
"""Output name → its values, and their statuses."""


class Clocks:
    """The store's now and the system's, which stand until they are moved."""

    def __init__(self, now: Micros) -> None:
        self.now, self.system = now, now

    def open(self, folder: Path) -> FeatureStore:
        return FeatureStore(folder, clock=lambda: moment(self.now), system_clock=lambda: moment(self.system))


class Process(Protocol):
    """One of several that push into and read from the same stores."""

    def push(self, source: str, rows: Any, batch_id: str | None) -> int: ...

    def read(self, features: Sequence[str], keys: Values) -> Read: ...

    def archive(self, view: str, key: Values) -> None:
        """Bring what it has pushed into the archive."""

    def close(self) -> None: ...


def _archive(store: FeatureStore, view: str, key: Values) -> None:
    """A historical read archives what its process has pushed."""
    frame = pa.table({**key, "event_timestamp": pa.array([store.now()], pa.timestamp("us", "UTC"))})
    store.get_historical_features(frame, [view]).to_arrow()


class Opened:
    """A store in this process."""

    def __init__(self, folder: Path, clocks: Clocks) -> None:
        self.store = clocks.open(folder)

    def push(self, source: str, rows: Any, batch_id: str | None) -> int:
        return self.store.push(source, rows, batch_id=batch_id)

    def read(self, features: Sequence[str], keys: Values) -> Read:
        response = self.store.get_online_features(features, keys, full_feature_names=True)
        return response.to_dict(), dict(response.statuses)

    def archive(self, view: str, key: Values) -> None:
        _archive(self.store, view, key)

    def close(self) -> None:
        self.store.close()


class Served:
    """A server's app over a store of its own, asked by `asof.Client`."""

    def __init__(self, folder: Path, clocks: Clocks) -> None:
        self._loop = asyncio.new_event_loop()
        self._service = Service(clocks.open(folder))
        self._loop.run_until_complete(self._service.start())
        self._client = client_over(Bridge(App(self._service), self._loop))

    def push(self, source: str, rows: Any, batch_id: str | None) -> int:
        return self._client.push(source, rows, batch_id=batch_id)

    def read(self, features: Sequence[str], keys: Values) -> Read:
        response = self._client.get_online_features(features, keys, full_feature_names=True)
        return response.to_dict(), dict(response.statuses)

    def archive(self, view: str, key: Values) -> None:
        _archive(self._service.store, view, key)

    def close(self) -> None:
        self._client.close()
        self._loop.run_until_complete(self._service.stop())
        self._loop.close()


class Spawned:
    """A process of its own; `die` kills it between two pushes, with what it has not archived."""

    def __init__(self, folder: Path, clocks: Clocks) -> None:
        self._clocks = clocks
        spawn = multiprocessing.get_context("spawn")
        self._connection, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_work, args=(folder, theirs), daemon=True)
        self._process.start()

    def _call(self, verb: str, *given: Any) -> Any:
        self._connection.send((self._clocks.now, self._clocks.system, verb, given))
        returned = self._connection.recv()
        if isinstance(returned, Exception):
            raise returned
        return returned

    def push(self, source: str, rows: Any, batch_id: str | None) -> int:
        return self._call("push", source, rows, batch_id)

    def read(self, features: Sequence[str], keys: Values) -> Read:
        return self._call("read", features, keys)

    def archive(self, view: str, key: Values) -> None:
        self._call("archive", view, key)

    def close(self) -> None:
        self._call("close")
        self._process.join()

    def die(self) -> None:
        self._process.kill()
        self._process.join()


def _work(folder: Path, connection: Connection) -> None:
    clocks = Clocks(0)
    opened: Opened | None = None
    while True:
        clocks.now, clocks.system, verb, given = connection.recv()
        if opened is None:
            opened = Opened(folder, clocks)
        try:
            returned = getattr(opened, verb)(*given)
        except Exception as error:  # raised again where it was asked for
            returned = RuntimeError(f"{type(error).__name__}: {error}")
        connection.send(returned)
        if verb == "close":
            return
