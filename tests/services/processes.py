"""Server processes of the tests: started in a directory, waited for, signalled by pid, and never left behind."""

from __future__ import annotations

import json
import os
import random
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path


class ServiceUnavailable(Exception):
    """A server cannot be had here: not installed, or it did not start."""

    def __init__(self, service: str, reason: str) -> None:
        self.service = service
        self.reason = reason
        super().__init__(f"{service}: {reason}")


@dataclass(frozen=True)
class Process:
    """A process that may have been started by another one: its pid, and its start, because pids are used again."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """The living process of this pid."""
        fields = _stat(pid)
        return cls(pid, fields[19]) if fields and fields[0] != "Z" else None

    @property
    def is_alive(self) -> bool:
        return Process.of(self.pid) == self

    def signal(self, number: int) -> None:
        """Send a signal; a process that has ended is no error."""
        if self.is_alive:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                pass

    def signal_tree(self, number: int) -> None:
        """Send a signal to the process and all its descendants: those of PostgreSQL are no process group."""
        tree = [self, *self.descendants()]
        for process in tree:
            process.signal(number)

    def wait(self, timeout_s: float) -> bool:
        """Wait until the process has ended; say whether it has."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return True
        try:
            # A process whose first thread is a zombie may have others that hold its ports: only the descriptor says
            # that all have ended.
            fields = _stat(self.pid)
            is_other = fields is None or fields[19] != self.started
            ended = is_other or bool(select.select([descriptor], [], [], timeout_s)[0])
        finally:
            os.close(descriptor)
        if ended:
            try:
                # A child that nobody has asked for keeps its pid, and PostgreSQL takes that for a running server.
                os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                pass
        return ended

    def descendants(self) -> Iterator[Process]:
        """The living processes that it has started, and those that they have."""
        children: dict[int, list[int]] = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit() and (fields := _stat(int(entry))):
                children.setdefault(int(fields[1]), []).append(int(entry))
        waiting = list(children.get(self.pid, ()))
        while waiting:
            pid = waiting.pop()
            waiting.extend(children.get(pid, ()))
            if (process := Process.of(pid)) is not None:
                yield process


