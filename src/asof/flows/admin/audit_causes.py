"""The cause of a difference between a served value and history, as far as the online row shows it."""

from __future__ import annotations

from asof.definitions import FeatureView, LogSource
from asof.flows.admin.audited_rows import ServedValues
from asof.flows.generations.progress import progress_of
from asof.flows.offline.key_rows import newest_event
from asof.flows.stores import Stores
from asof.online.protocol import OnlineTable
from asof.sql.partitions import HISTORY
from asof.timing import iso
from asof.values.packing import gone_at, key_values, unpack_row


def cause_of(stores: Stores, view: FeatureView, table: OnlineTable, served: ServedValues, i: int) -> str:
    """The cause of a key's difference, as far as its online row shows it."""
    state = served.state
    if state is not None and state.overflow[i]:
        return f"row overflow: the packed row would exceed {stores.max_row_bytes} bytes, so it returns null"
    if state is not None and state.incomplete[i]:
        return "incomplete session: a very late event may change it; the worker recomputes it at its next flush"
    if isinstance(view.source, LogSource):
        reached = progress_of(stores.online, table).reached
        if stores.offline.offsets(stores.archive_of(view.source), [HISTORY])[HISTORY] > reached.get(HISTORY, -1):
            return f"history was loaded after these rows were built: run `asof backfill {view.source.name}`"
        if served.rows[i] is None:
            return "the row is missing: events written to this generation are lost; run `asof rebuild`"
        if state is not None and int(state.horizon[i]) > served.at - view.delay:
            return "behind clock: the row has events later than the clock"
        return "unknown: run `asof explain` for this key, and `asof rebuild` if the difference remains"
    return _batch_cause(stores, view, served, i)


def _batch_cause(stores: Stores, view: FeatureView, served: ServedValues, i: int) -> str:
    """The cause for a view with a batch source, whose rows are online once they are materialized."""
    row = served.rows[i]
    if row is None:
        return "not materialized: run `asof materialize`"
    if served.state is not None:
        reached = int(served.state.horizon[i])
    else:
        packed = unpack_row(row)
        gone = gone_at(packed, len(view.features))
        reached = packed[1] if gone is None else gone
    newest = newest_event(stores, view, key_values(served.keys[i]), served.at - view.delay)
    if newest is not None and newest > reached:
        return f"later batch rows (up to {iso(newest)}) are not materialized: run `asof materialize`"
    return "the source's rows changed since they were materialized: run `asof materialize --full`"
