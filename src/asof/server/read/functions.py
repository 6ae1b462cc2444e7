"""On-demand functions, run beside the event loop and bounded in time: none of them stops the server."""

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
"""So many calls may wait for each thread; what comes beyond that is turned away."""
GRACE_S = 2.0
"""How long a function that was told to stop may take before its thread is given up."""


class _CallExpired(BaseException):
    """Raised inside a function that took too long; a BaseException, so that `except Exception` does not catch it."""


class _ThreadCall:
    """One call on its way through a thread."""

    __slots__ = ("done", "future", "loop", "over", "thread", "work")

    def __init__(self, work: Callable[[], Any], loop: asyncio.AbstractEventLoop) -> None:
        self.work = work
        self.loop = loop
        self.future: asyncio.Future[Any] = loop.create_future()
        self.thread: int | None = None
        self.over = False
        self.done = threading.Event()

    def finish(self, result: Any, error: BaseException | None) -> None:
        """Hand over what came out, unless nobody waits for it any more."""
        try:
            self.loop.call_soon_threadsafe(self._settle, result, error)
        except RuntimeError:
            pass  # the loop was closed meanwhile

    def _settle(self, result: Any, error: BaseException | None) -> None:
        if self.future.done():
            return
        if error is None:
            self.future.set_result(result)
        else:
            self.future.set_exception(error)


class FunctionThreads:
    """A few threads for users' functions. Processes would cost an ordinary one six times as much (FIGURES.md, serving).

    A function that is not done in time is ended by an exception inside it. One that does not even notice that (it
    sleeps or computes inside a library) keeps its thread, and another takes the thread's place; when as many threads
    are lost as there were, the process has to be replaced.

    Args:
        on_hopeless: called once so many threads are lost, on the event loop.
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
            FunctionTimeout: it was not done in time; the text names the function.
            Overloaded: too many calls wait already.
        """
        call = _ThreadCall(work, asyncio.get_running_loop())
        with self._lock:
            if len(self._queue) >= self._threads * WAITING_PER_THREAD:
                raise Overloaded("too many requests wait for on-demand functions", hint="ask again later")
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
        """Let idle threads end."""
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
                        Overloaded("no thread for on-demand functions became free in time", hint="ask again later")
                    )
                    return
                except ValueError:
                    pass
            where = _place(thread, derivations)
            if thread is not None and not call.over:
                # Under the lock, so that the exception cannot reach the thread's next call.
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(_CallExpired))
        names = ", ".join(repr(each.view.name) for each in derivations)
        call.future.set_exception(
            FunctionTimeout(
                f"on-demand feature view {names}: its function was not done after {self.timeout_s:g} s{where}",
                hint="make it faster, or raise server.function_timeout_s",
                where=derivations[0].view.where if derivations else "",
            )
        )
        call.loop.call_later(GRACE_S, self._give_up, call)

    def _give_up(self, call: _ThreadCall) -> None:
        """Put another thread in the place of one that did not notice that it should stop."""
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
                # It came after the function's last step, and before `over` was set.
                if call is not None:
                    call.over = True
                    call.done.set()


def _called(work: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    try:
        return work(), None
    except Exception as error:
        return None, error


def _place(thread: int | None, derivations: Sequence[Derivation]) -> str:
    """Which of the functions a thread is in, and in which line."""
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
