"""Sessions in SQL: where they begin, and whether the latest is open at a moment."""

from __future__ import annotations

from collections.abc import Sequence

from asof.timing import Micros


def begin(gap: Micros) -> str:
    """The column that holds the event time of events which begin a session, else null."""
    return f"begin_{gap}"


def start(gap: Micros) -> str:
    """The column that holds the event time at which the latest session began."""
    return f"start_{gap}"


def mark_begin(gap: Micros, order: str) -> str:
    """An event begins a session where its key's event before is more than the gap away.

    Args:
        order: the name of the window of the key's events in their order.
    """
    return f"CASE WHEN ts - lag(ts) OVER {order} <= {gap} THEN NULL ELSE ts END"


def is_open(gap: Micros, moment: str) -> str:
    """Whether the session that holds the event at `latest` is still open at the moment."""
    return f"{moment} - latest <= {gap}"


def begins(gap: Micros, keys: Sequence[str]) -> str:
    """The same as a condition, over events that stand in their order, key by key."""
    other_key = [f"lag({key}) OVER () IS DISTINCT FROM {key}" for key in keys] or ["lag(ts) OVER () IS NULL"]
    return f"({' OR '.join([*other_key, f'ts - lag(ts) OVER () > {gap}'])})"
