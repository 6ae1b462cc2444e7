"""The schedule: one process of several works through it, runs what is due, and catches up once what was missed.

Each process asks the registry for the lease of the leader. Who has it renews it from a thread, and runs one job after
the other. A job is begun and ended by a commit that only the leader can make: of two processes one runs it. A run whose
process died stays `running`, and whoever leads next runs it again; jobs go on from what is done.
"""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from threading import Event, Thread

from msgspec.structs import replace as changed_job

from asof.config.schedule import ScheduledJob
from asof.display import counted
from asof.errors import AsofError, Interrupted, RegistryError
from asof.flows.schedule_state import (
    DONE,
    FAILED,
    FOUND,
    RUNNING,
    STOPPED,
    WAITING,
    JobState,
    LeaseLost,
    ScheduleState,
    change_job,
    give_up_lead,
    read_state,
    take_lead,
)  # fmt: skip
from asof.flows.stores import Progress, Stores
from asof.process_log import facts, one_line
from asof.results import Record, Records
from asof.timing import MINUTE, SECOND, Micros, iso, moment

LEASE_S = 60.0
"""A leader that did not renew its lease for so long is taken for dead."""

MOST_ATTEMPTS = 3
"""A job during which so many processes died is not begun again before its next time."""

LATE_AFTER = 15 * MINUTE
"""A job that is due for so long, and was not begun, is a problem for `doctor`."""

_MOST_WAIT_S = 30.0

log = logging.getLogger("asof.schedule")

Job = Callable[[Sequence[str] | None, Progress], str | None]
"""Does a job for these views (None: all); returns what it found that needs attention, else None."""


@dataclass(frozen=True)
class ScheduledJobStatus(Record):
    """How one job of the schedule stands.

    Args:
        due: the time of the schedule that its last run was for.
        outcome: `waiting` for its first time, `running`, `done`, `found` (what needs attention), `failed`, `stopped`.
        late_s: how long a time of the schedule is past for which it was not begun; 0 if it was.
        leader: the process that works through the schedule; empty if there is none.
    """

    name: str
    job: str
    cron: str
    outcome: str
    due: datetime | None
    started: datetime | None
    ended: datetime | None
    next: datetime
    late_s: float
    error: str | None
    leader: str


def schedule_status(
    stores: Stores, entries: Sequence[ScheduledJob], *, now: Micros | None = None
) -> Records[ScheduledJobStatus]:
    """How each job of the schedule stands."""
    now = stores.system_clock() if now is None else now
    state = read_state(stores) if entries else ScheduleState()
    leader = state.who if state.until > now else ""
    found = []
    for each in entries:
        known = state.jobs.get(each.name)
        latest = each.cron.latest(now)
        is_late = known is not None and known.due < latest
        found.append(
            ScheduledJobStatus(
                name=each.name,
                job=each.job,
                cron=each.cron.expression,
                outcome=known.outcome if known else WAITING,
                due=_moment(known.due if known else None),
                started=_moment(known.started if known else None),
                ended=_moment(known.ended if known else None),
                next=moment(each.cron.following(now)),
                late_s=(now - latest) / SECOND if is_late else 0.0,
                error=known.error if known else None,
                leader=leader,
            )  # fmt: skip
        )
    return Records(ScheduledJobStatus, found)


def schedule_problem(status: Records[ScheduledJobStatus]) -> tuple[bool, str, str]:
    """Whether the schedule is healthy, a text, and the next step."""
    leader = status[0].leader
    failed = [each for each in status if each.outcome == FAILED]
    late = [each for each in status if each.late_s * SECOND > LATE_AFTER]
    text = f"led by {leader}" if leader else "no process works through it"
    parts = [f"{each.name} {each.outcome}" + (f" {iso_of(each.ended)}" if each.ended else "") for each in status]
    text = f"{text}; {', '.join(parts)}"
    if failed:
        return (
            False,
            f"{text}; {failed[0].name}: {failed[0].error}",
            "fix its cause; the job runs again at its next time",
        )
    if late:
        return False, f"{text}; {late[0].name} is {late[0].late_s / 60:.0f} minutes late", "run `asof run`"
    return bool(leader), text, "" if leader else "run `asof run`"


