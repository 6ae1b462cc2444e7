"""Rebuild saved training sets, and compare them with the saved rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from asof.definitions import Projection, Snapshot
from asof.definitions.facts import TrainingSet
from asof.errors import AsofError, NotFound
from asof.flows.offline.compare import RowComparison, side_by_side
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
    selection, snapshot, why = _selection_again(stores, manifest, functions)
    seen = {each: as_seen(mark) for each, mark in manifest.sources.items() if mark.kind == "archive"}
    start, end = (None if each is None else micros(each) for each in (manifest.start, manifest.end))
    read = read_history(
        stores, snapshot, selection, _entity_frame(stores, manifest), known_at=manifest.known_at_cut,
        seen=seen, start=start, end=end, by_offsets=not manifest.by_arrival,
    )  # fmt: skip
    features = [each["name"] for each in manifest.columns if each["name"] not in manifest.frame_columns]
    saved = open_training_set(stores, manifest)
    digest, saved_digest = TableHash(_again_schema(manifest, saved.schema, read.schema)), TableHash(saved.schema)
    comparison = RowComparison(features, shown=manifest.frame_columns, limit=_SAMPLE)
    for then, now in side_by_side(iter(saved), _counted(read, name, manifest.rows, progress)):
        if then is not None:
            saved_digest.add(then)
        if now is not None:
            # A table's own columns are unchanged by the read; those of a time range are recomputed.
            frame = then if manifest.entity_frame and then is not None else now
            columns = [*(frame[each] for each in manifest.frame_columns), *(now[each] for each in features)]
            digest.add(pa.RecordBatch.from_arrays(columns, [*manifest.frame_columns, *features]))
        if then is not None and now is not None:
            comparison.add(then, now)
    if saved_digest.whole != manifest.content_hash:
        why.append("the saved rows were changed: their hash differs from the manifest's")
    changed = [each for each in features if digest.columns[each] != manifest.column_hashes[each]]
    rows = comparison.differing(changed)
    changed = [each for each in changed if comparison.examples(each)]
    differences = [example for column in changed for example in comparison.examples(column)]
    return RebuildResult(
        name=name, equal=not rows and saved_digest.rows == digest.rows,
        identical=digest.whole == manifest.content_hash, rows_then=manifest.rows, rows_now=digest.rows,
        changed_columns=changed, differing=rows, differing_rows=differences[:_SAMPLE],
        why=why + _source_changes(stores, manifest),
    )  # fmt: skip


def _entity_frame(stores: Stores, manifest: TrainingSet) -> pa.Table | None:
    """The saved rows' own columns; None where the set was made without an entity frame."""
    if not manifest.entity_frame:
        return None
    saved = open_training_set(stores, manifest)
    fields = [saved.schema.field(each) for each in manifest.frame_columns]
    frame = pa.Table.from_batches((batch.select(manifest.frame_columns) for batch in saved), pa.schema(fields))
    # The time column is known by name, whatever other timestamps the frame has.
    names = ["event_timestamp" if each == manifest.time_column else each for each in frame.column_names]
    return frame.rename_columns(names)


def _again_schema(manifest: TrainingSet, saved: pa.Schema, now: pa.Schema) -> pa.Schema:
    """The columns of the rebuilt set, in the order of the saved one."""
    frame = saved if manifest.entity_frame else now
    features = [each["name"] for each in manifest.columns if each["name"] not in manifest.frame_columns]
    return pa.schema([*(frame.field(each) for each in manifest.frame_columns), *(now.field(each) for each in features)])


def changes_since(stores: Stores, name: str) -> list[str]:
    """What has changed since a training set was saved, without making it again: by these its values may differ."""
    manifest = saved_training_set(stores, name)
    why = [*_definition_changes(manifest, stores.registry.load(stores.project)), *_source_changes(stores, manifest)]
    if stores.offline.load_table(stores.project, manifest.table) is None:
        why.insert(0, "its saved rows are missing in the offline store")
    return why


def _counted(read: HistoricalRead, name: str, total: int, progress: Progress) -> Iterator[pa.RecordBatch]:
    """The rows of the read, each batch of them reported; there will be about as many as were saved."""
    done = 0
    for batch in read.batches(progress=lambda done, total: progress(f"compute training set {name}", done, total)):
        yield batch
        done += batch.num_rows
        progress(f"rebuild training set {name}", done, max(total, done))


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
