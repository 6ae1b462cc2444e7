"""Training sets: rows of a historical read kept under a name, with all that it takes to make and compare them again."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from typing import Any

import pyarrow as pa

from asof.definitions import FeatureView, LogSource, OnDemandFeatureView, Projection, Snapshot, Source
from asof.errors import AsofError, NotFound, RequestError, nearest
from asof.flows.differences import differing_rows
from asof.flows.facts import change_facts
from asof.flows.fingerprints import TableHash, file_is_same, file_mark
from asof.flows.historical import HistoricalResult, read_history, rows_of
from asof.flows.parts import Parts
from asof.offline.protocol import HISTORY
from asof.selection import Selection, select
from asof.sources.protocol import Files
from asof.sql import archive as statements
from asof.timing import iso, micros

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,99}")
_SAMPLE = 20

Functions = Callable[[Selection], Selection]
"""Puts the functions of on-demand views into a selection that was made from a registry's snapshot."""


def save_training_set(result: HistoricalResult, name: str, *, overwrite: bool = False) -> dict[str, Any]:
    """Run a historical read, keep its rows, and answer the manifest.

    The archives are read as of this moment: events that arrive meanwhile are in no row.

    Raises:
        RequestError: the name cannot be one, or is taken and `overwrite` is not set.
    """
    parts = result.parts
    if not _NAME.fullmatch(name):
        raise RequestError(
            f"{name!r} cannot name a training set", hint="use up to 100 letters, digits, '_', '-' and '.'"
        )
    _refuse_taken(parts.registry.load(parts.project).facts, name, overwrite=overwrite)
    sources = _sources_read(parts, result)
    marks = {source.name: _mark(parts, source) for source in sources}
    seen = {each: _as_seen(mark) for each, mark in marks.items() if mark["kind"] == "archive"}
    pinned = HistoricalResult(
        parts, result.snapshot, result.selection, replace(result.query, seen=seen), result.spine, result._shape
    )
    table = f"{name}.{uuid.uuid4().hex[:12]}"
    digest = TableHash(result.schema)
    batches = pa.RecordBatchReader.from_batches(result.schema, digest.through(pinned.to_batches()))
    parts.offline.save_table(parts.project, table, batches)
    changed = [each for each, mark in marks.items() if mark["kind"] == "files" and not _files_are_same(mark)]
    manifest = _manifest(result, name, table, digest, marks, changed)
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


def list_training_sets(parts: Parts) -> list[dict[str, Any]]:
    """The manifests of all saved training sets, by name."""
    return [manifest for _, manifest in sorted(_saved(parts).items())]


def training_set(parts: Parts, name: str) -> dict[str, Any]:
    """One training set's manifest.

    Raises:
        NotFound: none has this name.
    """
    saved = _saved(parts)
    if name not in saved:
        raise NotFound(
            f"no training set {name!r} is saved",
            hint=nearest(name, saved) or "run `asof show training-sets` to see what there is",
        )
    return saved[name]


def read_training_set(parts: Parts, name: str) -> pa.Table:
    """One training set's rows, as they were saved."""
    return open_training_set(parts, training_set(parts, name)).read_all()


def open_training_set(parts: Parts, manifest: Mapping[str, Any]) -> pa.RecordBatchReader:
    """The rows of a saved training set in batches.

    Raises:
        NotFound: its rows are gone from the offline store.
    """
    reader = parts.offline.load_table(parts.project, manifest["table"])
    if reader is None:
        raise NotFound(
            f"the rows of training set {manifest['name']!r} are gone from the offline store",
            hint="restore the offline store, or save the set anew",
        )
    return reader


