"""SQL that chooses training rows from a source: what `get_historical_features` takes as an entity frame.

Every engine takes it: `to_timestamp` makes a time of seconds in all of them.
"""

from __future__ import annotations

from collections.abc import Mapping

from asof.sql.quoting import quote

_SECONDS = {"": "", "s": "", "ms": " / 1000.0", "us": " / 1000000.0", "ns": " / 1000000000.0"}
"""Unit of an integer time → what makes seconds of it."""

_KEYWORDS = frozenset(
    "all and any as asc at between by case cast check column create cross current_date date day default desc distinct "
    "do else end except exists false for foreign from full grant group having hour in index inner insert interval into "
    "is join key left like limit minute month natural not null offset on or order outer primary references right row "
    "second select session_user set table then time timestamp to true union unique update user using values view when "
    "where window with year".split()
)
"""Names that one engine or another does not take unquoted."""


def training_rows(
    source: str, keys: Mapping[str, str], *, time: str, unit: str, time_name: str, limit: int
) -> tuple[str, ...]:
    """The lines of a SELECT of join keys and a time from a source.

    Args:
        keys: column of the source → join key.
        time: the column of the event time.
        unit: of an integer time; empty for a timestamp.
        time_name: what the time is called.
        limit: the most rows.
    """
    columns = [_name(column) + (f" AS {_name(key)}" if key != column else "") for column, key in keys.items()]
    moment = f"to_timestamp({_name(time)}{_SECONDS[unit]})" if unit else _name(time)
    return (
        f"SELECT {', '.join([*columns, f'{moment} AS {_name(time_name)}'])}", f"FROM {_name(source)}", f"LIMIT {limit}",
    )  # fmt: skip


def _name(name: str) -> str:
    """A name in SQL, quoted where it is no plain one."""
    is_plain = name.isidentifier() and name.isascii() and name.islower() and name not in _KEYWORDS
    return name if is_plain else quote(name)


__all__ = ["training_rows"]
