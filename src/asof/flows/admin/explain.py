"""Explain one value: the rows or events that it comes from, and why others do not count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from asof.aggregation import decode
from asof.definitions import Aggregation, FeatureView, Session, Sliding, Snapshot
from asof.display import counted
from asof.errors import RequestError, nearest
from asof.expressions import parse, print_sql
from asof.flows.generations.layout import layout_of
from asof.flows.offline.entity_frame import TIME
from asof.flows.offline.key_rows import KeyRows, rows_of_key
from asof.flows.offline.read import read_history
from asof.flows.online.read import OnlineReader
from asof.flows.rows.batch import input_schema
from asof.flows.rows.keys import plain_key, plain_value, restored_key
from asof.flows.stores import Stores, current_generation, table_of
from asof.online.protocol import Lookup
from asof.results import Result, Row, rows_of
from asof.selection import Derivation, Selection, ViewRead, select
from asof.sql.names import free_name
from asof.sql.partitions import ArchivePartition
from asof.timing import Micros, floor_to, iso, micros, moment, span_text
from asof.values.fit import fit
from asof.values.packing import gone_at, key_bytes, unpack_row, versions_of

_LATER_SHOWN, _SHOWN = 20, 200
"""Number of rows shown, those nearest to t; the text counts all rows."""
_TIMES = pa.timestamp("us", "UTC")

Functions = Callable[[Selection], Selection]
KnownAt = bool | Micros | None


@dataclass(frozen=True, repr=False, eq=False)
class Explanation(Result[Row]):
    """The explanation of a value; its rows are the key's rows.

    Attributes:
        value: the feature's value as of `at`, as in a historical read.
        rows: the key's source rows or events, newest first, with a column `why` (for an aggregate also `in_window`);
            for an on-demand feature its inputs. A view's column named like one of these has an underscore after it.
        inputs: the explanations of an on-demand feature's inputs.
        online: the current online value: value, status, event_time, offsets; None with an explicit `at`.
    """

    reference: str
    key: Mapping[str, object]
    at: datetime
    value: object
    rows: pa.Table
    text: str
    inputs: tuple[Explanation, ...] = ()
    online: Mapping[str, object] | None = None

    def __len__(self) -> int:
        return int(self.rows.num_rows)

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Iterator[Row]:
        return rows_of(self.rows.to_batches())

    def to_arrow(self) -> pa.Table:
        return self.rows

    def _columns(self) -> list[str]:
        return list(self.rows.column_names)

    def _first(self, n: int) -> list[Row]:
        return list(rows_of(self.rows.slice(0, n).to_batches()))

    def _title(self) -> str:
        return self.text


def explain(
    stores: Stores,
    snapshot: Snapshot,
    reference: str,
    key: Mapping[str, Any],
    *,
    at: Micros | None = None,
    known_at: KnownAt = None,
    functions: Functions = lambda selection: selection,
) -> Explanation:
    """Explain one feature of one key as of a time.

    Args:
        reference: `view:feature`.
        key: the join keys' values, and for an on-demand feature the request values.
        at: the time; None for the clock's, which also shows the online value.
        known_at: as in a historical read.

    Raises:
        UnknownFeature: no applied feature has this name.
        RequestError: a key is missing or does not fit, or the reference names several features.
    """
    selection = functions(select(snapshot, reference, full_feature_names=True))
    if len(selection.outputs) != 1:
        names = [output.reference for output in selection.outputs]
        raise RequestError(
            f"{reference!r} names {counted(len(names), 'feature')}", hint=f"name one of them, such as {names[0]!r}"
        )
    now = stores.clock() if at is None else at
    value = _value(stores, snapshot, selection, key, now, known_at)
    output = selection.outputs[0]
    for derivation in selection.derivations:
        if output.column in [column for _, column in derivation.outputs]:
            return _of_function(
                stores, snapshot, derivation, output.reference, key, value, at=at, now=now, known_at=known_at
            )
    (read,) = [each for each in selection.reads if output.column in [feature.output for feature in each.features]]
    made = _of_view(stores, read, output.reference, key, value, at=now, known_at=known_at)
    if at is None and read.view.online:
        return _with_online(stores, snapshot, selection, read, made)
    return made


def _value(
    stores: Stores, snapshot: Snapshot, selection: Selection, key: Mapping[str, Any], at: Micros, known_at: KnownAt
) -> Any:
    columns = {}
    fields = [*selection.keys, *selection.request_fields]
    for field in fields:
        if field not in selection.keys and key.get(field.name) is None:
            columns[field.name] = pa.array([None], field.dtype.arrow())
            continue
        value = restored_key([field], [plain_value(field, key.get(field.name))])[field.name]
        columns[field.name] = pa.array([value], field.dtype.arrow())
    unknown = [name for name in key if name not in columns]
    if unknown:
        raise RequestError(
            f"{unknown[0]!r} is neither a join key nor a request value of the feature",
            hint=nearest(unknown[0], columns) or f"give {[field.name for field in fields]}",
        )
    columns[TIME] = pa.array([moment(at)], _TIMES)
    answer = read_history(stores, snapshot, selection, pa.table(columns), known_at=known_at).table()
    return answer[selection.outputs[0].name][0].as_py()


def _of_view(
    stores: Stores, read: ViewRead, reference: str, key: Mapping[str, Any], value: Any, *, at: Micros, known_at: KnownAt
) -> Explanation:
    view = read.view
    own = {field.name: key[column] for field, column in zip(view.key_fields, read.keys, strict=True)}
    rows = rows_of_key(stores, view, plain_key(view.key_fields, own))
    t = at - view.delay
    why = np.full(len(rows.batch), "", dtype=object)
    if known_at is not None and known_at is not False:
        cut = at if known_at is True else int(known_at)
        why[rows.known > cut] = "not known by t" if known_at is True else f"not known by {iso(cut)}"
    why[~rows.stored] = "before stream_from"
    head = f"{reference} of {_key_text(key)} as of {iso(at)} is {_text(value)}."
    name = reference.partition(":")[2]
    if view.is_aggregated:
        made = next(each for each in view.aggregations if each.name == name)
        table, lines = _windowed(stores, view, made, rows, why, t)
    else:
        table, lines = _latest(view, name, rows, why, t)
    if view.delay:
        lines.insert(0, f"The view's delay is {span_text(view.delay)}, so t is {iso(t)}.")
    if not len(rows.batch):
        lines.append("History has no row for this key.")
    return Explanation(reference, dict(key), moment(at), value, table, "\n".join([head, *lines]))


def _latest(
    view: FeatureView, name: str, rows: KeyRows, why: npt.NDArray[Any], t: Micros
) -> tuple[pa.Table, list[str]]:
    times = rows.batch.event_time
    why[(why == "") & (times > t)] = "later than t"
    oldest = t - view.ttl if view.ttl else None
    if oldest is not None:
        why[(why == "") & (times < oldest)] = "outside ttl"
    left = np.flatnonzero(why == "")
    why[left] = "older"
    if len(left):
        why[left[-1]] = "deletes the key" if rows.gone[left[-1]] else "chosen"
    lines = [f"The last row up to t{f' and not older than {span_text(view.ttl)}' if view.ttl else ''} is chosen."]
    if len(left):
        lines[0] += f" Its event time is {iso(int(times[left[-1]]))}."
        if rows.gone[left[-1]]:
            lines[0] += " It is a tombstone that deletes the key, so there is no value."
    elif len(times):
        lines[0] += " There is none: " + _counted(why) + "."
    found = rows.batch.rows
    columns = {field.name: found[field.name] for field in view.features if field.name in found.column_names}
    return _shown(rows, {name: columns[name], **columns} if name in columns else columns, {"why": why}), lines


def _windowed(
    stores: Stores, view: FeatureView, made: Aggregation, rows: KeyRows, why: npt.NDArray[Any], t: Micros
) -> tuple[pa.Table, list[str]]:
    times = rows.batch.event_time
    exclusive = view.boundary == "exclusive"
    why[(why == "") & rows.gone] = "tombstone, not an event"
    why[(why == "") & (times > t)] = "later than t"
    if exclusive:
        why[(why == "") & (times == t)] = "at t, and the boundary is exclusive"
    seen = np.flatnonzero(why == "")
    what = f"{made.function}({made.column or '*'})" + (f" where {made.where}" if made.where else "")
    until = f"before {iso(t)}" if exclusive else f"up to {iso(t)}"
    lines = [f"{what} over all events {until}."]
    if isinstance(made.window, Sliding):
        start = floor_to(t - made.window.length, made.window.hop)
        why[seen[times[seen] < start]] = "before the window"
        lines = [f"{what} over {made.window}: events from {iso(start)} {until}."]
    elif isinstance(made.window, Session):
        lines = [f"{what} over {made.window}: {_session(times, seen, why, t, made.window.gap)}."]
    in_window = why == ""
    values, kept = _evaluated(stores, view, made, rows.batch.rows)
    why[in_window & ~kept] = "where is false"
    if values is not None:
        missing = values.is_null().to_numpy(zero_copy_only=False)
        why[in_window & kept & missing] = "value is null"
    why[why == ""] = "counts"
    if len(times):
        lines.append(f"Of {counted(len(times), 'event')} of this key: {_counted(why)}.")
    columns = {name: rows.batch.rows[name] for name in _columns_of(made) if name in rows.batch.rows.column_names}
    if values is not None and made.column not in columns:
        columns[made.column] = values
    return _shown(rows, columns, {"in_window": pa.array(in_window), "why": why}), lines


def _session(
    times: npt.NDArray[np.int64], seen: npt.NDArray[np.int64], why: npt.NDArray[Any], t: Micros, gap: Micros
) -> str:
    """Mark the events of other sessions; the open session's bounds as text."""
    if not len(seen):
        return "no session is open: there is no event"
    own = times[seen]
    breaks = np.flatnonzero(np.diff(own) > gap)
    first = int(breaks[-1]) + 1 if len(breaks) else 0
    if t - own[-1] > gap:
        why[seen] = "other session"
        last = iso(int(own[-1]))
        return f"no session is open: the last event, at {last}, is more than {span_text(gap)} before t"
    why[seen[:first]] = "other session"
    return f"the open session began at {iso(int(own[first]))}, its last event was at {iso(int(own[-1]))}"


