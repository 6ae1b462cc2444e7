"""The number of a batch source's rows that no read looks at, since they have no event time."""

from __future__ import annotations

from asof.definitions import FeatureView, LogSource
from asof.flows.offline.inputs import rows_of
from asof.flows.stores import Stores
from asof.sql.query import RowFilter, UndatedRows
from asof.timing import LATEST, Micros


class UndatedCounts:
    """Counts such rows, of each source once in a run."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._found: dict[tuple[str, Micros | None], int | None] = {}

    def of(self, view: FeatureView, chosen: RowFilter) -> int | None:
        """Number of rows of the view's source without an event time of the years 1 to 9999: null, infinite or outside.

        Args:
            chosen: rows written since `news_from`, where given; an interval of event times has no such rows.

        Returns:
            The number; None where the source's server would take too long to count.
        """
        if chosen.earliest is not None or (chosen.events_from is not None and chosen.news_from is None):
            return 0
        return self._of(view, chosen.news_from)

    def of_history(self, source: LogSource, *, start: Micros | None = None, end: Micros | None = None) -> int | None:
        """The same of a log source's batch source, where such rows are not loaded; an interval has none."""
        batch = source.batch_source
        if batch is None or start is not None or end is not None:
            return 0
        return self._of(FeatureView(batch.name, entities=[], source=batch), None)

    def _of(self, view: FeatureView, since: Micros | None) -> int | None:
        key = (view.source.name, since)
        if key not in self._found:
            self._found[key] = undated_rows(self._stores, view, since=since)
        return self._found[key]


def undated_rows(stores: Stores, view: FeatureView, *, since: Micros | None = None) -> int | None:
    """See `UndatedCounts.of`; counts the rows that were written since a time, or all."""
    source = view.source
    reader = stores.readers.get(source.type)
    if reader is not None and reader.counts is not None:
        return reader.counts.undated(source, since)
    times = [each for each in (source.timestamp_field, source.created_timestamp_column) if each]
    rows = rows_of(stores, source, [view], columns=list(dict.fromkeys(times)))
    query = UndatedRows(view, RowFilter(LATEST, news_from=since))
    counted = stores.offline.run(query, {source.name: rows}).reader().read_all()
    return int(counted["rows"][0].as_py())


__all__ = ["UndatedCounts", "undated_rows"]
