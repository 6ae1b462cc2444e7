"""Who leads the schedule and what was run of it, as kept in the registry: changed by commits of which one wins.

It is a snapshot of its own, under a name that no project has: a lease that is renewed every few seconds is no news to
those who watch the project's version.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec.structs import replace

from asof.definitions.facts import Facts
from asof.definitions.project import Project, Snapshot
from asof.errors import AsofError, RegistryConflict, RegistryError
from asof.flows.stores import Stores
from asof.timing import Micros, iso

RUNNING, DONE, FOUND, FAILED, STOPPED, WAITING = "running", "done", "found", "failed", "stopped", "waiting"
"""How the last run of a job stands: `found` what needs attention, `stopped` in order, `waiting` for its first time."""

_TOPIC = "schedule"
_ATTEMPTS = 50


class JobState(msgspec.Struct, frozen=True, kw_only=True):
    """The last run of one job. Times in microseconds.

    Args:
        due: the time of the schedule that it was for.
        attempts: how often it was begun for that time; more than once where a process died in the middle.
        ended: None while it runs.
        error: class and first line of the message of its error, or what it found.
    """

    due: Micros
    outcome: str
    attempts: int = 0
    started: Micros | None = None
    ended: Micros | None = None
    error: str | None = None


class ScheduleState(msgspec.Struct, frozen=True, kw_only=True):
    """The lease of the leader, and the last run of each job.

    Args:
        leader: ID of the process that works through the schedule; empty for none.
        who: its user, host and process, for people.
        until: when its lease ends, in microseconds of its host's clock.
    """

    leader: str = ""
    who: str = ""
    until: Micros = 0
    jobs: dict[str, JobState] = {}

    def is_led_by_other(self, than: str, *, now: Micros) -> bool:
        """Whether another process holds the lease now."""
        return bool(self.leader) and self.leader != than and self.until > now

    def with_job(self, name: str, job: JobState) -> ScheduleState:
        return replace(self, jobs={**self.jobs, name: job})


class LeaseLost(AsofError):
    """Another process leads the schedule now."""


def schedule_of(project: str) -> str:
    """The name under which a project's schedule is kept."""
    return f"{project}.schedule"


def read_state(stores: Stores) -> ScheduleState:
    """The newest state."""
    return _state(stores.registry.load(schedule_of(stores.project)))


def change_state(
    stores: Stores, change: Callable[[ScheduleState], ScheduleState], *, when: Micros, note: str
) -> ScheduleState:
    """Commit `change(state)` on the newest state, and again on a newer one where another process was faster."""
    name = schedule_of(stores.project)
    for attempt in range(_ATTEMPTS):
        before = stores.registry.load(name)
        changed = change(_state(before))
        facts = Facts(others={_TOPIC: msgspec.to_builtins(changed)})
        snapshot = Snapshot(before.version, name, Project(), facts)
        try:
            stores.registry.commit(snapshot, expected=before.version, who=stores.who, when=when, note=note)
            return changed
        except RegistryConflict:
            if attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


def take_lead(stores: Stores, id: str, who: str, *, now: Micros, lease: Micros) -> ScheduleState | None:
    """Lead from now on, or for longer; None while another process does.

    Args:
        lease: in microseconds.
    """

    def taken(state: ScheduleState) -> ScheduleState:
        if state.is_led_by_other(id, now=now):
            raise LeaseLost(f"{state.who} leads the schedule until {iso(state.until)}")
        return replace(state, leader=id, who=who, until=now + lease)

    try:
        return change_state(stores, taken, when=now, note=f"{who} leads the schedule")
    except LeaseLost:
        return None


def give_up_lead(stores: Stores, id: str, *, now: Micros) -> None:
    """Let another process lead at once."""

    def given_up(state: ScheduleState) -> ScheduleState:
        if state.leader != id:
            raise LeaseLost("another process leads the schedule")
        return replace(state, leader="", who="", until=0)

    try:
        change_state(stores, given_up, when=now, note="no process leads the schedule")
    except LeaseLost:
        pass


def change_job(
    stores: Stores, id: str, name: str, change: Callable[[JobState | None], JobState], *, now: Micros
) -> JobState:
    """Change what is kept of a job, as the leader.

    Raises:
        LeaseLost: another process leads by now.
    """

    def changed(state: ScheduleState) -> ScheduleState:
        if state.leader != id:
            raise LeaseLost(f"{state.who or 'another process'} leads the schedule by now")
        return state.with_job(name, change(state.jobs.get(name)))

    return change_state(stores, changed, when=now, note=f"job {name}").jobs[name]


def _state(snapshot: Snapshot) -> ScheduleState:
    try:
        return msgspec.convert(snapshot.facts.others.get(_TOPIC, {}), ScheduleState)
    except msgspec.ValidationError as error:
        raise RegistryError(
            f"the registry's state of the schedule cannot be read: {error}",
            hint="it is of a newer Asof, or damaged: use the version that wrote it",
        ) from error
