"""What `apply` and `materialize` cost grows with the number of views, and not with its square."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asof import Entity, FeatureStore, FeatureView, Field, FileSource
from asof.definitions import Snapshot
from asof.errors import RegistryConflict, StorageError
from asof.online.protocol import OnlineTable
from asof.online.sqlite.store import SqliteOnlineStore
from asof.registry.sqlite import SqliteRegistry
from asof.types import Int64

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def store_of(folder: Path) -> FeatureStore:
    folder.mkdir(exist_ok=True)
    (folder / "feature_store.yaml").write_text("project: shop\n")
    at = pa.array([NOON], pa.timestamp("us", "UTC"))
    pq.write_table(pa.table({"user_id": [1], "price": [7], "rebate": [3], "at": at}), folder / "sales.parquet")
    return FeatureStore(folder, clock=lambda: NOON)


def views_of(count: int, feature: str = "price") -> list[FeatureView]:
    user = Entity("user", join_keys=["user_id"])
    sales = FileSource("sales.parquet", name="sales", timestamp_field="at")
    schema = [Field(feature, Int64)]
    return [FeatureView(f"sales_{number:03}", entities=[user], source=sales, schema=schema) for number in range(count)]


class Counts:
    """The bytes of snapshots that are written and read, and the tables that the online store lists."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.written = self.read = self.listed = 0
        encode, decode, tables = Snapshot.encode, Snapshot.decode.__func__, SqliteOnlineStore.tables  # type: ignore[attr-defined]

        def encoded(snapshot: Snapshot) -> str:
            content = encode(snapshot)
            self.written += len(content)
            return content

        def decoded(cls: type[Snapshot], content: str) -> Snapshot:
            self.read += len(content)
            return decode(cls, content)

        def listed(store: SqliteOnlineStore, project: str) -> list[OnlineTable]:
            found = tables(store, project)
            self.listed += len(found)
            return found

        monkeypatch.setattr(Snapshot, "encode", encoded)
        monkeypatch.setattr(Snapshot, "decode", classmethod(decoded))
        monkeypatch.setattr(SqliteOnlineStore, "tables", listed)

    def of(self, work: Callable[[], Any]) -> tuple[int, int, int]:
        before = self.written, self.read, self.listed
        work()
        return self.written - before[0], self.read - before[1], self.listed - before[2]


FEW, MANY = 16, 64
VERBS: dict[str, Callable[[FeatureStore, int], Any]] = {
    "apply": lambda store, count: store.apply(views_of(count)),
    "first materialize": lambda store, count: store.materialize(),
    "materialize": lambda store, count: store.materialize(),
    "full": lambda store, count: store.materialize(full=True),
    "rebuild": lambda store, count: store.rebuild(),
    "apply of changed views": lambda store, count: store.apply(views_of(count, "rebate")),
}


def test_apply_materialize_and_rebuild_are_linear_in_the_number_of_views(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = Counts(monkeypatch)
    found: dict[int, dict[str, tuple[int, int, int]]] = {}
    for count in (FEW, MANY):
        store = store_of(tmp_path / str(count))
        found[count] = {name: counts.of(lambda: verb(store, count)) for name, verb in VERBS.items()}  # noqa: B023
        assert store.get_online_features([f"sales_{count - 1:03}:rebate"], [{"user_id": 1}]).to_dict()["rebate"] == [3]
        store.close()

    for name in VERBS:
        for few, many in zip(found[FEW][name], found[MANY][name], strict=True):
            assert many <= (MANY / FEW) * few * 1.1, (name, found[FEW][name], found[MANY][name])


def test_of_an_interrupted_run_the_views_that_are_done_stay_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_of(tmp_path)
    store.apply(views_of(20))
    write = SqliteOnlineStore.write
    written: list[str] = []

    def failing(online: SqliteOnlineStore, table: OnlineTable, *rows: Any, **options: Any) -> list[bool]:
        if table.view == "sales_007":
            raise StorageError("the disk is full", hint="free some")
        written.append(table.view)
        return write(online, table, *rows, **options)

    with monkeypatch.context() as patched:
        patched.setattr(SqliteOnlineStore, "write", failing)
        with pytest.raises(StorageError, match="the disk is full"):
            store.materialize()
    store.refresh_registry()

    assert written == [f"sales_{number:03}" for number in range(7)]
    runs = SqliteRegistry(tmp_path / "data" / "registry.db").load("shop").facts.materialized
    assert sorted(runs) == written
    assert [each.rows for each in store.materialize()] == [1] * 20


def test_a_build_that_another_one_overtook_leaves_the_others_of_its_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = store_of(tmp_path), store_of(tmp_path)
    store.apply(views_of(24))
    store.materialize()
    mark = SqliteOnlineStore.mark
    done: list[str] = []

    def marking(online: SqliteOnlineStore, table: OnlineTable, *, within: str = "") -> None:
        mark(online, table, within=within)
        done.append(table.view)
        if table.view == "sales_001" and done.count("sales_001") == 1:
            other.materialize(feature_views=["sales_001"], full=True)

    with monkeypatch.context() as patched:
        patched.setattr(SqliteOnlineStore, "mark", marking)
        with pytest.raises(RegistryConflict, match="'sales_001' changed, or another build"):
            store.materialize(full=True)
    store.refresh_registry()

    features = [f"sales_{number:03}:price" for number in range(24)]
    served = store.get_online_features(features, [{"user_id": 1}], full_feature_names=True).to_dict()
    assert [served[f"sales_{number:03}__price"] for number in range(24)] == [[7]] * 24
    other.close()
