"""The protocol of SQL dialects: types, literals, times, casts and keys, of which all statements are made."""

from __future__ import annotations

from typing import Any, Protocol

from asof.dtypes import DType
from asof.expressions.dialects import SqlForms
from asof.timing import Micros


class Dialect(Protocol):
    """The SQL of one engine, for the statements that all engines share. A package per engine has it, with the plans
    that only that engine runs: `point_in_time`, `latest`, `windows` and `view_rows`. SQL types have the names of the
    engine's catalog.
    """

    @property
    def name(self) -> str:
        """The engine's name in messages."""
        ...

    @property
    def forms(self) -> SqlForms:
        """The forms of expressions over the engine's columns."""
        ...

    @property
    def numbers_rows(self) -> bool:
        """Whether each relation numbers its rows (`asof_row`): plans sort narrow rows, then fetch the rest."""
        ...

    def type_name(self, dtype: DType) -> str:
        """The SQL type of a value type."""
        ...

    def literal(self, value: Any, dtype: DType) -> str:
        """A Python value as SQL of the type."""
        ...

    def instant(self, us: Micros) -> str:
        """A time as SQL that compares with the results of `time_of`."""
        ...

    def time_of(self, column: str, sql_type: str, unit: str = "") -> str:
        """A time column in the form in which the engine's plans compare times; naive is UTC, a date its midnight.

        Args:
            unit: of an integer column.
        """
        ...

    def is_time(self, column: str, sql_type: str, unit: str = "") -> str:
        """Whether a raw time column has a time of the years 1 to 9999; rows without one are passed over.

        Args:
            unit: of an integer column.
        """
        ...

    def from_micros(self, value: Micros, sql_type: str, unit: str = "", *, up: bool = False) -> str:
        """A time as a literal for comparison with a raw time column, to skip rows; empty if that is not possible.

        Args:
            up: for an upper bound of a coarser column.
        """
        ...

    def cast(self, value: str, sql_type: str, dtype: DType, what: str = "") -> str:
        """A source's value in its field's declared type; a value that does not fit is an error, never changed.

        Args:
            what: the column's description, for the error.
        """
        ...

    def join_key(self, column: str, sql_type: str, dtype: DType, what: str) -> str:
        """A source's raw join key, such that it compares with a spine's; a value that does not fit is an error.

        Args:
            what: the column's description, for the error.
        """
        ...

    def keeps_key(self, sql_type: str, dtype: DType) -> bool:
        """Whether a spine's key of this type is compared as it is; else it is cast to the declared type.

        A float never does for an integer: engines would compare both as floats, and near integers are one float.
        """
        ...

    def ordering(self, column: str, sql_type: str, dtype: DType | None) -> str:
        """A raw column as a sort key: in its declared type, null where a value does not fit, text by code point.

        Args:
            dtype: None where the column has none of our types.
        """
        ...

    def is_value(self, column: str, value: Any, dtype: DType) -> str:
        """Whether a raw column equals a key's value.

        Args:
            value: plain: a time as microseconds, a date as days, a decimal as text.
        """
        ...

    def is_among(self, columns: str, others: str, relation: str) -> str:
        """Whether the columns equal those of one of the relation's rows."""
        ...


__all__ = ["Dialect"]
