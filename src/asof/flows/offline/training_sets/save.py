"""Save a training set: the rows of a historical read, with a manifest of all inputs."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator

import pyarrow as pa

from asof.definitions.facts import Facts, TrainingSet
from asof.errors import Argument, AsofError, RequestError
from asof.flows.facts import change_facts
from asof.flows.offline.read import HistoricalRead
from asof.flows.offline.training_sets.hashes import TableHash
from asof.flows.offline.training_sets.manifest import as_seen, files_are_same, manifest_of, mark_of, sources_read
from asof.flows.stores import Progress, silent
from asof.offline.protocol import ResultSaver

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,99}")


def save_training_set(
    read: HistoricalRead, name: str, *, overwrite: bool = False, progress: Progress = silent
) -> TrainingSet:
    """Run a historical read and save its rows; returns the manifest.

    The archives are read as of now: events that arrive meanwhile are not included.

    Raises:
        RequestError: the name is invalid, or taken and `overwrite` is not set.
    """
    stores = read.stores
    if not _NAME.fullmatch(name):
        raise RequestError(
            f"{name!r} is not a valid name of a training set", hint="use up to 100 letters, digits, '_', '-' and '.'"
        )
    _refuse_taken(stores.registry.load(stores.project).facts, name, overwrite=overwrite)
    sources = sources_read(stores, read)
    marks = {source.name: mark_of(stores, source) for source in sources}
    seen = {each: as_seen(mark) for each, mark in marks.items() if mark.kind == "archive"}
    table = f"{name}.{uuid.uuid4().hex[:12]}"
    pinned = read.up_to(seen)
    digest = TableHash(read.schema)
    if not _saved_there(pinned, name, table, digest, progress):
        batches = pa.RecordBatchReader.from_batches(read.schema, digest.through(_counted(pinned, name, progress)))
        stores.offline.save_table(stores.project, table, batches)
    changed = [each for each, mark in marks.items() if mark.kind == "files" and not files_are_same(stores, mark)]
    saved = manifest_of(read, name, table, digest, marks, changed)
    former: list[str] = []

    def with_set(facts: Facts) -> Facts:
        _refuse_taken(facts, name, overwrite=overwrite)
        known = facts.training_sets
        former[:] = [known[name].table] if name in known else []
        return facts.with_training_set(saved)

    try:
        change_facts(stores, with_set, note=f"saved training set {name}")
    except AsofError:
        stores.offline.drop_table(stores.project, table)
        raise
    for each in former:
        stores.offline.drop_table(stores.project, each)
    return saved


def _saved_there(read: HistoricalRead, name: str, table: str, digest: TableHash, progress: Progress) -> bool:
    """Have the engine write the rows where it computes them, if it can; the hash is of what it wrote."""
    stores = read.stores
    if not isinstance(stores.offline, ResultSaver) or (found := read.computed_there()) is None:
        return False
    result, columns = found
    total = read.spine.num_rows if isinstance(read.spine, pa.Table) else None

    def check(batch: pa.RecordBatch) -> None:
        read.refuse_misfits(digest.add(batch))

    return stores.offline.save_result(
        stores.project, table, result, read.schema, columns=columns, check_frame=read.check_rows, check=check,
        progress=lambda done: progress(f"compute training set {name}", done, total),
    )  # fmt: skip


def _counted(read: HistoricalRead, name: str, progress: Progress) -> Iterator[pa.RecordBatch]:
    """The read's rows, each batch of them reported; how many there will be is known of a table of entity rows."""
    total = read.spine.num_rows if isinstance(read.spine, pa.Table) else None
    done = 0
    for batch in read.batches(progress=lambda done, total: progress(f"compute training set {name}", done, total)):
        yield batch
        done += batch.num_rows
        progress(f"save training set {name}", done, total)


def _refuse_taken(facts: Facts, name: str, *, overwrite: bool) -> None:
    known = facts.training_sets.get(name)
    if known is not None and not overwrite:
        again = Argument("overwrite", True)
        raise RequestError(
            f"training set {name!r} already exists: saved at {known.created} by {known.created_by or 'unknown'}",
            hint=f"choose another name, or pass {again}", arguments=[again],
        )  # fmt: skip
