"""Progress on stderr: bars on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from asof.timing import SECOND, span_text

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

Progress = Callable[[str, int, int | None], None]
"""Called with what is done, how much of it, and of how much (None: not known)."""

LINE_EVERY_S = 5.0
FORGOTTEN_AFTER_S = 3.0
"""A bar of which nothing was heard for so long is taken away when another one moves."""


@contextmanager
def shown_progress(*, quiet: bool = False) -> Iterator[Progress]:
    """Something to report progress to while the block runs."""
    if quiet:
        yield lambda what, done, total: None
    elif sys.stderr.isatty():
        with _bars() as progress:
            yield progress
    else:
        yield ProgressLines()


class ProgressLines:
    """Progress as lines, at most one per `every_s` and one at each end, so that a log file stays short.

    Args:
        write: takes one line.
        stopwatch: seconds, of any origin.
    """

    def __init__(
        self,
        write: Callable[[str], object] | None = None,
        *,
        stopwatch: Callable[[], float] = time.monotonic,
        every_s: float = LINE_EVERY_S,
    ) -> None:
        self._write = write or (lambda line: print(line, file=sys.stderr, flush=True))
        self._stopwatch = stopwatch
        self._every_s = every_s
        self._said_at: dict[str, float] = {}
        self._ended: set[str] = set()
        self._began_at: dict[str, float] = {}
        self._began_with: dict[str, int] = {}

    def __call__(self, what: str, done: int, total: int | None) -> None:
        now = self._stopwatch()
        ended = total is not None and done >= total
        first = self._said_at.setdefault(what, now)
        self._began_at.setdefault(what, now)
        self._began_with.setdefault(what, done)
        if ended and what not in self._ended:
            self._ended.add(what)
        elif ended or now - first < self._every_s:
            return
        self._said_at[what] = now
        left = time_left(done - self._began_with[what], total and total - done, now - self._began_at[what])
        self._write(f"{what}: {amount(done, total)}{left}")


def amount(done: int, total: int | None) -> str:
    """How far something is, as text: `1,200 of 5,000 (24 %)`."""
    if total is None:
        return f"{done:,}"
    return f"{done:,} of {total:,} ({done * 100 // total if total else 100} %)"


def time_left(done: int, left: int | None, seconds: float) -> str:
    """How long the rest will take, as text, at the speed so far: `, about 1m30s left`; empty where nothing says it."""
    if not left or done <= 0 or seconds <= 0:
        return ""
    return f", about {span_text(max(round(left * seconds / done), 1) * SECOND)} left"


@contextmanager
def _bars() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    bars = Bars(
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=24),
        TextColumn("{task.fields[amount]}"), TimeElapsedColumn(),
        console=Console(file=sys.stderr, highlight=False), transient=True,
        # Results that come meanwhile stand above the bars, but only where both go to the terminal.
        redirect_stdout=sys.stdout.isatty(),
    )  # fmt: skip
    tasks: dict[str, TaskID] = {}
    heard_at: dict[str, float] = {}
    began: dict[str, tuple[float, int]] = {}

    def report(what: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        heard_at[what] = now
        if what not in tasks:
            tasks[what] = bars.add_task(what, total=total, amount="")
        began_at, began_with = began.setdefault(what, (now, done))
        left = time_left(done - began_with, total and total - done, now - began_at)
        bars.update(tasks[what], completed=done, total=total, amount=amount(done, total) + left)
        for other in [
            each for each in tasks if now - heard_at[each] > FORGOTTEN_AFTER_S or _is_over(bars, tasks[each])
        ]:
            if other != what:
                bars.remove_task(tasks.pop(other))

    with bars:
        yield report


def _is_over(bars: Bars, task: TaskID) -> bool:
    return next(each.finished for each in bars.tasks if each.id == task)
