"""Keys of the archive whose online rows are lost, found by looking up a sample of them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from asof.defaults import SEED
from asof.definitions import FeatureView, Snapshot
from asof.flows.admin.audited_rows import ServedValues, features_as_of, seen_rows, serve_keys
from asof.flows.offline.compare import values_agree
from asof.flows.offline.inputs import rows_of
from asof.flows.offline.key_rows import whole_view
from asof.flows.rows.counts import count
from asof.flows.stores import Stores
from asof.online.protocol import OnlineTable
from asof.sql import archive as statements
from asof.values.fit import fit
from asof.values.packing import key_bytes, plain_values

SAMPLED_KEYS = 200
"""How many of an archive's keys are looked up, for each view."""


@dataclass(frozen=True)
class LostKeys:
    """The outcome of looking up a sample of an archive's keys.

    Args:
        sampled: number of keys.
        lost: packed keys without an online row that history has values of.
    """

    sampled: int
    lost: Sequence[bytes]


def lost_keys(stores: Stores, snapshot: Snapshot, view: FeatureView, table: OnlineTable) -> LostKeys:
    """Look up a sample of the keys that the archive of a view's source has.

    A key may lack a row because it has expired, was deleted, or has no event in any window: it is lost only where
    history, over the events that were fed, has another value than is served. Nothing is waited for.
    """
    keys = _sampled(stores, view)
    served = serve_keys(stores, snapshot, view, table, keys)
    missing = [i for i, row in enumerate(served.rows) if row is None]
    if not missing:
        return LostKeys(len(keys), [])
    some = _only(served, missing)
    read = whole_view(view)
    historical = features_as_of(stores, read, some, seen_rows(stores, view, some))
    lost = [
        key
        for i, key in enumerate(some.keys)
        if not all(values_agree(some.values[each.name][i], historical[each.name][i]) for each in read.features)
    ]
    return LostKeys(len(keys), lost)


def _sampled(stores: Stores, view: FeatureView) -> list[bytes]:
    """Packed keys, others for each view and state of the archive, and the same for each look at it."""
    rows = rows_of(stores, view.source, [view])
    if rows is None:
        return []
    if not view.join_keys:
        return [key_bytes(())]
    names = [view.source.raw(field.name) for field in view.key_fields]
    held = count(stores, rows)
    # Keys repeat: more rows than keys are read, and all of a small archive.
    one_in = max(held // (50 * SAMPLED_KEYS), 1)
    drawn = random.Random(f"{SEED} {view.name} {held}")
    text = statements.sampled_keys(names, one_in=one_in, place=drawn.randrange(one_in), most=10 * SAMPLED_KEYS)
    table = stores.offline.sql(text, {"archive": rows}).reader().read_all()
    plain = [
        plain_values(fit(table[name], field.dtype)[0], field.dtype)
        for name, field in zip(names, view.key_fields, strict=True)
    ]
    found = sorted({key_bytes(values) for values in zip(*plain, strict=True)})
    return drawn.sample(found, min(SAMPLED_KEYS, len(found)))


def _only(served: ServedValues, indexes: Sequence[int]) -> ServedValues:
    """Some of the keys."""
    return replace(
        served, keys=[served.keys[i] for i in indexes], rows=[served.rows[i] for i in indexes],
        values={name: [values[i] for i in indexes] for name, values in served.values.items()},
        seen=[served.seen[i] for i in indexes], state=None,
    )  # fmt: skip


__all__ = ["LostKeys", "lost_keys"]
