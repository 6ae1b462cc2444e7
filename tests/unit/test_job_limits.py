"""One caller has a bounded number of materialize runs at a time, over all workers of a server."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from asof.errors import JobRunning
from asof.server.http.errors import headers_of, status_of
from asof.server.jobs.processes import Jobs, TooManyJobs


def running(folder: Path, id: str, caller: str) -> None:
    """A job as another worker has started it; its process is this one."""
    content = {"id": id, "state": "running", "feature_views": [id], "started": "2026-01-01T00:00:00Z", "caller": caller}
    (folder / "jobs" / f"{id}.json").write_text(json.dumps(content), encoding="utf-8")
    (folder / "jobs" / f"{id}.pid").write_text(str(os.getpid()), encoding="utf-8")


def test_a_caller_with_as_many_jobs_as_it_may_have_is_refused_and_others_are_not(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path, tmp_path, None)
    for id in ("one", "two"):
        running(tmp_path, id, "loader")

    with pytest.raises(TooManyJobs) as caught:
        jobs.start(["three"], start=None, end=None, force=True, caller="loader", most=2)

    assert status_of(caught.value) == 429
    assert any(name == b"retry-after" for name, _ in headers_of(caught.value))
    assert "one" in caught.value.message and "two" in caught.value.message
    # Another caller's job gets as far as the views: one of them is being materialized.
    with pytest.raises(JobRunning):
        jobs.start(["one"], start=None, end=None, caller="other", most=2)
    with pytest.raises(JobRunning):
        jobs.start(["one"], start=None, end=None, caller="loader", most=3)
