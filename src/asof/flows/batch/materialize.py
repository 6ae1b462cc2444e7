"""Materialize: bring the online store up to date from batch sources.

A plain run selects what is new since the last one; how far that one came is a fact in the registry, committed after its
rows are written. So a run that is broken off is repeated by the next, and repeating changes nothing. The online store
has a fact of its own about it: where that one is older, the store has lost rows, and all are written anew.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from asof.definitions import FeatureView, Snapshot
from asof.definitions.facts import Facts, LastRun
from asof.errors import Argument, RequestError, StorageError
from asof.flows.batch.write_rows import first_generation, refuse_unless_batch_fed
from asof.flows.batch.write_view import WriteCounts, write_chosen
from asof.flows.facts import change_facts
from asof.flows.generations.progress import TableProgress, progress_of, write_progress
from asof.flows.generations.switch import announce, drop_generations, flip
from asof.flows.stores import Parts, Progress, current_generation, silent, table_of, view_named
from asof.sql.query import RowFilter
from asof.timing import Micros, iso


@dataclass(frozen=True)
class MaterializeResult:
    """What a run did for one view.

    Args:
        rows: online rows written.
        until: the last event time that was looked at.
        seconds: how long it took.
        overflowed: rows that passed `max_row_bytes`, and answer null.
    """

    view: str
    rows: int
    until: Micros
    seconds: float
    overflowed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The same, ready for JSON."""
        words: dict[str, Any] = {"view": self.view, "rows": self.rows, "until": iso(self.until)}
        words["seconds"] = round(self.seconds, 3)
        return {**words, "overflowed": self.overflowed} if self.overflowed else words


def materialize(
    parts: Parts,
    *,
    views: Sequence[str] | None = None,
    start: Micros | None = None,
    end: Micros | None = None,
    full: bool = False,
    into: Mapping[str, tuple[FeatureView, str]] | None = None,
    progress: Progress = silent,
) -> list[MaterializeResult]:
    """Bring the online rows of batch-fed views up to date.

    Without a start it takes what is new: rows written down since the last run, less the source's `lag`, where the
    source has a created time; else rows by event time since the last run, less the view's `lookback` or the source's
    `lag`. Where none of these is given nothing says how late a row may come, so all are read, and none is missed.
    No row later than the clock, less the view's delay, is written.

    The rows of windowed views are computed as of the end, or as of the newest run's if that is later: a run over the
    past takes late rows in, and no row goes back.

    Args:
        views: names; all views that a batch source feeds where None.
        start, end: event times `[start, end)`.
        full: read everything into new online rows, and let readers switch to them: keys that vanished are gone then.
        into: view → a definition and generation that someone else switches readers to; it is filled whole.

    Raises:
        NotFound, RequestError: a view is not applied, or not kept online from a batch source; the times are wrong.
    """
    if full and (start is not None or end is not None):
        whole, first, last = Argument("full", True), Argument("start_date"), Argument("end_date")
        raise RequestError(
            f"{whole} reads all event times, and has a start or an end",
            hint=f"leave out {first} and {last}, or {whole}", arguments=[whole, first, last],
        )  # fmt: skip
    if start is not None and end is not None and end <= start:
        raise RequestError(f"materialize from {iso(start)} to {iso(end)}: the end is not later", hint="swap them")
    into = into or {}
    snapshot = parts.registry.load(parts.project)
    chosen = [(name, *into[name]) if name in into else (name, None, None) for name in _names(snapshot, views, into)]
    done = []
    for name, view, generation in chosen:
        began = time.monotonic()
        if view is not None and generation is not None:
            written, until = _fill(parts, view, generation, progress)
        elif full:
            written, until = _replace(parts, view_named(snapshot, name), progress)
        else:
            written, until = _update(parts, name, start, end, progress)
        done.append(MaterializeResult(name, written.rows, until, time.monotonic() - began, written.overflowed))
    return done