def _evaluated(
    stores: Stores, view: FeatureView, made: Aggregation, rows: pa.Table
) -> tuple[pa.Array | None, npt.NDArray[np.bool_]]:
    """The aggregate's values (None: it counts rows), and the mask of rows for which its `where` is true."""
    schema = input_schema(view) or {}
    texts = {name: text for name, text in (("value", made.column), ("kept", made.where)) if text}
    kept = np.ones(rows.num_rows, dtype=bool)
    if not texts:
        return None, kept
    sql = {name: print_sql(parse(text), stores.offline.batch_dialect, schema=schema) for name, text in texts.items()}
    fitted = rows.select([name for name in rows.column_names if name in schema])
    for name in fitted.column_names:
        place = fitted.schema.get_field_index(name)
        fitted = fitted.set_column(place, name, fit(fitted[name], schema[name])[0])
    found = stores.offline.evaluate(fitted, sql)
    if "kept" in sql:
        kept = found["kept"].combine_chunks().fill_null(False).to_numpy(zero_copy_only=False)
    values = found["value"].combine_chunks() if "value" in sql else None
    return values, kept


def _columns_of(made: Aggregation) -> list[str]:
    """The columns in an aggregate's expressions, each once."""
    texts = [text for text in (made.column, made.where) if text]
    return list(dict.fromkeys(name for text in texts for name in parse(text).columns))


