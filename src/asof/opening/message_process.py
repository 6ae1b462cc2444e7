"""Gives messages that may kill a process to a child process (`message_child`), bounded in memory and time."""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import struct
import subprocess
import sys

from asof.config import StoreConfig
from asof.flows.stores import ChildDeath
from asof.log.protocol import Messages
from asof.timing import Micros

START_S = 60.0
"""Limit for the start of a child."""

SIZE = struct.Struct(">Q")
READY, SURVIVED, MEMORY = b"r", b"s", b"m"


class ChildMessageProcess:
    """See `MessageProcess`.

    Args:
        memory_bytes: limit of a child's memory, beyond what it has when it is ready.
        timeout_s: limit of the time for one `take`.
    """

    def __init__(self, config: StoreConfig, source: str, *, memory_bytes: int, timeout_s: float) -> None:
        self._job = pickle.dumps((config, source, memory_bytes))
        self.memory_bytes = memory_bytes
        self.timeout_s = timeout_s
        self._child: subprocess.Popen[bytes] | None = None
        self._replies = -1

    def take(self, messages: Messages, *, now: Micros) -> ChildDeath | None:
        """See `MessageProcess.take`."""
        if self._child is None:
            self._start()
            reply = self._reply(START_S)
            if reply != READY:
                return ChildDeath(f"did not start: it {self._end(reply)}", is_outside=True)
        try:
            self._send(pickle.dumps((messages, now)))
        except BrokenPipeError:
            return ChildDeath(f"{self._end(b'')} while it waited", is_outside=True)
        reply = self._reply(self.timeout_s)
        if reply == SURVIVED:
            return None
        is_outside = reply == b"" and self._status() == -signal.SIGKILL
        return ChildDeath(self._end(reply), is_outside=is_outside)

    @property
    def pid(self) -> int | None:
        """The child's process ID; None where there is no child."""
        return None if self._child is None else self._child.pid

    def _start(self) -> None:
        hears, tells = os.pipe()
        # -P: a file in the working directory must not shadow a module. Its own group: Ctrl-C is for the worker.
        self._child = subprocess.Popen(
            [sys.executable, "-P", "-m", "asof.opening.message_child", str(tells)],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, pass_fds=(tells,),
            start_new_session=True,
        )  # fmt: skip
        os.close(tells)
        self._replies = hears
        with contextlib.suppress(BrokenPipeError):  # then it did not start, which is seen at its reply
            self._send(self._job)

    def _send(self, data: bytes) -> None:
        assert self._child is not None and self._child.stdin is not None
        self._child.stdin.write(SIZE.pack(len(data)) + data)
        self._child.stdin.flush()

    def _reply(self, seconds: float) -> bytes | None:
        """The child's reply; empty if it ended, None if it took too long."""
        ready, _, _ = select.select([self._replies], [], [], seconds)
        return os.read(self._replies, 1) if ready else None

    def _status(self) -> int:
        assert self._child is not None
        return self._child.wait()

    def _end(self, reply: bytes | None) -> str:
        """End the child, and say how it came to its end."""
        child = self._child
        assert child is not None
        if reply:
            text = (
                f"needs more than {self.memory_bytes} bytes of memory" if reply == MEMORY else "sent an unknown reply"
            )
        elif reply is None:
            text = f"needs more than {self.timeout_s:g} s"
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
            os.close(self._replies)


def _how(status: int) -> str:
    if status >= 0:
        return f"ended with exit code {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"


__all__ = ["MEMORY", "READY", "SIZE", "SURVIVED", "ChildMessageProcess"]
