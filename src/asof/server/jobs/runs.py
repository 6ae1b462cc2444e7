"""Materialize runs that were asked for over HTTP: each in a process of its own, so that reads never wait for one."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from asof.errors import JobRunning, NotFound
from asof.timing import iso

KEPT = 200
"""How many ended jobs are remembered."""


@dataclass(frozen=True)
class JobSpec:
    """What a job's process is started with.

    Args:
        file: where it writes how far it is.
        config_file: the configuration file, where one was named; else empty.
        start, end: ISO 8601, or None.
    """

    id: str
    file: str
    repo: str
    config_file: str
    env: str | None
    views: tuple[str, ...]
    start: str | None
    end: str | None


class Jobs:
    """The jobs of one server, whichever of its workers started them.

    Args:
        folder: shared by the workers.
        repo: the feature repository.
        config_file: its configuration file, where one was named.
    """

    def __init__(self, folder: Path, repo: Path, env: str | None, *, config_file: str = "") -> None:
        self._folder = folder / "jobs"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._repo = repo
        self._config_file = config_file
        self._env = env
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, views: Sequence[str], *, start: str | None, end: str | None, force: bool = False) -> str:
        """Begin a run for these views; its id.

        Args:
            force: also where one of them is being materialized already.

        Raises:
            JobRunning: one of them is.
        """
        with self._locked():
            if not force:
                for job in self._running():
                    busy = [name for name in views if name in job["feature_views"]]
                    if busy:
                        raise JobRunning(busy, job["id"])
            id = secrets.token_hex(8)
            order = JobSpec(
                id, str(self._file(id)), str(self._repo), self._config_file, self._env, tuple(views), start, end
            )
            words = {
                "id": id, "state": "running", "feature_views": list(views), "start_ts": start, "end_ts": end,
                "started": iso(time.time_ns() // 1000),
            }  # fmt: skip
            write(self._file(id), words)
            # -P: a file of the working directory must not stand for a module of ours, or of a package.
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "asof.server.jobs.job", json.dumps(asdict(order))],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
            self._processes[id] = process
            # The process may have written by now; who it is stands beside.
            self._file(id).with_suffix(".pid").write_text(str(process.pid))
            self._forget_old()
        return id

    def get(self, id: str) -> dict[str, Any]:
        """How far a job is.

        Raises:
            NotFound: there is no such job.
        """
        try:
            words = json.loads(self._file(id).read_text()) if id.isalnum() else None
        except OSError:
            words = None
        if words is None:
            raise NotFound(f"there is no job {id!r}", hint="a server forgets its jobs when it ends")
        if words["state"] == "running" and not self._lives(id):
            words = json.loads(self._file(id).read_text())
            if words["state"] == "running":
                why = {
                    "code": "JobEnded",
                    "message": "the job's process ended without a result",
                    "hint": "run it again",
                }
                words |= {"state": "failed", "error": why}
        return words

    def all(self) -> list[dict[str, Any]]:
        """Every job, the newest first."""
        jobs = [self.get(path.stem) for path in self._folder.glob("*.json")]
        return sorted(jobs, key=lambda job: job["started"], reverse=True)

    def wait(self, id: str) -> dict[str, Any]:
        """A job that this process started, once it has ended."""
        self._processes[id].wait()
        del self._processes[id]
        return self.get(id)

    def _running(self) -> Iterator[dict[str, Any]]:
        return (job for job in self.all() if job["state"] == "running")

    def _lives(self, id: str) -> bool:
        process = self._processes.get(id)
        if process is not None:
            return process.poll() is None
        try:
            pid = int(self._file(id).with_suffix(".pid").read_text())
            # A child of another worker that ended stays a zombie until that worker looks.
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except (OSError, ValueError):
            return False

    def _forget_old(self) -> None:
        ended = [job["id"] for job in self.all() if job["state"] != "running"]
        for id in ended[KEPT:]:
            self._processes.pop(id, None)
            self._file(id).unlink(missing_ok=True)
            self._file(id).with_suffix(".pid").unlink(missing_ok=True)

    def _file(self, id: str) -> Path:
        return self._folder / f"{id}.json"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self._folder / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def write(file: Path, words: dict[str, Any]) -> None:
    """Write a job's words whole."""
    other = file.with_suffix(f".{os.getpid()}.new")
    other.write_text(json.dumps(words))
    other.rename(file)
