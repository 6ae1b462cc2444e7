"""The process that holds the listening socket and its workers; none is stopped before its successor serves."""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asof.display import counted
from asof.errors import ConfigError
from asof.process_log import facts, one_line
from asof.server.process.worker_messages import READY, REPLACE, WorkerSpec
from asof.server.settings import ServerSettings

START_S = 60.0
"""Longest start of a worker."""
SILENT_S = 30.0
"""A worker without a heartbeat for this long is replaced."""
BACK_OFF_S = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Pauses before a crashed worker is restarted, by the number of crashes in a row."""
STEADY_S = 60.0
"""A worker that has served for this long ends a row of crashes."""

_ATTACH_FILTER = 26
_TAKE_NOTHING = struct.pack("HBBI", 0x06, 0, 0, 0)
"""Linux's SO_ATTACH_FILTER, and a filter of one instruction: return 0 bytes of the packet."""

log = logging.getLogger("asof.server")


class Restarts:
    """Counts crashes in a row, to pause longer before each restart."""

    def __init__(self) -> None:
        self.in_a_row = 0

    def pause(self, *, served_s: float) -> float:
        """Count the crash of a worker that served for `served_s`; returns the pause before its restart, in seconds."""
        if served_s >= STEADY_S:
            self.in_a_row = 0
        pause_s = BACK_OFF_S[min(self.in_a_row, len(BACK_OFF_S) - 1)]
        self.in_a_row += 1
        return pause_s


@dataclass(eq=False)
class Child:
    """A worker process."""

    number: int
    process: subprocess.Popen[bytes]
    hears: int
    began: float
    last_heard: float
    ready_since: float | None = None
    is_leaving: bool = False
    replaces: Child | None = None
    until: float | None = field(default=None)

    @property
    def is_ready(self) -> bool:
        """Whether it has reported that it serves."""
        return self.ready_since is not None


def listening_socket(host: str, port: int, backlog: int) -> socket.socket:
    """A socket that listens on the address.

    Raises:
        ConfigError: the address cannot be listened on.
    """
    try:
        family, kind, number, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        made = socket.socket(family, kind, number)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(backlog)
        return made
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {host}:{port}: {error.strerror or error}",
            hint="choose another --port" if error.errno == errno.EADDRINUSE else "choose another --host",
        ) from error


def refuse_callers(listening: socket.socket) -> None:
    """Have the kernel ignore new connections from now on, in all processes that hold the socket. Linux only.

    Without this, a client that connects between the last accept and the close is reset with a request on its way.
    With it the queue only empties, and the client's SYN is retried until the socket is gone: connection refused.
    """
    if sys.platform != "linux":
        return
    nothing = ctypes.create_string_buffer(_TAKE_NOTHING)
    try:
        program = struct.pack("HP", len(_TAKE_NOTHING) // 8, ctypes.addressof(nothing))
        listening.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, program)
    except OSError:
        pass


