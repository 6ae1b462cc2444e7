"""Rebuild saved training sets, and compare them with the saved rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from asof.definitions import Projection, Snapshot
from asof.definitions.facts import TrainingSet
from asof.errors import AsofError, NotFound
from asof.flows.offline.compare import differing_rows
from asof.flows.offline.read import HistoricalRead, read_history
from asof.flows.offline.training_sets.hashes import TableHash, content_hash, file_is_same
from asof.flows.offline.training_sets.manifest import as_seen, files_are_same, open_training_set, saved_training_set
from asof.flows.stores import Progress, Stores, silent
from asof.results import Record
from asof.selection import Selection, select
from asof.timing import micros

_SAMPLE = 20

Functions = Callable[[Selection], Selection]
"""Adds the functions of on-demand views to a selection from a registry snapshot."""


@dataclass(frozen=True)
class RebuildResult(Record):
    """A rebuilt training set compared with the saved one.

    Args:
        equal: no value differs (floats: by more than 1e-9 of their size).
        identical: the hashes are equal, too.
        rows_then, rows_now: number of rows saved, and of rows rebuilt.
        changed_columns: columns with a different value.
        differing: number of rows with a different value.
        differing_rows: the first different values: row, its columns of the entity frame, column, then and now.
        why: changes since then that can explain a difference.
    """

    name: str
    equal: bool
    identical: bool
    rows_then: int
    rows_now: int
    changed_columns: Sequence[str]
    differing: int
    differing_rows: Sequence[Mapping[str, object]]
    why: Sequence[str]


def rebuild_training_set(
    stores: Stores,
    name: str,
    *,
    functions: Functions = lambda selection: selection,
    progress: Progress = silent,
) -> RebuildResult:
    """Recompute a training set's features for its own rows, on the archives as of then, and compare.

    It uses the definitions of then if the registry still has them, else the current ones.
    """
    manifest = saved_training_set(stores, name)
    saved = open_training_set(stores, manifest).read_all()
    selection, snapshot, why = _selection_again(stores, manifest, functions)
    frame = saved.select(manifest.frame_columns)
    if manifest.time_column in frame.column_names:
        # The time column is known by name, whatever other timestamps the frame has.
        names = ["event_timestamp" if each == manifest.time_column else each for each in frame.column_names]
        frame = frame.rename_columns(names)
    seen = {each: as_seen(mark) for each, mark in manifest.sources.items() if mark.kind == "archive"}
    start, end = (None if each is None else micros(each) for each in (manifest.start, manifest.end))
    read = read_history(
        stores, snapshot, selection, frame if manifest.entity_frame else None, known_at=manifest.known_at_cut,
        seen=seen, start=start, end=end, by_offsets=not manifest.by_arrival,
    )  # fmt: skip
    features = [each["name"] for each in manifest.columns if each["name"] not in manifest.frame_columns]
    now = _counted(read, name, saved.num_rows, progress)
    # A table's own columns are unchanged by the read; those of a time range are recomputed.
    again = (saved if manifest.entity_frame else now).select(manifest.frame_columns)
    for feature in features:
        again = again.append_column(feature, now[feature])
    digest = TableHash(again.schema)
    for batch in again.to_batches():
        digest.add(batch)
    saved_digest = TableHash(saved.schema)
    for batch in saved.to_batches():
        saved_digest.add(batch)
    if saved_digest.whole != manifest.content_hash:
        why.append("the saved rows were changed: their hash differs from the manifest's")
    changed = [each for each in features if digest.columns[each] != manifest.column_hashes[each]]
    rows, differing = differing_rows(saved, again, changed, limit=_SAMPLE)
    changed = [each for each in changed if each in differing]
    differences = [
        {"row": row, **{key: saved[key][row].as_py() for key in manifest.frame_columns}, "column": column,
         "then": saved[column][row].as_py(), "now": again[column][row].as_py()}
        for column in changed for row in differing[column]
    ]  # fmt: skip
    return RebuildResult(
        name=name, equal=not rows and saved.num_rows == again.num_rows, identical=digest.whole == manifest.content_hash,
        rows_then=manifest.rows, rows_now=again.num_rows, changed_columns=changed, differing=rows,
        differing_rows=differences[:_SAMPLE], why=why + _source_changes(stores, manifest),
    )  # fmt: skip


def changes_since(stores: Stores, name: str) -> list[str]:
    """What has changed since a training set was saved, without making it again: by these its values may differ."""
    manifest = saved_training_set(stores, name)
    why = [*_definition_changes(manifest, stores.registry.load(stores.project)), *_source_changes(stores, manifest)]
    if stores.offline.load_table(stores.project, manifest.table) is None:
        why.insert(0, "its saved rows are missing in the offline store")
    return why


def _counted(read: HistoricalRead, name: str, total: int, progress: Progress) -> pa.Table:
    """All rows of the read, each batch of them reported; there will be about as many as were saved."""
    batches: list[pa.RecordBatch] = []
    done = 0
    for batch in read.batches():
        batches.append(batch)
        done += batch.num_rows
        progress(f"rebuild training set {name}", done, max(total, done))
    return pa.Table.from_batches(batches) if batches else read.schema.empty_table()


def _selection_again(
    stores: Stores, manifest: TrainingSet, functions: Functions
) -> tuple[Selection, Snapshot, list[str]]:
    """The set's request, planned with the definitions of then if available; and the changes since then."""
    current = stores.registry.load(stores.project)
    why = _definition_changes(manifest, current)
    if why:
        try:
            then = stores.registry.load_version(stores.project, manifest.registry_version)
            if not _definition_changes(manifest, then):
                selection = functions(_selected(then, manifest))
                return selection, then, [f"{each}; rebuilt with the old one" for each in why]
        except AsofError:
            pass  # the registry version or its functions are gone: use the current definitions
    return functions(_selected(current, manifest)), current, why


def _selected(snapshot: Snapshot, manifest: TrainingSet) -> Selection:
    projections = []
    for each in manifest.projections:
        view = snapshot.project.view(each.view)
        if view is None:
            raise NotFound(
                f"training set {manifest.name!r} cannot be rebuilt: feature view {each.view!r} is not applied any more",
                hint="apply the view again",
            )
        projections.append(Projection(view, each.features, each.alias or "", each.join_key_map))
    return select(snapshot, projections, full_feature_names=manifest.full_feature_names)


def _definition_changes(manifest: TrainingSet, snapshot: Snapshot) -> list[str]:
    why = []
    for name, then in manifest.definitions.items():
        view = snapshot.project.views.get(name)
        if view is None:
            why.append(f"feature view {name!r} is not applied any more")
        elif content_hash(view) != then:
            why.append(f"the definition of feature view {name!r} has changed")
    for name, then in manifest.functions.items():
        derived = snapshot.project.on_demand_views.get(name)
        if derived is None:
            why.append(f"on-demand feature view {name!r} is not applied any more")
        elif not derived.code.has_fingerprint(then):
            why.append(f"the function of on-demand feature view {name!r} has changed")
    return why


def _source_changes(stores: Stores, manifest: TrainingSet) -> list[str]:
    why = []
    for name, mark in manifest.sources.items():
        if mark.kind == "files" and not files_are_same(stores, mark):
            gone = [each.path for each in mark.files or () if not file_is_same(each, stores.storage)]
            why.append(f"source {name!r}: the file {gone[0]} was changed or removed")
        elif mark.kind == "query":
            why.append(f"source {name!r} cannot be pinned: its rows may have changed")
    return why


__all__ = ["Functions", "RebuildResult", "changes_since", "rebuild_training_set"]
