"""Runs: what was done to the store, when, by whom, and how it ended; kept as records in the registry."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from asof.defaults import RUNS
from asof.errors import Argument, AsofError, RegistryConflict, RegistryError, RequestError, nearest
from asof.flows.records import RUN, keep_records
from asof.flows.stores import Stores
from asof.registry.records import RUN_KINDS, RegistryRecord
from asof.results import Record, Records
from asof.timing import SECOND, moment

(
    MATERIALIZE, BACKFILL, LOAD_HISTORY, REBUILD, COMPACT, AUDIT, PROFILE, STREAM, TRAINING_SET, BACKUP, RESTORE,
) = RUN_KINDS  # fmt: skip

RUNNING, DONE, FAILED, STOPPED = "running", "done", "failed", "stopped"
"""How a run ended. One that is `running` either is, or its process was killed."""

_MOST_ERROR = 500
"""Characters of an error's message that are kept."""


@dataclass(frozen=True)
class Run(Record):
    """One run.

    Args:
        kind: one of `RUN_KINDS`.
        outcome: `running` (or killed), `done`, `failed`, or `stopped` by whoever started it.
        seconds: duration; None while it is running.
        rows: number of rows written, of all views and sources; of an audit, number of keys compared;
            of a profile, number of rows measured.
        views: view → its share of the rows.
        sources: log source → its numbers, such as `rows`, `messages`, `dead_letters` by kind of reason, and `lag`.
        details: what else is to be said of this kind of run.
        error: class and message of the error that it ended with.
    """

    kind: str
    outcome: str
    started: datetime
    ended: datetime | None
    seconds: float | None
    who: str
    rows: int
    views: Mapping[str, int]
    sources: Mapping[str, Mapping[str, object]]
    details: Mapping[str, object]
    error: str | None


@dataclass
class RunNotes:
    """What a running job notes of itself; see `Run`."""

    rows: int = 0
    views: dict[str, int] = field(default_factory=dict)
    sources: dict[str, dict[str, object]] = field(default_factory=dict)
    details: dict[str, object] = field(default_factory=dict)
    records: list[RegistryRecord] = field(default_factory=list)
    """Records of other kinds that the run makes: they are kept with its own."""

    def add_views(self, rows: Mapping[str, int]) -> None:
        """Note the rows of views, which count as the run's."""
        self.views |= rows
        self.rows += sum(rows.values())

    def add_source(self, name: str, rows: int, **numbers: object) -> None:
        """Note the rows of a source, which count as the run's."""
        self.sources[name] = {"rows": rows, **numbers}
        self.rows += rows


@contextmanager
def recorded_run(stores: Stores, kind: str, *, is_announced: bool = False) -> Iterator[RunNotes]:
    """Keep a record of what the block does, also where it ends with an error.

    Args:
        is_announced: also keep a record at its start, so that a run which takes days is seen.
    """
    notes, id, began = RunNotes(), uuid.uuid4().hex, time.monotonic()
    started = stores.clock()

    def record(outcome: str, error: BaseException | None = None) -> RegistryRecord:
        seconds = None if outcome == RUNNING else round(time.monotonic() - began, 3)
        body = {
            "id": id, "outcome": outcome, "started": started, "seconds": seconds, "who": stores.who,
            "rows": notes.rows, "views": notes.views, "sources": notes.sources, "details": notes.details,
            "error": _error_text(error),
        }  # fmt: skip
        return RegistryRecord(RUN, kind, started, body)

    if is_announced:
        keep_records(stores, [record(RUNNING)])
    try:
        yield notes
    except BaseException as error:
        # A registry that failed just now would make the caller wait for its error a second time.
        if isinstance(error, RegistryConflict) or not isinstance(error, RegistryError):
            keep_records(stores, [record(FAILED if isinstance(error, Exception) else STOPPED, error)])
        raise
    keep_records(stores, [record(DONE), *notes.records])


def _error_text(error: BaseException | None) -> str | None:
    """The first line of an error: what follows may quote rows, and is of no use without them."""
    if error is None or not isinstance(error, Exception):
        return None
    text = error.message if isinstance(error, AsofError) else str(error)
    return f"{type(error).__name__}: {text.partition(chr(10))[0]}"[:_MOST_ERROR]


def list_runs(stores: Stores, kind: str | None = None, limit: int = RUNS) -> Records[Run]:
    """The newest runs, newest first.

    Raises:
        RequestError: there is no such kind of runs.
    """
    if kind is not None and kind not in RUN_KINDS:
        raise RequestError(
            f"{Argument('kind', kind)} is no kind of runs",
            hint=nearest(kind, RUN_KINDS) or f"choose one of {', '.join(RUN_KINDS)}",
        )
    # Of one that was announced and ended there are two records of one time, the end first: twice as many are enough.
    found = stores.registry.records(stores.project, RUN, kind, limit=2 * limit)
    ended = {each.body.get("id") for each in found if each.body.get("outcome") != RUNNING}
    left = [each for each in found if each.body.get("outcome") != RUNNING or each.body.get("id") not in ended]
    return Records(Run, [_run_of(each) for each in left[:limit]])


def _run_of(record: RegistryRecord) -> Run:
    body: dict[str, Any] = dict(record.body)
    seconds = body.get("seconds")
    return Run(
        kind=record.subject,
        outcome=body.get("outcome", DONE),
        started=moment(record.when),
        ended=None if seconds is None else moment(record.when + round(seconds * SECOND)),
        seconds=seconds,
        who=body.get("who", ""),
        rows=body.get("rows", 0),
        views=body.get("views", {}),
        sources=body.get("sources", {}),
        details=body.get("details", {}),
        error=body.get("error"),
    )


_SUBJECT = re.compile(r"(?:transform '[^']*'(?: failed)?(?:: )?)?(?:(?:column|key|header|source) '[^']*')?")
"""Names in a definition, with which a reason may begin."""

_QUOTED = r"(?<!\w){0}(?:[^{0}\\]|\\.)*?(?:{0}|\.\.\.(?= )|$)"
_VALUES = re.compile(rf"{_QUOTED.format(chr(39))}|{_QUOTED.format(chr(34))}|\([^()]*\)|(?<!\w)-?\d[\w.:+-]*")
"""Quoted text, also where its end is cut off, what is in brackets, numbers and times."""

_MOST_KIND = 120


def kind_of_reason(reason: str) -> str:
    """A reason without the values in it, so that reasons can be counted and no value is kept with the numbers.

    `column 'price': 'abc' is not an Int64` → `column 'price': … is not an Int64`
    """
    subject = _SUBJECT.match(reason)
    start = subject.end() if subject is not None else 0
    text = reason[:start] + _VALUES.sub("…", reason[start:])
    return text if len(text) <= _MOST_KIND else text[: _MOST_KIND - 1] + "…"


__all__ = ["Run", "RunNotes", "kind_of_reason", "list_runs", "recorded_run"]
