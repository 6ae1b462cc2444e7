"""The types that the columns of a source are declared with, by itself and by what reads it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import TypeAlias

from asof.definitions import FeatureView, Field, LogSource, Project, Source
from asof.dtypes import DType, Float64, Int64
from asof.errors import ExpressionError
from asof.expressions import parse
from asof.planning.changes import Finding
from asof.planning.sources import copy_of, title

SourceUser: TypeAlias = FeatureView | LogSource
"""A view of a source, or a log whose batch source it is."""


def users_of(project: Project, source: str) -> list[SourceUser]:
    """The views of the named source, and the logs whose batch source it is."""
    logs = [
        each
        for each in project.sources.values()
        if isinstance(each, LogSource) and each.batch_source is not None and each.batch_source.name == source
    ]
    return [*project.views_of(source), *logs]


def with_declared_types(source: Source, users: Iterable[SourceUser]) -> Source:
    """The source with a schema of all columns that it or one of its users declares.

    Readers fit text (CSV files, the names of folders) and files of several types to it.
    """
    types, _ = _declared(source, users)
    return copy_of(source, schema=tuple(Field(name, dtype) for name, dtype in types.items()))


def check_declared_types(source: Source, users: Iterable[SourceUser], columns: Collection[str]) -> list[Finding]:
    """Users that declare one of the columns with types that no column has at once."""
    types, conflicts = _declared(source, users)
    return [
        Finding(
            "error", title(user), user.where, f"column {column!r} of {title(source)} with one type in all of its views",
            f"{dtype} here, {types[column]} elsewhere",
            "give all views the same type, or declare the columns in schema= of the source",
        )
        for column, user, dtype in conflicts
        if column in columns
    ]  # fmt: skip


def _declared(
    source: Source, users: Iterable[SourceUser]
) -> tuple[dict[str, DType], list[tuple[str, SourceUser, DType]]]:
    types: dict[str, DType] = {}
    conflicts = []
    own = {field.name: field.dtype for field in source.schema}
    for user in users:
        for column, dtype in _columns(source, user):
            if column in own:
                continue
            united = _united(types.setdefault(column, dtype), dtype)
            if united is None:
                conflicts.append((column, user, dtype))
            else:
                types[column] = united
    return {**own, **types}, conflicts


def _columns(source: Source, user: SourceUser) -> Iterator[tuple[str, DType]]:
    """The source's columns that a user declares."""
    if isinstance(user, LogSource):
        # The event time may have another name and type on each side.
        for field in user.schema:
            if field.name != user.timestamp_field:
                yield source.raw(user.renamed(field.name)), field.dtype
        return
    # With aggregations a schema may name their results as well.
    read = {*user.join_keys} if user.is_aggregated else {field.name for field in user.schema}
    for text in (text for each in user.aggregations for text in (each.column, each.where) if text):
        try:
            read |= {*parse(text).columns}
        except ExpressionError:
            continue
    for field in user.schema:
        if field.name in read:
            yield source.raw(field.name), field.dtype


def _united(one: DType, other: DType) -> DType | None:
    if one == other:
        return one
    if one.is_integer and other.is_integer:
        return Int64
    return Float64 if one.is_float and other.is_float else None


__all__ = ["SourceUser", "check_declared_types", "users_of", "with_declared_types"]
