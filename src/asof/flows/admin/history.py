"""Who applied what, and when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from asof.defaults import HISTORY_COMMITS
from asof.flows.stores import Stores
from asof.results import Record, Records
from asof.timing import moment


@dataclass(frozen=True)
class AppliedVersion(Record):
    """One version of the applied definitions.

    Args:
        note: what was said with it.
        summary: what changed against the version before, as text.
    """

    version: int
    who: str
    when: datetime
    note: str
    summary: str


def applied_versions(stores: Stores, limit: int = HISTORY_COMMITS) -> Records[AppliedVersion]:
    """The newest versions first; without those that a worker or a run made of its own progress."""
    commits = stores.registry.history(stores.project, limit, facts=False)
    return Records(
        AppliedVersion,
        [AppliedVersion(each.version, each.who, moment(each.when), each.note, each.summary) for each in commits],
    )


__all__ = ["AppliedVersion", "applied_versions"]
