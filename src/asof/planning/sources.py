"""Check a source against its actual columns, and resolve its event time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from asof.definitions import Definition, Field, Source
from asof.dtypes import Bool, DType
from asof.errors import AsofError, ExpressionError, nearest, some
from asof.expressions import check, parse
from asof.planning.changes import Finding, Severity
from asof.planning.fits import misfit

D = TypeVar("D", bound=Definition)


class ActualColumn(Protocol):
    """An actual column of a source (`asof.sources.protocol.SourceColumn`)."""

    @property
    def name(self) -> str: ...
    @property
    def dtype(self) -> DType | None: ...
    @property
    def arrow(self) -> str: ...
    @property
    def is_text(self) -> bool: ...


@dataclass(frozen=True)
class DeclaredColumn:
    """A column of the definition, for sources whose `schema` is their description."""

    name: str
    dtype: DType | None
    arrow: str = ""
    is_text: bool = False


@dataclass(frozen=True)
class CheckedSource:
    """A source with its event time resolved, and its columns under their names in Asof.

    Args:
        columns: name → type; None where Asof has no type for it.
        times: names of the event time and the created time, which are never inferred as features.
        found: name → the type that it really has, as text for messages.
    """

    source: Source
    columns: Mapping[str, DType | None]
    times: frozenset[str]
    found: Mapping[str, str]


def copy_of(each: D, **values: Any) -> D:
    """A copy of the definition with other values."""
    copy = object.__new__(type(each))
    copy.__dict__.update(each.__dict__)
    copy.__dict__.update(values)
    return copy


def title(each: Definition) -> str:
    """Kind and name, as findings name an object."""
    return f"{each.kind} {each.name!r}"


class Findings(list[Finding]):
    """The findings so far, and methods to add one."""

    def add(self, severity: Severity, about: Definition, found: str, *, expected: str = "", hint: str = "") -> None:
        self.append(Finding(severity, title(about), about.where, expected, found, hint))

    def error(self, about: Definition, found: str, *, expected: str = "", hint: str = "") -> None:
        self.add("error", about, found, expected=expected, hint=hint)

    def raised(self, about: Definition, error: AsofError, *, before: str = "") -> None:
        """Add one of Asof's errors as a finding about the object."""
        found = error.message.removeprefix(f"{title(about)}: ")
        self.add("error", about, f"{before}{found}", hint=error.hint)


def check_source(
    source: Source, described: Sequence[ActualColumn] | AsofError | None, *, findings: Findings
) -> CheckedSource | None:
    """Check the source and resolve its event time; None where its views cannot be checked."""
    if isinstance(described, AsofError):
        findings.raised(source, described)
        return None
    if source.is_log or described is None:
        described = [DeclaredColumn(field.name, field.dtype, str(field.dtype)) for field in source.schema]
    if not described:
        findings.error(source, "has no columns", hint="check that it holds data, or declare schema=")
        return None
    by_name = {column.name: column for column in described}
    source = _settle_time(source, by_name, findings)
    _check_created(source, by_name, findings)
    declared = _check_schema(source, by_name, findings)
    for column in source.field_mapping:
        if column not in by_name:
            findings.error(
                source,
                f"field_mapping names column {column!r}, which the source does not have",
                hint=_near(column, by_name),
            )
    columns: dict[str, DType | None] = {}
    found = {source.renamed(each.name): each.arrow for each in described}
    for each in described:
        name = source.renamed(each.name)
        if name in columns:
            findings.error(
                source, f"field_mapping gives two columns the name {name!r}", hint="map one of them to another name"
            )
        columns[name] = declared.get(each.name, each.dtype)
    _check_deletions(source, columns, findings)
    times = {source.renamed(each) for each in (source.timestamp_field, source.created_timestamp_column) if each}
    return CheckedSource(source, columns, frozenset(times), found) if source.timestamp_field in by_name else None


def check_batch_source(source: Source, batch: CheckedSource, *, findings: Findings) -> None:
    """Check that a log source's batch source has the same columns as its messages."""
    for field in source.schema:
        name = source.renamed(field.name)
        found = batch.columns.get(name)
        if field.name == source.timestamp_field:
            # The event time may have another name and type on each side.
            continue
        if name not in batch.columns:
            findings.error(
                source,
                f"batch source {batch.source.name!r} has no column {name!r}",
                hint=_near(name, batch.columns),
            )
        elif found is None or not misfit(field.dtype, found)[0]:
            findings.error(
                source,
                f"{found}",
                expected=f"column {name!r} of batch source {batch.source.name!r} as {field.dtype}",
                hint="give both the same type",
            )