def _stat(pid: int) -> list[str] | None:
    """The fields of `/proc/PID/stat` after the command's name: state, parent, …, start (number 19)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def free_port(wished: int | None = None) -> int:
    """A free port of 127.0.0.1: the wished one, or one below those that the system gives to outgoing connections.

    A server that is stopped and started again must find its port free: no client's connection may sit on it.
    """
    chosen = (random.SystemRandom().randrange(15_000, 32_000) for _ in range(200))
    for port in chain([wished] if wished else [], chosen):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise ServiceUnavailable("a port", "none of 127.0.0.1 is free between 15000 and 32000")


class Server:
    """One server process, in a directory of its own that also holds its settings, pid and output.

    Another process may attach to it by the directory alone.
    """

    name = "server"
    start_timeout_s = 120.0
    stop_signal = signal.SIGTERM
    stop_timeout_s = 20.0
    port_names: Sequence[str] = ("port",)
    user: str | None = None

    def __init__(self, directory: Path, **options: object) -> None:
        """Lay out a server below `directory`, or attach to the one that is there."""
        self.directory = directory
        if (settings := directory / "settings.json").exists():
            self._settings = json.loads(settings.read_text())
        else:
            self._settings = {"options": options, "ports": {}}

    # What a product says of itself.

    def prepare(self) -> None:
        """Write configuration and data for the ports that have been chosen; once."""

    def command(self) -> Sequence[str]:
        """What to run."""
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        """Variables beyond those of this process."""
        return {}

    def is_ready(self) -> bool:
        """Whether it answers; an exception means not yet."""
        raise NotImplementedError

    # What all share.

    def option(self, name: str, default: object = None) -> object:
        return self._settings["options"].get(name, default)

    def port_of(self, name: str) -> int:
        return self._settings["ports"][name]

    @property
    def port(self) -> int:
        return self.port_of("port")

    @property
    def process(self) -> Process | None:
        """The server's process, unless it has ended."""
        try:
            process = Process(*json.loads((self.directory / "pid.json").read_text()))
        except FileNotFoundError:
            return None
        return process if process.is_alive else None

    @property
    def pid(self) -> int:
        process = self.process
        if process is None:
            raise ServiceUnavailable(self.name, "is not running")
        return process.pid

    @property
    def output(self) -> str:
        """What the server wrote."""
        try:
            return (self.directory / "output.log").read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def start(self) -> None:
        """Start the server and wait until it answers. The first start chooses the ports and writes its configuration."""
        if (self.directory / "settings.json").exists():
            self._launch()
            return
        # Between choosing a port and listening on it somebody else may take it: then all is done anew.
        for attempt in (1, 2, 3):
            self._settings["ports"] = self._choose_ports()
            self.directory.mkdir(parents=True, exist_ok=True)
            try:
                self.prepare()
                self._launch()
            except ServiceUnavailable:
                if attempt == 3 or "in use" not in self.output:
                    raise
                shutil.rmtree(self.directory)
                continue
            (self.directory / "settings.json").write_text(json.dumps(self._settings))
            return

    def stop(self) -> None:
        """Ask the server to end, as its operator would, and wait for it; at last kill it."""
        if process := self.process:
            process.signal(signal.SIGCONT)
            process.signal(self.stop_signal)
            if not process.wait(self.stop_timeout_s):
                self.kill()

    def kill(self) -> None:
        """End the server and its children at once, as `kill -9` and lost power do."""
        if process := self.process:
            process.signal_tree(signal.SIGKILL)
            process.wait(self.stop_timeout_s)

    def restart(self, *, kill: bool = False) -> None:
        """Stop it (or kill it) and start it on the same port and data."""
        self.kill() if kill else self.stop()
        self.start()

    def pause(self) -> None:
        """Stop the server in its tracks: connections stay open, nothing answers."""
        if process := self.process:
            process.signal_tree(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused server go on."""
        if process := self.process:
            process.signal_tree(signal.SIGCONT)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def _choose_ports(self) -> dict[str, int]:
        wished = self.option("ports", {})
        return {name: free_port(wished.get(name)) for name in self.port_names}

    def _launch(self) -> None:
        if self.process is not None:
            return
        with (self.directory / "output.log").open("ab") as output:
            started = subprocess.Popen(
                self.command(),
                cwd=self.directory,
                env={**os.environ, **self.environment()},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                **as_user(self.user),
            )
        if process := Process.of(started.pid):
            (self.directory / "pid.json").write_text(json.dumps([process.pid, process.started]))
        try:
            wait_until(
                self.is_ready, self.name, timeout_s=self.start_timeout_s, alive=lambda: started.poll() is None, log=self
            )
        except ServiceUnavailable:
            self.kill()
            raise


def as_user(user: str | None) -> dict[str, object]:
    """The arguments of `subprocess` which run a process as another user."""
    return {"user": user, "group": user, "extra_groups": [], "umask": 0o077} if user else {}


def wait_until(
    ready: Callable[[], bool],
    service: str,
    *,
    timeout_s: float,
    alive: Callable[[], bool] = lambda: True,
    log: Server | None = None,
) -> None:
    """Ask until `ready` says yes; a server that ends or takes too long is unavailable, with its last words."""
    deadline = time.monotonic() + timeout_s
    trouble: Exception | None = None
    while time.monotonic() < deadline:
        if not alive():
            raise ServiceUnavailable(service, f"ended while it started:\n{_last_words(log)}") from trouble
        try:
            if ready():
                return
        except (ServiceUnavailable, AttributeError, TypeError, ImportError):
            raise  # asking again would not help
        except Exception as error:
            trouble = error
        time.sleep(0.05)
    raise ServiceUnavailable(service, f"no answer within {timeout_s:g} s ({trouble}):\n{_last_words(log)}") from trouble


def _last_words(server: Server | None) -> str:
    return "\n".join(server.output.splitlines()[-15:]) if server else ""


def run(service: str, command: Sequence[str], *, user: str | None = None, **options: object) -> str:
    """Run a command to its end; a failure makes the service unavailable, with what it said."""
    done = subprocess.run(command, capture_output=True, text=True, **as_user(user), **options)
    if done.returncode:
        raise ServiceUnavailable(service, f"{' '.join(command[:2])} failed: {(done.stderr or done.stdout)[-1500:]}")
    return done.stdout


def end_all(directory: Path) -> None:
    """Kill every server below `directory` and remove it."""
    for process in processes_below(directory):
        process.signal_tree(signal.SIGKILL)
        process.wait(10)
    shutil.rmtree(directory, ignore_errors=True)


def processes_below(directory: Path) -> list[Process]:
    """The servers that run below `directory`."""
    known = (Process(*json.loads(path.read_text())) for path in sorted(directory.rglob("pid.json")))
    return [process for process in known if process.is_alive]


def keep_until_the_end_of(owner: int, directory: Path) -> None:
    """Start a process that ends all servers of `directory` when process `owner` has ended, however it ended."""
    subprocess.Popen(
        [sys.executable, "-S", "-E", __file__, str(owner), str(directory)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
    )


if __name__ == "__main__":
    watched = Process.of(int(sys.argv[1]))
    while watched is not None and not watched.wait(3600):
        pass
    end_all(Path(sys.argv[2]))
