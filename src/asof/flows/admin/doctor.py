"""A check of each component of a store: whether it works, its state, and the next step if it does not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np

from asof.aggregation import decode
from asof.config.schedule import ScheduledJob
from asof.definitions import FeatureView, LogSource, Project, Snapshot, Source
from asof.definitions.identity import what_differs
from asof.display import counted
from asof.errors import AsofError, SourceError, some
from asof.flows.admin.lost_keys import lost_keys
from asof.flows.admin.messages import messages_text
from asof.flows.admin.schedule import schedule_problem, schedule_status
from asof.flows.generations.layout import layout_of
from asof.flows.generations.markers import lost_rows
from asof.flows.generations.names import has_shape_of, is_of_earlier_version
from asof.flows.generations.progress import progress_of
from asof.flows.offline.inputs import rows_of
from asof.flows.offline.training_sets.manifest import saved_training_sets
from asof.flows.rows.counts import count
from asof.flows.rows.history import not_loaded
from asof.flows.rows.keys import restored_key
from asof.flows.rows.pages import pages_of
from asof.flows.stores import Stores, building_generation, current_generation, table_of
from asof.flows.stream.dead_letters import replayed_positions
from asof.flows.stream.status import stream_status
from asof.log.protocol import UnknownTopic
from asof.offline.protocol import Archive
from asof.planning import users_of, with_declared_types
from asof.planning.declared import SourceUser
from asof.planning.drift import columns_in_use, drift, drift_hint
from asof.results import Record, Records
from asof.sources.protocol import Batches, Files, ScanRequest
from asof.sql.partitions import HISTORY
from asof.timing import iso
from asof.values.packing import key_values

_SMALL_BYTES = 8 * 1024 * 1024
_MANY_SMALL_FILES = 200
_LEFT_OF_A_DATE = 8
_SCANNED_ROWS = 100_000
"""Number of online rows per view that are scanned for rows above their size limit."""

_NAMED = 5


@dataclass(frozen=True)
class Check(Record):
    """The result of checking one component.

    Args:
        hint: the next step; empty if none is needed.
    """

    part: str
    ok: bool
    text: str
    hint: str = ""


Said = tuple[bool, str, str]
"""Whether the component is healthy, a text, and a hint."""


class DifferentFunction(Protocol):
    """How the function of a view or source differs from the applied one, as text."""

    @property
    def title(self) -> str: ...
    @property
    def meaning(self) -> Sequence[str]: ...
    @property
    def packages(self) -> Sequence[str]: ...


Differences = Callable[[Project], Sequence[DifferentFunction]]


def doctor(
    stores: Stores, *, rows: bool = True, clock_note: str = "", differences: Differences = lambda project: (),
    schedule: Sequence[ScheduledJob] = (),
) -> Records[Check]:  # fmt: skip
    """Check every component; a failure is a line of the result, never an exception.

    Args:
        rows: count the rows of batch sources, for which text files are read as a whole.
        clock_note: a note on a clock that is not the system's.
        differences: compares the repository's functions with those of the applied project.
        schedule: the jobs of the configuration.
    """
    now = iso(stores.clock())
    clock = clock_note.removeprefix("clock: ")
    checks = [Check("clock", True, clock if now in clock else f"{clock} ({now})" if clock else now)]
    loaded: list[Snapshot] = []
    checks.append(_check("registry", lambda: _registry(stores, loaded)))
    checks.append(_check("online store", lambda: _online(stores)))
    if not loaded:
        return Records(Check, checks)
    snapshot = loaded[0]
    for source in snapshot.project.sources.values():
        name = f"source {source.name}"
        if isinstance(source, LogSource):
            checks.append(_check(name, partial(_log, stores, snapshot, source)))
            if source.type != "push":  # pushed rows were fitted to the schema
                checks.append(_check(f"messages {source.name}", partial(_messages, stores, snapshot, source)))
            checks.append(_check(f"archive {source.name}", partial(_archive, stores, snapshot, source)))
            checks.append(_check(f"dead letters {source.name}", partial(_dead_letters, stores, source)))
        else:
            checks.append(_check(name, partial(_batch_source, stores, snapshot, source, rows=rows)))
    for view in snapshot.project.views.values():
        checks.append(_check(f"view {view.name}", partial(_view, stores, snapshot, view)))
    if _has_functions(snapshot.project):
        checks.append(_check("functions", lambda: _functions(snapshot.project, differences)))
    checks.append(_check("training sets", lambda: _training_sets(stores)))
    if schedule:
        checks.append(_check("schedule", lambda: schedule_problem(schedule_status(stores, schedule))))
    return Records(Check, checks)


def _check(part: str, look: Callable[[], Said]) -> Check:
    try:
        return Check(part, *look())
    except AsofError as error:
        return Check(part, False, error.message, error.hint)
    except Exception as error:  # any failure is the result of the check
        return Check(part, False, f"{type(error).__name__}: {error}", "see the full error with --debug")


def _online(stores: Stores) -> Said:
    text, warnings = stores.online.ping(), stores.online.warnings()
    return not warnings, "; ".join([text, *warnings]), "change the server's settings" if warnings else ""


def _registry(stores: Stores, loaded: list[Snapshot]) -> Said:
    snapshot = stores.applied()
    loaded.append(snapshot)
    where = f" at {stores.registry.place}" if stores.registry.place else ""
    if not snapshot.version:
        return False, f"project {stores.project!r} has nothing applied{where}", "run `asof apply`"
    (last,) = stores.registry.history(stores.project, 1)
    views = len(snapshot.project.views) + len(snapshot.project.on_demand_views)
    staged = "; an apply is running, or was interrupted" if snapshot.facts.staged else ""
    change = f"last change {iso(last.when)} by {last.who or 'unknown'}"
    text = f"version {snapshot.version}{where}, {counted(views, 'view')}; {change}"
    return True, text + staged, "run `asof apply` again" if staged else ""


def _batch_source(stores: Stores, snapshot: Snapshot, source: Source, *, rows: bool) -> Said:
    reader = stores.readers.get(source.type)
    if reader is None:
        raise SourceError(f"no reader for sources of type {source.type!r}", hint="install the extra that reads it")
    users = users_of(snapshot.project, source.name)
    columns = reader.describe(with_declared_types(source, users))
    if changed := drift(source, users, columns):
        return False, "; ".join(map(str, changed)), drift_hint(changed, columns)
    found = counted(len(columns), "column")
    if not rows:
        return True, found, ""
    if reader.counts is not None:
        count_text = reader.counts.count(source)
    else:
        count_text = counted(_count_rows(stores, source, users), "row")
    return True, f"{count_text}, {found}", ""


def _count_rows(stores: Stores, source: Source, users: Sequence[SourceUser]) -> int:
    """Number of rows; those of files that are fitted as they are read are read with all columns that are in use.

    Raises:
        SourceError: a value does not fit.
    """
    read = columns_in_use(source, users)
    found = rows_of(stores, source, users, columns=sorted(read))
    if isinstance(found, Batches) and found.paths:
        return sum(batch.num_rows for batch in found.open(ScanRequest(sorted(read))))
    return 0 if found is None else count(stores, found)


def _log(stores: Stores, snapshot: Snapshot, source: LogSource) -> Said:
    try:
        stores.log_of(source).topic_id(source.topic)
    except UnknownTopic as error:
        if not source.topic_is_ours:
            return False, error.message, "create it there, or check topic= and bootstrap_servers="
        return True, f"topic {source.topic!r} does not exist yet; a worker or the first push creates it", ""
    status = stream_status(stores, source.name)
    lag = sum(each.lag for each in status)
    bounds = ", ".join(
        f"{each.topic}/{each.partition} " + (f"{each.first}..{each.next - 1}" if each.next > each.first else "empty")
        for each in status
    )
    gaps = snapshot.facts.gaps.get(source.name, ())
    text = f"offsets {bounds}; {lag:,} not archived"
    if gaps:
        text += f"; {counted(len(gaps), 'accepted gap')}, the last: {gaps[-1]}"
    return True, text, "run `asof stream run`" if lag else ""


def _messages(stores: Stores, snapshot: Snapshot, source: LogSource) -> Said:
    try:
        return messages_text(stores, snapshot, source)
    except UnknownTopic:
        return True, "no messages", ""  # the source's own line says so


def _archive(stores: Stores, snapshot: Snapshot, source: LogSource) -> Said:
    archive = stores.archive_of(source)
    if ahead := _ahead_of_archive(stores, snapshot, source):
        text = f"events in the online rows of {ahead} are missing here, and so in training"
        return False, text, "run `asof stream run` to archive what the log still has, or restore the archive"
    if text := not_loaded(stores, snapshot, source):
        return False, text, f"run `asof backfill {source.name}`"
    found = stores.offline.rows(archive)
    version = stores.offline.version(archive)
    if found is None:
        return True, f"version {version}, no rows" if version >= 0 else "not created yet", ""
    text = f"version {version}, {counted(count(stores, found), 'row')}"
    if not isinstance(found, Files):
        return True, text, ""
    if found.bounds is None:
        return True, f"{text}, {counted(len(found.paths), 'file')}", ""
    sizes = found.bounds["bytes"].to_pylist()
    small = [path.rpartition("/")[0] for path, size in zip(found.paths, sizes, strict=True) if size < _SMALL_BYTES]
    text += f", {counted(len(sizes), 'file')} of {sum(sizes) / 1e6:.1f} MB, {len(small)} of them small"
    # Of each folder, which is a date, a compaction leaves some.
    to_join = sum(count for count in Counter(small).values() if count > _LEFT_OF_A_DATE)
    return to_join < _MANY_SMALL_FILES, text, "run `asof compact`" if to_join >= _MANY_SMALL_FILES else ""


def _ahead_of_archive(stores: Stores, snapshot: Snapshot, source: LogSource) -> str:
    """A view whose progress is beyond the archive, which is written first: the archive was lost or replaced."""
    tables = stores.online.tables(stores.project)
    for view in snapshot.project.views_of(source.name):
        generation = current_generation(snapshot, view) if view.online else None
        if generation is None or table_of(stores.project, view, generation) not in tables:
            continue
        fed = _fed_up_to(stores, view, generation)
        # Read progress before the archive, so that a worker that writes in between does not look like a loss.
        archived = stores.offline.offsets(stores.archive_of(source), list(fed))
        if any(offset > archived[each] for each, offset in fed.items()):
            return f"view {view.name!r}"
    return ""


def _dead_letters(stores: Stores, source: LogSource) -> Said:
    found = stores.offline.rows(Archive(stores.project, source.name, "letters"))
    if found is None:
        return True, "none", ""
    dead_letters, replayed = count(stores, found), len(replayed_positions(stores, source))
    text = counted(dead_letters, "dead letter") + (f", {replayed} of them replayed" if replayed else "")
    return (
        True,
        text if dead_letters else "none",
        f"run `asof dead-letters list {source.name}`" if dead_letters > replayed else "",
    )


def _view(stores: Stores, snapshot: Snapshot, view: FeatureView) -> Said:
    if not view.online:
        return True, "offline only", ""
    generation = current_generation(snapshot, view)
    if generation is None:
        what = "a stream worker" if view.source.is_log else "materialize"
        step = "`asof rebuild`" if view.source.is_log else "`asof materialize`"
        return False, f"has no online rows: {what} has never run", f"run {step}"
    if is_of_earlier_version(generation, view):
        return False, f"generation {generation} is an earlier Asof's, which orders rows otherwise", "run `asof apply`"
    if not has_shape_of(generation, view):
        return False, f"generation {generation} is of an earlier definition", f"run `asof rebuild {view.name}`"
    if table_of(stores.project, view, generation) not in stores.online.tables(stores.project):
        step = "rebuild" if view.source.is_log else "materialize"
        return False, f"the online rows of generation {generation} are lost", f"run `asof {step} {view.name}`"
    if not view.source.is_log and lost_rows(stores, snapshot, view, generation):
        return False, "the online store has lost rows of the last run", f"run `asof materialize {view.name}`"
    texts, hints = [f"generation {generation}"], list[str]()
    if building := building_generation(snapshot, view):
        texts.append(f"{building} is being built")
    if isinstance(view.source, LogSource):
        texts.append(_progress_text(stores, view, view.source, generation, hints))
        if not hints:
            lost = lost_keys(stores, snapshot, view, table_of(stores.project, view, generation))
            if lost.lost:
                named = some([_key_text(view, key) for key in lost.lost], _NAMED)
                text = f"of {counted(lost.sampled, 'key')} of the archive the online rows of {len(lost.lost)} are lost"
                return False, "; ".join([*texts, f"{text}: {named}"]), f"run `asof rebuild {view.name}`"
    else:
        texts.append(_materialized_text(snapshot, view, generation, hints))
    overflowed, incomplete, seen = _flags(stores, view, generation)
    texts.append(counted(seen, "row") if seen < _SCANNED_ROWS else f"at least {counted(seen, 'row')}")
    if incomplete:
        texts.append(f"sessions of {counted(incomplete, 'key')} need a recomputation after a late event")
        hints.append("run `asof stream run`, which recomputes them")
    if overflowed:
        named = some(overflowed, _NAMED)
        texts.append(
            f"rows of {counted(len(overflowed), 'key')} exceed {stores.max_row_bytes} bytes and return null: {named}"
        )
        hints.append("use shorter windows or longer hops for this view, or raise max_row_bytes and rebuild")
    return (
        not overflowed and not any(step in hint for hint in hints for step in ("asof materialize", "asof backfill")),
        "; ".join(texts),
        "; ".join(hints),
    )


def _progress_text(stores: Stores, view: FeatureView, source: LogSource, generation: str, hints: list[str]) -> str:
    """How far the archive the rows are fed."""
    reached = progress_of(stores.online, table_of(stores.project, view, generation)).offset_of(HISTORY)
    if stores.offline.offsets(stores.archive_of(source), [HISTORY])[HISTORY] > reached:
        hints.append(f"run `asof backfill {source.name}`")
        return "history that was loaded is not fed yet"
    fed = _fed_up_to(stores, view, generation)
    archived = stores.offline.offsets(stores.archive_of(source), list(fed))
    behind = sum(max(offset - fed[each], 0) for each, offset in archived.items())
    return f"{behind} archived events are not fed yet" if behind else "fed as far as the archive"


def _fed_up_to(stores: Stores, view: FeatureView, generation: str) -> dict[int, int]:
    """Each partition's last offset that is in the rows."""
    reached = progress_of(stores.online, table_of(stores.project, view, generation)).reached
    return {each: offset for each, offset in reached.items() if each != HISTORY}


