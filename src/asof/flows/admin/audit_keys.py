"""The keys that an audit compares: mostly active ones, some from history, some unknown ones."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import Any

import numpy as np

from asof.aggregation import decode
from asof.definitions import FeatureView, Sliding
from asof.flows.admin.sample import sampled_rows
from asof.flows.generations.layout import layout_of
from asof.flows.rows.keys import key_hash
from asof.flows.rows.pages import pages_of
from asof.flows.stores import Stores
from asof.online.protocol import OnlineTable
from asof.timing import Micros
from asof.values.fit import fit
from asof.values.packing import key_bytes, plain_values

_SCANNED_ROWS = 200_000
"""Number of online rows that are scanned for active keys."""


def choose_keys(stores: Stores, view: FeatureView, table: OnlineTable, *, count: int, seed: int) -> list[bytes]:
    """Packed keys: mostly of active rows, some from history, a few unknown ones."""
    if not view.join_keys:
        return [key_bytes(())]
    unknown = _unknown_keys(view, max(count // 20, 1), seed)
    known = _keys_of_history(stores, view, count, seed)
    ranked = heapq.nsmallest(count - len(unknown), _ranked(stores, view, table, seed))
    chosen = dict.fromkeys([key for *_, key in ranked])
    # Always add some keys from history: their online rows may be lost.
    room = max(count - len(unknown) - len(chosen), count // 10)
    chosen |= dict.fromkeys([key for key in known if key not in chosen][:room])
    return [*chosen, *(key for key in unknown if key not in chosen)]


def _ranked(stores: Stores, view: FeatureView, table: OnlineTable, seed: int) -> Iterable[tuple[bool, int, bytes]]:
    """(is inactive, hash, key) of the online rows."""
    now = stores.clock() - view.delay
    layout = layout_of(view, table.generation) if view.is_aggregated else None
    for page in pages_of(stores, table, most_rows=_SCANNED_ROWS):
        inactive = np.zeros(len(page), dtype=bool)
        if layout is not None and (reach := _reach(view)) is not None:
            inactive = decode(layout, [row[1] for row in page]).horizon < now - reach
        yield from ((bool(idle), key_hash(row[0], seed), row[0]) for idle, row in zip(inactive, page, strict=True))


def _reach(view: FeatureView) -> Micros | None:
    """Length of the longest window; None if one is unbounded."""
    windows = [each.window for each in view.aggregations if each.window is not None]
    if len(windows) < len(view.aggregations):
        return None
    return max(each.length if isinstance(each, Sliding) else each.gap for each in windows)


def _keys_of_history(stores: Stores, view: FeatureView, count: int, seed: int) -> list[bytes]:
    named = {key: key for key in view.join_keys}
    rows, _ = sampled_rows(stores, view.source, [view], named, n=count, seed=seed, required=list(named))
    plain = [plain_values(fit(rows[field.name], field.dtype)[0], field.dtype) for field in view.key_fields]
    return list(dict.fromkeys(key_bytes(values) for values in zip(*plain, strict=True)))


def _unknown_keys(view: FeatureView, count: int, seed: int) -> list[bytes]:
    """Random keys that most likely do not exist; none for key types that cannot be generated."""
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
