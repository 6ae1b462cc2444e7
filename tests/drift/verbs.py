"""A store over a table of sales, the ways in which the table can change, and the verbs that read it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from asof import Aggregation, Entity, FeatureStore, FeatureView, Field, PushSource, Sliding
from asof.definitions import Source
from asof.errors import AsofError
from asof.types import Int64, String, Timestamp

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
AT = pa.array([NOON - timedelta(hours=1)] * 2, pa.timestamp("us", "UTC"))
ROWS: dict[str, Any] = {"user_id": [1, 2], "amount": [7, 8], "label": ["a", "b"], "at": AT}
USER = Entity("user", join_keys=["user_id"])


def changed(**columns: Any) -> dict[str, Any]:
    """The rows with other columns; those that are None are gone."""
    return {name: values for name, values in {**ROWS, **columns}.items() if values is not None}


CHANGES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "a feature renamed": (
        changed(amount=None, amounts=[7, 8]), ("there is no column 'amount'", "Int64", "did you mean 'amounts'?"),
    ),
    "a feature dropped": (changed(amount=None), ("there is no column 'amount'", "Int64", "it has 'user_id', ")),
    "a feature retyped": (changed(amount=["many", "few"]), ("column 'amount'", "Int64")),
    "a key renamed": (
        changed(user_id=None, userid=[1, 2]), ("there is no column 'user_id'", "Int64", "did you mean 'userid'?"),
    ),
    "a key retyped": (changed(user_id=["one", "two"]), ("column 'user_id'", "Int64")),
    "the time renamed": (changed(at=None, seen=AT), ("there is no column 'at'", "a time", "'seen'")),
    "the time retyped": (changed(at=["noon", "later"]), ("column 'at'",)),
}  # fmt: skip
"""What changed → the rows from then on, and what has to be said."""


def frame() -> pa.Table:
    return pa.table({"user_id": [1], "event_timestamp": pa.array([NOON], pa.timestamp("us", "UTC"))})


VERBS: dict[str, Callable[[FeatureStore], Any]] = {
    "materialize": lambda store: store.materialize(feature_views=["latest"]),
    "materialize windows": lambda store: store.materialize(feature_views=["counted"]),
    "materialize all": lambda store: store.materialize(feature_views=["latest"], full=True),
    "rebuild": lambda store: store.rebuild(["latest"]),
    "historical features": lambda store: store.get_historical_features(frame(), ["latest:amount"]).to_arrow(),
    "historical windows": lambda store: store.get_historical_features(frame(), ["counted:spent"]).to_arrow(),
    "historical features without a frame": lambda store: store.get_historical_features(
        None, ["latest:amount"]
    ).to_arrow(),
    "historical features of an SQL frame": lambda store: store.get_historical_features(
        "SELECT 1 AS user_id, TIMESTAMPTZ '2026-01-01 12:00:00Z' AS event_timestamp", ["latest:amount"]
    ).to_arrow(),
    "save": lambda store: store.get_historical_features(frame(), ["latest:amount"]).save("other"),
    "sample": lambda store: store.sample("latest", n=1),
    "sample of windows": lambda store: store.sample("counted", n=1),
    "sample by entities": lambda store: store.sample("latest", n=1, by="entities"),
    "audit": lambda store: store.audit(["latest"]),
    "explain": lambda store: store.explain("latest:amount", {"user_id": 1}),
    "explain windows": lambda store: store.explain("counted:spent", {"user_id": 1}),
    "backfill": lambda store: store.backfill("clicks"),
    "rebuild of a training set": lambda store: store.rebuild_training_set("saved"),
}


def definitions(source: Source) -> list[Any]:
    schema = [Field("user_id", Int64), Field("amount", Int64), Field("at", Timestamp)]
    clicks = PushSource(name="clicks", schema=schema, timestamp_field="at", batch_source=source)
    spent = Aggregation(column="amount", function="sum", window=Sliding("1d"), name="spent")
    return [
        FeatureView(
            "latest", entities=[USER], source=source, schema=[Field("amount", Int64), Field("label", String)]
        ),
        FeatureView("counted", entities=[USER], source=source, aggregations=[spent]),
        FeatureView("clicked", entities=[USER], source=clicks, schema=[Field("amount", Int64)]),
    ]  # fmt: skip


def used_store(folder: Path, source: Source) -> FeatureStore:
    """A store whose views are applied, materialized and saved as a training set."""
    store = FeatureStore(folder, clock=lambda: NOON)
    store.apply(definitions(source))
    store.materialize()
    store.get_historical_features(frame(), ["latest:amount", "counted:spent"]).save("saved")
    return store


def says(store: FeatureStore, verb: str) -> AsofError:
    with pytest.raises(AsofError) as caught:
        VERBS[verb](store)
    return caught.value


def check_verb(store: FeatureStore, verb: str, change: str) -> None:
    """The verb says what has changed: the object and its place, what was expected and found, and the next step."""
    if verb.startswith("sample by entities") and "key" not in change:
        return  # it asks for keys alone
    error = says(store, verb)
    text = str(error)
    for words in ("source 'sales'", ".py:", *CHANGES[change][1]):
        assert words in text, text
    assert error.hint


def check_doctor(store: FeatureStore, change: str) -> None:
    found = {each.part: each for each in store.doctor()}["source sales"]
    assert not found.ok
    for words in CHANGES[change][1]:
        assert words in f"{found.text}; {found.hint}", found
