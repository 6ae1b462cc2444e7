"""The columns of a batch source: as they are declared, and as they are."""

from __future__ import annotations

from dataclasses import dataclass

from asof.definitions import LogSource, Snapshot, Source
from asof.errors import NotFound, RequestError, SourceError, nearest, some
from asof.flows.offline.key_rows import whole_view
from asof.flows.stores import Stores
from asof.planning import users_of, with_declared_types
from asof.planning.fits import misfit
from asof.results import Record, Records
from asof.sql.query import PointInTime, columns_of

SAME, READ_AS, UNUSED, MISSING, UNFIT = "same", "read as declared", "not used", "missing", "does not fit"
"""How a column compares with its declaration. The last two are errors where the source is read."""


@dataclass(frozen=True)
class SchemaColumn(Record):
    """One column of a source.

    Args:
        name: its name in the source.
        declared: the type that the source, one of its views or a log with this history declares; empty for none.
        found: its type in the source; empty where the source has no such column.
        state: `same`, `read as declared` (from another type that fits), `not used`, `missing`, or `does not fit`.
        note: what is to be known of values that are read as another type.
    """

    name: str
    declared: str
    found: str
    state: str
    note: str = ""

    @property
    def is_wrong(self) -> bool:
        """Whether reads of the source fail by it."""
        return self.state in (MISSING, UNFIT)


def source_schema(stores: Stores, snapshot: Snapshot, name: str) -> Records[SchemaColumn]:
    """The columns that a batch source has now, in its order, and after them those that are missing.

    Raises:
        NotFound: no such source is applied.
        RequestError: it is a log.
        SourceError: it cannot be reached or does not exist.
    """
    source = _batch_source(snapshot, name)
    reader = stores.readers.get(source.type)
    if reader is None:
        raise SourceError(
            f"source {name!r}: no reader for sources of type {source.type!r} is installed",
            hint=f"installed readers: {some(sorted(stores.readers))}", where=source.where,
        )  # fmt: skip
    declared = with_declared_types(source, users_of(snapshot.project, name))
    types = {field.name: field.dtype for field in declared.schema}
    needed = _needed(snapshot, source)
    found = []
    for column in reader.describe(declared):
        dtype = types.get(column.name)
        shown = column.arrow if column.dtype is None else str(column.dtype)
        if dtype is None:
            found.append(SchemaColumn(column.name, "", shown, SAME if column.name in needed else UNUSED))
        elif column.is_text or column.dtype == dtype:
            state = SAME if column.dtype == dtype else READ_AS
            note = "its text is fitted to the declared type" if state == READ_AS else ""
            found.append(SchemaColumn(column.name, str(dtype), shown, state, note))
        else:
            fits, note = misfit(dtype, column.dtype) if column.dtype is not None else (False, "")
            found.append(SchemaColumn(column.name, str(dtype), shown, READ_AS if fits else UNFIT, note))
    known = {each.name for each in found}
    gone = [each for each in dict.fromkeys([*types, *sorted(needed)]) if each not in known]
    found += [SchemaColumn(each, str(types.get(each, "")), "", MISSING) for each in gone]
    return Records(SchemaColumn, found)


def _batch_source(snapshot: Snapshot, name: str) -> Source:
    source = snapshot.project.sources.get(name)
    if source is None:
        raise NotFound(f"no source {name!r} is applied", hint=nearest(name, snapshot.project.sources))
    if isinstance(source, LogSource):
        raise RequestError(
            f"source {name!r} is a log: each message has a schema of its own, and is checked when it is read",
            hint=f"run `asof dead-letters list {name}` to see those that do not fit",
        )
    return source


def _needed(snapshot: Snapshot, source: Source) -> set[str]:
    """The columns that the source's times and views are made of."""
    needed = {source.timestamp_field, source.created_timestamp_column} - {""}
    reads = tuple(whole_view(view) for view in snapshot.project.views_of(source.name))
    return needed | columns_of(PointInTime(reads), source.name)


__all__ = ["SchemaColumn", "source_schema"]
