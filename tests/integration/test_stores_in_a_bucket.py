"""A store whose files are in a bucket: archives, training sets, sources, entity frames and exports, as from a configuration."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from asof import FeatureStore
from asof.connections.object_storage import ObjectStorage, StorageSettings
from asof.connections.object_storage.errors import StorageOutage
from asof.definitions import FileSource
from asof.errors import SourceError, StorageError
from asof.offline.duckdb.engine import DuckDBOffline
from asof.sources.file import FileReader
from asof.sources.protocol import ScanRequest
from tests.services import S3, S3Proxy

pytestmark = pytest.mark.integration

FEATURES = """
from asof import Aggregation, Entity, FeatureView, Field, PushSource, Sliding
from asof.types import Int64, String, Timestamp

user = Entity("user", ["user_id"])
clicks = PushSource(
    "clicks", schema=[Field("user_id", Int64), Field("page", String), Field("at", Timestamp)], timestamp_field="at"
)
views = FeatureView(
    "views", entities=[user], source=clicks, schema=[Field("user_id", Int64)],
    aggregations=[Aggregation("", "count", window=Sliding("1d"), name="clicks_1d")],
)
"""


def repository(folder: Path, features: str, **sections: object) -> FeatureStore:
    """An applied store over a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"project": "shop", "clock": "2026-01-02T00:00:00Z", **sections}
    (folder / "feature_store.yaml").write_text(yaml.safe_dump(config))
    (folder / "features.py").write_text(features)
    store = FeatureStore(folder)
    store.apply()
    return store


@pytest.fixture
def storage(s3_proxy: S3Proxy) -> ObjectStorage:
    return ObjectStorage(StorageSettings(**s3_proxy.storage))


def put_parquet(storage: ObjectStorage, address: str, table: pa.Table, **options: object) -> int:
    """Write a table as an object; returns its size in bytes."""
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    storage.write(address, sink.getvalue())
    return len(sink.getvalue())


def test_what_is_pushed_is_archived_in_the_bucket_read_from_there_and_saved_there(
    tmp_path: Path, bucket: str, s3_proxy: S3Proxy, storage: ObjectStorage
) -> None:
    store = repository(
        tmp_path / "repo", FEATURES, storage=s3_proxy.storage, offline_store={"path": f"{bucket}/features"}
    )
    rows = [{"user_id": n % 3, "page": "a", "at": f"2026-01-01T{n:02}:00:00Z"} for n in range(12)]
    store.push("clicks", rows)
    store.stream_run(until_caught_up=True)
    frame = pa.table(
        {"user_id": [0, 1, 2, 9], "event_timestamp": pa.array([1767312000_000_000] * 4, pa.timestamp("us", "UTC"))}
    )

    found = store.get_historical_features(frame, ["views:clicks_1d"]).to_arrow()
    assert found["clicks_1d"].to_pylist() == [4, 4, 4, 0]

    saved = store.get_historical_features(frame, ["views:clicks_1d"]).save("first")
    assert saved.rows == 4 and saved.sources["clicks"].kind == "archive"
    again = FeatureStore(tmp_path / "repo")
    assert again.read_training_set("first").to_arrow().equals(found)
    names = {
        each.address.removeprefix(f"{bucket}/features/shop/").split("/")[0] for each in storage.objects_below(bucket)
    }
    assert names >= {"events", "tables"} and not list((tmp_path / "repo").rglob("*.parquet"))


TREE = {
    "day=1/a.parquet": 1, "day=2/b.parquet": 2, "day=2/.c.parquet": 3, "_temporary/d.parquet": 4, "_year=1/e.parquet": 5,
    "f.parquet": 6, "g.pq": 7, "sub/h.PARQUET": 8, "sub/deep/i.parquet": 9, "empty.parquet": 0, "notes.txt": 0,
}  # fmt: skip
"""File below a folder → its only user; 0 is an empty file."""

PATTERNS = (
    "", "*.parquet", "*", "**/*.parquet", "day=*", "day=*/*.parquet", "day=1/a.parquet", "s*", "sub/**", "_*/*.parquet",
    "[fg].p*", "?.parquet", "day=2", "nothing/*.parquet", "nowhere", "**", "day=2/.c*",
)  # fmt: skip


