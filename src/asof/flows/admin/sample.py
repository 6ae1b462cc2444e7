"""Samples of rows or entities; the same seed gives the same sample, in any order of rows."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import cycle, islice
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from asof.defaults import SAMPLE_ROWS, SEED
from asof.definitions import FeatureView, Field, Snapshot, Source
from asof.errors import Argument, NotFound, RequestError, SourceError, nearest
from asof.flows.admin.hidden_columns import hidden_columns, needs_full_names
from asof.flows.admin.served_keys import scanned_keys
from asof.flows.offline.entity_frame import TIME
from asof.flows.offline.inputs import rows_of
from asof.flows.offline.key_rows import view_as_of
from asof.flows.offline.read import read_history
from asof.flows.online.history import refuse_incomplete_rows
from asof.flows.online.read import OnlineReader
from asof.flows.rows.checks import refuse_misfits
from asof.flows.rows.keys import key_hash, restored_key
from asof.flows.stores import Progress, Stores, silent
from asof.planning import users_of
from asof.planning.declared import SourceUser
from asof.selection import Selection, ViewRead, select
from asof.sql import archive as statements
from asof.sql.names import free_name
from asof.timing import Micros, moment
from asof.values.fit import fit, source_micros
from asof.values.packing import key_bytes, key_values, plain_values

_TIMES = pa.timestamp("us", "UTC")

Functions = Callable[[Selection], Selection]


def sample(
    stores: Stores,
    snapshot: Snapshot,
    name: str,
    *,
    n: int = SAMPLE_ROWS,
    seed: int = SEED,
    by: str = "rows",
    online: bool = False,
    functions: Functions = lambda selection: selection,
    progress: Progress = silent,
) -> pa.Table:
    """A uniform sample of at most n rows or entities of a feature view, a service or a source.

    Rows of a source are returned unchanged. Rows of a view are its source's rows (keys, event time) with the features:
    of a latest-value view as in the row, of all others as of the row's event time. Features of entities are as of the
    clock. One seed selects the same entities in all views with the same keys, offline and online. Personal data is
    null (`asof.lineage.pii`).

    Args:
        by: `rows` or `entities`; online each row is an entity.

    Raises:
        NotFound: no object with this name is applied.
        RequestError: it needs request values, or has no entities.
    """
    if n < 1:
        raise RequestError(
            f"{Argument('n', n)}: expected at least 1", hint="ask for 1 or more", arguments=[Argument("n", n)]
        )
    if by not in ("rows", "entities"):
        unknown = Argument("by", by)
        raise RequestError(
            f"{unknown}: expected 'rows' or 'entities'", hint="choose 'rows' or 'entities'", arguments=[unknown]
        )
    rows = _sampled(
        stores, snapshot, name, n=n, seed=seed, by=by, online=online, functions=functions, progress=progress
    )
    hidden = hidden_columns(snapshot, name)
    for place, field in enumerate(rows.schema):
        if field.name in hidden:
            rows = rows.set_column(place, field, pa.nulls(rows.num_rows, field.type))
    return rows


def _sampled(
    stores: Stores,
    snapshot: Snapshot,
    name: str,
    *,
    n: int,
    seed: int,
    by: str,
    online: bool,
    functions: Functions,
    progress: Progress,
) -> pa.Table:
    project = snapshot.project
    if name not in project.services and project.view(name) is None:
        source = project.sources.get(name)
        if source is None:
            known = [*project.services, *project.views, *project.on_demand_views, *project.sources]
            raise NotFound(
                f"no feature view, service or source {name!r} is applied",
                hint=nearest(name, known) or "run `asof list` to see what there is",
            )
        if by == "entities" or online:
            argument = Argument("online", True) if online else Argument("by", by)
            raise RequestError(
                f"{argument}: source {name!r} has rows, but no entities",
                hint="sample one of its views",
                arguments=[argument],
            )
        users = users_of(project, source.name)
        return sampled_rows(stores, source, users, None, n=n, seed=seed, required=[], progress=progress)[0]
    view = project.views.get(name) if name not in project.services else None
    if view is not None and not view.is_aggregated and by == "rows" and not online:
        return _latest_rows(stores, view, n=n, seed=seed, progress=progress)
    selection = functions(select(snapshot, name, full_feature_names=view is None and needs_full_names(snapshot, name)))
    if selection.request_fields:
        names = [field.name for field in selection.request_fields]
        raise RequestError(
            f"{name!r} needs the request values {names}, which samples do not have", hint="sample the views it reads"
        )
    if online:
        return _online(stores, snapshot, selection, n=n, seed=seed, progress=progress)
    if by == "rows":
        spine = spine_of_rows(stores, selection, n=n, seed=seed, progress=progress)
    else:
        spine = _frame(selection, _entities(selection, n, seed, lambda read: _keys_in_history(stores, read), progress))
        now = pa.scalar(moment(stores.clock()), _TIMES)
        spine = spine.append_column(TIME, pa.repeat(now, spine.num_rows))
    return read_history(stores, snapshot, selection, spine).table()


def smallest_keys(keys: Iterable[bytes], n: int, seed: int) -> list[bytes]:
    """The n distinct keys with the smallest hashes: a uniform sample, independent of the keys' order."""
    distinct = heapq.nsmallest(n, ((key_hash(key, seed), key) for key in set(keys)))
    return [key for _, key in distinct]


