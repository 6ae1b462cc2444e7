"""Compare what is served with history, key by key, over exactly the events that each online row has seen."""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from asof.aggregation import State, decode
from asof.definitions import Aggregation, FeatureView, LogSource, Sliding, Snapshot, state_hash
from asof.errors import AsofError
from asof.flows.admin.explain import newest_event
from asof.flows.admin.sample import sampled_rows
from asof.flows.generations.writer import layout_of
from asof.flows.offline.compare import values_agree
from asof.flows.offline.inputs import rows_of
from asof.flows.offline.read import view_as_of, whole_view
from asof.flows.online.read import ViewReader
from asof.flows.rows.batch import batch_of_archive, keyed
from asof.flows.rows.keys import key_hash, restored_key
from asof.flows.stores import Parts, current_generation, table_of, view_named
from asof.offline.protocol import HISTORY
from asof.online.protocol import Lookup, Table
from asof.selection import FeatureOut, Selection, ViewRead, select
from asof.sources.protocol import Input
from asof.sql import archive as statements
from asof.sql.query import PointInTime
from asof.timing import Micros, iso, moment
from asof.values.fit import fit
from asof.values.from_arrow import python_values
from asof.values.packing import gone_at, key_bytes, key_values, plain_values, unpack_row, versions_of

_SCANNED_ROWS = 200_000
"""How many online rows are looked at for active ones."""

_PAGE = 2000
_POLL_S = 0.1

Vector = Mapping[int, int]
"""Partition → the last offset that counts."""


