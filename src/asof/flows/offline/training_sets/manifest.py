"""The manifest of a training set: its inputs; and access to the saved rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from asof.definitions import LogSource, Projection, Source
from asof.definitions.facts import SavedProjection, SourceMark, TrainingSet
from asof.distribution import installed_version
from asof.errors import NotFound, nearest
from asof.flows.offline.inputs import rows_of
from asof.flows.offline.read import HistoricalRead
from asof.flows.offline.training_sets.hashes import TableHash, content_hash, file_is_same, file_mark
from asof.flows.stores import Stores
from asof.results import Records
from asof.selection import Selection
from asof.sources.protocol import Batches, Files
from asof.sql import archive as statements
from asof.sql.partitions import HISTORY
from asof.timing import iso


def manifest_of(
    read: HistoricalRead,
    name: str,
    table: str,
    digest: TableHash,
    marks: Mapping[str, SourceMark],
    changed: Sequence[str],
) -> TrainingSet:
    """The inputs of a training set, and whether it can be rebuilt."""
    stores, selection, query = read.stores, read.selection, read.query
    why = [
        f"source {each!r} cannot be pinned: its rows may change unnoticed"
        for each, mark in marks.items() if mark.kind == "query"
    ]  # fmt: skip
    why += [f"the files of source {each!r} changed while they were read" for each in changed]
    files = [each for each, mark in marks.items() if mark.kind == "files"]
    outputs = {output.name for output in selection.outputs}
    known_at = query.known_at
    return TrainingSet(
        name=name,
        rows=digest.rows,
        created=iso(stores.clock()),
        created_by=stores.who,
        features=[output.reference for output in selection.outputs],
        full_feature_names=all(each.name == each.reference.replace(":", "__", 1) for each in selection.outputs),
        known_at=known_at if known_at is None or isinstance(known_at, bool) else iso(known_at),
        known_at_cut=known_at,
        start=None if query.start is None else iso(query.start),
        end=None if query.end is None else iso(query.end),
        entity_frame=read.spine if isinstance(read.spine, str) else _frame_text(read),
        time_column=query.time,
        frame_columns=[each for each in read.schema.names if each not in outputs],
        columns=[{"name": each.name, "type": str(each.type)} for each in read.schema],
        column_hashes=digest.columns,
        content_hash=digest.whole,
        definitions={each.view.name: content_hash(each.view) for each in selection.reads},
        functions={each.view.name: each.view.fingerprint for each in selection.derivations},
        sources=dict(marks),
        reproducible=not why,
        why="; ".join(why)
        or (f"as long as the files of {', '.join(files)} stay as they are" if files else "the archives are pinned"),
        registry_version=read.snapshot.version,
        asof_version=installed_version(),
        table=table,
        projections=[SavedProjection.of(each.content()) for each in _projections(selection)],
        by_arrival=True,
    )


def _frame_text(read: HistoricalRead) -> str:
    """The entity frame as text; empty for all rows of a time range."""
    if read.spine is None:
        return ""
    return ", ".join(read.spine.paths) if isinstance(read.spine, Files) else "a table"


def _projections(selection: Selection) -> list[Projection]:
    """Projections that select the same outputs, with each view's alias and key columns."""
    by_column: dict[str, tuple[Any, dict[str, str]]] = {}
    for read in selection.reads:
        mapped = {own: key for own, key in zip(read.view.join_keys, read.keys, strict=True) if own != key}
        by_column |= {feature.output: (read.view, mapped) for feature in read.features}
    for derivation in selection.derivations:
        by_column |= {column: (derivation.view, {}) for _, column in derivation.outputs}
    projections = []
    for output in selection.outputs:
        view, mapped = by_column[output.column]
        name, _, feature = output.reference.partition(":")
        projections.append(Projection(view, [feature], "" if name == view.name else name, mapped))
    return projections


def sources_read(stores: Stores, read: HistoricalRead) -> list[Source]:
    """The sources of the views, and those in an SQL entity frame."""
    sources = {each.view.source.name: each.view.source for each in read.query.reads}
    if isinstance(read.spine, str):
        known = read.snapshot.project.sources
        sources |= {name: known[name] for name in stores.offline.tables_in(read.spine) if name in known}
    return list(sources.values())


def mark_of(stores: Stores, source: Source) -> SourceMark:
    """The pin of a source: the version, offsets or files that were read."""
    if isinstance(source, LogSource):
        rows = stores.offline.rows(stores.archive_of(source))
        offsets: dict[int, int] = {}
        if rows is not None:
            found = stores.offline.sql(statements.last_offsets(), {"archive": rows}).reader().read_all().to_pylist()
            offsets = {each["partition"]: each["last"] for each in found}
        version = stores.offline.version(stores.archive_of(source))
        return SourceMark(kind="archive", version=version, offsets=offsets)
    found = rows_of(stores, source, columns=[source.timestamp_field])
    if isinstance(found, Files) or (isinstance(found, Batches) and found.paths):
        return SourceMark(kind="files", files=[file_mark(path, stores.storage) for path in found.paths])
    return SourceMark(kind="query")


def as_seen(mark: SourceMark) -> dict[int, int]:
    """An archive's pin as partition → last offset; history that was backfilled later is excluded."""
    return {HISTORY: -1, **(mark.offsets or {})}


def files_are_same(stores: Stores, mark: SourceMark) -> bool:
    """Whether all files of a source are unchanged since they were read."""
    return all(file_is_same(each, stores.storage) for each in mark.files or ())


def list_training_sets(stores: Stores) -> Records[TrainingSet]:
    """The manifests of all saved training sets, by name."""
    return Records(TrainingSet, [saved for _, saved in sorted(saved_training_sets(stores).items())])


def saved_training_sets(stores: Stores) -> Mapping[str, TrainingSet]:
    """All saved training sets by name."""
    return stores.applied().facts.training_sets


def saved_training_set(stores: Stores, name: str) -> TrainingSet:
    """The training set of this name.

    Raises:
        NotFound: none has it.
    """
    saved = saved_training_sets(stores)
    if name not in saved:
        raise NotFound(
            f"no training set {name!r} is saved",
            hint=nearest(name, saved) or "run `asof show training-sets` to see what there is",
        )
    return saved[name]


def read_training_set(stores: Stores, name: str) -> pa.Table:
    """The saved rows of a training set."""
    return open_training_set(stores, saved_training_set(stores, name)).read_all()


def open_training_set(stores: Stores, saved: TrainingSet) -> pa.RecordBatchReader:
    """The rows of a saved training set in batches.

    Raises:
        NotFound: its rows are missing in the offline store.
    """
    reader = stores.offline.load_table(stores.project, saved.table)
    if reader is None:
        raise NotFound(
            f"the rows of training set {saved.name!r} are missing in the offline store",
            hint="restore the offline store, or save the set again",
        )
    return reader