def _shown(rows: KeyRows, columns: Mapping[str, Any], marks: Mapping[str, Any]) -> pa.Table:
    """The rows near t, newest first: event time, arrival, values (with an underscore, if need be), marks."""
    batch = rows.batch
    table = {"event_time": pa.array(batch.event_time).cast(_TIMES)}
    if (batch.created != batch.event_time).any():
        table["created_time"] = pa.array(batch.created).cast(_TIMES)
    if "ingested_at" in rows.raw.column_names:
        table |= {name: rows.raw[name] for name in ("partition", "offset", "ingested_at")}
    ours = (*table, *marks)
    table |= {free_name(name, (*ours, *columns)) if name in ours else name: each for name, each in columns.items()}
    table |= {name: pa.array(mark.tolist() if isinstance(mark, np.ndarray) else mark) for name, mark in marks.items()}
    if not len(batch):
        table["why"] = pa.array([], pa.string())
    later = int((marks["why"] == "later than t").sum()) if len(batch) else 0
    # Sorted oldest first here: some rows later than t, and the newest of those up to t.
    begin = max(len(batch) - later - _SHOWN, 0)
    end = min(len(batch), len(batch) - later + _LATER_SHOWN)
    return pa.table(table).take(pa.array(np.arange(begin, end)[::-1].copy()))


