"""What differs between engines in the pieces of which every statement is made: types, literals, times, casts, keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from asof.dtypes import DType
from asof.expressions.dialects import SqlForms
from asof.timing import Micros


class Dialect(Protocol):
    """The SQL of one engine, as the statements that all engines share ask for it.

    A package per engine holds it, beside the plans that only that engine runs: `point_in_time`, `latest`, `windows` and
    `view_rows`. SQL types are named as the engine's own catalog names them.
    """

    @property
    def name(self) -> str:
        """As messages call it."""
        ...

    @property
    def forms(self) -> SqlForms:
        """The forms of expressions over the engine's columns."""
        ...

    @property
    def numbers_rows(self) -> bool:
        """Whether each relation numbers its rows (`asof_row`): plans sort narrow rows, then fetch the rest."""
        ...

    @property
    def casts_keys(self) -> bool:
        """Whether a join key is compared in its declared type; else as it is, since the engine compares all types."""
        ...

    def type_name(self, dtype: DType) -> str:
        """The SQL type of a value type."""
        ...

    def literal(self, value: Any, dtype: DType) -> str:
        """A Python value as SQL of the type."""
        ...

    def instant(self, us: Micros) -> str:
        """A moment as SQL that compares with what `time_of` makes."""
        ...

    def time_of(self, column: str, sql_type: str, unit: str = "") -> str:
        """A time column in the form in which the engine's plans compare times; naive is UTC, a date its midnight.

        Args:
            unit: of an integer column.
        """
        ...

    def is_time(self, column: str, sql_type: str) -> str:
        """Whether a raw time column holds a moment."""
        ...

    def from_micros(self, value: Micros, sql_type: str, unit: str = "", *, up: bool = False) -> str:
        """A moment as a literal to compare a raw time column with, so that rows are skipped; else an empty text.

        Args:
            up: for an upper bound of a coarser column.
        """
        ...

    def cast(self, value: str, sql_type: str, dtype: DType, what: str = "") -> str:
        """A source's value in the type that its field declares; what does not fit is an error, never changed.

        Args:
            what: names the column, for the error.
        """
        ...

    def ordering(self, column: str, dtype: DType | None, declared: Callable[[DType], str]) -> str:
        """A column to be sorted by.

        Args:
            declared: its SQL in a type of ours.
        """
        ...

    def is_value(self, column: str, value: Any, dtype: DType) -> str:
        """Whether a raw column holds a key's value.

        Args:
            value: plain as it is packed: a time as microseconds, a date as days, a decimal as text.
        """
        ...

    def is_among(self, columns: str, others: str, relation: str) -> str:
        """Whether the columns are those of one of the relation's rows."""
        ...


__all__ = ["Dialect"]