def rebuild_training_set(
    parts: Parts, name: str, *, functions: Functions = lambda selection: selection
) -> dict[str, Any]:
    """Make a training set's features again for its own rows, over the archives as they were, and compare.

    The definitions of then are used where the registry still has them, else those of now.

    Returns:
        `equal`: no value differs (floats: by more than 1e-9 of their size); `identical`: the hashes are equal too;
        `rows_then`, `rows_now`, `changed_columns`, `differing` (how many rows), `differing_rows` (the first of them),
        and `why`: what has changed since that can explain a difference.
    """
    manifest = training_set(parts, name)
    saved = read_training_set(parts, name)
    selection, snapshot, why = _selection_again(parts, manifest, functions)
    frame = saved.select(manifest["frame_columns"])
    if manifest["time_column"] in frame.column_names:
        # The frame's time is found by its name, whatever other times the frame has.
        names = ["event_timestamp" if each == manifest["time_column"] else each for each in frame.column_names]
        frame = frame.rename_columns(names)
    seen = {each: _as_seen(mark) for each, mark in manifest["sources"].items() if mark["kind"] == "archive"}
    bounds = {each: None if manifest[each] is None else micros(manifest[each]) for each in ("start", "end")}
    result = read_history(
        parts, snapshot, selection, frame if manifest["entity_frame"] else None, known_at=manifest["known_at_cut"],
        seen=seen, **bounds,
    )  # fmt: skip
    features = [each["name"] for each in manifest["columns"] if each["name"] not in manifest["frame_columns"]]
    now = result.to_arrow()
    # A table's own columns come out of the read as they went in; a range's are made anew.
    again = (saved if manifest["entity_frame"] else now).select(manifest["frame_columns"])
    for feature in features:
        again = again.append_column(feature, now[feature])
    digest = TableHash(again.schema)
    for batch in again.to_batches():
        digest.add(batch)
    saved_digest = TableHash(saved.schema)
    for batch in saved.to_batches():
        saved_digest.add(batch)
    if saved_digest.whole != manifest["content_hash"]:
        why.append("the saved rows are not those that were saved: their hash differs from the manifest's")
    changed = [each for each in features if digest.columns[each] != manifest["column_hashes"][each]]
    rows, differing = differing_rows(saved, again, changed, limit=_SAMPLE)
    changed = [each for each in changed if each in differing]
    return {
        "name": name, "equal": not rows and saved.num_rows == again.num_rows,
        "identical": digest.whole == manifest["content_hash"], "rows_then": manifest["rows"],
        "rows_now": again.num_rows, "changed_columns": changed, "differing": rows,
        "differing_rows": [
            {"row": row, **{key: saved[key][row].as_py() for key in manifest["frame_columns"]}, "column": column,
             "then": saved[column][row].as_py(), "now": again[column][row].as_py()}
            for column in changed for row in differing[column]
        ][:_SAMPLE],
        "why": why + _source_changes(parts, manifest),
    }  # fmt: skip


def _saved(parts: Parts) -> dict[str, dict[str, Any]]:
    return dict(parts.registry.load(parts.project).facts.get("training_sets", {}))


def _refuse_taken(facts: Mapping[str, Any], name: str, *, overwrite: bool) -> None:
    known = facts.get("training_sets", {}).get(name)
    if known is not None and not overwrite:
        raise RequestError(
            f"training set {name!r} was saved at {known['created']} by {known['created_by'] or 'somebody'} already",
            hint="choose another name, or pass overwrite=True",
        )


def _sources_read(parts: Parts, result: HistoricalResult) -> list[Source]:
    """The sources of the views, and those that an SQL entity frame names."""
    sources = {read.view.source.name: read.view.source for read in result.query.reads}
    if isinstance(result.spine, str):
        known = result.snapshot.project.sources
        sources |= {name: known[name] for name in parts.offline.tables_in(result.spine) if name in known}
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


def _as_seen(mark: Mapping[str, Any]) -> dict[int, int]:
    """An archive's pin as the offsets up to which its rows count; history that was loaded later does not."""
    return {HISTORY: -1, **{int(partition): offset for partition, offset in mark["offsets"].items()}}


def _files_are_same(mark: Mapping[str, Any]) -> bool:
    return all(file_is_same(each) for each in mark["files"])


