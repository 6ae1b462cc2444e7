"""Rows of a source without an event time: no read looks at them, and `materialize` and `plan` count them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from asof.definitions import Source
from asof.sql.dialect import Dialect
from asof.timing import Micros


def undated(
    dialect: Dialect,
    source: Source,
    types: Mapping[str, str],
    column: Callable[[str], str],
    *,
    since: Micros | None = None,
) -> list[str]:
    """Conditions for rows of a source without an event time of the years 1 to 9999, which no read looks at.

    Args:
        types: column → its SQL type.
        column: a column's name → its SQL.
        since: only those that were written since then, by their created time.
    """
    # The event time of such a row has no microseconds, so its created time is looked at alone.
    unit = source.timestamp_unit

    def is_time(name: str) -> str:
        return dialect.is_time(column(name), types[name], unit)

    time = source.timestamp_field
    # In this form Postgres finds them by an index of the column.
    terms = [f"({column(time)} IS NULL OR NOT ({is_time(time)}))"]
    created = source.created_timestamp_column
    if since is not None and created:
        written = dialect.time_of(column(created), types[created], unit)
        terms.append(f"CASE WHEN {is_time(created)} THEN {written} >= {dialect.instant(since)} ELSE false END")
    return terms


__all__ = ["undated"]
