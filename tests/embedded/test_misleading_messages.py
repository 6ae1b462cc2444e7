"""Mistakes that new users make, and what they are told to do: the hint must lead to what works."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asof import Aggregation, Entity, FeatureStore, FeatureView, Field, FileSource, LogSource, Sliding
from asof.errors import AsofError
from asof.types import Int64, Timestamp

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
AT = pa.array([NOON], pa.timestamp("us", "UTC"))
USER = Entity("user", join_keys=["user_id"])
DAY = Sliding("1d")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FeatureStore]:
    (tmp_path / "feature_store.yaml").write_text("project: shop\n")
    rows = {"user_id": [1], "price": [7], "unit price": [3], "order": [1], "seen": AT}
    pq.write_table(pa.table(rows), tmp_path / "sales.parquet")
    made = FeatureStore(tmp_path, clock=lambda: NOON)
    made.apply([FeatureView("latest", entities=[USER], source=sales(), schema=[Field("price", Int64)])])
    made.materialize()
    yield made
    made.close()


def sales(timestamp_field: str = "seen") -> FileSource:
    return FileSource("sales.parquet", name="sales", timestamp_field=timestamp_field)


def counted(**options: Any) -> FeatureView:
    return FeatureView("counted", entities=[USER], source=sales(), aggregations=[Aggregation(window=DAY, **options)])


def orders(transform: str) -> FeatureView:
    columns = [Field("user_id", Int64), Field("order", Int64), Field("at", Timestamp)]
    source = LogSource(
        name="orders", topic="orders", message_format="json", schema=columns, timestamp_field="at", transform=transform
    )
    return FeatureView("ordered", entities=[USER], source=source, schema=[Field("order", Int64)])


def frame(**columns: Any) -> pa.Table:
    return pa.table({"user_id": [1], "event_timestamp": AT, **columns})


def says(store: FeatureStore, work: Callable[[FeatureStore], Any]) -> str:
    """The error, or the errors of a plan."""
    try:
        found = work(store)
    except AsofError as error:
        return str(error)
    return "\n".join(map(str, found.errors))


MISTAKES: dict[str, tuple[Callable[[FeatureStore], Any], str]] = {
    "a column with a space as an aggregation's": (
        lambda store: counted(column="unit price", function="sum"), "write column='\"unit price\"'",
    ),
    "a column with a space in a condition": (
        lambda store: store.plan([counted(function="count", where="unit price > 1")]),
        'a name with spaces is written in double quotes: "unit price"',
    ),
    "the time column renamed": (
        lambda store: store.plan([FeatureView("other", entities=[USER], source=sales("at"), schema=[])]),
        "columns that are times: 'seen'",
    ),
    "all features of a view with a star": (
        lambda store: store.get_historical_features(frame(), ["latest:*"]),
        "write 'latest' for all features of the view",
    ),
    "all features of a view with a star, online": (
        lambda store: store.get_online_features(["latest:*"], [{"user_id": 1}]),
        "write 'latest' for all features of the view",
    ),
    "a join key in other letters, in a frame": (
        lambda store: store.get_historical_features(
            pa.table({"User_ID": [1], "event_timestamp": AT}), ["latest:price"]
        ).to_arrow(),
        "rename its column 'User_ID' to 'user_id'",
    ),
    "a join key in other letters, in a request": (
        lambda store: store.get_online_features(["latest:price"], [{"userId": 1}]),
        "rename its column 'userId' to 'user_id'",
    ),
    "a join key in other letters, in columns of a request": (
        lambda store: store.get_online_features(["latest:price"], {"userid": [1]}),
        "rename its column 'userid' to 'user_id'",
    ),
    "a word of SQL as a column of an SQL frame": (
        lambda store: store.get_historical_features("SELECT user_id, order FROM sales", ["latest:price"]).to_arrow(),
        "names that are keywords of SQL (order, at, user, …) are written in double quotes",
    ),
    "a column of another table of that name in an SQL frame": (
        lambda store: store.get_historical_features("SELECT user_id, sold_at FROM sales", ["latest:price"]).to_arrow(),
        "in this SQL, sales is source 'sales' (",
    ),
    "a word of SQL as a column of a transform": (
        lambda store: store.plan([orders("SELECT user_id, order, at FROM message")]),
        "names that are keywords of SQL (order, at, …) are written in double quotes",
    ),
    "rows pushed to a file": (
        lambda store: store.push("sales", [{"user_id": 1}]), "define a LogSource or PushSource",
    ),
    "a key to explain without its name": (
        lambda store: store.explain("latest:price", 1), "write for example {'user_id': 7}",  # type: ignore[arg-type]
    ),
    "times of a frame in another unit": (
        lambda store: store.get_historical_features(
            frame(event_timestamp=pa.array([2**62], pa.timestamp("us"))), ["latest:price"]
        ).to_arrow(),
        "the entity frame's time 'event_timestamp' is beyond the calendar",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_common_mistake_is_answered_with_what_works(mistake: str, store: FeatureStore) -> None:
    work, hint = MISTAKES[mistake]

    assert hint in says(store, work)


def test_the_hints_work(store: FeatureStore) -> None:
    plan = store.plan(
        [counted(column='"unit price"', function="sum", where='"unit price" > 1 AND "order" = 1', name="total")]
    )
    assert not plan.errors
    assert not store.plan([orders('SELECT user_id, "order", "at" FROM message')]).errors
    assert store.get_online_features(["latest"], [{"user_id": 1}]).to_dict()["price"] == [7]