def _online(
    stores: Stores, snapshot: Snapshot, selection: Selection, *, n: int, seed: int, progress: Progress
) -> pa.Table:
    found = _entities(selection, n, seed, lambda read: scanned_keys(stores, snapshot, read.view), progress)

    def history(read: ViewRead, keys: dict[str, list[Any]], at: int, *, needs: Sequence[Mapping[int, int]] = ()) -> Any:
        refuse_incomplete_rows(stores, read, keys, needs)
        return view_as_of(stores, snapshot, read, keys, at), [None] * len(next(iter(keys.values()), [None]))

    reader = OnlineReader(stores, snapshot, selection, history=history)
    rows = found if found else [{}] if not selection.keys else {field.name: [] for field in selection.keys}
    response, _ = reader.read(rows, at=stores.clock())
    return response.to_arrow()


def _keys_in_history(stores: Stores, read: ViewRead) -> Iterator[list[bytes]]:
    """The packed keys of a view's source, in batches."""
    view = read.view
    columns = [view.source.raw(key) for key in view.join_keys]
    rows = rows_of(stores, view.source, [view], columns=columns)
    if rows is None or not view.join_keys:
        return
    text = statements.distinct_keys(columns)
    for batch in stores.offline.sql(text, {"source": rows}).reader():
        pairs = zip(batch.columns, view.key_fields, strict=True)
        plain = [plain_values(_fitted(view.source, field, column), field.dtype) for column, field in pairs]
        # NaN in a column of integers is null.
        yield [key_bytes(values) for values in zip(*plain, strict=True) if None not in values]


def _entities(
    selection: Selection, n: int, seed: int, keys_of: Callable[[ViewRead], Iterator[list[bytes]]], progress: Progress
) -> dict[str, list[Any]]:
    """Key columns of at most n entities; for views with different keys, combined one view at a time."""
    groups: dict[tuple[str, ...], list[ViewRead]] = {}
    for read in selection.reads:
        groups.setdefault(read.keys, []).append(read)
    columns: dict[str, list[Any]] = {}
    for keys, reads in sorted(groups.items(), key=lambda group: -len(group[0])):
        if all(key in columns for key in keys):
            continue
        chosen: list[bytes] = []
        for read in reads:
            done = 0
            for page in keys_of(read):
                chosen = smallest_keys([*chosen, *page], n, seed)
                done += len(page)
                progress(f"sample keys of {read.view.name}", done, None)
        fields = [Field(key, field.dtype) for key, field in zip(keys, reads[0].view.key_fields, strict=True)]
        rows = [restored_key(fields, key_values(key)) for key in chosen]
        count = len(next(iter(columns.values()))) if columns else len(rows)
        columns |= {key: [row[key] for row in islice(cycle(rows), count)] for key in keys if key not in columns}
        count = min(map(len, columns.values()))
        columns = {key: values[:count] for key, values in columns.items()}
    return columns


