"""A child process that takes messages which may kill it: started by `Suspects`, bounded in memory and time.

It opens what a configuration names, loads the repository's transforms, and decodes the messages as a worker does. What
it answers is only whether it survived: the worker then decodes them itself.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import resource
import select
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from asof.config import StoreConfig
from asof.decoding import decode_messages
from asof.definitions import LogSource
from asof.errors import AsofError
from asof.flows.stores import ChildDeath, Stores, log_source_named, raw_keys
from asof.flows.stream.transforms import transform_of
from asof.log.protocol import Messages
from asof.opening.clock import user_and_host
from asof.opening.stores import open_stores
from asof.repository import Repository
from asof.timing import Micros

START_S = 60.0
"""Limit for the start of a child."""

PAGE = resource.getpagesize()
_SIZE = struct.Struct(">Q")
_READY, _SURVIVED, _MEMORY = b"r", b"s", b"m"


class ChildMessageProcess:
    """See `MessageProcess`.

    Args:
        memory_bytes: limit of a child's memory, beyond what it has when it is ready.
        timeout_s: limit of the time for one `take`.
    """

    def __init__(self, config: StoreConfig, source: str, *, memory_bytes: int, timeout_s: float) -> None:
        self._job = pickle.dumps((config, source, memory_bytes))
        self._memory_bytes = memory_bytes
        self._timeout_s = timeout_s
        self._child: subprocess.Popen[bytes] | None = None
        self._answers = -1

    def take(self, messages: Messages, *, now: Micros) -> ChildDeath | None:
        """See `MessageProcess.take`."""
        if self._child is None:
            self._start()
            answer = self._answer(START_S)
            if answer != _READY:
                return ChildDeath(f"did not start: it {self._end(answer)}", is_outside=True)
        try:
            self._send(pickle.dumps((messages, now)))
        except BrokenPipeError:
            return ChildDeath(f"{self._end(b'')} while it waited", is_outside=True)
        answer = self._answer(self._timeout_s)
        if answer == _SURVIVED:
            return None
        is_outside = answer == b"" and self._status() == -signal.SIGKILL
        return ChildDeath(self._end(answer), is_outside=is_outside)

    def _start(self) -> None:
        hears, tells = os.pipe()
        # -P: a file in the working directory must not shadow a module. Its own group: Ctrl-C is for the worker.
        self._child = subprocess.Popen(
            [sys.executable, "-P", "-m", "asof.opening.message_process", str(tells)],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, pass_fds=(tells,),
            start_new_session=True,
        )  # fmt: skip
        os.close(tells)
        self._answers = hears
        with contextlib.suppress(BrokenPipeError):  # then it did not start, which is seen at its answer
            self._send(self._job)

    def _send(self, data: bytes) -> None:
        assert self._child is not None and self._child.stdin is not None
        self._child.stdin.write(_SIZE.pack(len(data)) + data)
        self._child.stdin.flush()

    def _answer(self, seconds: float) -> bytes | None:
        """The child's answer; empty if it ended, None if it took too long."""
        ready, _, _ = select.select([self._answers], [], [], seconds)
        return os.read(self._answers, 1) if ready else None

    def _status(self) -> int:
        assert self._child is not None
        return self._child.wait()

    def _end(self, answer: bytes | None) -> str:
        """End the child, and say how it came to its end."""
        child = self._child
        assert child is not None
        if answer:
            text = f"needs more than {self._memory_bytes} bytes of memory" if answer == _MEMORY else "answered nonsense"
        elif answer is None:
            text = f"needs more than {self._timeout_s:g} s"
        else:
            text = _how(child.wait())
        self.close()
        return text

    def close(self) -> None:
        """See `MessageProcess.close`."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.wait()
            with contextlib.suppress(BrokenPipeError):
                assert child.stdin is not None
                child.stdin.close()
            os.close(self._answers)


def _how(status: int) -> str:
    if status >= 0:
        return f"ended with exit code {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"


def main() -> None:
    """The child: take messages until nobody sends any."""
    answers = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    config, name, memory_bytes = pickle.loads(_received())
    stores = open_stores(
        config, clock=lambda: int(time.time() * 1e6), who=user_and_host(),
        functions=Repository(config.path).transform_of,
    )  # fmt: skip
    source = log_source_named(stores.registry.load(stores.project), name)
    # What is loaded now does not count as memory of a message.
    _take(stores, name, Messages.empty(), 0)
    transform_of(stores, source)
    _limit_memory(memory_bytes)
    os.write(answers, _READY)
    while data := _received():
        messages, now = pickle.loads(data)
        os.write(answers, _MEMORY if _take(stores, name, messages, now) else _SURVIVED)


def _take(stores: Stores, name: str, messages: Messages, now: Micros) -> bool:
    """Decode messages; whether the memory was not enough. An error is no death: the worker meets it, too."""
    snapshot = stores.registry.load(stores.project)
    source: LogSource = log_source_named(snapshot, name)
    try:
        decoded = decode_messages(
            source, messages, keys=raw_keys(source, snapshot.project.views_of(name)), clock=now,
            schemas=stores.schemas_of(source), transform=transform_of(stores, source),
        )  # fmt: skip
    except MemoryError:
        return True
    except AsofError:
        return False
    return any("MemoryError" in letter.reason or "OutOfMemory" in letter.reason for letter in decoded.letters)


def _limit_memory(more_bytes: int) -> None:
    """Limit the address space to what it is now and so much more, where the system says how much that is."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError):
        return
    limit = pages * PAGE + more_bytes
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard == resource.RLIM_INFINITY or limit <= hard:
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def _received() -> bytes:
    """The next job; empty at the end."""
    stream: Any = sys.stdin.buffer
    head = stream.read(_SIZE.size)
    return stream.read(_SIZE.unpack(head)[0]) if len(head) == _SIZE.size else b""


__all__ = ["ChildMessageProcess"]

if __name__ == "__main__":
    main()
