"""What is asked of history: a point-in-time read for a spine, or one view's own rows; each dialect has plans for it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

from asof.definitions import FeatureView, Sliding, Source
from asof.definitions.logs import TOMBSTONE
from asof.definitions.windows import ORDERED
from asof.dtypes import Bool, DType, Int64
from asof.expressions import parse
from asof.selection import FeatureOut, ViewRead
from asof.sql.dialect import Dialect
from asof.sql.source_rows import RowCutoff, SourceRows, SourceTable, SpineTable
from asof.sql.undated import undated
from asof.timing import Micros


class ViewReads(Protocol):
    """What reads views: of a request, all that says which columns it touches."""

    @property
    def reads(self) -> tuple[ViewRead, ...]: ...


@dataclass(frozen=True)
class PointInTime:
    """A historical read: which views, for which spine.

    Args:
        time: the spine's column of times.
        known_at: True: only rows written down by each spine row's own time; a moment: by then; None: all rows.
        seen: source name → partition → the last archived offset that counts; for audits.
        start, end: without an entity frame: all keys and event times of the views' sources in [start, end).
        by_offsets: order an archive's rows by offset and partition alone, and take them as known when they were
            archived, as the versions of Asof did that kept no stamps.
    """

    reads: tuple[ViewRead, ...]
    time: str = "event_timestamp"
    known_at: bool | Micros | None = None
    seen: Mapping[str, Mapping[int, int]] | None = None
    start: Micros | None = None
    end: Micros | None = None
    by_offsets: bool = False

    @property
    def outputs(self) -> tuple[FeatureOut, ...]:
        """The features in the order of their columns, after the spine's."""
        return tuple(feature for read in self.reads for feature in read.features)


@dataclass(frozen=True)
class QueryStep:
    """A table to make, and tables that are not needed after it.

    Args:
        adds: the table exists: the rows are added to it.
    """

    table: str
    select: str
    drop: tuple[str, ...] = ()
    adds: bool = False

    @property
    def text(self) -> str:
        drops = "".join(f";\nDROP TABLE {name}" for name in self.drop)
        made = f"INSERT INTO {self.table}" if self.adds else f"CREATE TEMP TABLE {self.table} AS"
        return f"{made}\n{self.select}{drops}"


@dataclass(frozen=True)
class Program:
    """Steps that run one after the other, then one SELECT: the spine's columns (if asked for) and the outputs.

    The tables that it reads have the spine's rows in the spine's order, so they are put side by side: nothing is
    sorted or joined at the end, and rows can be streamed.
    """

    steps: tuple[QueryStep, ...]
    final: str

    @property
    def text(self) -> str:
        """All of it as SQL text."""
        return ";\n\n".join([*(step.text for step in self.steps), self.final])


WANTED = "asof__wanted"
"""The input that holds the keys that `RowsOfKeys` reads, in columns k0, k1, …"""

OWN = "own_"
"""What `RowsOfKeys` puts before the names of the view's own columns."""

ResultSchema: TypeAlias = list[tuple[str, DType | None]]
"""The columns of a result in their order: name, and type where it has one of ours."""


@dataclass(frozen=True)
class RowFilter:
    """Which rows of a source are looked at.

    Args:
        latest: no event time after this.
        earliest: no event time before this.
        news_from, events_from: where given, only rows that were written down from the first moment on, or that
            happened from the second on.
    """

    latest: Micros
    earliest: Micros | None = None
    news_from: Micros | None = None
    events_from: Micros | None = None

    def conditions(self, dialect: Dialect) -> list[str]:
        """What holds for a row with `ts` and `known`, beyond what its source can skip by itself."""
        instant = dialect.instant
        terms = [f"ts <= {instant(self.latest)}"]
        if self.earliest is not None:
            terms.append(f"ts >= {instant(self.earliest)}")
        if self.news_from is not None:
            later = f" OR ts >= {instant(self.events_from)}" if self.events_from is not None else ""
            terms.append(f"(known >= {instant(self.news_from)}{later})")
        elif self.events_from is not None:
            terms.append(f"ts >= {instant(self.events_from)}")
        return terms

    @property
    def cut(self) -> RowCutoff:
        """The event times alone, which a source can use to skip rows."""
        bounds = [
            each for each in (self.earliest, self.events_from if self.news_from is None else None) if each is not None
        ]
        return RowCutoff(earliest=max(bounds) if bounds else None, latest=self.latest)


