"""What a view's features were as of a moment, for online reads that their rows cannot answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asof.definitions import Snapshot
from asof.flows.offline.key_rows import newest_event, view_as_of
from asof.flows.stores import Stores
from asof.selection import ViewRead
from asof.timing import Micros
from asof.values.packing import plainer


def history_of(
    stores: Stores, snapshot: Snapshot, *, before: Callable[[], None] = lambda: None
) -> Callable[[ViewRead, dict[str, list[Any]], Micros], tuple[dict[str, list[Any]], list[Micros | None]]]:
    """The `History` of an online reader: values from the sources and archives, and each key's newest event.

    Args:
        before: called first, to bring into history what this process has written and not archived yet.
    """

    def history(read: ViewRead, keys: dict[str, list[Any]], at: Micros) -> tuple[dict[str, list[Any]], list[Any]]:
        before()
        values = view_as_of(stores, snapshot, read, keys, at)
        due = at - read.view.delay
        rows = zip(*(keys[key] for key in read.keys), strict=True) if read.keys else [()]
        plains = [plainer(field.dtype) for field in read.view.key_fields]
        times = [
            newest_event(
                stores, read.view, [value if plain is None else plain(value) for value, plain in zip(row, plains)], due
            )
            for row in rows
        ]
        return values, times

    return history
