"""A view's features as of a time, from history: for online reads before the newest event of a row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asof.definitions import Snapshot
from asof.flows.offline.key_rows import newest_event, view_as_of
from asof.flows.stores import Parts
from asof.selection import ViewRead
from asof.timing import Micros
from asof.values.packing import plainer


def history_of(
    parts: Parts, snapshot: Snapshot, *, before: Callable[[], None] = lambda: None
) -> Callable[[ViewRead, dict[str, list[Any]], Micros], tuple[dict[str, list[Any]], list[Micros | None]]]:
    """The `History` function of an online reader: values from sources and archives, and each key's newest event.

    Args:
        before: called first, to archive the rows that this process has pushed.
    """

    def history(read: ViewRead, keys: dict[str, list[Any]], at: Micros) -> tuple[dict[str, list[Any]], list[Any]]:
        before()
        values = view_as_of(parts, snapshot, read, keys, at)
        due = at - read.view.delay
        rows = zip(*(keys[key] for key in read.keys), strict=True) if read.keys else [()]
        plains = [plainer(field.dtype) for field in read.view.key_fields]
        times = [
            newest_event(
                parts, read.view, [value if plain is None else plain(value) for value, plain in zip(row, plains)], due
            )
            for row in rows
        ]
        return values, times

    return history
