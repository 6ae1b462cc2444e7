"""Materialize runs started over HTTP: each in its own process, so that it never delays reads."""

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

from asof.connections.private_files import make_folder
from asof.display import counted
from asof.errors import JobRunning, NotFound
from asof.server.http.errors import HttpError
from asof.timing import iso

KEPT = 200
"""Number of ended jobs that are kept."""


@dataclass(frozen=True)
class JobSpec:
    """Arguments of a job's process.

    Args:
        file: the file that it writes its state and progress to.
        config_file: the configuration file, or "" for the default.
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


class TooManyJobs(HttpError):
    """As many jobs of a caller are running as it may have.

    Args:
        ids: those that run.
    """

    def __init__(self, ids: Sequence[str]) -> None:
        super().__init__(
            429,
            f"{counted(len(ids), 'materialize run')} of this caller are in progress: job {', '.join(ids)}",
            hint="wait for one of them (GET /jobs/ID), or raise server.max_jobs",
        )


class Jobs:
    """All jobs of a server, of all its workers.

    Args:
        folder: shared by the workers.
        repo: the feature repository.
        config_file: its configuration file, or "" for the default.
    """

    def __init__(self, folder: Path, repo: Path, env: str | None, *, config_file: str = "") -> None:
        self._folder = folder / "jobs"
        make_folder(self._folder)
        self._repo = repo
        self._config_file = config_file
        self._env = env
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(
        self,
        views: Sequence[str],
        *,
        start: str | None,
        end: str | None,
        force: bool = False,
        caller: str = "",
        most: int | None = None,
    ) -> str:
        """Start a job for these views; returns its ID.

        Args:
            force: start it even if one of the views is being materialized.
            caller: who asks for it.
            most: how many jobs of the caller may run at a time; None for any number.

        Raises:
            JobRunning: one of the views is being materialized.
            TooManyJobs: as many jobs of this caller are running.
        """
        with self._locked():
            mine = [job["id"] for job in self._running() if job["caller"] == caller]
            if most is not None and len(mine) >= most:
                raise TooManyJobs(mine)
            if not force:
                for job in self._running():
                    busy = [name for name in views if name in job["feature_views"]]
                    if busy:
                        raise JobRunning(busy, job["id"])
            id = secrets.token_hex(8)
            order = JobSpec(
                id, str(self._file(id)), str(self._repo), self._config_file, self._env, tuple(views), start, end
            )
            content = {
                "id": id, "state": "running", "feature_views": list(views), "start_ts": start, "end_ts": end,
                "started": iso(time.time_ns() // 1000), "caller": caller,
            }  # fmt: skip
            write(self._file(id), content)
            # -P: a file in the working directory must not shadow a module.
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "asof.server.jobs.job", json.dumps(asdict(order))],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
            self._processes[id] = process
            # In a file of its own: the process may have written the job's file by now.
            self._file(id).with_suffix(".pid").write_text(str(process.pid))
            self._forget_old()
        return id

    def get(self, id: str) -> dict[str, Any]:
        """State, progress and result of a job.

        Raises:
            NotFound: there is no job with this ID.
        """
        try:
            content = json.loads(self._file(id).read_text()) if id.isalnum() else None
        except OSError:
            content = None
        if content is None:
            raise no_job(id)
        if content["state"] == "running" and not self._lives(id):
            content = json.loads(self._file(id).read_text())
            if content["state"] == "running":
                why = {
                    "code": "JobEnded",
                    "message": "the job's process ended without a result",
                    "hint": "run it again",
                }
                content |= {"state": "failed", "error": why}
        return content

    def all(self) -> list[dict[str, Any]]:
        """All jobs, newest first."""
        jobs = [self.get(path.stem) for path in self._folder.glob("*.json")]
        return sorted(jobs, key=lambda job: job["started"], reverse=True)

    def wait(self, id: str) -> dict[str, Any]:
        """Wait until a job that this process started has ended, and return it."""
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
            # An ended child of another worker stays a zombie until that worker reaps it.
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


def no_job(id: str) -> NotFound:
    """The error for a job that there is not, or that a caller may not know of."""
    return NotFound(f"there is no job {id!r}", hint="list the jobs: GET /jobs; they are lost when the server stops")


def write(file: Path, state: dict[str, Any]) -> None:
    """Replace a job's file atomically."""
    other = file.with_suffix(f".{os.getpid()}.new")
    other.write_text(json.dumps(state))
    other.rename(file)
