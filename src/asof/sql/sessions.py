"""Sessions in SQL: the start of each event's session, and of the session that is open at a spine row."""

from __future__ import annotations

from collections.abc import Sequence

from asof.timing import Micros


def begin(gap: Micros) -> str:
    """The column that holds the event time of events which begin a session, else null."""
    return f"begin_{gap}"


def start(gap: Micros) -> str:
    """The column that holds the event time at which the latest session began."""
    return f"start_{gap}"


def mark_begins(gaps: Sequence[Micros], order: str) -> str:
    """Columns over events: an event begins a session where its key's event before is more than the gap away.

    Args:
        order: the window `(PARTITION BY key ORDER BY …)` of the events' order.
    """
    return ", ".join(f"CASE WHEN ts - lag(ts) OVER {order} <= {gap} THEN NULL ELSE ts END AS {begin(gap)}" for gap in gaps)


def carry_starts(gaps: Sequence[Micros], until: str) -> str:
    """Columns over events and spine rows: when the latest session began, and the latest event.

    Args:
        until: the window of all rows of the key up to the row's own moment.
    """
    starts = [f"max({begin(gap)}) OVER {until} AS {start(gap)}" for gap in gaps]
    return ", ".join([*starts, f"max(happened) OVER {until} AS latest"])


def is_open(gap: Micros, moment: str) -> str:
    """Whether the latest session is still open at the moment."""
    return f"{moment} - latest <= {gap}"
