"""Messages between the supervisor and its workers."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

READY, BEAT, REPLACE = b"r", b".", b"!"
"""Messages of a worker: it serves; its heartbeat; it should be replaced."""


@dataclass(frozen=True)
class WorkerSpec:
    """Arguments of a worker.

    Args:
        listen: file descriptor of the listening socket; `tell`: of the pipe to the supervisor.
        config_file: the configuration file, or "" for the default.
        folder: directory that all workers of a server share, for jobs and counts.
        options: options of the command line, which override the `server:` section.
        log_as: form and level of its log.
    """

    repo: str
    config_file: str
    env: str | None
    listen: int
    tell: int
    folder: str
    number: int
    options: dict[str, Any]
    log_as: tuple[str, str] | None = None

    def text(self) -> str:
        """As JSON, for the worker's command line; it has no secrets."""
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, text: str) -> WorkerSpec:
        """Parse the output of `text`."""
        return cls(**json.loads(text))
