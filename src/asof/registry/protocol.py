"""The protocol of registries: keep numbered snapshots of a project, records next to them, and never lose an update."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Protocol

import msgspec

from asof.defaults import HISTORY_COMMITS
from asof.definitions.project import KINDS, NewerFormat, Project, Snapshot
from asof.errors import RegistryConflict, RegistryError
from asof.registry.records import RECORDS, DayCounts, RegistryRecord
from asof.timing import Micros, iso

LABELS = {
    "entities": "entity", "sources": "source", "request_sources": "request source", "views": "feature view",
    "on_demand_views": "on-demand feature view", "services": "feature service",
}  # fmt: skip
"""Collection of a project → its singular, for messages."""

KEPT_FACT_COMMITS = 1000
"""Commits of facts only are dropped once they are this many versions old; the others are kept forever."""


@dataclass(frozen=True)
class Commit:
    """Who made a version, when, and what it changed.

    Args:
        when: microseconds.
        note: the committer's note.
        summary: description of the changes since the version before.
    """

    version: int
    who: str
    when: Micros
    note: str
    summary: str

    def to_dict(self) -> dict[str, object]:
        return {
            "version": self.version,
            "who": self.who,
            "when": iso(self.when),
            "note": self.note,
            "summary": self.summary,
        }


class Registry(Protocol):
    """Keeps the versions of each project's snapshot, and its records. Projects are known by their exact names.

    Every verb may raise RegistryError: the registry is damaged, locked, of a newer format or unreachable.
    Reads never wait for a writer. Inherit the optional members from `RegistryDefaults`.
    """

    @property
    def place(self) -> str:
        """Its location for `doctor`, without secrets; may be empty."""
        ...

    def load(self, project: str) -> Snapshot:
        """The newest snapshot; an empty one of version 0 before the first commit."""
        ...

    def version(self, project: str) -> int:
        """The newest snapshot's version, without reading the snapshot; 0 if there is none."""
        ...

    def commit(self, snapshot: Snapshot, *, expected: int, who: str, when: Micros, note: str = "") -> Snapshot:
        """Keep the snapshot as version `expected + 1`, atomically, and return it with that version.

        Args:
            expected: the version that the snapshot was made from.

        Raises:
            RegistryConflict: the newest version is not `expected`; nothing was written.
        """
        ...

    def history(self, project: str, limit: int = HISTORY_COMMITS, *, facts: bool = True) -> list[Commit]:
        """The newest `limit` commits, newest first. Needs no snapshot to be readable.

        Args:
            facts: also return commits of facts only; else `limit` counts commits that changed definitions.
        """
        ...

    def load_version(self, project: str, version: int) -> Snapshot:
        """An older snapshot.

        Raises:
            RegistryError: there is no such version.
        """
        ...

    def projects(self) -> list[str]:
        """The names of all projects, ascending."""
        ...

    def drop(self, project: str) -> None:
        """Delete all versions, records and counts of exactly this project; an unknown project is ignored."""
        ...

    def restore(self, project: str, versions: Iterable[tuple[Commit, Snapshot]]) -> None:
        """Keep the versions of a backup under their numbers, all of them or none where it raises.

        Where a product cannot do that at once, the newest version is readable first.

        Args:
            versions: newest first; numbers may be missing in between.

        Raises:
            RegistryConflict: the project has a version; nothing was written.
        """
        ...

    def append_records(self, project: str, records: Sequence[RegistryRecord]) -> None:
        """Keep records: all of them, or none where it raises. They are no version of the project, and need none."""
        ...

    def records(
        self, project: str, kind: str, subject: str | None = None, *, since: Micros | None = None,
        limit: int = RECORDS, per_subject: int | None = None,
    ) -> list[RegistryRecord]:  # fmt: skip
        """The newest records of a kind, newest first; of one time, the one that was appended last comes first.

        Damaged ones are left out. A registry that nothing was appended to has none, whoever may write it.

        Args:
            subject: only those about it.
            since: only those of this time or later.
            per_subject: only so many of each subject, the newest.
        """
        ...

    def prune_records(self, project: str, kind: str, *, keep: int | None = None, before: Micros | None = None) -> None:
        """Delete records of a kind.

        Args:
            keep: all but the newest so many of each subject.
            before: those older than this time.
        """
        ...

    def add_counts(self, project: str, kind: str, day: date, counts: Mapping[str, int]) -> None:
        """Add to the counts of a day: subject → amount. Several writers add up.

        Counts of the kind that are more than `KEPT_COUNT_DAYS` older than `day` are dropped.
        """
        ...

    def counts(self, project: str, kind: str, *, since: date | None = None) -> DayCounts:
        """The counts of a kind by day, ascending, and subject; days without any are left out.

        Args:
            since: from this day on.
        """
        ...

    def close(self) -> None:
        """Close files and connections; the registry may be used again afterwards."""
        ...


class RegistryDefaults:
    """Defaults for optional members; see `Registry` for their meaning."""

    @property
    def place(self) -> str:
        return ""


