"""Materialize: update the online store from batch sources.

An incremental run reads what is new since the last run. Its progress is a fact in the registry, committed after the
rows are written, so an interrupted run is repeated by the next one, which is idempotent. The online store has the same
fact: if it is older there, the store has lost rows, and all rows are written again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from msgspec.structs import replace

from asof.definitions import FeatureView, LogSource, Snapshot
from asof.definitions.facts import Facts, LastRun
from asof.errors import Argument, AsofError, RequestError, StorageError
from asof.flows.batch.backfill import load_history, with_history
from asof.flows.batch.bulk import write_chosen
from asof.flows.batch.run_progress import RunProgress, ViewProgress
from asof.flows.batch.undated import UndatedCounts
from asof.flows.batch.write_rows import first_generation, refuse_unless_batch_fed
from asof.flows.batch.write_view import WriteCounts
from asof.flows.generations.markers import lost_rows
from asof.flows.generations.progress import TableProgress, progress_of, write_progress
from asof.flows.generations.switch import announce_all, switched
from asof.flows.stores import Progress, Stores, current_generation, silent, table_of, view_named
from asof.flows.stream.rebuild import rebuild
from asof.online.protocol import OnlineTable
from asof.results import Record
from asof.sql.query import RowFilter
from asof.timing import Micros, iso, moment


@dataclass(frozen=True)
class MaterializeResult(Record):
    """The result of a run for one view.

    Args:
        rows: number of online rows written.
        until: the last event time that was read.
        seconds: duration.
        overflowed: number of rows above `max_row_bytes`, which return null.
        loaded: of a view of a log or push source, number of rows loaded of its batch source, for all of its views.
        expired: of a view of latest values, number of rows older than its ttl when written, which return null.
        undated: number of rows read that have no event time of the years 1 to 9999 and were left out; an interval of
            event times has none; None where counting them would take too long.
    """

    view: str
    rows: int
    until: datetime
    seconds: float
    overflowed: int = 0
    loaded: int = 0
    expired: int = 0
    undated: int | None = 0


def materialize(
    stores: Stores,
    *,
    views: Sequence[str] | None = None,
    start: Micros | None = None,
    end: Micros | None = None,
    full: bool = False,
    into: Mapping[str, tuple[FeatureView, str]] | None = None,
    progress: Progress = silent,
) -> list[MaterializeResult]:
    """Update the online rows of views with a batch source.

    For views of a log or push source with a batch source, the archive gets the rows that it lacks of it (within
    `[start, end)`), and the online rows are brought up to date with these.

    Without a start, the run reads what is new. If the source has a created time: rows created since the last run, minus
    the source's `lag`. Else: rows by event time since the last run, minus the view's `lookback` or the source's `lag`.
    With none of these settings, every run rescans all rows. Rows later than the clock minus the view's delay are not
    written.

    Windowed views are computed as of the end of the run, or as of the newest run's end if that is later: a run over the
    past includes late rows, and no online row goes back in time.

    Args:
        views: names; None for all views with a batch source.
        start, end: event times `[start, end)`.
        full: rebuild all rows in a new generation and switch readers to it, which removes vanished keys.
        into: view → a definition and generation to fill completely, which the caller switches readers to.

    Raises:
        NotFound, RequestError: a view is not applied, or not online with a batch source; or the times are invalid.
    """
    if full and (start is not None or end is not None):
        whole, first, last = Argument("full", True), Argument("start_date"), Argument("end_date")
        raise RequestError(
            f"{whole} reads all event times, so it takes no start or end",
            hint=f"leave out {first} and {last}, or {whole}", arguments=[whole, first, last],
        )  # fmt: skip
    if start is not None and end is not None and end <= start:
        raise RequestError(f"materialize: end {iso(end)} is not after start {iso(start)}", hint="swap start and end")
    into = into or {}
    snapshot = stores.registry.load(stores.project)
    names = _names(snapshot, views, into)
    run = _ViewsRun(stores, RunProgress(stores, snapshot, views=len(names)), progress)
    done: dict[str, MaterializeResult] = {}
    try:
        for name, (view, generation) in into.items():
            done[name] = run.fill(view, generation)
        left = [view_named(snapshot, name) for name in names if name not in into]
        loaded: dict[str, tuple[int, int | None]] = {}
        for view in left:
            if view.source.is_log:
                done[view.name] = _with_history(stores, view, start, end, full, loaded, progress)
        left = [view for view in left if view.name not in done]
        for each in run.replace(left if full else run.missing(left)):
            done[each.view] = each
        for view in left:
            if view.name not in done:
                done[view.name] = run.update(view.name, start, end)
    except BaseException:
        # Also on Ctrl-C: the views that are done need not be done again.
        with suppress(AsofError):
            run.progress.commit()
        raise
    run.progress.commit()
    return [done[name] for name in names]


def _names(snapshot: Snapshot, views: Sequence[str] | None, into: Mapping[str, Any]) -> list[str]:
    """The names of the views to materialize.

    Raises:
        NotFound, RequestError: see `materialize`.
    """
    if views is None:
        sources = {source.name for source in snapshot.project.sources_with_history()}
        return [
            view.name
            for view in snapshot.project.views.values()
            if (view.online and not view.source.is_log) or view.source.name in sources
        ]
    if isinstance(views, str):
        views = [views]
    for name in views:
        if name not in into:
            view = view_named(snapshot, name)
            if not (isinstance(view.source, LogSource) and view.source.batch_source is not None):
                refuse_unless_batch_fed(view)
    return list(dict.fromkeys(views))


class _ViewsRun:
    """One run over views.

    Args:
        report: called with the progress of each view.
    """

    def __init__(self, stores: Stores, progress: RunProgress, report: Progress) -> None:
        self._stores, self.progress, self._report = stores, progress, report
        self._undated = UndatedCounts(stores)

    def missing(self, views: Sequence[FeatureView]) -> list[FeatureView]:
        """The views whose table is not in the online store: it was lost."""
        snapshot, tables = self.progress.snapshot(), set(self._stores.online.tables(self._stores.project))
        current = {view.name: current_generation(snapshot, view) for view in views}
        return [
            view for view in views
            if (name := current[view.name]) and table_of(self._stores.project, view, name) not in tables
        ]  # fmt: skip

    def update(self, name: str, start: Micros | None, end: Micros | None) -> MaterializeResult:
        """Write new rows, or those in [start, end), to the current generation."""
        since, stores = time.monotonic(), self._stores
        snapshot = self.progress.snapshot()
        view = view_named(snapshot, name)
        generation = current_generation(snapshot, view) or first_generation(stores, view)
        if lost_rows(stores, snapshot, view, generation):
            # The online store lost its last seconds: rows of earlier runs are missing, too.
            return next(self.replace([view]))
        began = stores.clock()
        latest = _latest(view, began, end)
        before = _progress(snapshot, view, generation)
        chosen = RowFilter(latest, earliest=start) if start is not None else _news(view, latest, before)
        as_of = max(latest, min(_newest(snapshot, view, generation, latest), _latest(view, began, None)))
        written = _write(stores, view, generation, chosen, as_of=as_of, began=began, progress=self._report)
        after = _moved(before, start=start, latest=latest, began=began)
        run = LastRun(
            generation=generation, started=began, start=start, end=end, rows=written.rows, overflowed=written.overflowed
        )
        change = _recorded(view, after, run, as_of=as_of, is_current=True)
        self.progress.record(ViewProgress(view.name, written.rows, change))
        return self._result(view, written, latest, since, chosen)

    def replace(self, views: Sequence[FeatureView]) -> Iterator[MaterializeResult]:
        """Build a new generation of each view from all rows, then switch readers to it."""
        for first in range(0, len(views), self.progress.group):
            some = views[first : first + self.progress.group]
            generations = announce_all(self._stores, some)
            for view in some:
                yield self._replaced(view, generations[view.name])

    def _replaced(self, view: FeatureView, generation: str) -> MaterializeResult:
        since, stores = time.monotonic(), self._stores
        table = table_of(stores.project, view, generation)
        try:
            stores.online.prepare(table)
            written, latest, recorded = self._filled(view, generation)
        except BaseException:
            # Also on Ctrl-C: these rows are not in use yet. After a kill, the next full run drops them.
            stores.online.drop(table)
            raise
        rows = written.rows
        done = ViewProgress(view.name, rows, lambda facts: switched(recorded(facts), view, generation), built=table)
        self.progress.record(done)
        return self._result(view, written, latest, since, RowFilter(latest))

    def fill(self, view: FeatureView, generation: str) -> MaterializeResult:
        """Write all rows up to the clock to a generation that the caller switches readers to."""
        since = time.monotonic()
        written, latest, change = self._filled(view, generation)
        self.progress.record(ViewProgress(view.name, written.rows, change))
        return self._result(view, written, latest, since, RowFilter(latest))

    def _filled(self, view: FeatureView, generation: str) -> tuple[WriteCounts, Micros, Callable[[Facts], Facts]]:
        """Write all rows up to the clock to a generation that is not in use yet."""
        stores = self._stores
        began = stores.clock()
        latest = _latest(view, began, None)
        incarnation = stores.online.incarnation()
        written = _write(stores, view, generation, RowFilter(latest), as_of=latest, began=began, progress=self._report)
        _mark(stores, table_of(stores.project, view, generation), within=incarnation)
        reached = _Watermark(latest + 1, began)
        run = LastRun(generation=generation, started=began, rows=written.rows, overflowed=written.overflowed)
        return written, latest, _recorded(view, reached, run, as_of=latest, is_current=False)

    def _result(
        self, view: FeatureView, written: WriteCounts, until: Micros, since: float, chosen: RowFilter
    ) -> MaterializeResult:
        undated, seconds = self._undated.of(view, chosen), round(time.monotonic() - since, 3)
        return MaterializeResult(
            view.name, written.rows, moment(until), seconds, written.overflowed, 0, written.expired, undated
        )


def _with_history(
    stores: Stores,
    view: FeatureView,
    start: Micros | None,
    end: Micros | None,
    full: bool,
    loaded: dict[str, tuple[int, int | None]],
    progress: Progress,
) -> MaterializeResult:
    """Load what the archive lacks of the batch source, once for all of its views, and bring the view up to date.

    Args:
        loaded: source → number of rows that were loaded, and of those without an event time.
    """
    began, source = time.monotonic(), view.source
    assert isinstance(source, LogSource)
    if source.name not in loaded:
        rows = load_history(stores, source, start=start, end=end, progress=progress)
        loaded[source.name] = rows, UndatedCounts(stores).of_history(source, start=start, end=end)
    rows = (rebuild if full else with_history)(stores, view, progress=progress) if view.online else 0
    until, seconds = moment(_latest(view, stores.clock(), end)), round(time.monotonic() - began, 3)
    of_history, undated = loaded[source.name]
    return MaterializeResult(view.name, rows, until, seconds, loaded=of_history, undated=undated)


def _write(
    stores: Stores,
    view: FeatureView,
    generation: str,
    chosen: RowFilter,
    *,
    as_of: Micros,
    began: Micros,
    progress: Progress,
) -> WriteCounts:
    """Write the rows, then the table's progress.

    Raises:
        StoreReplaced: the store failed over meanwhile and may have lost rows; no progress was written.
    """
    table, incarnation = table_of(stores.project, view, generation), stores.online.incarnation()
    written = write_chosen(stores, view, generation, chosen, as_of=as_of, progress=progress)
    known = progress_of(stores.online, table).materialized or began
    try:
        change = TableProgress(materialized=max(began, known))
        write_progress(stores.online, table, change, within=incarnation)
    except StorageError:
        # If another build was faster, this table is dropped, as the registry shows.
        if table in stores.online.tables(stores.project):
            raise
    return written


def _mark(stores: Stores, table: OnlineTable, *, within: str) -> None:
    """Mark rows that are all there.

    Raises:
        StoreReplaced: the store failed over since, and may have lost some.
    """
    try:
        stores.online.mark(table, within=within)
    except StorageError:
        # As with progress: another build that has overtaken this one has dropped its table.
        if table in stores.online.tables(stores.project):
            raise


@dataclass(frozen=True)
class _Watermark:
    """Progress: all rows with an event time before `events`, created before `created`, have been read."""

    events: Micros
    created: Micros


def _latest(view: FeatureView, clock: Micros, end: Micros | None) -> Micros:
    """The last event time that may be written."""
    due = clock - view.delay
    return due if end is None else min(due, end - 1)


def _news(view: FeatureView, latest: Micros, before: _Watermark | None) -> RowFilter:
    """The rows that an incremental run reads."""
    source = view.source
    if before is None:
        return RowFilter(latest)
    if source.created_timestamp_column:
        # A row that was created before may be due only now.
        return RowFilter(latest, news_from=before.created - source.lag, events_from=before.events)
    back = max(view.lookback, source.lag)
    return RowFilter(latest, events_from=before.events - 1 - back) if back else RowFilter(latest)


def _moved(before: _Watermark | None, *, start: Micros | None, latest: Micros, began: Micros) -> _Watermark | None:
    """Progress after a run up to `latest`."""
    reached = _Watermark(latest + 1, began)
    if start is None:
        return before if before is not None and latest < before.events - 1 else reached
    # A run over an interval skips late rows from before it, and counts as progress only if it leaves no gap.
    if before is not None and start <= before.events:
        return _Watermark(max(before.events, reached.events), before.created)
    return before


def _progress(snapshot: Snapshot, view: FeatureView, generation: str) -> _Watermark | None:
    """Progress of this generation; None before the first incremental run."""
    return _reached_by(snapshot.facts.last_run(view.name, generation))


def _reached_by(run: LastRun | None) -> _Watermark | None:
    if run is None or run.until is None or run.created_until is None:
        return None
    return _Watermark(run.until, run.created_until)


def _newest(snapshot: Snapshot, view: FeatureView, generation: str, default: Micros) -> Micros:
    """The latest time as of which a run has computed rows of this generation."""
    run = snapshot.facts.last_run(view.name, generation)
    if run is None:
        return default
    if run.as_of is not None:
        return run.as_of
    # Registries of earlier versions: of the runs before the last one only the incremental ones are known.
    moments = [default]
    if run.until is not None:
        moments.append(run.until - 1)
    if run.started is not None:
        moments.append(_latest(view, run.started, run.end))
    return max(moments)


def _recorded(
    view: FeatureView, reached: _Watermark | None, run: LastRun, *, as_of: Micros, is_current: bool
) -> Callable[[Facts], Facts]:
    """The change that records the progress of a generation, once its rows are written."""

    def recorded(facts: Facts) -> Facts:
        if is_current and facts.generations_of(view.name).current != run.generation:
            # Readers were switched to another generation meanwhile.
            return facts
        other, mine = facts.last_run(view.name, run.generation), reached
        if mine is not None and (theirs := _reached_by(other)) is not None:
            # Another run may have ended since this one started; the progress of both is valid.
            mine = max(mine, theirs, key=lambda each: (each.created, each.events))
        newest = as_of if other is None or other.as_of is None else max(as_of, other.as_of)
        until, created_until = (None, None) if mine is None else (mine.events, mine.created)
        return facts.with_last_run(view.name, replace(run, until=until, created_until=created_until, as_of=newest))

    return recorded


__all__ = ["MaterializeResult", "materialize"]
