"""For tests of the catalog's pages: a browser that asks a server in this process, with a key for each role."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx

from asof import FeatureStore
from asof.server.app import App
from asof.server.process.service import Service
from asof.server.security.keys import new_key
from asof.server.settings import ServerSettings

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
ROLES = {
    "nobody": ["nobody"], "read": ["read"], "write": ["read", "write"], "admin": ["read", "write", "admin"],
    "fraud_read": ["fraud_read"], "fraud_write": ["fraud_read", "fraud_write"],
}  # fmt: skip
"""Name of a key → its roles. `nobody` may read nothing that there is, the `fraud` ones the views with that tag."""

KEYS = {name: new_key() for name in ROLES}

CONFIGURATION = """project: shop
auth:
  roles:
    nobody: {allow: read, tags: {team: none}}
    fraud_read: {allow: read, tags: {team: fraud}}
    fraud_write: {allow: write, tags: {team: fraud}}
  keys:
""" + "".join(
    f"    - {{id: {key.id}, hash: '{key.hash}', name: {name}, roles: [{', '.join(ROLES[name])}]}}\n"
    for name, key in KEYS.items()
)


@dataclass
class Browser:
    """Sends requests to the server in this process; keeps no cookies."""

    client: httpx.AsyncClient
    loop: asyncio.AbstractEventLoop

    def get(self, path: str, *, role: str = "read", **headers: str) -> httpx.Response:
        if role:
            headers.setdefault("cookie", f"asof_key={KEYS[role].text}")
        return self.loop.run_until_complete(self.client.get(path, headers=headers))

    def post(self, path: str, form: dict[str, str], *, role: str = "", **headers: str) -> httpx.Response:
        if role:
            headers["cookie"] = f"asof_key={KEYS[role].text}"
        return self.loop.run_until_complete(self.client.post(path, data=form, headers=headers))


def browser_of(
    folder: Path, settings: ServerSettings | None = None, *, clock: Callable[[], datetime] = lambda: NOW
) -> Iterator[Browser]:
    """A browser on a server over the repository in a folder."""
    loop = asyncio.new_event_loop()
    service = Service(FeatureStore(folder, clock=clock), settings)
    app = App(service)
    loop.run_until_complete(service.start())
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")
    yield Browser(client, loop)
    loop.run_until_complete(client.aclose())
    loop.run_until_complete(service.stop())
    loop.close()