@dataclass
class AuditReport:
    """What an audit found.

    Attributes:
        keys: how many (view, key) pairs were compared; `active_keys`: those with a non-zero window or an open session.
        values, equal: how many values were compared, and how many were equal.
        differences: dicts of view, feature, key, at, online, historical and cause.
        views: per view its keys, active keys, differences, or why it was left out.
    """

    at: Micros
    keys: int = 0
    active_keys: int = 0
    values: int = 0
    equal: int = 0
    differences: list[dict[str, object]] = field(default_factory=list)
    views: list[dict[str, object]] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing differs, and everything could be compared."""
        return not self.differences

    def to_dict(self) -> dict[str, object]:
        return {
            "ok": self.ok, "at": iso(self.at), "keys": self.keys, "active_keys": self.active_keys,
            "values": self.values, "equal": self.equal, "differences": self.differences, "views": self.views,
        }  # fmt: skip


def audit(
    parts: Parts,
    snapshot: Snapshot,
    names: Sequence[str] | None = None,
    *,
    keys: int = 100,
    seed: int = 0,
    wait_s: float = 30.0,
) -> AuditReport:
    """Compare the online values of some keys with their historical ones, and name the cause of each difference.

    Keys are drawn by their hashes, active ones first; some come from history and some from nowhere, so that a row that
    got lost, or one that should not be, is noticed. Values are compared exactly; floats that were summed within 1e-9 of
    the sum of the magnitudes.

    Args:
        names: views and services; all views that are online where None.
        keys: how many keys of each view.
        wait_s: how long to wait for the archive to hold what the rows have seen.
    """
    report = AuditReport(parts.clock())
    for view in _views(snapshot, names):
        if not view.online or current_generation(snapshot, view) is None:
            why = "is not kept online" if not view.online else "has no online rows yet"
            report.views.append({"view": view.name, "left_out": why})
            continue
        if not (current_generation(snapshot, view) or "").startswith(state_hash(view)):
            # Rows of another definition mean something else, if they can be read at all.
            cause = "the definition changed since its rows were built: run `asof apply`, or `asof rebuild`"
            report.differences.append(
                {"view": view.name, "feature": None, "key": None, "at": iso(report.at), "online": None,
                 "historical": None, "cause": cause}
            )  # fmt: skip
            report.views.append({"view": view.name, "left_out": cause})
            continue
        _audit_view(parts, snapshot, view, report, keys=keys, seed=seed, wait_s=wait_s)
    return report


def _views(snapshot: Snapshot, names: Sequence[str] | None) -> list[FeatureView]:
    if names is None:
        return [view for view in snapshot.project.views.values() if view.online]
    views: dict[str, FeatureView] = {}
    for name in names:
        if name in snapshot.project.services or name in snapshot.project.on_demand_views:
            selection: Selection = select(snapshot, name, full_feature_names=True)
            views |= {read.view.name: read.view for read in selection.reads}
        else:
            views[name] = view_named(snapshot, name)
    return list(views.values())


@dataclass(frozen=True)
class _Served:
    """What one read of the online store answered.

    Args:
        keys: n packed keys.
        rows: n values as the store had them, or None.
        values: feature → n values.
        seen: n vectors; empty for views of batch sources.
        state: the rows' state, of an aggregated view.
    """

    keys: list[bytes]
    rows: list[bytes | None]
    values: Mapping[str, list[Any]]
    at: Micros
    seen: list[Vector]
    state: State | None


def _audit_view(
    parts: Parts, snapshot: Snapshot, view: FeatureView, report: AuditReport, *, keys: int, seed: int, wait_s: float
) -> None:
    table = table_of(parts.project, view, current_generation(snapshot, view) or "none")
    chosen = _choose(parts, view, table, count=keys, seed=seed)
    served = _serve(parts, snapshot, view, table, chosen)
    archived = _wait(parts, view, served.seen, seconds=wait_s)
    rows = _seen_rows(parts, view, served)
    read = whole_view(view)
    historical = _as_of(parts, read, served, rows)
    before = len(report.differences)
    active = _active(view, served)
    for i, key in enumerate(served.keys):
        missing = [
            f"partition {each}: seen {offset}, archived {archived.get(each, -1)}"
            for each, offset in served.seen[i].items() if offset > archived.get(each, -1)
        ]  # fmt: skip
        for feature in read.features:
            online, offline = served.values[feature.name][i], historical[feature.name][i]
            report.values += 1
            if not missing and _agree(parts, view, feature, online, offline, served, i, rows):
                report.equal += 1
                continue
            cause = (
                f"not archived yet ({missing[0]}): run the worker, then audit again"
                if missing
                else _cause(parts, view, table, served, i)
            )
            report.differences.append(
                {
                    "view": view.name, "feature": feature.name, "key": _shown_key(view, key),
                    "at": iso(served.at), "online": _plain(online), "historical": None if missing else _plain(offline),
                    "cause": cause,
                }
            )  # fmt: skip
    report.keys += len(served.keys)
    report.active_keys += sum(active)
    report.views.append(
        {"view": view.name, "keys": len(served.keys), "active_keys": sum(active),
         "differences": len(report.differences) - before}
    )  # fmt: skip


def _choose(parts: Parts, view: FeatureView, table: Table, *, count: int, seed: int) -> list[bytes]:
    """Packed keys: mostly of rows that are active, some out of history, a few unknown ones."""
    if not view.join_keys:
        return [key_bytes(())]
    unknown = _unknown_keys(view, max(count // 20, 1), seed)
    known = _keys_of_history(parts, view, count, seed)
    ranked = heapq.nsmallest(count - len(unknown), _ranked(parts, view, table, seed))
    chosen = dict.fromkeys([key for *_, key in ranked])
    # Where the rows fill the sample, some keys of history come on top: their rows may be lost.
    room = max(count - len(unknown) - len(chosen), count // 10)
    chosen |= dict.fromkeys([key for key in known if key not in chosen][:room])
    return [*chosen, *(key for key in unknown if key not in chosen)]


def _ranked(parts: Parts, view: FeatureView, table: Table, seed: int) -> Iterable[tuple[bool, int, bytes]]:
    """(is inactive, hash, key) of the online rows."""
    now = parts.clock() - view.delay
    layout = layout_of(view) if view.is_aggregated else None
    after, scanned = None, 0
    while scanned < _SCANNED_ROWS:
        page = parts.online.scan(table, after=after, limit=_PAGE)
        if layout is not None:
            state = decode(layout, [row[1] for row in page])
            reach = _reach(view)
            inactive = (state.horizon < now - reach) if reach is not None else np.zeros(len(page), dtype=bool)
        else:
            inactive = np.zeros(len(page), dtype=bool)
        yield from ((bool(idle), key_hash(row[0], seed), row[0]) for idle, row in zip(inactive, page, strict=True))
        scanned += len(page)
        if len(page) < _PAGE:
            return
        after = page[-1][0]


def _reach(view: FeatureView) -> Micros | None:
    """How far back the longest window reaches; None where one reaches back for ever."""
    windows = [each.window for each in view.aggregations if each.window is not None]
    if len(windows) < len(view.aggregations):
        return None
    return max(each.length if isinstance(each, Sliding) else each.gap for each in windows)


def _keys_of_history(parts: Parts, view: FeatureView, count: int, seed: int) -> list[bytes]:
    named = {key: key for key in view.join_keys}
    rows, _ = sampled_rows(parts, view.source, named, n=count, seed=seed, required=list(named))
    plain = [plain_values(fit(rows[field.name], field.dtype)[0], field.dtype) for field in view.key_fields]
    return list(dict.fromkeys(key_bytes(values) for values in zip(*plain, strict=True)))


def _unknown_keys(view: FeatureView, count: int, seed: int) -> list[bytes]:
    """Keys that most likely no one has; none where a key's type does not let us make any up."""
    made: list[bytes] = []
    for number in range(count):
        values: list[Any] = []
        for each in view.key_fields:
            drawn = key_hash(f"{each.name} {number}".encode(), seed)
            if each.dtype.is_integer:
                values.append(-1 - drawn % 2**31 if each.dtype.name == "Int32" else -1 - drawn % 2**62)
            elif each.dtype.name == "String":
                values.append(f"asof-audit-{drawn:x}")
            else:
                return []
        made.append(key_bytes(values))
    return made