def _names(snapshot: Snapshot, views: Sequence[str] | None, into: Mapping[str, Any]) -> list[str]:
    """The names of the views to materialize.

    Raises:
        NotFound, RequestError: see `materialize`.
    """
    if views is None:
        return [view.name for view in snapshot.project.views.values() if view.online and not view.source.is_log]
    if isinstance(views, str):
        views = [views]
    for name in views:
        if name not in into:
            refuse_unless_batch_fed(view_named(snapshot, name))
    return list(dict.fromkeys(views))


def _update(
    parts: Parts, name: str, start: Micros | None, end: Micros | None, progress: Progress
) -> tuple[WriteCounts, Micros]:
    """Write what is new, or what lies in [start, end), into the rows that readers use."""
    snapshot = parts.registry.load(parts.project)
    view = view_named(snapshot, name)
    generation = current_generation(snapshot, view) or first_generation(parts, view)
    if table_of(parts.project, view, generation) not in parts.online.tables(parts.project) or lost_rows(
        parts, snapshot, view, generation
    ):
        # The online store was lost since, or its last seconds were: what was written before is gone, too.
        return _replace(parts, view, progress)
    began = parts.clock()
    latest = _latest(view, began, end)
    before = _progress(snapshot, view, generation)
    chosen = RowFilter(latest, earliest=start) if start is not None else _news(view, latest, before)
    as_of = max(latest, min(_newest(snapshot, view, generation, latest), _latest(view, began, None)))
    written = _write(parts, view, generation, chosen, as_of=as_of, began=began, progress=progress)
    after = _moved(before, start=start, latest=latest, began=began)
    run = LastRun(
        generation=generation, started=began, start=start, end=end, rows=written.rows, overflowed=written.overflowed
    )
    _record(parts, view, after, run, as_of=as_of, is_current=True)
    return written, latest


def _replace(parts: Parts, view: FeatureView, progress: Progress) -> tuple[WriteCounts, Micros]:
    """Build new rows from everything beside the old ones, then let readers switch: they never see a hole."""
    before = parts.registry.load(parts.project)
    generation = announce(parts, view)
    table = table_of(parts.project, view, generation)
    try:
        parts.online.prepare(table)
        written, latest = _fill(parts, view, generation, progress)
        after = flip(parts, view, generation)
    except BaseException:
        # Also on Ctrl-C: nobody reads these rows yet. After a kill the next full run drops them.
        parts.online.drop(table)
        raise
    drop_generations(parts, before, after)
    return written, latest


def _fill(parts: Parts, view: FeatureView, generation: str, progress: Progress) -> tuple[WriteCounts, Micros]:
    """Write everything up to the clock into a generation that readers do not use yet."""
    began = parts.clock()
    latest = _latest(view, began, None)
    written = _write(parts, view, generation, RowFilter(latest), as_of=latest, began=began, progress=progress)
    reached = _Watermark(latest + 1, began)
    run = LastRun(generation=generation, started=began, rows=written.rows, overflowed=written.overflowed)
    _record(parts, view, reached, run, as_of=latest, is_current=False)
    return written, latest


def _write(
    parts: Parts,
    view: FeatureView,
    generation: str,
    chosen: RowFilter,
    *,
    as_of: Micros,
    began: Micros,
    progress: Progress,
) -> WriteCounts:
    """Write the rows, then into the store that it has them.

    Raises:
        StoreReplaced: it failed over meanwhile, and may have lost some; nothing is recorded.
    """
    table = table_of(parts.project, view, generation)
    incarnation = parts.online.incarnation()
    written = write_chosen(parts, view, generation, chosen, as_of=as_of, progress=progress)
    known = progress_of(parts.online, table).materialized or began
    try:
        change = TableProgress(materialized=max(began, known))
        write_progress(parts.online, table, change, within=incarnation)
    except StorageError:
        # Where another build has overtaken this one its table is gone, and the registry says so.
        if table in parts.online.tables(parts.project):
            raise
    return written


