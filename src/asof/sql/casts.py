"""What casts of all engines share: a cast with its condition, and casts as hints show them."""

from __future__ import annotations

from dataclasses import dataclass

from asof.dtypes import DType

_TYPES = {"Int32": "INTEGER", "Int64": "BIGINT", "String": "VARCHAR", "Timestamp": "TIMESTAMPTZ", "Date": "DATE"}


def cast_example(column: str, dtype: DType) -> str:
    """A column, or what stands for one, cast to a type."""
    return f"CAST({column} AS {_TYPES.get(dtype.name, '…')})"


@dataclass(frozen=True)
class Conversion:
    """A value in another type.

    Args:
        made: its SQL, where the value fits.
        fits: the SQL that holds for values that fit, and not for null; empty where all do.
        null: a value that becomes null and is no misfit.
    """

    made: str
    fits: str = ""
    null: str = ""