def _serve(parts: Parts, snapshot: Snapshot, view: FeatureView, table: Table, keys: list[bytes]) -> _Served:
    """Read the keys as serving does, in one read, with what each row has seen."""

    def history(read: ViewRead, asked: Mapping[str, Sequence[Any]], at: Micros) -> Any:
        return view_as_of(parts, snapshot, read, asked, at), [None] * len(next(iter(asked.values()), [None]))

    reader = ViewReader(parts, snapshot, whole_view(view), history)
    # Progress is read first: what it says is in the rows, so a row that lacks it has lost it.
    progress = _progress(parts, table)
    (found,) = parts.online.read([Lookup(table, keys)])
    at = parts.clock()
    columns = _key_columns(view, keys)
    values: dict[str, list[Any]] = {}
    reader.answer(found, keys=columns, at=at, values=values, windows=None)
    blobs = [None if row is None else row[0] for row in found]
    state = decode(layout_of(view), blobs) if view.is_aggregated else None
    seen: list[Vector] = [{}] * len(keys)
    if isinstance(view.source, LogSource):
        seen = [_joined(progress, each) for each in _offsets(view, blobs, state)]
    return _Served(keys, blobs, values, at, seen, state)


def _progress(parts: Parts, table: Table) -> dict[int, int]:
    facts = parts.online.progress(table)
    word = "partition "
    return {int(name.removeprefix(word)): int(offset) for name, offset in facts.items() if name.startswith(word)}


def _offsets(view: FeatureView, rows: Sequence[bytes | None], state: State | None) -> Iterable[dict[int, int]]:
    """What each row says it has seen."""
    for i, row in enumerate(rows):
        if row is None:
            yield {}
        elif state is not None:
            yield state.offsets_of(i)
        else:
            seen: dict[int, int] = {}
            for each in versions_of(row, len(view.features)):
                seen[each.partition] = max(each.offset, seen.get(each.partition, -1))
            yield seen


def _joined(one: Vector, other: Vector) -> dict[int, int]:
    return {each: max(one.get(each, -1), other.get(each, -1)) for each in {*one, *other} if each != HISTORY}


def _key_columns(view: FeatureView, keys: Sequence[bytes]) -> dict[str, list[Any]]:
    rows = [restored_key(view.key_fields, key_values(key)) for key in keys]
    return {each.name: [row[each.name] for row in rows] for each in view.key_fields}


def _wait(parts: Parts, view: FeatureView, seen: Sequence[Vector], *, seconds: float) -> dict[int, int]:
    """Until the archive holds what the rows have seen; how far it is then."""
    wanted: dict[int, int] = {}
    for each in seen:
        wanted = {**wanted, **_joined(wanted, each)}
    if not wanted:
        return {}
    until = time.monotonic() + seconds
    while True:
        archived = parts.offline.offsets(parts.archive_of(view.source), sorted(wanted))
        if all(archived[each] >= offset for each, offset in wanted.items()) or time.monotonic() >= until:
            return archived
        time.sleep(_POLL_S)


def _seen_rows(parts: Parts, view: FeatureView, served: _Served) -> pa.Table | Input | None:
    """The history that the rows should agree with: of a log, each key's events up to what its row has seen."""
    source = view.source
    rows = rows_of(parts, source)
    if not isinstance(source, LogSource) or rows is None:
        return rows
    text = statements.rows_among(
        [source.raw(key) for key in view.join_keys], view.join_keys, dialect=parts.offline.dialect
    )
    inputs = {"archive": rows}
    if view.join_keys:
        inputs["asked"] = _key_table(view, served.keys)
    table = parts.offline.sql(text, inputs).reader().read_all()
    batch = batch_of_archive(source, table)
    distinct = keyed(view, batch.rows)
    partitions, columns_of = np.unique(batch.partition, return_inverse=True)
    limits = np.full((len(distinct.keys), len(partitions)), -1, dtype=np.int64)
    by_key = dict(zip(served.keys, served.seen, strict=True))
    for i, key in enumerate(distinct.keys):
        for j, partition in enumerate(partitions.tolist()):
            limits[i, j] = 2**62 if partition == HISTORY else by_key.get(key, {}).get(partition, -1)
    return table.filter(pa.array(batch.offset <= limits[distinct.rows, columns_of]))


