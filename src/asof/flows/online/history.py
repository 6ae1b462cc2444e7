"""A view's features as of a time, from history: for online reads before the newest event of a row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from asof.definitions import LogSource, Snapshot
from asof.errors import IncompleteRow
from asof.flows.offline.key_rows import newest_event, view_as_of
from asof.flows.stores import Stores
from asof.online_response import Columns
from asof.selection import ViewRead
from asof.timing import Micros
from asof.values.legible import shown
from asof.values.packing import plainer

Past = tuple[Columns, Sequence[Micros | None]]


class History(Protocol):
    """Computes a view's features for some keys as of a time."""

    def __call__(
        self, read: ViewRead, keys: Columns, at: Micros, /, *, needs: Sequence[Mapping[int, int]] = ()
    ) -> Past:
        """Outputs by name (nulls stay nulls), and for each key the time of its newest row up to then, if known.

        Args:
            needs: per key the offsets that history has to cover, by partition; none by default.

        Raises:
            IncompleteRow: it does not cover them yet.
        """
        ...


def history_of(stores: Stores, snapshot: Snapshot, *, before: Callable[[], None] = lambda: None) -> History:
    """The `History` function of an online reader: values from sources and archives, and each key's newest event.

    Args:
        before: called first, to archive the rows that this process has pushed.
    """

    def history(
        read: ViewRead, keys: dict[str, list[Any]], at: Micros, *, needs: Sequence[Mapping[int, int]] = ()
    ) -> tuple[dict[str, list[Any]], list[Any]]:
        before()
        refuse_incomplete_rows(stores, read, keys, needs)
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


def refuse_incomplete_rows(
    stores: Stores, read: ViewRead, keys: Mapping[str, Sequence[Any]], needs: Sequence[Mapping[int, int]]
) -> None:
    """Raise where history does not cover what incomplete rows have seen: neither of the two has the value.

    Args:
        needs: per key the offsets to be covered, by partition; see `History`.

    Raises:
        IncompleteRow: for the first such key.
    """
    view = read.view
    wanted = sorted({partition for each in needs for partition in each})
    if not wanted or not isinstance(view.source, LogSource):
        return
    archived = stores.offline.offsets(stores.archive_of(view.source), wanted)
    lacking = [
        row for row, each in enumerate(needs)
        if any(offset > archived[partition] for partition, offset in each.items())
    ]  # fmt: skip
    if lacking:
        key = ", ".join(f"{name}={shown(keys[name][lacking[0]])}" for name in read.keys) or "its one row"
        more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        raise IncompleteRow(
            f"feature view {view.name!r}: the row of {key}{more} is incomplete: a late event may have changed its "
            "session, and history does not cover it yet",
            hint="try again in a moment: the process that took the event archives it and recomputes the row; if the "
            "error persists, see `asof stream status`",
            where=view.where,
        )


__all__ = ["History", "Past", "history_of", "refuse_incomplete_rows"]
