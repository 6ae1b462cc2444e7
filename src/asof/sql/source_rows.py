"""A source's rows in the one form that all plans read: keys, event time, created time, the order of ties, values."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

from asof.definitions import FeatureView, Source
from asof.definitions.logs import TOMBSTONE, LogSource
from asof.dtypes import DType
from asof.errors import SourceError, nearest, some
from asof.expressions import check, parse, print_sql
from asof.sql.arrival import PUSHED_AT, arrival_terms
from asof.sql.dialect import Dialect
from asof.sql.partitions import HISTORY
from asof.sql.quoting import quote
from asof.timing import Micros

ROW = "asof_row"
"""The column by which an engine numbers a relation's rows."""

ArrivalKind = Literal["row", "log", "offsets", "stamps", "columns"]


@dataclass(frozen=True)
class SourceTable:
    """A source as the engine sees it.

    Args:
        relation: its quoted name; has `asof_row`, a number that is unique and, for arrival `row`, ascends.
        sql_types: column → the engine's name of its type.
        dtypes: column → our type; None where there is none.
        arrival: `row`: the row's number; `log`: an archive's columns (`asof.sql.arrival`); `offsets`, `stamps`: the
            short ways that some archives allow (`asof.sources.protocol.ArchiveOrder`); `columns`: none, the values
            decide.
        dialect: of the engine that reads it.
        indexes: the columns of each index of the relation, in their order, as far as the engine says so.
        names: column → its name in the relation, where that is another (`asof.sql.names`).
        metadata: a FROM term of the bounds of its row groups; empty where it has none.
    """

    relation: str
    sql_types: Mapping[str, str]
    dtypes: Mapping[str, DType | None]
    arrival: ArrivalKind
    dialect: Dialect
    indexes: tuple[tuple[str, ...], ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    metadata: str = ""

    def column(self, name: str) -> str:
        """The SQL of a column."""
        return self.dialect.forms.quote(self.names.get(name, name))

    @property
    def is_archive(self) -> bool:
        """Whether a log delivered its rows."""
        return self.arrival in ("log", "offsets", "stamps")


@dataclass(frozen=True)
class SpineTable:
    """The spine as the engine sees it; its rows' numbers are `rowid`.

    Args:
        sql_types: column → the engine's name of its type.
        time: the column of the times.
        first, last: the least and greatest time, where known.
        rows: how many rows, where known.
        order: the columns by which its rows lie, and then by time; none where they lie as they came.
        names: column → its name in the relation, where that is another (`asof.sql.names`).
        quote: how the engine writes a name (`SqlForms.quote`).
    """

    relation: str
    sql_types: Mapping[str, str]
    time: str
    first: Micros | None = None
    last: Micros | None = None
    rows: int | None = None
    order: tuple[str, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    quote: Callable[[str], str] = quote

    def column(self, name: str) -> str:
        """The SQL of a column."""
        return self.quote(self.names.get(name, name))

    @property
    def is_small(self) -> bool:
        """So few rows that it pays to ask the source for their keys alone."""
        return self.rows is not None and self.rows <= 200_000

    def moment(self, dialect: Dialect) -> str:
        """The SQL of a row's time."""
        return dialect.time_of(self.column(self.time), self.sql_types[self.time])


@dataclass(frozen=True)
class RowCutoff:
    """Which rows of a source count at all.

    Args:
        known_at: only rows written down by then; True is decided per spine row, and not here.
        seen: only archived rows up to these offsets, by partition.
        earliest, latest: event times outside of which no row can matter.
        spine: keep only keys of this spine.
        spine_keys: its key columns, in the order of the view's.
    """

    known_at: Micros | None = None
    seen: Mapping[int, int] | None = None
    earliest: Micros | None = None
    latest: Micros | None = None
    spine: SpineTable | None = None
    spine_keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class SourceRows:
    """One source's rows for one set of keys.

    Args:
        keys: the view's join keys, in its order.
        values: alias → SQL over the source's columns under their Asof names.
    """

    view: FeatureView
    table: SourceTable
    keys: tuple[str, ...]
    values: Mapping[str, str] = field(default_factory=dict)
    cut: RowCutoff = field(default_factory=RowCutoff)
    tie_columns: tuple[str, ...] = ()

    @property
    def source(self) -> Source:
        return self.view.source

    @property
    def dialect(self) -> Dialect:
        return self.table.dialect

    @property
    def has_created(self) -> bool:
        created = self.source.created_timestamp_column
        return bool(created) and created != self.source.timestamp_field

    @property
    def ties(self) -> tuple[str, ...]:
        """The columns that order rows of one event time; the first is a BIGINT."""
        created = ("created",) if self.has_created else ()
        if self.table.arrival == "row":
            return (*created, "arrived")
        if self.table.arrival in ("log", "stamps"):
            return (*created, "era", "arrived", "part")
        if self.table.arrival == "offsets":
            return (*created, "arrived", "part")
        same = () if created else ("created",)
        last = ("tie_gone",) if not self.view.is_aggregated and self.gone() else ()
        return (*created, *same, *(f"tie{index}" for index in range(len(self.tie_columns))), *last)

    def tie_terms(self) -> dict[str, str]:
        """The SQL of each of the ties, over the relation."""
        name = self.dialect.forms.quote
        offset, partition = name("offset"), name("partition")
        terms = {"arrived": ROW} if self.table.arrival == "row" else {"arrived": offset, "part": partition}
        if self.table.arrival == "log":
            terms = arrival_terms(self.table.sql_types.keys(), self.dialect)
        elif self.table.arrival == "stamps":
            terms = {"era": name(PUSHED_AT), "arrived": partition, "part": offset}
        elif self.table.arrival == "columns":
            terms = {f"tie{index}": self.tie(name) for index, name in enumerate(self.tie_columns)}
            if "tie_gone" in self.ties:
                # Of rows that are equal in all features, the one that ends the key is the last.
                terms["tie_gone"] = self.gone()
        return {"created": self._created(), **terms} if "created" in self.ties else terms

    def order(self, *before: str) -> str:
        """ORDER BY terms: what comes before, then the ties; nulls are smallest."""
        return ", ".join((*before, *(f"{tie} NULLS FIRST" for tie in self.ties)))

    @property
    def key_columns(self) -> list[str]:
        """What its keys are called: k0, k1, …"""
        return [f"k{index}" for index in range(len(self.keys))]

    def key_names(self) -> str:
        return ", ".join(self.key_columns)

    def partition(self) -> str:
        """`PARTITION BY k0, k1 `, or nothing for a view without entities."""
        return f"PARTITION BY {self.key_names()} " if self.keys else ""

    def select(self, *, known: bool = False, without: Collection[str] = ()) -> str:
        """SELECT of k0…, ts, the ties, `row`, and the values; `known` when it was written down, if asked for.

        Args:
            without: ties that are not needed.
        """
        columns = [f"{self.key(key)} AS k{index}" for index, key in enumerate(self.keys)]
        columns.append(f"{self._time()} AS ts")
        columns += [f"{sql} AS {tie}" for tie, sql in self.tie_terms().items() if tie not in without]
        if known:
            columns.append(f"{self.known()} AS known")
        if self.dialect.numbers_rows:
            columns.append(f"{ROW} AS source_row")
        columns += [f"{sql} AS {alias}" for alias, sql in self.values.items()]
        where = self.conditions()
        return f"SELECT {', '.join(columns)}\nFROM {self.table.relation}\nWHERE {' AND '.join(where)}"

    def conditions(self) -> list[str]:
        """What a row must fulfil to count at all."""
        source = self.source
        time, sql_type = self._raw(source.timestamp_field), self._sql_type(source.timestamp_field)
        where = [self.dialect.is_time(time, sql_type, source.timestamp_unit)]
        if self.view.is_aggregated and (gone := self.gone()):
            where.append(f"NOT ({gone})")
        where += [self._has_key(key) for key in self.keys]
        return [*where, *self._in_time(), *self.restrictions(), *self._of_spine()]

    def skipping(self) -> list[str]:
        """What holds for all rows that count, and lets the source skip others: their keys, and times from when on."""
        return [*(self._in_time() if self.cut.earliest is not None else []), *self._of_spine()]

    def _in_time(self) -> list[str]:
        """The bounds of the event time, as far as the source can compare its column with them."""
        source, where = self.source, []
        time, sql_type = self._raw(source.timestamp_field), self._sql_type(source.timestamp_field)
        for moment, sign in ((self.cut.earliest, ">="), (self.cut.latest, "<=")):
            if moment is None:
                continue
            bound = self.dialect.from_micros(moment, sql_type, source.timestamp_unit, up=sign == "<=")
            if bound:
                where.append(f"{time} {sign} {bound}")
        return where

    def _of_spine(self) -> list[str]:
        """That the key is one of the spine's, where these are to be looked up."""
        spine = self.cut.spine
        if spine is None or not self.keys:
            return []
        mine = ", ".join(self.key(key) for key in self.keys)
        theirs = ", ".join(self.spine_key(spine, place, key) for place, key in enumerate(self.cut.spine_keys))
        return [self.dialect.is_among(mine, theirs, spine.relation)]

    def restrictions(self) -> list[str]:
        """Which rows with a key and a time count at all, by what the source and the read say."""
        source, where = self.source, []
        partition, offset = map(self.dialect.forms.quote, ("partition", "offset"))
        if self.table.is_archive and isinstance(source, LogSource) and source.stream_from is not None:
            before = f"{self._time()} < {self.dialect.instant(source.stream_from)}"
            where.append(f"({partition} = {HISTORY}) = ({before})")
        if self.cut.known_at is not None:
            where.append(f"{self.known()} <= {self.dialect.instant(self.cut.known_at)}")
        if self.cut.seen is not None and self.table.is_archive:
            seen = {HISTORY: 2**62, **self.cut.seen}
            cases = " ".join(f"WHEN {number} THEN {last}" for number, last in sorted(seen.items()))
            where.append(f"{offset} <= CASE {partition} {cases} ELSE -1 END")
        return where

    def key(self, name: str) -> str:
        """The SQL of a join key, such that it compares with a spine's."""
        raw, dtype = self.source.raw(name), self._key_type(name)
        return self.dialect.join_key(self._raw(raw), self._sql_type(raw), dtype, self._what(raw))

    def _key_type(self, name: str) -> DType:
        return next(field.dtype for field in self.view.key_fields if field.name == name)

    def _has_key(self, name: str) -> str:
        """The SQL that holds where a join key is not null; NaN in a column of integers is null."""
        found = self.table.dtypes.get(self.source.raw(name))
        may_be_nan = found is not None and found.is_float and self._key_type(name).is_integer
        return f"{self.key(name) if may_be_nan else self._column(name)} IS NOT NULL"

    def spine_key(self, spine: SpineTable, place: int, column: str) -> str:
        """The SQL of a spine's key, such that it compares with the rows'.

        Args:
            place: of the join key that it is for.
            column: the spine's.
        """
        dtype, sql_type = self.view.key_fields[place].dtype, spine.sql_types[column]
        value = spine.column(column)
        if self.dialect.keeps_key(sql_type, dtype):
            return value
        return self.dialect.cast(value, sql_type, dtype, f"join key {column!r} of the entity frame")

    def tie(self, name: str) -> str:
        """The SQL of a column by which rows are ordered that are equal so far; null where a value does not fit."""
        raw = self.source.raw(name)
        return self.dialect.ordering(self._raw(raw), self._sql_type(raw), self.dtype(name))

    def feature(self, name: str, dtype: DType) -> str:
        """The SQL of a field, in its declared type; of a latest-value view null where the row ends its key."""
        value = self._fitted(name, dtype)
        gone = "" if self.view.is_aggregated else self.gone()
        return f"CASE WHEN NOT ({gone}) THEN {value} END" if gone else value

    def gone(self) -> str:
        """The SQL that holds for rows that say that their key is no more; empty where none can."""
        terms = []
        if self.source.has_tombstones and TOMBSTONE in self.table.sql_types:
            terms.append(f"coalesce({self.dialect.forms.quote(TOMBSTONE)}, false)")
        if self.source.delete_when:
            terms.append(f"coalesce({self.expression(self.source.delete_when)[0]}, false)")
        return " OR ".join(terms)

    def _fitted(self, name: str, dtype: DType) -> str:
        raw = self.source.raw(name)
        return self.dialect.cast(self._raw(raw), self._sql_type(raw), dtype, self._what(raw))

    def _what(self, raw: str) -> str:
        return f"column {raw!r} of source {self.source.name!r}"

    def declared(self, name: str) -> str:
        """The SQL of a column in the type that it is declared with; as it is, where it has none of ours."""
        dtype = self.dtype(name)
        return self.feature(name, dtype) if dtype is not None else self._column(name)

    def expression(self, text: str) -> tuple[str, DType]:
        """An expression of the closed language as SQL over the relation, and its type."""
        parsed = parse(text)
        schema = {name: dtype for name in parsed.columns if (dtype := self.dtype(name)) is not None}
        dtype = check(parsed, schema, where=self.view.where)
        printed = print_sql(
            parsed, self.dialect.forms, schema=schema, column=lambda name: self._fitted(name, schema[name])
        )
        return printed, dtype

    def dtype(self, name: str) -> DType | None:
        """The type that a column is declared with, or else has; None where that is none of ours."""
        for declared in (*self.view.schema, *self.source.schema):
            if declared.name == name or self.source.renamed(declared.name) == name:
                return declared.dtype
        return self.table.dtypes.get(self.source.raw(name))

    def _column(self, name: str) -> str:
        return self._raw(self.source.raw(name))

    def _raw(self, column: str) -> str:
        self._sql_type(column)
        return self.table.column(column)

    def _sql_type(self, column: str) -> str:
        if column not in self.table.sql_types:
            raise SourceError(
                f"source {self.source.name!r} has no column {column!r}",
                hint=nearest(column, self.table.sql_types) or f"it has {some(list(self.table.sql_types))}",
                where=self.source.where,
            )
        return self.table.sql_types[column]

    def _time(self) -> str:
        column = self.source.timestamp_field
        return self.dialect.time_of(self._raw(column), self._sql_type(column), self.source.timestamp_unit)

    def _created(self) -> str:
        if not self.has_created:
            return self._time()
        column = self.source.created_timestamp_column
        raw, sql_type, unit = self._raw(column), self._sql_type(column), self.source.timestamp_unit
        created = self.dialect.time_of(raw, sql_type, unit)
        return f"CASE WHEN {self.dialect.is_time(raw, sql_type, unit)} THEN {created} ELSE {self._time()} END"

    def known(self) -> str:
        """When the row was written down: its created time; without one, its stamp, or when it was archived."""
        if self.table.is_archive and not self.source.created_timestamp_column:
            name = self.dialect.forms.quote
            archived = self.dialect.time_of(name("ingested_at"), self._sql_type("ingested_at"))
            if self.table.arrival == "offsets" or PUSHED_AT not in self.table.sql_types:
                return archived
            stamped = self.dialect.time_of(name(PUSHED_AT), self._sql_type(PUSHED_AT), "us")
            return f"coalesce({stamped}, {archived})"
        return self._created()