def lost_rows(parts: Parts, snapshot: Snapshot, view: FeatureView, generation: str) -> bool:
    """Whether the online store has forgotten a run that the registry knows of."""
    run = snapshot.facts.last_run(view.name, generation)
    if run is None or run.started is None:
        return False
    known = progress_of(parts.online, table_of(parts.project, view, generation)).materialized
    return known is None or known < run.started


@dataclass(frozen=True)
class _Watermark:
    """All rows with an event time before `events` that were written down before `created` have been looked at."""

    events: Micros
    created: Micros


def _latest(view: FeatureView, clock: Micros, end: Micros | None) -> Micros:
    """The last event time that may be written."""
    due = clock - view.delay
    return due if end is None else min(due, end - 1)


def _news(view: FeatureView, latest: Micros, before: _Watermark | None) -> RowFilter:
    """What a plain run looks at."""
    source = view.source
    if before is None:
        return RowFilter(latest)
    if source.created_timestamp_column:
        # A row that was written down before may have become due only now.
        return RowFilter(latest, news_from=before.created - source.lag, events_from=before.events)
    back = max(view.lookback, source.lag)
    return RowFilter(latest, events_from=before.events - 1 - back) if back else RowFilter(latest)


def _moved(before: _Watermark | None, *, start: Micros | None, latest: Micros, began: Micros) -> _Watermark | None:
    """How far things are after a run up to `latest`."""
    reached = _Watermark(latest + 1, began)
    if start is None:
        return before if before is not None and latest < before.events - 1 else reached
    # An interval leaves out late rows from before it; what it adds counts only where it leaves no gap.
    if before is not None and start <= before.events:
        return _Watermark(max(before.events, reached.events), before.created)
    return before


def _progress(snapshot: Snapshot, view: FeatureView, generation: str) -> _Watermark | None:
    """How far this generation of the view is; None where no plain run has ended."""
    return _reached_by(snapshot.facts.last_run(view.name, generation))


def _reached_by(run: LastRun | None) -> _Watermark | None:
    if run is None or run.until is None or run.created_until is None:
        return None
    return _Watermark(run.until, run.created_until)


def _newest(snapshot: Snapshot, view: FeatureView, generation: str, default: Micros) -> Micros:
    """The latest moment as of which a run has computed rows of this generation."""
    run = snapshot.facts.last_run(view.name, generation)
    if run is None:
        return default
    if run.as_of is not None:
        return run.as_of
    # Written before runs recorded it: of the runs before the last one only the plain ones are known.
    moments = [default]
    if run.until is not None:
        moments.append(run.until - 1)
    if run.started is not None:
        moments.append(_latest(view, run.started, run.end))
    return max(moments)


def _record(
    parts: Parts,
    view: FeatureView,
    reached: _Watermark | None,
    run: LastRun,
    *,
    as_of: Micros,
    is_current: bool,
) -> None:
    """Commit how far a generation is, after its rows are written."""

    def recorded(facts: Facts) -> Facts:
        if is_current and facts.generations_of(view.name).current != run.generation:
            # Readers switched meanwhile to rows that this run did not write.
            return facts
        other, mine = facts.last_run(view.name, run.generation), reached
        if mine is not None and (theirs := _reached_by(other)) is not None:
            # Another run may have ended since this one began; both have looked at all that they say.
            mine = max(mine, theirs, key=lambda each: (each.created, each.events))
        newest = as_of if other is None or other.as_of is None else max(as_of, other.as_of)
        until, created_until = (None, None) if mine is None else (mine.events, mine.created)
        recorded = replace(run, until=until, created_until=created_until, as_of=newest)
        return facts.with_last_run(view.name, recorded)

    change_facts(parts, recorded, note=f"materialized {view.name}: {run.rows} rows")


__all__ = ["MaterializeResult", "materialize"]
