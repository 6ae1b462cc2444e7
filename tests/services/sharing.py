"""Which servers are whose: those of one test run, shared by its processes, and those of one test."""

from __future__ import annotations

import fcntl
import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from tests.services.certificates import Certificates
from tests.services.processes import ServiceUnavailable, end_all, keep_until_the_end_of

RUN = "ASOF_TEST_RUN"
S = TypeVar("S")


def open_run() -> None:
    """Begin a test run: its processes share one directory of servers, which ends with this process."""
    if RUN not in os.environ:
        os.environ[RUN] = f"{os.getpid()}:{tempfile.gettempdir()}/asof-services-{uuid.uuid4().hex[:10]}"


def close_run() -> None:
    """End all servers of the run, if this process began it."""
    owner, _, directory = os.environ.get(RUN, "").partition(":")
    if owner == str(os.getpid()):
        del os.environ[RUN]
        end_all(Path(directory))


def run_directory() -> Path:
    """The directory of the run's servers. The first call makes it, and a process that cleans up after a crash."""
    open_run()
    owner, _, name = os.environ[RUN].partition(":")
    directory = Path(name)
    if not directory.exists():
        with locked(directory.with_suffix(".lock"), remove=True):
            if not directory.exists():
                make_directory(directory)
                keep_until_the_end_of(int(owner), directory)
    return directory


def make_directory(directory: Path) -> None:
    """A place for servers, with the certificates that they show."""
    new = directory.with_suffix(".new")
    new.mkdir()
    # Others may pass: PostgreSQL runs as another user when the tests are root's.
    new.chmod(0o711)
    Certificates.below(new / "certificates")
    new.rename(directory)


def shared(kind: type[S], directory: Path | None = None, **options: object) -> S:
    """The server of this kind in a directory (the run's), started by whoever asks first. Leave it as you found it."""
    directory = (directory or run_directory()) / _folder(kind)
    refused = directory.with_suffix(".refused")
    with locked(directory.with_suffix(".lock")):
        if refused.exists():
            raise ServiceUnavailable(kind.name, refused.read_text())
        server = kind(directory, **options)
        try:
            server.start()
        except ServiceUnavailable as error:
            refused.write_text(error.reason)
            raise
    return server


@contextmanager
def private(kind: type[S], **options: object) -> Iterator[S]:
    """A server for one test, which may kill it."""
    directory = run_directory() / f"{_folder(kind)}-{uuid.uuid4().hex[:8]}"
    server = kind(directory, **options)
    try:
        server.start()
        yield server
    finally:
        end_all(directory)


def _folder(kind: type) -> str:
    return kind.name.lower().replace(" ", "-")


@contextmanager
def locked(path: Path, *, remove: bool = False) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            if remove:
                path.unlink(missing_ok=True)
