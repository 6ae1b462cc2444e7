"""What a profile is made of: the columns to measure, the rows of a view or a table, and the forms of an engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from asof.definitions import Expectation
from asof.definitions.expectations import Plain
from asof.dtypes import DType
from asof.profiles.bins import TAIL_SHARE
from asof.profiles.drift import BINS
from asof.profiles.summary import Cells, Measured, Scalar
from asof.sql.query import ViewRows
from asof.sql.source_rows import SourceTable

TIME = "asof_ts"
"""The column of event times of a view's rows."""

TOP_VALUES = 20
"""How many frequent values are kept, and are cells."""

LONGEST_TEXT = 200
"""How many characters of a text a profile keeps; longer values are no frequent values."""

DECILES = tuple(place / BINS for place in range(1, BINS))
"""The shares whose quantiles are the edges of a baseline's bins."""

QUANTILES = tuple(sorted({0.01, 0.05, 0.25, 0.75, 0.95, 0.99, TAIL_SHARE, 1 - TAIL_SHARE, *DECILES}))
"""The shares whose quantiles are measured."""


@dataclass(frozen=True)
class ProfiledColumn:
    """One column to measure.

    Args:
        sql: its name in the rows.
        is_hidden: count it only.
        baseline: cells that it is to be compared over.
        baseline_name: what they are of.
        expectations: how many rows miss each is counted, too.
    """

    name: str
    dtype: DType
    sql: str
    is_hidden: bool = False
    baseline: Cells | None = None
    baseline_name: str = ""
    expectations: tuple[Expectation, ...] = ()

    @property
    def measured(self) -> Measured:
        """What its numbers are of."""
        if self.dtype.is_numeric:
            return "value"
        if self.dtype.name in ("Timestamp", "Date"):
            return "time"
        return "none" if self.dtype.name == "Bool" else "length"

    @property
    def has_top_values(self) -> bool:
        return self.dtype.name in ("String", "Json", "Bool", "Int32", "Int64")

    @property
    def has_extremes(self) -> bool:
        return self.dtype.is_numeric or self.dtype.name in ("String", "Timestamp", "Date")

    @property
    def has_value_cells(self) -> bool:
        """Whether drift is measured over its frequent values."""
        return self.dtype.name in ("String", "Bool")

    @property
    def is_whole(self) -> bool:
        """Whether its numbers are integers."""
        return self.dtype.is_integer or self.measured == "length"


class ProfileDialect(Protocol):
    """How one engine writes the measures of a profile."""

    @property
    def estimates(self) -> bool:
        """Whether it has estimates of quantiles and of distinct values."""
        ...

    def sample(self, relation: str, share: float) -> str:
        """SELECT of about this share of a relation's rows."""
        ...

    def measures(self, column: ProfiledColumn, alias: str, *, estimated: bool) -> list[str]:
        """SELECT terms `{alias}_…` of one column: `n d x low high min max mean std q`, and `e0`, `e1`, ….

        Those that make no sense are left out. `x` counts its finite numbers; `low` and `high` are their ends.
        """
        ...

    def frequent(self, column: ProfiledColumn, place: int, relation: str) -> str:
        """SELECT of place, value (as text) and n of the most frequent values."""
        ...

    def cells(self, wanted: Sequence[WantedCells], relation: str) -> str:
        """SELECT of the counts of cells."""
        ...

    def counts(self, wanted: Sequence[WantedCells], result: pa.Table) -> list[CountedCells]:
        """What `cells` found."""
        ...


def misses(column: ProfiledColumn, alias: str, literal: Callable[[Plain, DType], str], *, distinct: str) -> list[str]:
    """SELECT terms `{alias}_e0`, …: how many rows miss each of a column's expectations.

    Args:
        literal: writes a value as SQL of a type.
        distinct: the SQL of the exact number of distinct values.
    """
    value, dtype, terms = column.sql, column.dtype, []
    for each in column.expectations:
        if each.kind == "unique":
            terms.append(f"count({value}) - {distinct}")
            continue
        wrong = [f"{value} IS NULL"] if each.kind == "not_null" else []
        wrong += [f"{value} < {literal(each.low, dtype)}"] if each.low is not None else []
        wrong += [f"{value} > {literal(each.high, dtype)}"] if each.high is not None else []
        if each.values:
            wrong.append(f"{value} NOT IN ({', '.join(literal(accepted, dtype) for accepted in each.values)})")
        terms.append(f"count(*) FILTER (WHERE {' OR '.join(wrong)})")
    return [f"{term} AS {alias}_e{number}" for number, term in enumerate(terms)]


def moments(column: ProfiledColumn, number: str) -> dict[str, str]:
    """The SQL of mean and standard deviation of a column's numbers; null where a square of them would overflow."""
    if not column.dtype.is_float:
        return {"mean": f"avg({number})", "std": f"stddev_samp({number})"}
    fits = f"min({number}) >= -1e150 AND max({number}) <= 1e150"
    small = f"CASE WHEN abs({number}) <= 1e150 THEN {number} END"
    return {
        "mean": f"CASE WHEN {fits} THEN avg({small}) END",
        "std": f"CASE WHEN {fits} THEN stddev_samp({small}) END",
    }


@dataclass(frozen=True)
class WantedCells:
    """The cells of one column: fine bins between ascending edges, and values."""

    column: ProfiledColumn
    edges: Sequence[float]
    values: Sequence[Scalar]


@dataclass(frozen=True)
class CountedCells:
    """How many rows lie in each of the bins, one more than edges, and how many have each value."""

    bins: Sequence[int]
    values: Sequence[int]


@dataclass(frozen=True)
class ProfiledRows(ViewRows):
    """A profile of the chosen rows of a view's source: the values of its fields, without rows that end their key.

    Args:
        columns: the view's features; `sql` of each is its name in `select`.
    """

    columns: tuple[ProfiledColumn, ...] = ()

    def select(self, table: SourceTable) -> str:
        """SELECT of one column per feature, in its declared type."""
        plain = self.rows(table)
        values = {each.sql: plain.feature(each.name, each.dtype) for each in self.columns}
        gone = plain.gone()
        rows = self.rows(table, {**values, **({"gone": gone} if gone else {})})
        where = " AND ".join([*self.chosen.conditions(table.dialect), *(["NOT gone"] if gone else [])])
        columns = ", ".join([*values, f"ts AS {TIME}"])
        return f"SELECT {columns}\nFROM (\n{rows.select(without=rows.ties)}\n) AS asof_q\nWHERE {where}"


@dataclass(frozen=True)
class ProfiledTable:
    """A profile of the rows of a table.

    Args:
        name: of the view that its features are of.
        columns: `name` of each is its name in the table, and `sql` its name in the engine's.
    """

    name: str
    columns: tuple[ProfiledColumn, ...]

    @property
    def names(self) -> dict[str, str]:
        """Column → its name in the engine's table."""
        return {each.name: each.sql for each in self.columns}

    def select(self, relation: str) -> str:
        """SELECT of the columns of the engine's table."""
        return f"SELECT {', '.join(each.sql for each in self.columns)}\nFROM {relation}"


class ProfileSession(Protocol):
    """Where the statements of one profile run, over one state of the rows."""

    def execute(self, statement: str) -> None: ...

    def fetch(self, select: str) -> pa.Table: ...


__all__ = [
    "DECILES", "LONGEST_TEXT", "QUANTILES", "TIME", "TOP_VALUES", "CountedCells", "ProfileDialect", "ProfiledColumn",
    "ProfiledRows", "ProfiledTable", "ProfileSession", "WantedCells", "misses", "moments",
]  # fmt: skip