def _materialized_text(snapshot: Snapshot, view: FeatureView, generation: str, hints: list[str]) -> str:
    run = snapshot.facts.last_run(view.name, generation)
    if run is None or run.started is None:
        hints.append(f"run `asof materialize {view.name}`")
        return "never materialized"
    text = f"last materialized {iso(run.started)}, {counted(run.rows, 'row')}"
    return text + (f", {run.overflowed:,} of them too big" if run.overflowed else "")


def _flags(stores: Stores, view: FeatureView, generation: str) -> tuple[list[str], int, int]:
    """Keys whose rows passed their limit, how many are incomplete, and how many rows were looked at."""
    table = table_of(stores.project, view, generation)
    layout = layout_of(view, generation) if view.is_aggregated else None
    overflowed: list[str] = []
    incomplete = seen = 0
    for page in pages_of(stores, table, most_rows=_SCANNED_ROWS):
        seen += len(page)
        if layout is not None:
            state = decode(layout, [row[1] for row in page])
            incomplete += int(np.count_nonzero(state.incomplete))
            overflowed += [_key_text(view, page[i][0]) for i in np.flatnonzero(state.overflow).tolist()]
    return overflowed, incomplete, seen


def _key_text(view: FeatureView, key: bytes) -> str:
    return ", ".join(f"{name}={value}" for name, value in restored_key(view.key_fields, key_values(key)).items())


def _has_functions(project: Project) -> bool:
    transforms = (each.transform for each in project.sources.values() if isinstance(each, LogSource))
    return bool(project.on_demand_views) or any(each is not None and not each.sql for each in transforms)


def _functions(project: Project, differences: Differences) -> Said:
    """Whether the repository's functions are those that were applied; another version of a package is a warning."""
    found = differences(project)
    changed = [
        f"{each.title}: {what_differs(each.meaning)} differs from the applied one" for each in found if each.meaning
    ]
    if changed:
        return False, "; ".join(changed), "run `asof apply`, or update the files here"
    packages = [f"{each.title}: {text}" for each in found for text in each.packages]
    if packages:
        return True, "; ".join(packages), "check that its results are the same, then run `asof apply`"
    return True, "as they were applied", ""


def _training_sets(stores: Stores) -> Said:
    saved = [each for _, each in sorted(saved_training_sets(stores).items())]
    gone = [each.name for each in saved if stores.offline.load_table(stores.project, each.table) is None]
    if gone:
        return False, f"the rows of {some(gone)} are gone from the offline store", "restore it, or save them again"
    return True, f"{len(saved)} saved" if saved else "none", ""
