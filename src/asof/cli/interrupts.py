"""Ctrl-C that cannot get lost: what swallows it, or turns it into another error, does not keep the process going."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ExtensionFileLoader
from types import FrameType
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from asof.cli.progress import Progress

AGAIN_S = 0.02
"""When to look again for an end of what must not be interrupted."""


class Interrupts:
    """Whether Ctrl-C came while a command ran.

    Drivers try to import optional packages in the middle of their work, and take a KeyboardInterrupt there for a
    package that is not installed; a package half imported may then fail with anything. So it is remembered, and raised
    again at the next report of progress.
    """

    def __init__(self) -> None:
        self.came = False

    @contextmanager
    def noticed(self) -> Iterator[None]:
        """Notice Ctrl-C while the block runs, where it would raise KeyboardInterrupt anyway."""
        default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if not default or threading.current_thread() is not threading.main_thread():
            yield
            return

        def on_interrupt(number: int, frame: FrameType | None) -> None:
            self.came = True
            if _loads_compiled_code(frame):
                # An error in the middle of that may end the process at once (nanobind calls `abort`).
                signal.setitimer(signal.ITIMER_REAL, AGAIN_S)
                return
            raise KeyboardInterrupt

        def on_unraisable(unraisable: sys.UnraisableHookArgs) -> None:
            # Where Python cannot raise it, in a callback of the import system, it would print a traceback instead.
            if unraisable.exc_type is not KeyboardInterrupt:
                sys.__unraisablehook__(unraisable)

        signal.signal(signal.SIGINT, on_interrupt)
        alarm = signal.signal(signal.SIGALRM, on_interrupt)
        hook, sys.unraisablehook = sys.unraisablehook, on_unraisable
        try:
            yield
        finally:
            sys.unraisablehook = hook
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, alarm)
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def raised_again(self, progress: Progress) -> Progress:
        """The same progress, which ends a command whose Ctrl-C was swallowed."""

        def report(what: str, done: int, total: int | None) -> None:
            if self.came:
                raise KeyboardInterrupt
            progress(what, done, total)

        return report


def _loads_compiled_code(frame: FrameType | None) -> bool:
    """Whether a compiled module is being loaded here; Python modules, such as a user's definitions, do not count."""
    while frame is not None:
        if frame.f_code.co_name in ("create_module", "exec_module") and isinstance(
            frame.f_locals.get("self"), ExtensionFileLoader
        ):
            return True
        frame = frame.f_back
    return False


@contextmanager
def stopped_by_signals(stop: threading.Event) -> Iterator[threading.Event]:
    """Let SIGTERM and the first Ctrl-C set `stop`, while the block runs; yields an event that says it was Ctrl-C."""
    interrupted = threading.Event()

    def on_terminate(number: int, frame: object) -> None:
        stop.set()

    def on_interrupt(number: int, frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        interrupted.set()
        stop.set()
        click.echo("stopping: finishing what is held; Ctrl-C again stops at once", err=True)

    before = signal.signal(signal.SIGTERM, on_terminate), signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGINT, before[1])
