"""The steps of a plan as frozen objects, and the findings of the checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Literal

from asof.definitions.project import Project
from asof.display import counted, html_table, text_table

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


@dataclass(frozen=True, repr=False)
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
    def definitions(self) -> int:
        """Number of changed definitions, each with its consequences; where only consequences are left, their number."""
        return sum(isinstance(each, Create | Update | Delete) for each in self.changes) or len(self.changes)

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.severity == "error")

    def __repr__(self) -> str:
        return text_table(self._title(), *self._shown())

    def _repr_html_(self) -> str:
        return html_table(self._title(), *self._shown())

    def _title(self) -> str:
        counts = [counted(len(self.changes), "change")]
        for severity in ("error", "warning", "note"):
            found = sum(each.severity == severity for each in self.findings)
            counts += [counted(found, severity)] if found else []
        return f"Plan of project {self.name!r} against version {self.version}: {', '.join(counts)}"

    def _shown(self) -> tuple[list[str], list[list[object]]]:
        """Errors first, then the changes, then what else was found."""
        errors = [each for each in self.findings if each.severity == "error"]
        others = [each for each in self.findings if each.severity != "error"]
        rows = [*map(_finding_row, errors), *map(_change_row, self.changes), *map(_finding_row, others)]
        return ["step", "object", "detail"], rows

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


def _finding_row(finding: Finding) -> list[object]:
    return [finding.severity, finding.object, finding.message]


def _change_row(change: Change) -> list[object]:
    """A change as a row: what is done, to which object, and the fields that change."""
    if isinstance(change, Create | Update | Delete):
        fields_of = () if isinstance(change, Delete) else change.fields
        return [change.action, f"{change.kind} {change.name!r}", "; ".join(map(str, fields_of))]
    if isinstance(change, CreateArchive | KeepArchive):
        return [change.action, f"source {change.source!r}", ""]
    return [change.action, f"view {change.view!r}", ""]


def _change(change: Change) -> dict[str, Any]:
    content: dict[str, Any] = {"action": change.action}
    for each in fields(change):
        value = getattr(change, each.name)
        content[each.name] = [vars(line) for line in value] if each.name == "fields" else value
    return content