def _key_table(view: FeatureView, keys: Sequence[bytes]) -> pa.Table:
    columns = _key_columns(view, keys)
    return pa.table({each.name: pa.array(columns[each.name], each.dtype.arrow()) for each in view.key_fields})


def _as_of(
    parts: Parts, read: ViewRead, served: _Served, rows: Any, *, only: Sequence[int] | None = None
) -> dict[str, list[Any]]:
    """A view's features as of the moment of the read, over the given rows: output → values."""
    keys = served.keys if only is None else [served.keys[i] for i in only]
    spine = _key_table(read.view, keys)
    at = pa.repeat(pa.scalar(moment(served.at), pa.timestamp("us", "UTC")), len(keys))
    spine = spine.append_column("asof_at", at) if spine.num_columns else pa.table({"asof_at": at})
    result = parts.offline.run(PointInTime((read,), "asof_at"), {read.view.source.name: rows}, spine=spine)
    table = result.reader().read_all()
    return {each.output: python_values(table[each.output]) for each in read.features}


def _active(view: FeatureView, served: _Served) -> list[bool]:
    """Which keys have a non-zero window or an open session."""
    if not view.is_aggregated:
        return [False] * len(served.keys)
    return [any(values[i] not in (None, 0, []) for values in served.values.values()) for i in range(len(served.keys))]


def _agree(
    parts: Parts, view: FeatureView, feature: FeatureOut, online: Any, offline: Any, served: _Served, i: int, rows: Any
) -> bool:
    if values_agree(online, offline):
        return True
    if not (isinstance(online, float) and isinstance(offline, float) and view.is_aggregated):
        return False
    made = next(each for each in view.aggregations if each.name == feature.name)
    if made.function not in ("sum", "mean", "std", "var"):
        return False
    # Only where two floats differ it is worth summing the magnitudes that they were made from.
    size = f"abs({made.column})" if made.function != "var" else f"abs(({made.column}) * ({made.column}))"
    magnitude = Aggregation(size, "sum", name="asof_magnitude", where=made.where or None, window=made.window)
    magnitude = magnitude.with_dtype(feature.dtype)
    sized = view.resolved(schema=view.schema, aggregations=[magnitude])
    read = ViewRead(sized, view.join_keys, (FeatureOut("asof_magnitude", "asof_magnitude", feature.dtype),))
    try:
        found = _as_of(parts, read, served, rows, only=[i])["asof_magnitude"][0]
    except AsofError:
        return False
    return values_agree(online, offline, magnitude=abs(found or 0.0))


def _cause(parts: Parts, view: FeatureView, table: Table, served: _Served, i: int) -> str:
    """Why a key's value differs, as far as its row tells."""
    state = served.state
    if state is not None and state.overflow[i]:
        return f"row overflow: the packed row would pass {parts.max_row_bytes} bytes, so it answers null"
    if state is not None and state.incomplete[i]:
        return "incomplete session: a very late event may touch it; the worker recomputes it at its next flush"
    if isinstance(view.source, LogSource):
        base = parts.online.progress(table)
        if parts.offline.offsets(parts.archive_of(view.source), [HISTORY])[HISTORY] >= 0 and (
            f"partition {HISTORY}" not in base
        ):
            return "history was loaded after these rows were built: run `asof rebuild`"
        if served.rows[i] is None:
            return "the row is missing: events that were fed to this generation are not in it; run `asof rebuild`"
        if state is not None and int(state.horizon[i]) > served.at - view.delay:
            return "behind clock: the row has merged events later than the clock"
        return "unknown: run `asof explain` for this key, and `asof rebuild` if it stays"
    return _batch_cause(parts, view, served, i)


def _batch_cause(parts: Parts, view: FeatureView, served: _Served, i: int) -> str:
    """Batch rows become visible online when they are materialized."""
    row = served.rows[i]
    if row is None:
        return "not materialized: run `asof materialize`"
    if served.state is not None:
        reached = int(served.state.horizon[i])
    else:
        packed = unpack_row(row)
        gone = gone_at(packed, len(view.features))
        reached = packed[1] if gone is None else gone
    newest = newest_event(parts, view, key_values(served.keys[i]), served.at - view.delay)
    if newest is not None and newest > reached:
        return f"later batch rows (up to {iso(newest)}) are not materialized: run `asof materialize`"
    return "the source's rows changed since they were materialized: run `asof materialize --full`"


def _plain(value: Any) -> Any:
    """A value for JSON and for people."""
    return value if value is None or isinstance(value, bool | int | float | str | list) else str(value)


def _shown_key(view: FeatureView, key: bytes) -> dict[str, Any]:
    return {name: _plain(value) for name, value in restored_key(view.key_fields, key_values(key)).items()}


__all__ = ["AuditReport", "audit"]