@dataclass(frozen=True)
class ViewRows:
    """What all queries over a view's rows share; engines ask `reads`, `start` and `end` for what to fetch."""

    view: FeatureView
    chosen: RowFilter

    @property
    def reads(self) -> tuple[ViewRead, ...]:
        features = tuple(FeatureOut(field.name, field.name, field.dtype) for field in self.view.features)
        return (ViewRead(self.view, self.view.join_keys, features),)

    @property
    def start(self) -> Micros | None:
        return self.chosen.cut.earliest

    @property
    def end(self) -> Micros | None:
        return self.chosen.latest

    @property
    def news(self) -> tuple[Micros, Micros | None] | None:
        """From when on a row was written down, or happened, that is looked at; None is any time."""
        if self.chosen.news_from is None:
            return None
        return self.chosen.news_from, self.chosen.events_from

    @property
    def _used(self) -> set[str]:
        return columns_of(self, self.view.source.name)

    def shape(self, tables: Mapping[str, SourceTable]) -> ResultSchema:
        """The columns that come out: name, and type where it has one of ours."""
        raise NotImplementedError

    def read_columns(self, table: SourceTable) -> list[str]:
        """The columns that the view reads, as Asof calls them, in the order of the table."""
        return [self.view.source.renamed(column) for column in table.sql_types if column in self._used]

    def rows(self, table: SourceTable, values: Mapping[str, str] | None = None) -> SourceRows:
        ties = tie_columns(self.view)
        return SourceRows(self.view, table, self.view.join_keys, values or {}, self.chosen.cut, ties)


class NewestRows(ViewRows):
    """Per key its last row: k0…, ts, created, arrived, then the features in their types (`f0`…), near keys together.

    `gone`, where the source has such rows: whether the row says that its key is no more.

    `created` and `arrived` are 0 where the source has none. Of rows that are equal in all of that the engine decides
    by the columns, as history does.
    """

    def shape(self, tables: Mapping[str, SourceTable]) -> ResultSchema:
        rows = self.rows(tables[self.view.source.name])
        features: ResultSchema = [(f"f{i}", field.dtype) for i, field in enumerate(self.view.features)]
        return [*_keys(rows), *_ARRIVAL, *features, *([("gone", Bool)] if rows.gone() else [])]


class TouchedKeys(ViewRows):
    """The keys of the chosen rows, each once: k0…; for a view without entities one row, if there is a chosen row."""

    def shape(self, tables: Mapping[str, SourceTable]) -> ResultSchema:
        return _keys(self.rows(tables[self.view.source.name])) or [("k0", Int64)]


class RowsOfKeys(ViewRows):
    """Every chosen row of the keys in `WANTED`: k0…, ts, created, arrived, and the columns that the view reads.

    Key by key, and each key's rows in their order; where the source has no arrival, `arrived` numbers them. The view's
    columns have their declared types, and their names in Asof behind `OWN`: a source may well call one `created`.
    """

    @property
    def until(self) -> RowFilter:
        """What rows are read: of a touched key also those that are no news."""
        return RowFilter(self.chosen.latest)

    def shape(self, tables: Mapping[str, SourceTable]) -> ResultSchema:
        table = tables[self.view.source.name]
        rows = self.rows(table)
        return [*_keys(rows), *_ARRIVAL, *((OWN + name, rows.dtype(name)) for name in self.read_columns(table))]


class UndatedRows(ViewRows):
    """The number of rows of the view's source without an event time of the years 1 to 9999: `rows`.

    Of the filter only `news_from` counts, for which a row needs a created time.
    """

    start = end = news = None

    def shape(self, tables: Mapping[str, SourceTable]) -> ResultSchema:
        return [("rows", Int64)]

    def text(self, dialect: Dialect, table: SourceTable) -> str:
        """The query."""
        terms = undated(dialect, self.view.source, table.sql_types, table.column, since=self.chosen.news_from)
        return f"SELECT count(*) AS {dialect.forms.quote('rows')}\nFROM {table.relation}\nWHERE {' AND '.join(terms)}"


_ARRIVAL: ResultSchema = [("ts", Int64), ("created", Int64), ("arrived", Int64)]
"""Where a row stands in its key's order."""


def _keys(rows: SourceRows) -> ResultSchema:
    return [(name, field.dtype) for name, field in zip(rows.key_columns, rows.view.key_fields)]


def columns_of(request: ViewReads, source: str) -> set[str]:
    """The source's columns that the read touches, under their names in the source."""
    needed: set[str] = set()
    for read in request.reads:
        if read.view.source.name == source:
            needed |= columns_of_view(read.view, read.view.feature_names)
    return needed


def lenient_columns_of(request: PointInTime, source: str) -> frozenset[str]:
    """Those of the columns that no feature of the read is made of: they only order rows that are equal so far.

    A value in them that does not fit is no reason to refuse the read.
    """
    requested: set[str] = set()
    for read in request.reads:
        if read.view.source.name == source:
            requested |= columns_of_view(read.view, [feature.name for feature in read.features])
    return frozenset(columns_of(request, source) - requested)


def columns_of_view(view: FeatureView, features: Collection[str]) -> set[str]:
    """The columns of the view's source that its times, its keys and these features are made of."""
    source = view.source
    own = {source.timestamp_field, *(source.raw(key) for key in view.join_keys)}
    own |= {source.created_timestamp_column} - {""}
    own |= _of_deletions(source)
    if not view.is_aggregated:
        return own | {source.raw(field.name) for field in view.features if field.name in features}
    for each in view.aggregations:
        if each.name in features:
            for text in filter(None, (each.column, each.where)):
                own |= {source.raw(name) for name in parse(text).columns}
    return own


