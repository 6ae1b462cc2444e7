"""The steps of a plan as frozen objects, and the findings of the checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Literal

from asof.definitions.project import Project

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """A problem or note that a check found about an object.

    Args:
        severity: an `error` blocks `apply`; a `warning` deserves a look; a `note` is for information.
        object: kind and name, for example `feature view 'user_traffic'`.
        where: `file:line` of its definition.
        expected, found: what was expected, and what was found; `found` alone may be the whole sentence.
        hint: the next step.
    """

    severity: Severity
    object: str
    where: str
    expected: str
    found: str
    hint: str = ""

    @property
    def message(self) -> str:
        """The finding in one sentence, without the hint."""
        place = f"{self.where}: " if self.where else ""
        return f"{place}{self.object}: " + (
            f"expected {self.expected}, found {self.found}" if self.expected else self.found
        )

    def __str__(self) -> str:
        return f"{self.message} (next: {self.hint})" if self.hint else self.message

    def to_dict(self) -> dict[str, str]:
        return {each.name: str(getattr(self, each.name)) for each in fields(self)}


@dataclass(frozen=True)
class FieldChange:
    """One line of a definition: its text before and after; None where it is added or removed."""

    field: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        if self.before is None:
            return f"+ {self.field}: {self.after}"
        if self.after is None:
            return f"- {self.field}: {self.before}"
        return f"~ {self.field}: {self.before} → {self.after}"


@dataclass(frozen=True)
class Create:
    """A new definition."""

    action: ClassVar[str] = "create"
    kind: str
    name: str
    fields: tuple[FieldChange, ...] = ()


@dataclass(frozen=True)
class Update:
    """A changed definition."""

    action: ClassVar[str] = "update"
    kind: str
    name: str
    fields: tuple[FieldChange, ...] = ()


@dataclass(frozen=True)
class Delete:
    """A definition that is no longer in the repository."""

    action: ClassVar[str] = "delete"
    kind: str
    name: str


@dataclass(frozen=True)
class CreateArchive:
    """A log source begins to be archived."""

    action: ClassVar[str] = "create archive"
    source: str


@dataclass(frozen=True)
class KeepArchive:
    """A log source is removed; its archive stays."""

    action: ClassVar[str] = "keep archive"
    source: str


@dataclass(frozen=True)
class NewGeneration:
    """A view's online rows are rebuilt; readers use the old ones until then.

    Args:
        before: the current state hash; None where the view had no online rows.
        after: the new state hash.
    """

    action: ClassVar[str] = "new generation"
    view: str
    before: str | None
    after: str


@dataclass(frozen=True)
class DropGeneration:
    """A view's online rows are dropped, and no new ones are built."""

    action: ClassVar[str] = "drop generation"
    view: str
    before: str


@dataclass(frozen=True)
class NewFunction:
    """An on-demand view has a new function.

    Args:
        before: the current fingerprint; None for a new view.
        after: the new fingerprint.
    """

    action: ClassVar[str] = "new function"
    view: str
    before: str | None
    after: str


Change = Create | Update | Delete | CreateArchive | KeepArchive | NewGeneration | DropGeneration | NewFunction


@dataclass(frozen=True)
class Plan:
    """The complete list of steps that `plan` prints and `apply` takes. Each definition is followed by its consequences
    for archives and online rows. Steps that readers see take effect together, in one commit.

    Args:
        name: the project's name.
        version: the registry's version that the plan was made from; `apply` commits against it.
        project: the resolved definitions after the apply.
        changes: the steps; empty where the registry matches the repository.
        findings: of the checks; errors among them block `apply`.
    """

    name: str
    version: int
    project: Project
    changes: tuple[Change, ...]
    findings: tuple[Finding, ...] = field(default=())

    @property
    def is_empty(self) -> bool:
        return not self.changes

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.severity == "error")

    def with_findings(self, findings: Sequence[Finding]) -> Plan:
        """The same plan with these findings added."""
        return replace(self, findings=(*self.findings, *findings))

    def to_dict(self) -> dict[str, object]:
        """The plan as JSON-ready data."""
        return {
            "project": self.name,
            "version": self.version,
            "is_empty": self.is_empty,
            "changes": [_change(each) for each in self.changes],
            "findings": [each.to_dict() for each in self.findings],
        }


def _change(change: Change) -> dict[str, Any]:
    content: dict[str, Any] = {"action": change.action}
    for each in fields(change):
        value = getattr(change, each.name)
        content[each.name] = [vars(line) for line in value] if each.name == "fields" else value
    return content
