"""Save a training set: the rows of a historical read under a name, with a manifest of all that they were made from."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from asof.definitions import FeatureView, LogSource, OnDemandFeatureView, Projection, Source
from asof.distribution import installed_version
from asof.errors import AsofError, RequestError
from asof.flows.facts import change_facts
from asof.flows.offline.inputs import rows_of
from asof.flows.offline.run import HistoricalRead
from asof.flows.offline.training_sets.hashes import TableHash, file_is_same, file_mark
from asof.flows.stores import Parts
from asof.offline.protocol import HISTORY
from asof.selection import Selection
from asof.sources.protocol import Files
from asof.sql import archive as statements
from asof.timing import iso

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,99}")


def save_training_set(read: HistoricalRead, name: str, *, overwrite: bool = False) -> dict[str, Any]:
    """Run a historical read, keep its rows, and answer the manifest.

    The archives are read as of this moment: events that arrive meanwhile are in no row.

    Raises:
        RequestError: the name cannot be one, or is taken and `overwrite` is not set.
    """
    parts = read.parts
    if not _NAME.fullmatch(name):
        raise RequestError(
            f"{name!r} cannot name a training set", hint="use up to 100 letters, digits, '_', '-' and '.'"
        )
    _refuse_taken(parts.registry.load(parts.project).facts, name, overwrite=overwrite)
    sources = _sources_read(parts, read)
    marks = {source.name: _mark(parts, source) for source in sources}
    seen = {each: as_seen(mark) for each, mark in marks.items() if mark["kind"] == "archive"}
    table = f"{name}.{uuid.uuid4().hex[:12]}"
    digest = TableHash(read.schema)
    batches = pa.RecordBatchReader.from_batches(read.schema, digest.through(read.up_to(seen).batches()))
    parts.offline.save_table(parts.project, table, batches)
    changed = [each for each, mark in marks.items() if mark["kind"] == "files" and not files_are_same(mark)]
    manifest = _manifest(read, name, table, digest, marks, changed)
    former: list[str] = []

    def with_set(facts: Mapping[str, Any]) -> dict[str, Any]:
        _refuse_taken(facts, name, overwrite=overwrite)
        known = facts.get("training_sets", {})
        former[:] = [known[name]["table"]] if name in known else []
        return {"training_sets": {**known, name: manifest}}

    try:
        change_facts(parts, with_set, note=f"saved training set {name}")
    except AsofError:
        parts.offline.drop_table(parts.project, table)
        raise
    for each in former:
        parts.offline.drop_table(parts.project, each)
    return manifest


def _refuse_taken(facts: Mapping[str, Any], name: str, *, overwrite: bool) -> None:
    known = facts.get("training_sets", {}).get(name)
    if known is not None and not overwrite:
        raise RequestError(
            f"training set {name!r} was saved at {known['created']} by {known['created_by'] or 'somebody'} already",
            hint="choose another name, or pass overwrite=True",
        )


def _sources_read(parts: Parts, read: HistoricalRead) -> list[Source]:
    """The sources of the views, and those that an SQL entity frame names."""
    sources = {each.view.source.name: each.view.source for each in read.query.reads}
    if isinstance(read.spine, str):
        known = read.snapshot.project.sources
        sources |= {name: known[name] for name in parts.offline.tables_in(read.spine) if name in known}
    return list(sources.values())


def _mark(parts: Parts, source: Source) -> dict[str, Any]:
    """What says which rows of a source were read."""
    if isinstance(source, LogSource):
        rows = parts.offline.rows(parts.archive_of(source))
        offsets: dict[str, int] = {}
        if rows is not None:
            found = parts.offline.sql(statements.last_offsets(), {"archive": rows}).reader().read_all().to_pylist()
            offsets = {str(each["partition"]): each["last"] for each in found}
        version = parts.offline.version(parts.archive_of(source))
        return {"kind": "archive", "version": version, "offsets": offsets}
    found = rows_of(parts, source)
    if isinstance(found, Files):
        return {"kind": "files", "files": [file_mark(path) for path in found.paths]}
    return {"kind": "query"}


def as_seen(mark: Mapping[str, Any]) -> dict[int, int]:
    """An archive's pin as the offsets up to which its rows count; history that was loaded later does not."""
    return {HISTORY: -1, **{int(partition): offset for partition, offset in mark["offsets"].items()}}


def files_are_same(mark: Mapping[str, Any]) -> bool:
    return all(file_is_same(each) for each in mark["files"])


def _manifest(
    read: HistoricalRead, name: str, table: str, digest: TableHash, marks: Mapping[str, Any], changed: Sequence[str]
) -> dict[str, Any]:
    parts, selection, query = read.parts, read.selection, read.query
    why = [
        f"source {each!r} cannot be pinned: its rows may change without a trace"
        for each, mark in marks.items() if mark["kind"] == "query"
    ]  # fmt: skip
    why += [f"the files of source {each!r} changed while they were read" for each in changed]
    files = [each for each, mark in marks.items() if mark["kind"] == "files"]
    outputs = {output.name for output in selection.outputs}
    known_at = query.known_at
    return {
        "name": name,
        "rows": digest.rows,
        "created": iso(parts.clock()),
        "created_by": parts.who,
        "features": [output.reference for output in selection.outputs],
        "full_feature_names": all(each.name == each.reference.replace(":", "__", 1) for each in selection.outputs),
        "known_at": known_at if known_at is None or isinstance(known_at, bool) else iso(known_at),
        "known_at_cut": known_at,
        "start": None if query.start is None else iso(query.start),
        "end": None if query.end is None else iso(query.end),
        "entity_frame": read.spine if isinstance(read.spine, str) else _frame_text(read),
        "time_column": query.time,
        "frame_columns": [each for each in read.schema.names if each not in outputs],
        "columns": [{"name": each.name, "type": str(each.type)} for each in read.schema],
        "column_hashes": digest.columns,
        "content_hash": digest.whole,
        "definitions": {each.view.name: content_hash(each.view) for each in selection.reads},
        "functions": {each.view.name: each.view.fingerprint for each in selection.derivations},
        "sources": dict(marks),
        "reproducible": not why,
        "why": "; ".join(why)
        or (f"as long as the files of {', '.join(files)} stay as they are" if files else "the archives are pinned"),
        "registry_version": read.snapshot.version,
        "asof_version": installed_version(),
        "table": table,
        "projections": [each.content() for each in _projections(selection)],
    }


def _frame_text(read: HistoricalRead) -> str:
    """Where the rows came from; empty for all rows of a time range."""
    if read.spine is None:
        return ""
    return ", ".join(read.spine.paths) if isinstance(read.spine, Files) else "a table"


def content_hash(view: FeatureView | OnDemandFeatureView) -> str:
    """A hash of what a view and its source say; descriptions, tags and owners say nothing."""
    content: dict[str, Any] = {"view": view.content()}
    if isinstance(view, FeatureView):
        content["source"] = view.source.content()
    for each in content.values():
        for silent in ("description", "tags", "owner"):
            each.pop(silent, None)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _projections(selection: Selection) -> list[Projection]:
    """Each output of a selection as a request would name it, with its view's alias and key columns."""
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