def reach_of(request: PointInTime, source: str) -> Micros | None:
    """How far before a spine row's time a row of the source can matter to any of the reads; None is without end."""
    reach = 0
    for read in request.reads:
        view = read.view
        if view.source.name != source:
            continue
        if not view.is_aggregated:
            if not view.ttl:
                return None
            reach = max(reach, view.ttl + view.delay)
            continue
        requested = {feature.name for feature in read.features}
        for each in view.aggregations:
            if each.name in requested:
                if not isinstance(each.window, Sliding):
                    return None
                reach = max(reach, each.window.length + each.window.hop + view.delay + 1)
    return reach


def _of_deletions(source: Source) -> set[str]:
    """The columns that say whether a row says that its key is no more."""
    own = {TOMBSTONE} if source.has_tombstones else set()
    return own | {source.raw(name) for name in (parse(source.delete_when).columns if source.delete_when else ())}


def tie_columns(view: FeatureView) -> tuple[str, ...]:
    """Where rows have no arrival, the columns that decide between equal ones: all that the view reads, in its order.

    That is the schema in its order; or the aggregations in theirs, column before where, left to right. What else a
    request asks for, and how the source orders its columns, does not matter.
    """
    if not view.is_aggregated:
        return view.feature_names
    texts = [text for each in view.aggregations for text in (each.column, each.where) if text]
    return tuple(dict.fromkeys(name for text in texts for name in parse(text).columns))


def rows_of(
    request: PointInTime, tables: Mapping[str, SourceTable], read: ViewRead, cut: RowCutoff, *, whole: bool = False
) -> SourceRows:
    """A read's rows.

    Args:
        whole: rows that are equal in key and time are one, so that no order between them is needed.
    """
    view, table = read.view, tables[read.view.source.name]
    if request.by_offsets and table.is_archive:
        table = replace(table, arrival="offsets")
    return SourceRows(view, table, view.join_keys, cut=cut, tie_columns=() if whole else tie_columns(view))


def cut_of(request: PointInTime, read: ViewRead, spine: SpineTable, reach: Micros | None) -> RowCutoff:
    """What can be left out of a read's rows, whatever the plan.

    Args:
        reach: how far before the spine's first moment a row can matter; None is without end.
    """
    known_at = request.known_at if not isinstance(request.known_at, bool) else None
    seen = (request.seen or {}).get(read.view.source.name)
    earliest = spine.first - reach if spine.first is not None and reach is not None else None
    return RowCutoff(
        known_at=known_at, seen=seen, earliest=earliest, latest=spine.last,
        spine=spine if spine.is_small else None, spine_keys=read.keys,
    )  # fmt: skip


def latest_rows(
    request: PointInTime, tables: Mapping[str, SourceTable], read: ViewRead, spine: SpineTable
) -> SourceRows:
    """The rows that can be the latest value of a spine row."""
    view = read.view
    return rows_of(request, tables, read, cut_of(request, read, spine, view.ttl + view.delay if view.ttl else None))


def range_rows(request: PointInTime, tables: Mapping[str, SourceTable], read: ViewRead) -> SourceRows:
    """The rows that are the spine of a read without an entity frame."""
    seen = (request.seen or {}).get(read.view.source.name)
    return rows_of(request, tables, read, RowCutoff(seen=seen, earliest=request.start, latest=request.end), whole=True)


def grouped(reads: Sequence[ViewRead], tables: Mapping[str, SourceTable]) -> list[list[ViewRead]]:
    """Aggregated views that one sort can serve: the same rows in the same order, spine keys, delay and boundary."""
    groups: dict[tuple[object, ...], list[ViewRead]] = {}
    for read in reads:
        if read.view.is_aggregated:
            view = read.view
            by_values = tables[view.source.name].arrival == "columns" and _needs_order(read)
            ties = tie_columns(view) if by_values else ()
            shared = (view.source.name, view.join_keys, read.keys, view.delay, view.boundary, ties)
            groups.setdefault(shared, []).append(read)
    return list(groups.values())


def _needs_order(read: ViewRead) -> bool:
    """Whether a feature that is asked for depends on the order of equal rows."""
    requested = {feature.name for feature in read.features}
    return any(each.name in requested and each.function in ORDERED for each in read.view.aggregations)


__all__ = [
    "NewestRows", "OWN", "PointInTime", "Program", "QueryStep", "ResultSchema", "RowFilter", "RowsOfKeys",
    "TouchedKeys", "UndatedRows", "ViewReads", "ViewRows", "WANTED", "columns_of", "columns_of_view", "cut_of",
    "grouped", "latest_rows", "lenient_columns_of", "range_rows", "reach_of", "rows_of", "tie_columns",
]  # fmt: skip
