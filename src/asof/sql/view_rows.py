"""Queries over one view's own rows, without a spine: the newest row per key, the touched keys, all rows of some keys.

They read the same rows in the same order as the historical plans do, so that online rows are what history answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from asof.definitions import FeatureView
from asof.dtypes import Bool, DType
from asof.selection import FeatureOut, ViewRead
from asof.sql.duckdb.dialect import quote
from asof.sql.duckdb.latest import tie_columns
from asof.sql.postgres import dialect as postgres
from asof.sql.postgres import view_rows as postgres_rows
from asof.sql.query import columns_of
from asof.sql.source_rows import Cut, Rows, Table
from asof.timing import Micros

WANTED = "asof_wanted"
"""The input that holds the keys that `RowsOfKeys` reads, in columns k0, k1, …"""

OWN = "own_"
"""What `RowsOfKeys` puts before the names of the view's own columns."""


@dataclass(frozen=True)
class Chosen:
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

    def conditions(self, instant: Callable[[Micros], str] = str) -> list[str]:
        """What holds for a row with `ts` and `known`, beyond what its source can skip by itself.

        Args:
            instant: how the engine writes a moment.
        """
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
    def cut(self) -> Cut:
        """The event times alone, which a source can use to skip rows."""
        bounds = [
            each for each in (self.earliest, self.events_from if self.news_from is None else None) if each is not None
        ]
        return Cut(earliest=max(bounds) if bounds else None, latest=self.latest)


@dataclass(frozen=True)
class ViewRows:
    """What all queries over a view's rows share; engines ask `reads`, `start` and `end` for what to fetch."""

    view: FeatureView
    chosen: Chosen

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

    def select(self, tables: Mapping[str, Table]) -> str:
        """The query's text, given the view's source as the engine sees it."""
        raise NotImplementedError

    def shape(self, tables: Mapping[str, Table]) -> list[tuple[str, DType | None]]:
        """The answer's columns, for engines whose own names and types are not the answer's."""
        raise NotImplementedError

    def read_columns(self, table: Table) -> list[str]:
        """The columns that the view reads, as Asof calls them, in the order of the table."""
        return [self.view.source.renamed(column) for column in table.sql_types if column in self._used]

    def rows(self, table: Table, values: Mapping[str, str] | None = None) -> Rows:
        ties = tie_columns(self.view.features)
        if self.view.is_aggregated:
            ties = tuple(self.read_columns(table))
        return Rows(self.view, table, self.view.join_keys, values or {}, self.chosen.cut, ties)


class NewestRows(ViewRows):
    """Per key its last row: k0…, ts, created, arrived, then the features in their types (`f0`…), near keys together.

    `gone`, where the source has such rows: whether the row says that its key is no more.

    `created` and `arrived` are 0 where the source has none. Of rows that are equal in all of that the engine decides
    by the columns, as history does.
    """

    def select(self, tables: Mapping[str, Table]) -> str:
        table = tables[self.view.source.name]
        if table.dialect == "postgres":
            return postgres_rows.newest(self, table, self.chosen.conditions(postgres.instant))
        plain = self.rows(table)
        features = {f"f{i}": plain.feature(field.name, field.dtype) for i, field in enumerate(self.view.features)}
        if gone := plain.gone():
            features["gone"] = gone
        rows = self.rows(table, features)
        created = "created" if rows.has_created else "0"
        arrived = "arrived" if "arrived" in rows.ties else "0"
        last = ", ".join(f"{column} DESC NULLS LAST" for column in ("ts", *rows.ties))
        columns = [*_keys(rows), "ts", f"{created} AS created", f"{arrived} AS arrived", *features]
        return f"""\
SELECT {", ".join(columns)}
FROM (
{rows.select(known=True)}
)
WHERE {" AND ".join(self.chosen.conditions())}
QUALIFY row_number() OVER ({rows.partition()}ORDER BY {last}) = 1{_near(rows)}"""

    def shape(self, tables: Mapping[str, Table]) -> list[tuple[str, DType | None]]:
        rows = self.rows(tables[self.view.source.name])
        features = [(f"f{i}", field.dtype) for i, field in enumerate(self.view.features)]
        return postgres_rows.shape_of(rows, [*features, *([("gone", Bool)] if rows.gone() else [])])


