"""A store on servers in children of a fork: each child has connections of its own, and leaves the parent's alone."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.integration


def ran(folder: Path, configuration: str) -> list[dict[str, Any]]:
    (folder / "feature_store.yaml").write_text(configuration)
    done = subprocess.run(
        [sys.executable, "-m", "tests.forking", str(folder), "servers"], capture_output=True, text=True, timeout=540
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("online", ["redis", "postgres"])
def test_a_child_of_a_fork_reads_trains_and_pushes_on_servers(
    online: str, tmp_path: Path, postgres_url: str, redis: Any, kafka: Any
) -> None:
    project = f"shop_{uuid.uuid4().hex[:8]}"
    online_store = (
        f"{{type: redis, url: '{redis.url}'}}" if online == "redis" else f"{{type: postgres, url: '{postgres_url}'}}"
    )
    said = ran(
        tmp_path,
        f"project: {project}\n"
        f"registry: {{type: postgres, url: '{postgres_url}'}}\n"
        f"offline_store: {{type: postgres, url: '{postgres_url}'}}\n"
        f"online_store: {online_store}\n"
        f"log: {{type: kafka, bootstrap_servers: '{kafka.bootstrap}'}}\n",
    )

    assert said == [
        {"child": [["clicked"], [[3], [3]], [[7], [7]]]},
        {"ended": 0},
        {"parent": [["clicked"], [[12], [12]]]},
    ]
