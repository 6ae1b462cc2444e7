"""What a supervisor and its workers tell each other."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

READY, BEAT, REPLACE = b"r", b".", b"!"
"""What a worker tells the supervisor: it serves; it lives; it should be replaced by a new one."""


@dataclass(frozen=True)
class WorkerSpec:
    """What a worker is started with.

    Args:
        listen: the listening socket's number; `tell`: that of the pipe to the supervisor.
        config_file: the configuration file, where one was named; else empty.
        folder: what the workers of one server share: jobs and counts.
        options: what the command line put over the `server:` section.
    """

    repo: str
    config_file: str
    env: str | None
    listen: int
    tell: int
    folder: str
    number: int
    options: dict[str, Any]

    def text(self) -> str:
        """For the command line; it holds no secrets."""
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, text: str) -> WorkerSpec:
        """What `text` wrote."""
        return cls(**json.loads(text))