@pytest.mark.parametrize("pattern", PATTERNS)
def test_an_address_means_the_objects_that_a_path_means_as_files(
    pattern: str, tree: tuple[Path, str], storage: ObjectStorage
) -> None:
    folder, address = tree

    def found(reader: FileReader, top: str) -> tuple[list[str], list[tuple[str, str]]] | str:
        source = FileSource(f"{top}/{pattern}".rstrip("/"), name="rows", timestamp_field="at", file_format="parquet")
        try:
            rows = reader.scan(source, ScanRequest())
            described = [(each.name, str(each.dtype)) for each in reader.describe(source)]
        except SourceError as error:
            return "refused" if str(error) else ""
        return [path.removeprefix(top) for path in rows.paths], described

    assert found(FileReader(folder, storage=storage), address) == found(FileReader(folder), str(folder))


@pytest.fixture(scope="module")
def tree(s3: S3, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The same files in a folder and in a bucket."""
    folder = tmp_path_factory.mktemp("tree")
    storage = ObjectStorage(StorageSettings(**s3.storage))
    address = f"{s3.create_bucket(f'tree-{folder.parent.name}-{folder.name}'.replace('_', '-').lower())}/data"
    for name, user in TREE.items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"")
        if user:
            pq.write_table(pa.table({"user_id": [user], "at": [AT]}), place)
        storage.write(f"{address}/{name}", place.read_bytes())
    return folder, address


AT = datetime(2026, 1, 1, tzinfo=UTC)
VIEW = """
from asof import Entity, FeatureView, Field, FileSource
from asof.types import Float64, Int64

user = Entity("user", ["user_id"])
rows = FileSource("ADDRESS", name="rows", timestamp_field="at")
view = FeatureView("view", entities=[user], source=rows, schema=[Field("user_id", Int64), Field("x", Float64)])
"""


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "parquet"])
def test_sources_entity_frames_and_exports_are_objects(
    ending: str, tmp_path: Path, bucket: str, s3_proxy: S3Proxy, storage: ObjectStorage
) -> None:
    users = [1, 2, 3]
    if ending == "parquet":
        put_parquet(
            storage, f"{bucket}/rows.parquet", pa.table({"user_id": users, "at": [AT] * 3, "x": [1.5, None, 2]})
        )
        frame = pa.table({"user_id": [3, 1, 9], "event_timestamp": [AT] * 3, "label": ["a", None, "c"]})
        put_parquet(storage, f"{bucket}/frame.parquet", frame)
    else:
        packed = gzip.compress if ending.endswith("gz") else bytes
        text = "".join(f"{user},2026-01-01T00:00:00Z,{x}\n" for user, x in zip(users, ("1.5", "", "2"), strict=True))
        storage.write(f"{bucket}/rows.{ending}", packed(f"user_id,at,x\n{text}".encode()))
        storage.write(
            f"{bucket}/frame.{ending}",
            packed(b"user_id,event_timestamp,label\n3,2026-01-01,a\n1,2026-01-01,\n9,2026-01-01,c\n"),
        )
    store = repository(tmp_path / "repo", VIEW.replace("ADDRESS", f"{bucket}/rows.{ending}"), storage=s3_proxy.storage)
    read = store.get_historical_features(f"{bucket}/frame.{ending}", ["view:x"])

    assert read.to_arrow()["x"].to_pylist() == [2.0, 1.5, None]
    assert read.write(f"{bucket}/out/rows.parquet") == 3 and read.write(f"{bucket}/out/rows.csv") == 3
    exported = pq.read_table(io.BytesIO(storage.read(f"{bucket}/out/rows.parquet") or b""))
    assert exported.equals(read.to_arrow())
    assert (storage.read(f"{bucket}/out/rows.csv") or b"").count(b"\n") == 4

    saved = read.save("first")
    assert saved.reproducible and [each.hashed for each in saved.sources["rows"].files or ()] == ["etag"]


def test_a_read_fetches_the_columns_and_row_groups_that_it_needs(
    tmp_path: Path, bucket: str, s3_proxy: S3Proxy, storage: ObjectStorage
) -> None:
    rows = 200_000
    generator = np.random.default_rng(0)
    table = pa.table(
        {
            "user_id": pa.array(range(rows), pa.int64()),
            "at": pa.array([1767225600_000_000 + n for n in range(rows)], pa.timestamp("us", "UTC")),
            "x": generator.random(rows),
            **{f"other_{n}": generator.random(rows) for n in range(8)},
        }
    )
    whole = put_parquet(storage, f"{bucket}/rows.parquet", table, row_group_size=20_000)
    engine = DuckDBOffline(tmp_path / "offline", threads=1)
    source = FileSource(f"{bucket}/rows.parquet", name="rows", timestamp_field="at")
    given = FileReader(tmp_path, storage=storage).scan(source, ScanRequest(["x"]))

    before = s3_proxy.sent_bytes
    with s3_proxy.counted() as requests:
        found = engine.sql("SELECT sum(x) AS total FROM rows WHERE user_id BETWEEN 50000 AND 50010", {"rows": given})
        assert found.reader().read_all()["total"].to_pylist() == [
            pytest.approx(sum(table["x"].to_pylist()[50000:50011]))
        ]
    assert len(requests) <= 4 and s3_proxy.sent_bytes - before < whole / 4


FAULTS: dict[str, tuple[Callable[[S3Proxy], None], type[StorageError], str]] = {
    "denied": (lambda proxy: setattr(proxy, "deny", 1000), StorageError, "access denied"),
    "busy": (
        lambda proxy: setattr(proxy, "refuse", 1000),
        StorageOutage,
        "the store asks to slow down, or is not avail",
    ),
    "lost": (lambda proxy: setattr(proxy, "drop", 1000), StorageOutage, "the store cannot be reached"),
    "slow": (lambda proxy: setattr(proxy, "delay_s", 1.0), StorageOutage, "no response in time"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("in_the_middle", [False, True])
def test_a_bucket_that_fails_while_duckdb_reads_is_one_error_of_the_object(
    fault: str, in_the_middle: bool, tmp_path: Path, bucket: str, s3_proxy: S3Proxy
) -> None:
    begin, kind, problem = FAULTS[fault]
    address, rows = f"{bucket}/rows.parquet", 200_000
    table = pa.table({"user_id": range(rows), "at": [AT] * rows, "x": np.random.default_rng(0).random(rows)})
    storage = ObjectStorage(StorageSettings(**{**s3_proxy.storage, "retries": 0, "timeout_s": 0.5}))
    # Larger than what is read of a file's end at once, and of row groups that are fetched one after the other.
    assert put_parquet(storage, address, table, row_group_size=20_000) > 2_000_000
    given = FileReader(tmp_path, storage=storage).scan(
        FileSource(address, name="rows", timestamp_field="at"), ScanRequest(["x"])
    )
    read = DuckDBOffline(tmp_path / "offline", threads=1).sql("SELECT * FROM rows", {"rows": given})
    if in_the_middle:
        begun = read.reader(1000)
        begun.read_next_batch()
    begin(s3_proxy)

    with pytest.raises(kind, match=f"^{address}: {problem}") as caught:
        (begun if in_the_middle else read.reader()).read_all()
    assert "Traceback" not in str(caught.value) and "\n  next: " in str(caught.value)


def test_an_object_that_is_deleted_while_it_is_read_is_named(
    tmp_path: Path, bucket: str, storage: ObjectStorage
) -> None:
    address = f"{bucket}/rows.parquet"
    put_parquet(storage, address, pa.table({"user_id": [1], "at": [AT]}))
    source = FileSource(address, name="rows", timestamp_field="at")
    given = FileReader(tmp_path, storage=storage).scan(source, ScanRequest())
    storage.delete([address])
    storage.files.forget(address)

    with pytest.raises(StorageError, match=f"^{address} is not there"):
        DuckDBOffline(tmp_path / "offline", threads=1).sql("SELECT * FROM rows", {"rows": given}).reader()