class TouchedKeys(ViewRows):
    """The keys of the chosen rows, each once: k0…; for a view without entities one row, if there is a chosen row."""

    def select(self, tables: Mapping[str, Table]) -> str:
        table = tables[self.view.source.name]
        if table.dialect == "postgres":
            return postgres_rows.touched(self, table, self.chosen.conditions(postgres.instant))
        rows = self.rows(table)
        return f"""\
SELECT DISTINCT {rows.key_names() or "0 AS k0"}
FROM (
{rows.select(known=True)}
)
WHERE {" AND ".join(self.chosen.conditions())}{_near(rows)}"""

    def shape(self, tables: Mapping[str, Table]) -> list[tuple[str, DType | None]]:
        return postgres_rows.shape_of(self.rows(tables[self.view.source.name]), [], place=False)


class RowsOfKeys(ViewRows):
    """Every chosen row of the keys in `asof_wanted`: k0…, ts, created, arrived, and the columns that the view reads.

    Key by key, and each key's rows in their order; where the source has no arrival, `arrived` numbers them. The view's
    columns have their declared types, and their names in Asof behind `OWN`: a source may well call one `created`.
    """

    def select(self, tables: Mapping[str, Table]) -> str:
        table = tables[self.view.source.name]
        names = self.read_columns(table)
        if table.dialect == "postgres":
            conditions = Chosen(self.chosen.latest).conditions(postgres.instant)
            return postgres_rows.of_keys(self, table, conditions, names=names, wanted=WANTED)
        plain = self.rows(table)
        columns = {f"c{i}": plain.declared(name) for i, name in enumerate(names)}
        rows = self.rows(table, columns)
        created = "created" if rows.has_created else "ts"
        arrived = "arrived" if "arrived" in rows.ties else _NUMBERED.format(rows.partition(), rows.order("ts"))
        shown = [*_keys(rows), "ts", f"{created} AS created", f"{arrived} AS arrived"]
        shown += [f"c{i} AS {quote(OWN + name)}" for i, name in enumerate(names)]
        wanted = [f"({rows.key_names()}) IN (SELECT ({rows.key_names()}) FROM {WANTED})"] if rows.keys else []
        order = ", ".join([*_keys(rows), "ts", "arrived"])
        return f"""\
SELECT {", ".join(shown)}
FROM (
{rows.select()}
)
WHERE {" AND ".join([*Chosen(self.chosen.latest).conditions(), *wanted])}
ORDER BY {order}"""

    def shape(self, tables: Mapping[str, Table]) -> list[tuple[str, DType | None]]:
        table = tables[self.view.source.name]
        rows = self.rows(table)
        return postgres_rows.shape_of(rows, [(OWN + name, rows.dtype(name)) for name in self.read_columns(table)])


_NUMBERED = "row_number() OVER ({}ORDER BY {})"


def _keys(rows: Rows) -> list[str]:
    return [f"k{index}" for index in range(len(rows.keys))]


def _near(rows: Rows) -> str:
    """ORDER BY that puts keys near each other which are near each other as packed bytes: by length, then by value."""
    terms = []
    for index, key in enumerate(rows.keys):
        sql_type = rows.table.sql_types[rows.source.raw(key)]
        if sql_type == "VARCHAR":
            terms.append(f"strlen(k{index})")
        elif sql_type.endswith("INT") or sql_type == "INTEGER":
            terms.append(f"k{index} < 0")
        terms.append(f"k{index}")
    return f"\nORDER BY {', '.join(terms)}" if terms else ""


__all__ = ["WANTED", "Chosen", "NewestRows", "RowsOfKeys", "TouchedKeys", "ViewRows"]
