"""A source that was changed after its definitions were applied: columns that are gone, or of types that do not fit."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from asof.definitions import LogSource, Source
from asof.dtypes import DType
from asof.errors import SourceError, nearest, some
from asof.planning.declared import SourceUser
from asof.planning.fits import misfit
from asof.planning.sources import ActualColumn, title
from asof.sql.query import columns_of_view


@dataclass(frozen=True)
class Drift:
    """A column that is not as a source's definitions say.

    Args:
        found: its type; empty if there is no such column.
        expected: its type.
        reader: what reads it.
    """

    column: str
    found: str
    expected: str
    reader: str

    def __str__(self) -> str:
        if not self.found:
            return f"there is no column {self.column!r}, which {self.reader} reads as {self.expected}"
        return f"column {self.column!r} is {self.found}, and {self.reader} reads it as {self.expected}"


def drift(
    source: Source,
    users: Iterable[SourceUser],
    columns: Sequence[ActualColumn],
    *,
    read: Collection[str] | None = None,
    untyped: Collection[str] = (),
) -> list[Drift]:
    """How the source's columns differ from what is read of them; each column once.

    Args:
        columns: that the source has.
        read: the columns that are read, by their names in the source; None is all that the users read.
        untyped: columns of which any type will do.
    """
    by_name = {each.name: each for each in columns}
    found: dict[str, Drift] = {}
    for name, dtype, reader in _read(source, users):
        if name in found or (read is not None and name not in read):
            continue
        column = by_name.get(name)
        expected = str(dtype) if dtype is not None else "a time" if name in _times(source) else "a value"
        if column is None:
            found[name] = Drift(name, "", expected, reader)
        elif name not in untyped and not _fits(source, column, dtype):
            found[name] = Drift(name, column.arrow or str(column.dtype), expected, reader)
    return list(found.values())


def drift_error(source: Source, found: Sequence[Drift], columns: Sequence[ActualColumn]) -> SourceError:
    """The error of a read of a source that was changed."""
    return SourceError(
        f"{title(source)}: {'; '.join(map(str, found))}", hint=drift_hint(found, columns), where=source.where
    )


def drift_hint(found: Sequence[Drift], columns: Sequence[ActualColumn]) -> str:
    """The next step."""
    names = [each.name for each in columns]
    gone = [each.column for each in found if not each.found]
    near = [f"for {each!r} {hint}" for each in gone if (hint := nearest(each, names))]
    seen = [*near, *([f"it has {some(names)}"] if gone else [])]
    return "; ".join([*seen, "change it back in the source, or change the definitions and run `asof apply`"])


def columns_in_use(source: Source, users: Iterable[SourceUser]) -> set[str]:
    """The columns that are read, by their names in the source."""
    return {name for name, _, _ in _read(source, users)}


def _read(source: Source, users: Iterable[SourceUser]) -> Iterator[tuple[str, DType | None, str]]:
    """Column, the type that it is declared with, and who reads it."""
    users = list(users)
    for name in _times(source):
        yield name, None, title(source)
    own = {field.name: field.dtype for field in source.schema if field.name not in _times(source)}
    for user in users:
        for name, dtype in _columns(source, user).items():
            if name in _times(source) and dtype is None:
                continue
            if name in own:
                yield name, own[name], title(source)
            yield name, dtype, title(user)


def _times(source: Source) -> list[str]:
    return [each for each in (source.timestamp_field, source.created_timestamp_column) if each]


def _columns(source: Source, user: SourceUser) -> dict[str, DType | None]:
    """The columns that a user reads, by their names in the source, with the types that it declares."""
    if isinstance(user, LogSource):
        # The event time may have another name and type on each side.
        fields = [field for field in user.schema if field.name != user.timestamp_field]
        return {source.raw(user.renamed(field.name)): field.dtype for field in fields}
    declared = {source.raw(field.name): field.dtype for field in (*user.schema, *user.key_fields)}
    return {name: declared.get(name) for name in sorted(columns_of_view(user, user.feature_names))}


def _fits(source: Source, column: ActualColumn, dtype: DType | None) -> bool:
    if column.is_text:
        return True  # its values are fitted as they are read
    if dtype is not None:
        return column.dtype is not None and misfit(dtype, column.dtype)[0]
    if column.name not in _times(source):
        return True
    is_number = column.dtype is not None and column.dtype.is_integer and bool(source.timestamp_unit)
    return is_number or (column.dtype is not None and column.dtype.name in ("Timestamp", "Date"))


__all__ = ["Drift", "columns_in_use", "drift", "drift_error", "drift_hint"]