def iso_of(at: datetime) -> str:
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")


def run_schedule(
    stores: Stores,
    entries: Sequence[ScheduledJob],
    jobs: Mapping[str, Job],
    *,
    stop: Event,
    once: bool = False,
    lease_s: float = LEASE_S,
    progress: Progress,
) -> dict[str, int]:
    """Work through the schedule until stopped, or stand by while another process does.

    Args:
        jobs: name of each kind of job → what does it.
        once: run what is due, then return; also where another process leads.
        stop: set it to end after what is running was interrupted.

    Returns:
        Number of runs by outcome.
    """
    run = _ScheduleRun(stores, entries, jobs, stop=stop, lease_s=lease_s, progress=progress)
    try:
        run.work(once=once)
    finally:
        run.close()
    return run.counts


class _ScheduleRun:
    """One process's part in the schedule."""

    def __init__(
        self,
        stores: Stores,
        entries: Sequence[ScheduledJob],
        jobs: Mapping[str, Job],
        *,
        stop: Event,
        lease_s: float,
        progress: Progress,
    ) -> None:
        self.stores = stores
        self.entries = entries
        self.jobs = jobs
        self.counts: dict[str, int] = {}
        self._id = uuid.uuid4().hex
        self._who = f"{stores.who} (process {os.getpid()})"
        self._stop = stop
        self._lease_s = lease_s
        self._progress = progress
        self._until = 0.0
        self._is_standing_by = False
        self._ended = Event()
        self._renewing: Thread | None = None

    def work(self, *, once: bool) -> None:
        """Lead and run what is due, or stand by; see `run_schedule`."""
        has_begun = False
        while not self._stop.is_set():
            leads = False
            try:
                leads = self._lead()
                if leads:
                    self._run_due()
                has_begun = True
            except LeaseLost as error:
                log.warning("%s; stands by", one_line(error), extra=facts("lease lost"))
                self._until, leads = 0.0, False
            except RegistryError as error:
                if once or not has_begun or not error.may_pass:
                    raise
                log.warning("waits for the registry: %s", one_line(error), extra=facts("wait"))
                leads = False
            if once:
                return
            self._stop.wait(self._wait_s() if leads else min(self._lease_s / 3, _MOST_WAIT_S))

    def close(self) -> None:
        """Let another process lead."""
        self._ended.set()
        if self._renewing is not None:
            self._renewing.join()
            try:
                give_up_lead(self.stores, self._id, now=self.stores.system_clock())
            except AsofError as error:
                log.warning("the lease was not given back, and ends by itself: %s", one_line(error), extra=facts("end"))

    def _lead(self) -> bool:
        """Lead, or go on to."""
        if time.monotonic() < self._until:
            return True
        state = self._take()
        if state is None:
            if not self._is_standing_by:
                leader = read_state(self.stores).who
                log.info("stands by: %s works through the schedule", leader, extra=facts("stand by", leader=leader))
            self._is_standing_by = True
            return False
        self._is_standing_by = False
        log.info("works through the schedule: %s", counted(len(self.entries), "job"),
                 extra=facts("lead", jobs=[each.name for each in self.entries]))  # fmt: skip
        if self._renewing is None:
            self._renewing = Thread(target=self._renew, name="schedule-lease", daemon=True)
            self._renewing.start()
        return True

    def _take(self) -> ScheduleState | None:
        began = time.monotonic()
        lease = round(self._lease_s * SECOND)
        state = take_lead(self.stores, self._id, self._who, now=self.stores.system_clock(), lease=lease)
        # By this process's own clock, and from before the commit: never later than what others read.
        self._until = began + self._lease_s if state is not None else 0.0
        return state

    def _renew(self) -> None:
        """Renew the lease, also while a job runs."""
        while not self._ended.wait(self._lease_s / 3):
            if not self._until:
                continue  # the main thread stands by
            try:
                self._take()
            except RegistryError as error:
                log.warning("the lease cannot be renewed: %s", one_line(error), extra=facts("lease"))

    def _wait_s(self) -> float:
        now = self.stores.system_clock()
        soonest = min((each.cron.following(now) for each in self.entries), default=now)
        return max(min((soonest - now) / SECOND, self._lease_s / 3, _MOST_WAIT_S), 0.01)

    def _run_due(self) -> None:
        for each in self.entries:
            if self._stop.is_set():
                return
            if not self._is_leader():
                raise LeaseLost("the lease ended before it was renewed")
            begun = self._begin(each)
            if begun is not None:
                self._run(each, begun)

    def _is_leader(self) -> bool:
        return time.monotonic() < self._until

    def _begin(self, entry: ScheduledJob) -> JobState | None:
        """Begin the run that is due; None if none is."""
        now = self.stores.system_clock()
        latest = entry.cron.latest(now)
        known = read_state(self.stores).jobs.get(entry.name)
        if known is None:
            # As of cron: from its next time on.
            self._keep(entry, JobState(due=latest, outcome=WAITING))
            return None
        is_broken_off = known.outcome in (RUNNING, STOPPED)
        if known.due >= latest and not is_broken_off:
            return None
        attempts = 1
        if is_broken_off and known.due >= latest:
            attempts = known.attempts + (known.outcome == RUNNING)
            if attempts > MOST_ATTEMPTS:
                error = f"{MOST_ATTEMPTS} processes died during it"
                self._keep(entry, changed_job(known, outcome=FAILED, ended=now, error=error))
                log.error("job %s: %s; it is not begun again before its next time", entry.name, error,
                          extra=facts("job", job=entry.name, outcome=FAILED))  # fmt: skip
                return None
        begun = JobState(due=latest, outcome=RUNNING, attempts=attempts, started=now)
        self._keep(entry, begun)
        log.info(
            "job %s begins, for %s%s", entry.name, iso(latest),
            " again: the process that ran it is gone" if is_broken_off and known.outcome == RUNNING else "",
            extra=facts("job", job=entry.name, outcome=RUNNING, due=iso(latest), attempt=attempts),
        )  # fmt: skip
        return begun

    def _run(self, entry: ScheduledJob, begun: JobState) -> None:
        began = time.monotonic()
        outcome, error = DONE, None

        def progress(what: str, done: int, total: int | None) -> None:
            if self._stop.is_set():
                raise Interrupted("the schedule was stopped")
            if not self._is_leader():
                raise LeaseLost("the lease ended before it was renewed")
            self._progress(what, done, total)

        try:
            error = self.jobs[entry.job](list(entry.views) or None, progress)
            outcome = FOUND if error else DONE
        except LeaseLost:
            raise
        except Interrupted:
            outcome = STOPPED
        except Exception as raised:
            # The next jobs do not wait for someone to fix this one.
            outcome, error = FAILED, f"{type(raised).__name__}: {one_line(raised)}"
            if not isinstance(raised, AsofError):
                log.exception("job %s raised what is no error of Asof", entry.name)
        now = self.stores.system_clock()
        self._keep(entry, changed_job(begun, outcome=outcome, ended=now, error=error))
        self.counts[outcome] = self.counts.get(outcome, 0) + 1
        level = {FAILED: logging.ERROR, FOUND: logging.WARNING}.get(outcome, logging.INFO)
        seconds = time.monotonic() - began
        log.log(level, "job %s: %s after %.1f s%s", entry.name, outcome, seconds, f": {error}" if error else "",
                extra=facts("job", job=entry.name, outcome=outcome, seconds=round(seconds, 3)))  # fmt: skip

    def _keep(self, entry: ScheduledJob, job: JobState) -> None:
        change_job(self.stores, self._id, entry.name, lambda before: job, now=self.stores.system_clock())


def _moment(at: Micros | None) -> datetime | None:
    return None if at is None else moment(at)


__all__ = [
    "LEASE_S", "Job", "ScheduledJobStatus", "run_schedule", "schedule_problem", "schedule_status",
]  # fmt: skip