def _of_function(
    stores: Stores, snapshot: Snapshot, derivation: Derivation, reference: str, key: Mapping[str, Any], value: Any, *,
    at: Micros | None, now: Micros, known_at: KnownAt,
) -> Explanation:  # fmt: skip
    """An on-demand feature: its inputs, each explained."""
    view = derivation.view
    selection = select(snapshot, [view], full_feature_names=True)
    by_column = {feature.output: (read, feature) for read in selection.reads for feature in read.features}
    derived = {column: f"{each.view.name}:{name}" for each in selection.derivations for name, column in each.outputs}
    inputs: list[Explanation] = []
    table: dict[str, list[str]] = {"input": [], "from": [], "value": [], "why": []}
    for name, column in derivation.inputs:
        if column in by_column:
            read, feature = by_column[column]
            made = _input(stores, snapshot, read, feature.name, key, at=now, known_at=known_at)
            inputs.append(made)
            place, found, why = made.reference, made.value, "a feature"
        elif column in derived:
            place, found, why = derived[column], "see its own explanation", "the output of another function"
        else:
            place, found = column, key.get(column)
            why = "a join key" if column in view.join_keys else "a request value"
        for part, text in zip(table, (name, place, found if column in derived else _text(found), why), strict=True):
            table[part].append(str(text))
    head = f"{reference} of {_key_text(key)} as of {iso(now)} is {_text(value)}."
    lines = [f"Function {view.function_name or view.name!r} (mode {view.mode}) computed it from these inputs:"]
    lines += [f"  {line}" for each in inputs for line in each.text.splitlines()]
    rows = pa.table({name: pa.array(column, pa.string()) for name, column in table.items()})
    return Explanation(reference, dict(key), moment(now), value, rows, "\n".join([head, *lines]), tuple(inputs))


def _input(
    stores: Stores, snapshot: Snapshot, read: ViewRead, feature: str, key: Mapping[str, Any], *, at: Micros,
    known_at: KnownAt,
) -> Explanation:  # fmt: skip
    selection = select(snapshot, f"{read.view.name}:{feature}", full_feature_names=True)
    own = {field.name: key[column] for field, column in zip(read.view.key_fields, read.keys, strict=True)}
    value = _value(stores, snapshot, selection, own, at, known_at)
    return _of_view(stores, selection.reads[0], f"{read.view.name}:{feature}", own, value, at=at, known_at=known_at)


def _with_online(
    stores: Stores, snapshot: Snapshot, selection: Selection, read: ViewRead, made: Explanation
) -> Explanation:
    """Add the current online value to an explanation."""
    view = read.view

    def history(*_: Any, **__: Any) -> Any:
        return {feature.output: [made.value] for feature in read.features}, [None]

    generation = current_generation(snapshot, view)
    if generation is None:
        text = "Online: the view has no rows yet; run `asof materialize` or the stream worker."
        return _replaced(made, {"value": None, "status": "NOT_FOUND", "event_time": None, "offsets": {}}, text)
    response, _ = OnlineReader(stores, snapshot, selection, history=history).read([dict(made.key)], at=micros(made.at))
    name = selection.outputs[0].name
    plain = plain_key(view.key_fields, {f.name: made.key[column] for f, column in zip(view.key_fields, read.keys)})
    ((row,),) = stores.online.read([Lookup(table_of(stores.project, view, generation), [key_bytes(plain)])])
    offsets: dict[int, int] = {}
    notes = []
    if row is not None and view.is_aggregated:
        state = decode(layout_of(view, generation), [row[0]])
        offsets = state.offsets_of(0)
        notes += ["its session is incomplete"] if state.incomplete[0] else []
        notes += ["the row exceeds its size limit"] if state.overflow[0] else []
    elif row is not None and view.source.is_log:
        offsets = dict(sorted(each.place for each in versions_of(row[0], len(view.features))))
    elif row is not None:
        packed = unpack_row(row[0])
        gone = gone_at(packed, len(view.features))
        notes += [
            f"the key was deleted at {iso(gone)}" if gone is not None else f"the row's event time is {iso(packed[1])}"
        ]
    value, status = response.to_dict()[name][0], response.statuses[name][0]
    online = {"value": value, "status": status, "event_time": response.event_times[name][0], "offsets": offsets}
    seen = [f"{ArchivePartition(each).described} up to offset {offset}" for each, offset in sorted(offsets.items())]
    notes += [f"the row has seen {', '.join(seen)}"] if seen and view.source.is_log else []
    notes += ["there is no row for this key"] if row is None else []
    return _replaced(made, online, f"Online now: {'; '.join([f'{_text(value)} ({status})', *notes])}.")


def _replaced(made: Explanation, online: Mapping[str, Any], text: str) -> Explanation:
    return replace(made, text=f"{made.text}\n{text}", online=online)


def _counted(why: npt.NDArray[Any]) -> str:
    counts = Counter("count" if each == "counts" else repr(each) for each in why.tolist())
    return ", ".join(f"{count} {each}" for each, count in counts.items())


def _key_text(key: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in key.items()) or "the view's only key"


def _text(value: Any) -> str:
    return "null" if value is None else str(value) if isinstance(value, Decimal) else repr(value)


__all__ = ["Explanation", "explain"]
