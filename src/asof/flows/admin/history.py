"""Who applied what, and when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from asof.defaults import HISTORY_COMMITS
from asof.errors import NotFound
from asof.flows.stores import Stores
from asof.planning import describe, diff
from asof.registry.protocol import Commit, empty
from asof.results import Record, Records
from asof.timing import moment

_OF_FACTS = "; facts: "


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


@dataclass(frozen=True)
class VersionChanges(AppliedVersion):
    """One version with all that it changed.

    Args:
        before: the version of the definitions before it; 0 for the first.
        after: the version of the definitions after it; None for those that are applied now.
        lines: the changes as `asof plan` shows them.
    """

    before: int
    after: int | None
    lines: Sequence[str]


def applied_versions(stores: Stores, limit: int = HISTORY_COMMITS) -> Records[AppliedVersion]:
    """The newest versions first; without those that a worker or a run made of its own progress."""
    commits = stores.registry.history(stores.project, limit, facts=False)
    return Records(AppliedVersion, [AppliedVersion(*_said(each)) for each in commits])


def version_changes(stores: Stores, version: int) -> VersionChanges:
    """What a version changed, against the definitions before it.

    Raises:
        NotFound: no version of this number changed definitions.
    """
    commits = stores.registry.history(stores.project, max(stores.registry.version(stores.project), 1), facts=False)
    place = next((i for i, each in enumerate(commits) if each.version == version), None)
    if place is None:
        raise NotFound(
            f"no version {version} of project {stores.project!r} changed definitions",
            hint="run `asof history` to see those that did",
        )
    before = commits[place + 1].version if place + 1 < len(commits) else 0
    known = stores.registry.load_version(stores.project, before) if before else empty(stores.project)
    changes = diff(known, stores.registry.load_version(stores.project, version).project)
    after = commits[place - 1].version if place else None
    return VersionChanges(*_said(commits[place]), before, after, describe(changes))


def _said(commit: Commit) -> tuple[int, str, datetime, str, str]:
    # What a version of definitions changed of the store's progress with them is the registry's own business.
    summary = commit.summary.partition(_OF_FACTS)[0]
    return commit.version, commit.who, moment(commit.when), commit.note, summary


__all__ = ["AppliedVersion", "VersionChanges", "applied_versions", "version_changes"]
