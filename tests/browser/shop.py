"""The demo's store as the walk visits it: with roles, personal data and a view of many features, and its server."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from asof import FeatureStore
from asof.demo import story
from asof.demo.stage import DemoServers
from asof.server.security.keys import new_key
from tests.services.processes import free_port

SIZE = {"users": 40, "ticks": 40_000, "seed": 5}
"""So few users that a page looks at all of them."""

ROLES = {
    "admin": ["read", "write", "admin"], "reader": ["read"], "growth": ["growth"], "accounts": ["accounts"],
    "operator": ["growth", "growth_write"],
}  # fmt: skip
KEYS = {name: new_key() for name in ROLES}

AUTH = """
auth:
  roles:
    growth: {allow: read, tags: {team: growth}}
    growth_write: {allow: write, tags: {team: growth}}
    accounts: {allow: read, tags: {team: accounts}}
  keys:
""" + "".join(
    f"    - {{id: {key.id}, hash: '{key.hash}', name: {name}, roles: [{', '.join(ROLES[name])}]}}\n"
    for name, key in KEYS.items()
)

MANY = 80
MORE = f"""

# More features than a drawing of lineage shows one by one.
user_windows = FeatureView(
    name="user_windows",
    entities=[user],
    source=traffic,
    online=False,
    aggregations=[Aggregation(name=f"pages_{{n}}d", function="count", window=Sliding(n * DAY)) for n in range(1, {MANY + 1})],
    description="Page views of many windows",
    tags={{"team": "growth"}},
)
"""
PLATFORM = 'Field("platform", String, description="Device of the registration: Mobile, PC or TV")'
PERSONAL = 'Field("platform", String, description="Device of the registration", tags={"pii": "device"})'
PERSONAL_VALUES = ("Mobile", "PC", "TV")


@dataclass(frozen=True)
class ShopStore:
    """The demo's store.

    Args:
        folder: the demo's; the repository is in `repo`.
        variables: environment variables of the repository.
        port: where its server listens, and its pages say so.
    """

    folder: Path
    port: int
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def repository(self) -> Path:
        return self.folder / "repo"

    @property
    def environment(self) -> dict[str, str]:
        """For processes in the repository: this Python's commands come first, whoever else is on the path."""
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return {**os.environ, **self.variables, "PATH": path, "PYTHONUNBUFFERED": "1"}


def tell(folder: Path, servers: DemoServers | None = None) -> ShopStore:
    """Run the demo, and add what the walk needs beside it.

    With servers, the environment has to have their variables.
    """
    story.run(folder, **SIZE, servers=servers, say=lambda _: None)
    shop = ShopStore(folder, free_port(), servers.variables if servers else {})
    features, settings = shop.repository / "features.py", shop.repository / "feature_store.yaml"
    text = features.read_text()
    assert PLATFORM in text
    features.write_text(text.replace(PLATFORM, PERSONAL) + MORE)
    settings.write_text(f"{settings.read_text()}{AUTH}\nserver: {{port: {shop.port}}}\n")
    with FeatureStore(shop.repository) as store:
        store.apply()
    return shop


@contextmanager
def served(shop: ShopStore, command: str) -> Iterator[str]:
    """The address of the store's server, in a process of its own.

    Args:
        command: `ui` or `serve`.
    """
    options = ["--no-browser"] if command == "ui" else []
    # Through Python: the command of an environment may be another checkout's.
    process = subprocess.Popen(
        [sys.executable, "-m", "asof", command, "--port", str(shop.port), *options], cwd=shop.repository, text=True,
        env=shop.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if re.search(rf"http://\S+:{shop.port}\b", line):
                yield f"http://localhost:{shop.port}"
                return
        raise AssertionError("".join(said))
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
