"""What is asked of an archive by key, by event id and by column: the same on every offline store."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal as Number
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from asof.definitions import Aggregation, Entity, FeatureView, Field, LogSource, PushSource, Session, Sliding
from asof.dtypes import DType
from asof.flows.admin.audit import audit
from asof.flows.admin.doctor import doctor
from asof.flows.admin.explain import explain
from asof.flows.admin.sample import sample
from asof.flows.stores import Stores
from asof.flows.stream.event_ids import EVENTS
from asof.flows.stream.rebuild import rebuild
from asof.flows.stream.status import RECENT_ROWS, stream_status
from asof.offline.protocol import OfflineStore
from asof.store import FeatureStore
from asof.testing.clock import MicrosClock
from asof.testing.streams import VISITS, StreamRun, visit
from asof.timing import MINUTE, iso, micros, moment
from asof.types import Bool, Bytes, Date, Decimal, Int32, Int64, String, Timestamp
from tests.embedded_stores import close, embedded_stores

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
GONE = "lower(op) LIKE 'gon%' AND NOT n / 2 <= 0 AND substr(text, 1, 3) IS NOT NULL AND CAST(n AS String) <> '7'"
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
    source = PushSource("things", fields(), "at", delete_when=GONE)
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


PUSHED = rows(
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
            store.push("things", PUSHED)
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

        assert len(store.sample("newest", n=10)) == 7
        assert len(store.sample("windows", n=10, by="entities")) == 2
        assert all(check.ok for check in store.doctor()), store.doctor()
        assert store.stream_status()

        done = store.forget("thing", one)
        assert (done["archive"], done["log"]) == ({"things": 4}, {"push.things": 4})
        gone = {"n": [None, 0], "total": [None, 3], "ever": [0, 2], "session": [0, 1]}
        assert_all_is_well(gone)
        done = store.forget("thing", other)
        assert (done["archive"], done["log"]) == ({"things": 3}, {"push.things": 3})


IDS = [
    (String, ["it's", ""]), (Int64, [-(2**63), 2**63 - 1]), (Int32, [0, -1]), (Bool, [True, False]),
    (Date, ["9999-12-31", "1969-12-31"]), (Timestamp, ["0001-01-01T00:00:00.000001Z", "2026-01-01T00:00:00Z"]),
    (Decimal(20, 3), ["-0.001", "12345678901234567"]), (Bytes, ["AP8=", ""]),
]  # fmt: skip


def visits(*more: Field, **options: Any) -> LogSource:
    return LogSource(
        "visits", schema=[*VISITS.schema, *more], timestamp_field="at", timestamp_unit="us", allowed_lateness="10m",
        max_future="5m", **options,
    )  # fmt: skip


def counted(source: LogSource, *keys: str) -> list[Any]:
    entity = Entity("_".join(keys), list(keys))
    view = FeatureView(f"by_{entity.name}", entities=[entity], source=source, aggregations=[
        Aggregation("", "count", name="ever"), Aggregation("", "count", window=Session("30m"), name="session"),
    ])  # fmt: skip
    return [entity, view]


class KeyWidthsSuite:
    """A key that is Int32 in one view and Int64 in another. A subclass gives the fixture `offline`."""

    @pytest.mark.parametrize("features", [["narrow:n", "wide:m"], ["wide:m", "narrow:n"]])
    def test_a_key_too_wide_for_one_view_of_a_request_has_no_row_there(
        self, tmp_path: Path, offline: str, features: list[str]
    ) -> None:
        text = f"project: shop\nclock: {iso(NOW)}\noffline_store: {offline}\n"
        (tmp_path / "feature_store.yaml").write_text(text, encoding="utf-8")
        entity = Entity("thing", join_keys=["id"])
        views = []
        for name, dtype, value in (("narrow", Int32, "n"), ("wide", Int64, "m")):
            schema = [Field("id", dtype), Field(value, Int64), Field("at", Timestamp)]
            source = PushSource(f"{name}_things", schema, "at")
            views.append(FeatureView(name, entities=[entity], source=source, schema=[Field(value, Int64)]))
        at = moment(NOW - MINUTE)
        frame = pa.table({"id": [7, 2**40, -(2**31)], "event_timestamp": pa.array([moment(NOW)] * 3, TIMES)})
        with FeatureStore(tmp_path) as store:
            store.apply([entity, *views])
            store.push("narrow_things", [{"id": 7, "n": 1, "at": at}, {"id": -(2**31), "n": 2, "at": at}])
            store.push("wide_things", [{"id": 7, "m": 3, "at": at}, {"id": 2**40, "m": 4, "at": at}])

            trained = store.get_historical_features(frame, features).to_arrow()
            served = store.get_online_features(features, frame.select(["id"]).to_pylist()).to_dict()

            assert trained["n"].to_pylist() == served["n"] == [1, None, 2]
            assert trained["m"].to_pylist() == served["m"] == [3, 4, None]
            store.teardown(purge=True)


class TestKeyWidthsEmbedded(KeyWidthsSuite):
    @pytest.fixture
    def offline(self) -> str:
        return "{type: duckdb}"


class ArchivedColumnsSuite:
    """A subclass gives the fixture `offline_store`: an empty `OfflineStore`; None is the embedded one."""

    @pytest.fixture
    def stores(self, tmp_path: Path, offline_store: OfflineStore | None) -> Iterator[Stores]:
        stores = embedded_stores(tmp_path, clock=MicrosClock())
        if offline_store is not None:
            stores = stores.replaced(offline=offline_store)
        yield stores
        stores.offline.drop_project(stores.project)
        close(stores)

    @pytest.mark.parametrize(("dtype", "ids"), IDS, ids=lambda each: getattr(each, "name", ""))
    def test_event_ids_that_the_online_store_lost_come_back_from_the_archive(
        self, stores: Stores, dtype: DType, ids: list[Any]
    ) -> None:
        source = visits(Field("the id", dtype), event_id="the id")
        run = StreamRun(stores, stores.clock, definitions=[source, *counted(source, "user_id")])  # type: ignore[arg-type]
        events = [{**visit(user), "the id": each} for user, each in enumerate([*ids, None], start=1)]
        run.send(*events)
        run.finish()
        for table in stores.online.tables(stores.project):
            if table.view.endswith(EVENTS):
                stores.online.drop(table)
        run.send(*events, partition=1)
        run.finish()

        assert run.served("by_user_id")["ever"] == [1, 1, 2] and not run.dead_letters()

    def test_a_column_that_a_source_declares_later_is_an_event_id_and_a_key_from_then_on(self, stores: Stores) -> None:
        source = visits()
        run = StreamRun(stores, stores.clock, definitions=[source, *counted(source, "user_id")])  # type: ignore[arg-type]
        run.send(visit(1), visit(2))
        run.finish()

        source = visits(Field("id", String), Field("shop", String), event_id="id", delete_when="shop = 'none'")
        by_shop = counted(source, "user_id", "shop")
        run.apply(source, *counted(source, "user_id"), *by_shop, *counted(source, "shop"))
        snapshot = stores.registry.load(stores.project)
        # Nothing of the archive has the columns yet.
        assert audit(stores, snapshot).ok
        assert explain(stores, snapshot, "by_user_id_shop:ever", {"user_id": 1, "shop": "a"}).value == 0
        assert sample(stores, snapshot, "by_user_id_shop").num_rows == 0
        assert sample(stores, snapshot, "by_user_id_shop", by="entities").num_rows == 0
        assert rebuild(stores, snapshot.project.views["by_shop"], wait_s=0) == 0
        # Its messages have them neither, and that alone is not as it should be.
        assert [check.part for check in doctor(stores) if not check.ok] == ["messages visits"]

        event = {**visit(1), "id": "x", "shop": "a"}
        run.send(event, event, {**visit(3), "id": "y", "shop": "none"})
        run.finish()
        assert run.served("by_user_id")["ever"] == [2, 1, 0]
        assert audit(stores, snapshot).ok
        assert explain(stores, snapshot, "by_user_id_shop:ever", {"user_id": 1, "shop": "a"}).value == 1
        assert rebuild(stores, snapshot.project.views["by_user_id_shop"], wait_s=0) == 1

    def test_the_state_of_a_stream_is_told_of_its_newest_rows_however_many_dead_letters_come_after(
        self, stores: Stores
    ) -> None:
        source = visits()
        run = StreamRun(stores, stores.clock, definitions=[source, *counted(source, "user_id")])  # type: ignore[arg-type]
        run.send(visit(1), visit(2))
        run.send(*[b"\xff"] * (RECENT_ROWS + 5))
        run.finish()

        found = {each.partition: each for each in stream_status(stores)}
        assert found[0]["dead_letters"] == RECENT_ROWS + 5 and found[0]["freshness_s"] is not None
        assert found[0]["late_max_s"] == 0.0
        assert found[1]["freshness_s"] is None


class TestDuckDB(CompositeKeysSuite):
    @pytest.fixture
    def offline(self) -> str:
        return "{type: duckdb}"


class TestArchivedColumnsInDelta(ArchivedColumnsSuite):
    @pytest.fixture
    def offline_store(self) -> None:
        return None
