"""Runs on-demand functions in threads with a timeout, so that none of them blocks the server."""

from __future__ import annotations

import asyncio
import ctypes
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from asof.errors import FunctionTimeout, Overloaded
from asof.selection import Derivation

WAITING_PER_THREAD = 64
"""Most waiting calls per thread; calls beyond are refused."""
GRACE_S = 2.0
"""How long a cancelled function may take before its thread is abandoned."""


class _CallExpired(BaseException):
    """Raised inside a function that took too long; a BaseException, so that `except Exception` does not catch it."""


class _ThreadCall:
    """A call of functions in a thread."""

    __slots__ = ("done", "future", "loop", "over", "thread", "work")

    def __init__(self, work: Callable[[], Any], loop: asyncio.AbstractEventLoop) -> None:
        self.work = work
        self.loop = loop
        self.future: asyncio.Future[Any] = loop.create_future()
        self.thread: int | None = None
        self.over = False
        self.done = threading.Event()

    def finish(self, result: Any, error: BaseException | None) -> None:
        """Set the outcome, unless the caller has stopped waiting."""
        try:
            self.loop.call_soon_threadsafe(self._settle, result, error)
        except RuntimeError:
            pass  # the event loop is closed

    def _settle(self, result: Any, error: BaseException | None) -> None:
        if self.future.done():
            return
        if error is None:
            self.future.set_result(result)
        else:
            self.future.set_exception(error)


class FunctionThreads:
    """A pool of threads for users' functions. Processes would take six times as long per call (FIGURES.md, serving).

    A function past its timeout is ended by an exception raised inside it. If that has no effect (it sleeps or computes
    inside a library), its thread is abandoned and replaced; once as many threads are lost as the pool has, the process
    has to be replaced.

    Args:
        on_hopeless: called on the event loop once so many threads are lost.
    """

    def __init__(self, threads: int, *, timeout_s: float, on_hopeless: Callable[[], None] = lambda: None) -> None:
        self.timeout_s = timeout_s
        self.lost = 0
        self._threads = threads
        self._idle = 0
        self._running = 0
        self._on_hopeless = on_hopeless
        self._queue: deque[_ThreadCall] = deque()
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        self._closed = False

    async def run(self, work: Callable[[], Any], derivations: Sequence[Derivation]) -> Any:
        """Run `work`, which calls the functions of these derivations, in a thread.

        Raises:
            FunctionTimeout: it timed out; the message names the function.
            Overloaded: too many calls are waiting.
        """
        call = _ThreadCall(work, asyncio.get_running_loop())
        with self._lock:
            if len(self._queue) >= self._threads * WAITING_PER_THREAD:
                raise Overloaded(
                    "too many requests wait for on-demand functions",
                    hint="retry later, or raise server.function_threads",
                )
            self._queue.append(call)
            if self._idle == 0 and self._running < self._threads:
                self._running += 1
                threading.Thread(target=self._work, name="asof-functions", daemon=True).start()
            self._wake.notify()
        timer = call.loop.call_later(self.timeout_s, self._expire, call, derivations)
        try:
            return await call.future
        finally:
            timer.cancel()

    def close(self) -> None:
        """Stop idle threads."""
        with self._lock:
            self._closed = True
            self._wake.notify_all()

    def _expire(self, call: _ThreadCall, derivations: Sequence[Derivation]) -> None:
        if call.future.done():
            return
        with self._lock:
            thread = call.thread
            if thread is None:
                try:
                    self._queue.remove(call)
                    call.future.set_exception(
                        Overloaded(
                            "all threads for on-demand functions were busy until the timeout", hint="retry later"
                        )
                    )
                    return
                except ValueError:
                    pass
            where = _place(thread, derivations)
            if thread is not None and not call.over:
                # Under the lock, so that the exception cannot hit the thread's next call.
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(_CallExpired))
        names = ", ".join(repr(each.view.name) for each in derivations)
        call.future.set_exception(
            FunctionTimeout(
                f"on-demand feature view {names}: the function took longer than {self.timeout_s:g} s{where}",
                hint="make it faster, or raise server.function_timeout_s",
                where=derivations[0].view.where if derivations else "",
            )
        )
        call.loop.call_later(GRACE_S, self._give_up, call)

    def _give_up(self, call: _ThreadCall) -> None:
        """Replace a thread whose function did not react to the exception."""
        if call.done.is_set():
            return
        with self._lock:
            self.lost += 1
            self._running -= 1
            if self._queue and self._running < self._threads:
                self._running += 1
                threading.Thread(target=self._work, name="asof-functions", daemon=True).start()
            is_hopeless = self.lost == self._threads
        if is_hopeless:
            self._on_hopeless()

    def _work(self) -> None:
        while True:
            call: _ThreadCall | None = None
            try:
                with self._lock:
                    self._idle += 1
                    try:
                        while not self._queue:
                            if self._closed:
                                return
                            self._wake.wait()
                        call = self._queue.popleft()
                        call.thread = threading.get_ident()
                    finally:
                        self._idle -= 1
                result, error = _called(call.work)
                with self._lock:
                    call.over = True
                call.done.set()
                call.finish(result, error)
            except _CallExpired:
                # The exception came after the function's last step, and before `over` was set.
                if call is not None:
                    call.over = True
                    call.done.set()


def _called(work: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    try:
        return work(), None
    except Exception as error:
        return None, error


def _place(thread: int | None, derivations: Sequence[Derivation]) -> str:
    """The function that a thread is in, and its line, as text."""
    frame = sys._current_frames().get(thread) if thread is not None else None
    codes = {}
    for each in derivations:
        function = each.view.function
        code = getattr(function, "__code__", None)
        if code is not None:
            codes[code] = each.view.name
    while frame is not None:
        if frame.f_code in codes:
            name = frame.f_code.co_filename.rpartition("/")[2]
            return f"; it was in the function of {codes[frame.f_code]!r}, at {name}:{frame.f_lineno}"
        frame = frame.f_back
    return ""