class Supervisor:
    """Starts, watches, replaces and stops the workers of one server.

    Args:
        repo: the feature repository.
        config_file: its configuration file, or "" for the default.
        options: options of the command line, which override the `server:` section; workers get them too.
        settings: called again before a reload, which can change the workers' number and settings, not the address.
        log_as: form and level of the workers' log; None where a library's caller decides.
    """

    def __init__(
        self,
        repo: Path,
        *,
        config_file: str = "",
        env: str | None,
        options: Mapping[str, Any],
        settings: Callable[[], ServerSettings],
        log_as: tuple[str, str] | None = None,
    ) -> None:
        self._repo = repo.resolve()
        self._config_file = config_file
        self._env = env
        self._options = dict(options)
        self._read_settings = settings
        self.settings = settings()
        self._log_as = log_as
        self._children: list[Child] = []
        self._restarts = Restarts()
        self._next_start = 0.0
        self._numbers = 0
        self._is_stopping = False
        self._exit_code = 0
        self._signals: list[int] = []
        self.socket = listening_socket(self.settings.host, self.settings.port, self.settings.backlog)
        self.folder = Path(tempfile.mkdtemp(prefix="asof-serve-"))

    @property
    def address(self) -> tuple[str, int]:
        """The address that the server listens on."""
        host, port = self.socket.getsockname()[:2]
        return host, port

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT; SIGHUP replaces the workers one by one. Returns an exit code."""
        read, write = os.pipe()
        os.set_blocking(read, False)
        os.set_blocking(write, False)
        before = {
            number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        }
        wakeup = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        try:
            for _ in range(self.settings.workers):
                self._start()
            while self._children or not self._is_stopping:
                self._wait(read)
                self._obey()
                self._look_after()
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            for child in self._children:
                child.process.kill()
            self.socket.close()
            os.close(read)
            os.close(write)
            self._stop_jobs()
            shutil.rmtree(self.folder, ignore_errors=True)
        return self._exit_code

    # ---- one turn ----

    def _on_signal(self, number: int, frame: object) -> None:
        self._signals.append(number)

    def _wait(self, wakeup: int) -> None:
        """Wait for a signal, a message of a worker, or a quarter of a second."""
        heard = {child.hears: child for child in self._children}
        ready, _, _ = select.select([wakeup, *heard], [], [], 0.25)
        for number in ready:
            try:
                message = os.read(number, 4096)
            except BlockingIOError:
                continue
            if number == wakeup:
                continue
            child = heard[number]
            child.last_heard = time.monotonic()
            if READY in message and not child.is_ready:
                self._now_ready(child)
            if REPLACE in message and not child.is_leaving:
                log.warning(
                    "worker %d lost its threads to on-demand functions that do not end: replacing it", child.number,
                    extra=facts("replace", worker=child.number, why="threads"),
                )  # fmt: skip
                self._start(replaces=child)
            if not message:
                # The worker closed its end of the pipe: it has ended, or is about to.
                child.process.poll()

    def _obey(self) -> None:
        while self._signals:
            number = self._signals.pop(0)
            if number == signal.SIGHUP and not self._is_stopping:
                self._reload()
            elif number != signal.SIGHUP:
                if self._is_stopping:
                    for child in self._children:
                        child.process.kill()
                self._stop()

    def _look_after(self) -> None:
        now = time.monotonic()
        for child in list(self._children):
            if child.process.poll() is not None:
                self._ended(child)
            elif child.until is not None and now > child.until:
                child.process.kill()
            elif not child.is_leaving and now - child.last_heard > (SILENT_S if child.is_ready else START_S):
                log.warning("worker %d does not respond: replacing it", child.number,
                            extra=facts("replace", worker=child.number, why="silent"))  # fmt: skip
                child.process.kill()
        if not self._is_stopping and now >= self._next_start:
            staying = [each for each in self._children if not each.is_leaving and each.replaces is None]
            for _ in range(self.settings.workers - len(staying)):
                self._start()

    # ---- workers ----

    def _start(self, *, replaces: Child | None = None) -> Child:
        self._numbers += 1
        hears, tells = os.pipe()
        os.set_blocking(hears, False)
        spec = WorkerSpec(
            repo=str(self._repo), config_file=self._config_file, env=self._env, listen=self.socket.fileno(),
            tell=tells, folder=str(self.folder),
            number=self._numbers, options=self._options, log_as=self._log_as,
        )  # fmt: skip
        # -P: a file in the working directory must not shadow a module.
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "asof.server.process.worker", spec.text()],
            pass_fds=(self.socket.fileno(), tells),
            stdin=subprocess.DEVNULL,
        )
        os.close(tells)
        now = time.monotonic()
        child = Child(self._numbers, process, hears, now, now, replaces=replaces)
        self._children.append(child)
        return child

    def _now_ready(self, child: Child) -> None:
        child.ready_since = time.monotonic()
        if child.replaces is not None:
            self._let_go(child.replaces)
            child.replaces = None
        if self._is_stopping:
            self._let_go(child)

    def _let_go(self, child: Child) -> None:
        """Tell a worker to complete its requests and exit."""
        if child.is_leaving:
            return
        child.is_leaving = True
        child.until = time.monotonic() + self.settings.graceful_s + 5
        child.process.terminate()

    def _ended(self, child: Child) -> None:
        self._children.remove(child)
        os.close(child.hears)
        code = child.process.returncode
        if child.is_leaving or self._is_stopping:
            return
        if child.replaces is not None and not child.is_ready:
            log.error("the new worker did not start (exit code %d); the old one continues", code,
                      extra=facts("not started", worker=child.number, code=code))  # fmt: skip
            return
        if not child.is_ready and not any(each.is_ready for each in self._children):
            # If no worker ever served, definitions or settings are wrong; the worker has printed the error.
            self._exit_code = self._exit_code or (code if code > 0 else 1)
            self._stop()
            return
        now = time.monotonic()
        pause_s = self._restarts.pause(served_s=now - child.ready_since if child.ready_since is not None else 0.0)
        self._next_start = now + pause_s
        often = f" ({self._restarts.in_a_row} in a row)" if self._restarts.in_a_row > 1 else ""
        log.error("worker %d ended with code %d%s: restarting it in %g s", child.number, code, often, pause_s,
                  extra=facts("crash", worker=child.number, code=code, in_a_row=self._restarts.in_a_row))  # fmt: skip
        for each in self._children:
            if each.replaces is child:
                each.replaces = None

    def _reload(self) -> None:
        """Start a new worker for each; an old one is stopped once its successor serves."""
        try:
            settings = self._read_settings()
        except ConfigError as error:
            log.error("reload failed, the workers continue: %s", one_line(error), extra=facts("reload failed"))
            return
        if (settings.host, settings.port) != (self.settings.host, self.settings.port):
            log.warning("a reload does not change host and port; restart the server for that", extra=facts("reload"))
        self.settings = settings
        old = [each for each in self._children if not each.is_leaving and each.replaces is None]
        log.info("reloading %s", counted(len(old), "worker"), extra=facts("reload", workers=len(old)))
        for child in old:
            self._start(replaces=child)

    def _stop(self) -> None:
        if self._is_stopping:
            return
        self._is_stopping = True
        log.info("stopping %s", counted(len(self._children), "worker"), extra=facts("stop"))
        # First, so that no connection is left in the kernel's queue when the last worker closes its socket.
        refuse_callers(self.socket)
        self.socket.close()
        starting = [child for child in self._children if not child.is_ready and not self._just_became_ready(child)]
        for child in starting:
            child.process.kill()
        for child in starting:
            # It holds the listening socket until it exits: a client that connects meanwhile would wait in vain.
            child.process.wait()
        for child in self._children:
            if child not in starting:
                self._let_go(child)

    def _just_became_ready(self, child: Child) -> bool:
        """Whether a worker serves, and its message has not been read yet."""
        try:
            if READY in os.read(child.hears, 4096):
                child.ready_since = time.monotonic()
        except BlockingIOError:
            pass
        return child.is_ready

    def _stop_jobs(self) -> None:
        """Stop running jobs. What they wrote stays, and the next run continues from there."""
        for file in (self.folder / "jobs").glob("*.pid"):
            try:
                pid = int(file.read_text())
                if "asof.server.jobs.job" in Path(f"/proc/{pid}/cmdline").read_text():
                    os.kill(pid, signal.SIGTERM)
            except (OSError, ValueError):
                continue