def _frame(selection: Selection, columns: dict[str, list[Any]]) -> pa.Table:
    """An entity frame's keys in their declared types; without keys, one row without columns."""
    if not selection.keys:
        return pa.table({"entity": pa.array(["all"])})
    return pa.table({field.name: pa.array(columns[field.name], field.dtype.arrow()) for field in selection.keys})


def spine_of_rows(
    stores: Stores,
    selection: Selection,
    *,
    n: int,
    seed: int,
    start: Micros | None = None,
    end: Micros | None = None,
    progress: Progress = silent,
) -> pa.Table:
    """Keys and event times of n of the rows that the selection's views read.

    Args:
        start, end: only rows with `start <= event time < end`.
    """
    widest = max(selection.reads, key=lambda read: len(read.keys))
    if TIME in widest.keys:
        raise RequestError(
            f"join key {TIME!r} is named like the times of sampled rows",
            hint="rename the key, for example by the source's field_mapping",
        )
    others = [read for read in selection.reads if read.keys == widest.keys]
    pieces, hashes = [], []
    for number, read in enumerate({read.view.source.name: read for read in others}.values()):
        view = read.view
        named = dict(zip(read.keys, view.join_keys, strict=True))
        named[TIME] = view.source.renamed(view.source.timestamp_field)
        rows, marks = sampled_rows(
            stores, view.source, [view], named, n=n, seed=seed + number, required=list(named),
            times=(start, end), progress=progress,
        )  # fmt: skip
        for key, field in zip(read.keys, view.key_fields, strict=True):
            column = _fitted(view.source, field, rows[key])
            rows = rows.set_column(rows.schema.get_field_index(key), key, column)
        pieces.append(_with_time(rows, TIME, view.source))
        hashes.append(marks)
    order = np.argsort(np.concatenate(hashes), kind="stable")[:n]
    spine = pa.concat_tables(pieces).take(pa.array(order))
    missing = [field for field in selection.keys if field.name not in spine.column_names]
    if missing:
        found = _entities(selection, n, seed, lambda read: _keys_in_history(stores, read), progress)
        for field in missing:
            values = list(islice(cycle(found[field.name]), spine.num_rows))
            spine = spine.slice(0, len(values)).append_column(field.name, pa.array(values, field.dtype.arrow()))
    return spine


def _latest_rows(stores: Stores, view: FeatureView, *, n: int, seed: int, progress: Progress) -> pa.Table:
    """Rows of a view's source: keys, event time, features, in the declared types."""
    source = view.source
    names = [*view.join_keys, *view.feature_names]
    time = free_name(TIME, names)
    named = {**{name: name for name in names}, time: source.renamed(source.timestamp_field)}
    rows, _ = sampled_rows(
        stores, source, [view], named, n=n, seed=seed, required=[*view.join_keys, time], progress=progress
    )
    fields = (*view.key_fields, *view.features)
    refuse_misfits(view, {field.name: (rows[field.name], field.dtype) for field in fields})
    for field in fields:
        place = rows.schema.get_field_index(field.name)
        rows = rows.set_column(place, field.name, _fitted(source, field, rows[field.name]))
    return _with_time(rows, time, source).select([*view.join_keys, time, *view.feature_names])