def empty(project: str) -> Snapshot:
    """The snapshot of an unknown project."""
    return Snapshot(0, project, Project())


def summarize(before: Snapshot, after: Snapshot) -> str:
    """Description of the changes between two snapshots: `created feature view 'a'; facts: materialized`."""
    parts = []
    old, new = _contents(before), _contents(after)
    for word, names in (
        ("created", [each for each in new if each not in old]),
        ("changed", [each for each in new if each in old and new[each] != old[each]]),
        ("deleted", [each for each in old if each not in new]),
    ):
        if names:
            shown = ", ".join(f"{LABELS[kind]} {name!r}" for kind, name in names[:5])
            parts.append(f"{word} {shown}" + (f" and {len(names) - 5} more" if len(names) > 5 else ""))
    known, now = _plain(before.facts.content()), _plain(after.facts.content())
    topics = sorted(topic for topic in {*known, *now} if known.get(topic) != now.get(topic))
    if topics:
        parts.append(f"facts: {', '.join(topics)}")
    return "; ".join(parts) or "nothing changed"


def changes_definitions(before: Snapshot, after: Snapshot) -> bool:
    """Whether the two snapshots differ in more than facts."""
    return _contents(before) != _contents(after)


def marked(versions: Iterable[tuple[Commit, Snapshot]]) -> Iterator[tuple[Commit, Snapshot, bool]]:
    """Versions, newest first, each with whether it changed facts only."""
    newer: tuple[Commit, Snapshot] | None = None
    for each in versions:
        if newer is not None:
            yield *newer, not changes_definitions(each[1], newer[1])
        newer = each
    if newer is not None:
        yield *newer, not changes_definitions(empty(newer[1].name), newer[1])


def changed_definitions(commits: list[Commit], first_has_any: Callable[[], bool]) -> list[Commit]:
    """Filter commits not marked as facts only (newest first) for those that changed definitions. Older versions of Asof
    never marked the first commit of a project.

    Args:
        first_has_any: whether version 1 has definitions; see `has_definitions`.
    """
    if commits and commits[-1].version == 1:
        try:
            if not first_has_any():
                return commits[:-1]
        except UnreadableVersion:
            pass  # the history needs no snapshot to be readable
    return commits


def conflict(project: str, *, expected: int, newest: Commit | None) -> RegistryConflict:
    """The error for a writer whose snapshot was not made from the newest version."""
    if newest is None:
        return RegistryConflict(
            f"project {project!r} was dropped since version {expected} was read; nothing was written",
            hint="run the command again to apply into an empty registry",
        )
    return RegistryConflict(
        f"project {project!r}: {newest.who or 'somebody'} committed version {newest.version} at {iso(newest.when)} "
        f"({newest.summary}); this change was made from version {expected}; nothing was written",
        hint="run the command again: it starts from the newest version",
    )


def no_version(project: str, version: int, *, kept: list[int]) -> RegistryError:
    """The error for a version that is not in the registry."""
    found = f"it holds versions {min(kept)} to {max(kept)}" if kept else "it holds no version of this project"
    return RegistryError(
        f"registry: no version {version} of project {project!r}; {found}",
        hint="see `asof history` for the versions kept",
    )


class UnreadableVersion(Exception):
    """A stored version cannot be used.

    Args:
        newer: it was written by a newer Asof.
    """

    def __init__(self, problem: str, *, newer: bool = False) -> None:
        super().__init__(problem)
        self.newer = newer


def checksum(content: str | bytes) -> str:
    """Checksum stored with a version's content, to detect damage."""
    return hashlib.sha256(content if isinstance(content, bytes) else content.encode()).hexdigest()


def decode(content: str, *, kept: str) -> Snapshot:
    """A version's snapshot.

    Args:
        kept: the stored checksum.

    Raises:
        UnreadableVersion: it is damaged, or written by a newer Asof.
    """
    if checksum(content) != kept:
        raise UnreadableVersion("its checksum does not match its content")
    try:
        return Snapshot.decode(content)
    except RegistryError as error:
        raise UnreadableVersion(error.message, newer=isinstance(error, NewerFormat)) from error


class _Kinds(msgspec.Struct):
    """The definitions of a version's content by kind, not decoded."""

    project: dict[str, list[msgspec.Raw]]


def has_definitions(content: str, *, kept: str) -> bool:
    """Whether a version has any definition, without decoding them: a history must not take as long as that.

    Raises:
        UnreadableVersion: it is damaged.
    """
    if checksum(content) != kept:
        raise UnreadableVersion("its checksum does not match its content")
    try:
        return any(msgspec.json.decode(content, type=_Kinds).project.values())
    except msgspec.DecodeError as error:
        raise UnreadableVersion(str(error)) from error


def _contents(snapshot: Snapshot) -> Mapping[tuple[str, str], Any]:
    content = snapshot.project.content()
    return {(kind, str(each["name"])): _plain(each) for kind in KINDS for each in content[kind]}


def _plain(value: Any) -> Any:
    """Round trip through JSON, so that a tuple equals a list."""
    return json.loads(json.dumps(value, sort_keys=True))