def _manifest(
    result: HistoricalResult, name: str, table: str, digest: TableHash, marks: Mapping[str, Any], changed: Sequence[str]
) -> dict[str, Any]:
    parts, selection, query = result.parts, result.selection, result.query
    why = [
        f"source {each!r} cannot be pinned: its rows may change without a trace"
        for each, mark in marks.items() if mark["kind"] == "query"
    ]  # fmt: skip
    why += [f"the files of source {each!r} changed while they were read" for each in changed]
    files = [each for each, mark in marks.items() if mark["kind"] == "files"]
    outputs = {output.name for output in selection.outputs}
    try:
        version = metadata.version("asof")
    except metadata.PackageNotFoundError:
        version = "not installed"
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
        "entity_frame": result.spine if isinstance(result.spine, str) else _frame_text(result),
        "time_column": query.time,
        "frame_columns": [each for each in result.schema.names if each not in outputs],
        "columns": [{"name": each.name, "type": str(each.type)} for each in result.schema],
        "column_hashes": digest.columns,
        "content_hash": digest.whole,
        "definitions": {read.view.name: content_hash(read.view) for read in selection.reads},
        "functions": {each.view.name: each.view.fingerprint for each in selection.derivations},
        "sources": dict(marks),
        "reproducible": not why,
        "why": "; ".join(why)
        or (f"as long as the files of {', '.join(files)} stay as they are" if files else "the archives are pinned"),
        "registry_version": result.snapshot.version,
        "asof_version": version,
        "table": table,
        "projections": [each.content() for each in _projections(selection)],
    }


def _frame_text(result: HistoricalResult) -> str:
    """Where the rows came from; empty for all rows of a time range."""
    if result.spine is None:
        return ""
    return ", ".join(result.spine.paths) if isinstance(result.spine, Files) else "a table"


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


def _selection_again(
    parts: Parts, manifest: Mapping[str, Any], functions: Functions
) -> tuple[Selection, Snapshot, list[str]]:
    """The set's request, selected from the definitions of then if they are to be had; and what has changed since."""
    current = parts.registry.load(parts.project)
    why = _definition_changes(manifest, current)
    if why:
        try:
            then = parts.registry.load_version(parts.project, manifest["registry_version"])
            if not _definition_changes(manifest, then):
                selection = functions(_selected(then, manifest))
                return selection, then, [f"{each}; rebuilt by the one of then" for each in why]
        except AsofError:
            pass  # the version is no longer kept, or its functions are not at hand: the definitions of now are used
    return functions(_selected(current, manifest)), current, why


def _selected(snapshot: Snapshot, manifest: Mapping[str, Any]) -> Selection:
    projections = []
    for each in manifest["projections"]:
        view = snapshot.project.view(each["view"])
        if view is None:
            raise NotFound(
                f"training set {manifest['name']!r} cannot be rebuilt: view {each['view']!r} is not applied any more",
                hint="apply it again",
            )
        projections.append(Projection(view, each.get("features"), each.get("alias", ""), each.get("join_key_map")))
    return select(snapshot, projections, full_feature_names=manifest["full_feature_names"])


def _definition_changes(manifest: Mapping[str, Any], snapshot: Snapshot) -> list[str]:
    why = []
    for name, then in manifest["definitions"].items():
        view = snapshot.project.views.get(name)
        if view is None:
            why.append(f"feature view {name!r} is not applied any more")
        elif content_hash(view) != then:
            why.append(f"the definition of feature view {name!r} has changed")
    for name, then in manifest["functions"].items():
        derived = snapshot.project.on_demand_views.get(name)
        if derived is None:
            why.append(f"on-demand feature view {name!r} is not applied any more")
        elif derived.fingerprint != then:
            why.append(f"the function of on-demand feature view {name!r} has changed")
    return why


def _source_changes(parts: Parts, manifest: Mapping[str, Any]) -> list[str]:
    why = []
    for name, mark in manifest["sources"].items():
        if mark["kind"] == "files" and not _files_are_same(mark):
            gone = [each["path"] for each in mark["files"] if not file_is_same(each)]
            why.append(f"source {name!r}: the file {gone[0]} is not the one of then")
        elif mark["kind"] == "query":
            why.append(f"source {name!r} cannot be pinned: its rows may have changed")
    return why


__all__ = [
    "Functions", "content_hash", "list_training_sets", "open_training_set", "read_training_set", "rebuild_training_set",
    "save_training_set", "training_set",
]  # fmt: skip