def _fitted(source: Source, field: Field, column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """A sampled column in its declared type.

    Raises:
        SourceError: a value does not fit.
    """
    fitted, misfits = fit(column, field.dtype)
    if misfits:
        raise SourceError(
            f"column {source.raw(field.name)!r} of source {source.name!r} does not fit {field.dtype}: {misfits[0][1]}",
            hint="declare the column's actual type, or fix the value in the source", where=source.where,
        )  # fmt: skip
    return fitted


def sampled_rows(
    stores: Stores,
    source: Source,
    users: Sequence[SourceUser],
    named: dict[str, str] | None,
    *,
    n: int,
    seed: int,
    required: Sequence[str],
    times: tuple[Micros | None, Micros | None] = (None, None),
    progress: Progress = silent,
) -> tuple[pa.Table, npt.NDArray[np.uint64]]:
    """The n rows with the smallest hashes of their positions, and the hashes.

    Args:
        users: what declares types of its columns.
        named: output column → its name after `field_mapping`; None takes all columns of the source.
        required: output columns that must not be null; the time is one of the years 1 to 9999.
    """
    found = rows_of(stores, source, users, columns=[source.raw(own) for own in (named or {}).values()])
    if found is None:
        names = list(named) if named is not None else [field.name for field in source.schema]
        types = {source.renamed(field.name): field.dtype.arrow() for field in source.schema}
        types |= {field.name: field.dtype.arrow() for field in source.schema}
        kinds = [types.get(named[name] if named else name, pa.int64()) for name in names]
        return pa.table([pa.array([], kind) for kind in kinds], names=names), np.zeros(0, dtype=np.uint64)
    columns = {name: source.raw(own) for name, own in (named or {}).items()}
    text = statements.columns_of_rows(columns, positions=source.is_log)
    reader = stores.offline.sql(text, {"source": found}).reader()
    kept, kept_hashes = None, np.zeros(0, dtype=np.uint64)
    at = 0
    for batch in reader:
        rows = pa.Table.from_batches([batch])
        hashes = _hashes(rows, at, seed, in_log=source.is_log) if rows.num_rows else np.zeros(0, dtype=np.uint64)
        at += rows.num_rows
        progress(f"sample source {source.name}", at, None)
        wanted = hashes <= kept_hashes[-1] if len(kept_hashes) == n else np.ones(len(hashes), dtype=bool)
        for column in required:
            is_time = column in columns and columns[column] == source.timestamp_field
            known = source_micros(rows[column].combine_chunks(), source.timestamp_unit) if is_time else rows[column]
            # Of floats only those are keys that stand for integers, and NaN is null there.
            wanted &= ~np.asarray(known.is_null(nan_is_null=True))
        if times != (None, None):
            wanted &= _within(rows[TIME].combine_chunks(), source, times)
        rows, hashes = rows.filter(pa.array(wanted)), hashes[wanted]
        rows = rows if kept is None else pa.concat_tables([kept, rows])
        hashes = np.concatenate([kept_hashes, hashes])
        order = np.argsort(hashes, kind="stable")[:n]
        kept, kept_hashes = rows.take(pa.array(order)), hashes[order]
    if kept is None:
        kept = reader.schema.empty_table()
    positions = [name for name in ("asof_partition", "asof_offset") if source.is_log]
    return kept.drop_columns(positions), kept_hashes


def _within(column: pa.Array, source: Source, times: tuple[Micros | None, Micros | None]) -> npt.NDArray[np.bool_]:
    """Which event times lie in an interval; a null does not."""
    moments = source_micros(column, source.timestamp_unit)
    start, end = times
    found = moments.is_valid()
    if start is not None:
        found = pc.and_(found, pc.greater_equal(moments, start))
    if end is not None:
        found = pc.and_(found, pc.less(moments, end))
    return pc.fill_null(found, False).to_numpy(zero_copy_only=False)


def _hashes(rows: pa.Table, first: int, seed: int, *, in_log: bool) -> npt.NDArray[np.uint64]:
    """A hash per row of its position: partition and offset in a log, else the row number."""
    mixed = _mixed(np.full(rows.num_rows, seed, dtype=np.int64).astype(np.uint64))
    if in_log:
        mixed = _mixed(mixed ^ rows["asof_partition"].cast(pa.int64()).to_numpy().astype(np.uint64))
        return _mixed(mixed ^ rows["asof_offset"].to_numpy().astype(np.uint64))
    return _mixed(mixed ^ np.arange(first, first + rows.num_rows, dtype=np.uint64))


def _mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """SplitMix64, so that hashes of neighbouring positions are unrelated."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _with_time(rows: pa.Table, name: str, source: Source) -> pa.Table:
    times = source_micros(rows[name].combine_chunks(), source.timestamp_unit).cast(_TIMES)
    return rows.set_column(rows.schema.get_field_index(name), name, times)


__all__ = [
    "sample", "sampled_rows", "smallest_keys", "spine_of_rows",
]  # fmt: skip