def _settle_time(source: Source, columns: Mapping[str, ActualColumn], findings: Findings) -> Source:
    if not source.timestamp_field:
        times = [
            name
            for name, each in columns.items()
            if each.dtype is not None and each.dtype.name == "Timestamp" and name != source.created_timestamp_column
        ]
        if len(times) != 1:
            found = f"candidates {some(times)}" if times else "no column that is a time"
            findings.error(
                source,
                found,
                expected="timestamp_field, or one column that is a time",
                hint=f"give timestamp_field={times[0]!r}" if times else "give timestamp_field= and timestamp_unit=",
            )
            return source
        return copy_of(source, timestamp_field=times[0])
    name = source.timestamp_field
    if name not in columns:
        hint = nearest(name, columns) or _other_time(name, columns, otherwise=_near(name, columns))
        findings.error(source, f"timestamp_field {name!r} is not among its columns", hint=hint)
        return source
    dtype = columns[name].dtype
    if dtype is not None and dtype.is_integer:
        if not source.timestamp_unit:
            findings.error(
                source,
                f"{columns[name].arrow} without a unit",
                expected=f"timestamp_field {name!r} to be a time",
                hint="give timestamp_unit='ms' (or s, us, ns)",
            )
    elif dtype is None or dtype.name not in ("Timestamp", "Date"):
        findings.error(
            source,
            columns[name].arrow,
            expected=f"timestamp_field {name!r} to be a time, or an integer with timestamp_unit",
            hint=_other_time(name, columns),
        )
    elif source.timestamp_unit and not source.is_log:
        findings.add(
            "warning", source, f"timestamp_unit= does not apply: {name!r} is {columns[name].arrow}", hint="leave it out"
        )
    return source


def _check_created(source: Source, columns: Mapping[str, ActualColumn], findings: Findings) -> None:
    name = source.created_timestamp_column
    if not name or name == source.timestamp_field:
        return
    if name not in columns:
        hint = nearest(name, columns) or _other_time(name, columns, otherwise=_near(name, columns))
        findings.error(source, f"created_timestamp_column {name!r} is not among its columns", hint=hint)
        return
    dtype = columns[name].dtype
    if dtype is None or not (dtype.name in ("Timestamp", "Date") or (dtype.is_integer and source.timestamp_unit)):
        findings.error(
            source,
            columns[name].arrow,
            expected=f"created_timestamp_column {name!r} to be a time",
            hint=_other_time(name, columns),
        )


def _check_deletions(source: Source, columns: Mapping[str, DType | None], findings: Findings) -> None:
    if source.delete_when:
        try:
            known = {name: dtype for name, dtype in columns.items() if dtype is not None}
            check(parse(source.delete_when), known, expected=Bool)
        except ExpressionError as error:
            findings.raised(source, error, before="delete_when: ")


def _check_schema(source: Source, columns: Mapping[str, ActualColumn], findings: Findings) -> dict[str, DType]:
    """The declared types of the source's columns."""
    if source.is_log:
        return {field.name: field.dtype for field in source.schema}
    for field in source.schema:
        if field.name not in columns:
            findings.error(source, f"the source has no column {field.name!r}", hint=_near(field.name, columns))
        elif not (field.name == source.timestamp_field and source.timestamp_unit):
            check_fit(source, field, columns[field.name].dtype, findings=findings, arrow=columns[field.name].arrow)
    return {field.name: field.dtype for field in source.schema}


def check_fit(
    about: Definition, field: Field, found: DType | None, *, findings: Findings, arrow: str = "", label: str = "column"
) -> None:
    """Add an error if the field cannot be read as its declared type, or a note if values may lose something."""
    text = str(found) if found is not None else arrow or "a type that Asof does not support"
    fits, word = misfit(field.dtype, found) if found is not None else (False, "")
    if not fits:
        hint = f"declare Field({field.name!r}, {found})" if found is not None else "convert it in the source"
        findings.error(about, text, expected=f"{label} {field.name!r} to be {field.dtype}", hint=hint)
    elif word:
        findings.add("note", about, f"{label} {field.name!r} is {text}, declared {field.dtype}: {word}")


def _near(name: str, known: Mapping[str, Any]) -> str:
    return nearest(name, known) or f"it has {some(known)}"


def _other_time(name: str, columns: Mapping[str, ActualColumn], *, otherwise: str = "convert it in the source") -> str:
    times = [
        each.name for each in columns.values()
        if each.dtype is not None and each.dtype.name == "Timestamp" and each.name != name
    ]  # fmt: skip
    return f"columns that are times: {some(times)}" if times else otherwise


__all__ = [
    "ActualColumn",
    "CheckedSource",
    "Findings",
    "check_batch_source",
    "check_fit",
    "check_source",
    "copy_of",
    "title",
]
