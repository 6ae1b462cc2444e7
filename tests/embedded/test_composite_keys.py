"""Keys of several columns of every type, on every way that reads an archive by key: the same on every offline store."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal as Number
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from asof.definitions import Aggregation, Entity, FeatureView, Field, PushSource, Session, Sliding
from asof.store import FeatureStore
from asof.timing import MINUTE, iso, micros, moment
from asof.types import Bool, Bytes, Date, Decimal, Int32, Int64, String, Timestamp

NOW = micros("2026-01-01T12:00:00+00:00")
TIMES = pa.timestamp("us", "UTC")
KEYS = {
    "text": String, "raw": Bytes, "small": Int32, "big": Int64, "flag": Bool, "day": Date, "moment": Timestamp,
    "price": Decimal(12, 2),
}  # fmt: skip
ONE = {
    "text": "O'Brien \\ \"é\" 100%", "raw": b"\x00\xff'", "small": -(2**31), "big": -(2**63), "flag": True,
    "day": dt.date(1969, 12, 31), "moment": dt.datetime(1969, 12, 31, 23, 59, 59, 999_999, dt.UTC),
    "price": Number("-1234567890.50"),
}  # fmt: skip
OTHER = {
    "text": "", "raw": b"", "small": 2**31 - 1, "big": 2**63 - 1, "flag": False, "day": dt.date(9999, 12, 31),
    "moment": dt.datetime(1, 1, 1, tzinfo=dt.UTC), "price": Number("0.00"),
}  # fmt: skip
CASES = [
    ("text", "big"), ("raw", "small"), ("moment", "text"), ("day", "price"), ("flag", "raw"), ("price",), ("moment",),
    tuple(KEYS),
]  # fmt: skip


def fields(*more: Field) -> list[Field]:
    return [
        *(Field(name, dtype) for name, dtype in KEYS.items()), Field("op", String), Field("n", Int64),
        Field("at", Timestamp), *more,
    ]  # fmt: skip


def definitions(keys: tuple[str, ...]) -> list[Any]:
    entity = Entity("thing", join_keys=list(keys))
    source = PushSource("things", fields(), "at", delete_when="op = 'gone' AND n > 0")
    return [
        entity, source, FeatureView("newest", entities=[entity], source=source, schema=[Field("n", Int64)]),
        FeatureView("windows", entities=[entity], source=source, aggregations=[
            Aggregation("n", "sum", window=Sliding("1h"), name="total"), Aggregation("", "count", name="ever"),
            Aggregation("", "count", window=Session("10m"), name="session"),
        ]),
    ]  # fmt: skip


def rows(*given: tuple[dict[str, Any], int, int, str]) -> pa.Table:
    """Rows of (key, n, minutes before `NOW`, operation)."""
    columns: dict[str, Any] = {
        name: pa.array([row[0][name] for row in given], dtype.arrow()) for name, dtype in KEYS.items()
    }
    columns["op"] = pa.array([row[3] for row in given], pa.string())
    columns["n"] = pa.array([row[1] for row in given], pa.int64())
    columns["at"] = pa.array([NOW - row[2] * MINUTE for row in given], pa.int64()).cast(TIMES)
    return pa.table(columns)


EVENTS = rows(
    (ONE, 1, 30, "new"), (ONE, 2, 20, "new"), (ONE, 5, 2, "new"), (OTHER, 3, 15, "new"), (OTHER, 4, 5, "gone"),
    (OTHER, 0, 4, "gone"),
)  # fmt: skip


class CompositeKeysSuite:
    """A subclass gives the fixture `offline`: the text of the `offline_store` section."""

    @pytest.fixture(params=CASES, ids="-".join)
    def keys(self, request: pytest.FixtureRequest) -> tuple[str, ...]:
        return request.param

    @pytest.fixture
    def store(self, tmp_path: Path, offline: str, keys: tuple[str, ...]) -> Iterator[FeatureStore]:
        text = f"project: shop\nclock: {iso(NOW)}\noffline_store: {offline}\n"
        (tmp_path / "feature_store.yaml").write_text(text, encoding="utf-8")
        with FeatureStore(tmp_path) as store:
            store.apply(definitions(keys))
            store.push("things", EVENTS)
            yield store
            store.teardown(purge=True)

    def test_audit_explain_rebuild_and_forget_find_the_key(self, store: FeatureStore, keys: tuple[str, ...]) -> None:
        one, other = ({name: each[name] for name in keys} for each in (ONE, OTHER))
        features = ["newest:n", "windows:total", "windows:ever", "windows:session"]
        wanted = {"n": [5, 0], "total": [8, 3], "ever": [3, 2], "session": [1, 1]}

        def assert_all_is_well(wanted: dict[str, list[Any]]) -> None:
            report = store.audit()
            assert report.ok and report.keys, report.to_dict()
            served = store.get_online_features(features, [one, other]).to_dict()
            assert {name: served[name] for name in wanted} == wanted

        assert_all_is_well(wanted)
        made = store.explain("windows:total", one)
        assert made.value == 8 and made.rows.num_rows == 3
        ended = store.explain("newest:n", other, at=moment(NOW - 5 * MINUTE))
        assert ended.value is None and ended.rows["why"].to_pylist().count("deletes the key") == 1
        store.rebuild()
        assert_all_is_well(wanted)

        # A very late event: its row is made again from the archive, by key.
        store.push("things", rows((ONE, 7, 150, "new")))
        assert_all_is_well({**wanted, "ever": [4, 2]})

        assert store.sample("newest", n=10).num_rows == 7
        assert store.sample("windows", n=10, by="entities").num_rows == 2
        assert all(check.ok for check in store.doctor()), store.doctor()
        assert store.stream_status()

        done = store.forget("thing", one)
        assert done["archive"] == {"things": 4}
        gone = {"n": [None, 0], "total": [None, 3], "ever": [0, 2], "session": [0, 1]}
        assert_all_is_well(gone)


class TestDuckDB(CompositeKeysSuite):
    @pytest.fixture
    def offline(self) -> str:
        return "{type: duckdb}"
