"""All values through one source with a column per case: by messages and by pushes, on any engine and online store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from asof import Entity, FeatureStore, FeatureView, Field, LogSource, PushSource
from asof.types import Int64, Timestamp
from tests.matrix.cases import CASES, NOON, REFUSED, US
from tests.matrix.messages import FORMATS, columns_of
from tests.matrix.outcomes import Refused
from tests.matrix.runs import AT, Found, ways_out

THING = Entity("thing", join_keys=["user"])


def sent(store: FeatureStore, kind: str, leave_out: Sequence[str] = ()) -> Found:
    """Each message case of a format as a message of its own, which sets that case's column alone.

    Args:
        leave_out: cases whose types the offline store has no place for.
    """
    cases, write = FORMATS[kind]
    cases = {name: case for name, case in cases.items() if name not in leave_out}
    columns, written = columns_of(cases), write(cases)
    fields = [Field("user", Int64), *(Field(columns[name], case.dtype) for name, case in cases.items())]
    unit: dict[str, Any] = {"timestamp_unit": "us"} if kind == "protobuf" else {}
    at = Field("at", Int64 if kind == "protobuf" else Timestamp)
    source = LogSource(
        f"{kind}_rows", schema=[*fields, at], timestamp_field="at", message_format=written.message_format, **unit
    )
    view = FeatureView(f"{kind}_view", entities=[THING], source=source, schema=fields)
    store.apply([THING, source, view])
    positions = dict(zip(store.send(source.name, written.values), cases, strict=True))
    store.stream_run([source.name], until_caught_up=True)
    refused = {}
    for dead_letter in store.dead_letters(source.name, limit=len(cases)).to_dicts():
        place = dead_letter["partition"], dead_letter["offset"]
        refused[positions[place]] = Refused(dead_letter["reason"])  # type: ignore[index]
    users = {name: place for place, name in enumerate(cases, 1)}
    found = read_by_case(store, view.name, users, columns)
    return {way: {**each, **refused} for way, each in found.items()}


def read_by_case(store: FeatureStore, view: str, users: Mapping[str, int], columns: Mapping[str, str]) -> Found:
    """What each case's user has in the case's column, by both sides."""
    keys = list(users.values())
    frame = pa.table({"user": pa.array(keys, pa.int64()), "event_timestamp": pa.array([AT] * len(keys), US)})
    trained = store.get_historical_features(frame, [view]).to_arrow()
    served = store.get_online_features([view], {"user": keys}).to_dict()
    return {
        "trained": {name: trained[columns[name]][place].as_py() for place, name in enumerate(users)},
        "served": {name: served[columns[name]][place] for place, name in enumerate(users)},
    }


def pushed_in_one_row(store: FeatureStore, leave_out: Sequence[str] = ()) -> Found:
    """All values that fit as one pushed row; the next row is null in every column."""
    fit = {name: case for name, case in CASES.items() if case.expected is not REFUSED and name not in leave_out}
    fit = {
        name: case
        for name, case in fit.items()
        if not isinstance(case.expected, Exception) and name != "struct into string"
    }
    columns = {name: f"c{place}" for place, name in enumerate(fit)}
    fields = [Field("user", Int64), *(Field(columns[name], case.dtype) for name, case in fit.items())]
    source = PushSource("one_row", schema=[*fields, Field("at", Timestamp)], timestamp_field="at")
    view = FeatureView("one_row_view", entities=[THING], source=source, schema=fields)
    store.apply([THING, source, view])
    rows = {columns[name]: pa.array([case.given, None], case.kind) for name, case in fit.items()}
    store.push(source.name, pa.table({"user": pa.array([1, 2]), "at": pa.array([NOON, NOON], US), **rows}))
    frame = pa.table({"user": pa.array([1, 2], pa.int64()), "event_timestamp": pa.array([AT, AT], US)})
    found: Found = {}
    for side, result in (
        ("trained", store.get_historical_features(frame, [view])),
        ("served", store.get_online_features([view], {"user": [1, 2]})),
    ):
        ways = ways_out(side, result, columns)
        found |= ways
        table = result.to_arrow()
        assert [table[column][1].as_py() for column in columns.values()] == [None] * len(columns)
    return found


__all__ = ["THING", "pushed_in_one_row", "read_by_case", "sent"]
