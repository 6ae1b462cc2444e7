"""The demo with its store in a bucket tells the story of the embedded one, down to each value of its training set."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from asof import FeatureStore
from asof.connections.object_storage import ObjectStorage, StorageSettings
from asof.demo import story
from asof.demo.bucket import FOLDERS
from asof.demo.manifest import NameTaken
from asof.demo.stage import DemoServers
from asof.errors import AsofError
from tests.services import S3, Kafka, Redis, Sail
from tests.services.s3 import ACCESS_KEY, REGION, SECRET_KEY

pytestmark = pytest.mark.integration

SHOP = {"users": 100, "ticks": 6_000, "seed": 5}


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    output = tmp_path_factory.mktemp("embedded")
    return output, story.run(output, **SHOP, say=lambda text: None)


@pytest.fixture
def storage(s3: S3, monkeypatch: pytest.MonkeyPatch) -> ObjectStorage:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    return ObjectStorage(StorageSettings(**s3.storage))


def in_bucket(s3: S3, address: str, **servers: str) -> DemoServers:
    given = {"postgres": "", "kafka": "", "redis": "", **servers}
    return DemoServers(storage=address, storage_endpoint=s3.url, **given)


@pytest.fixture
def on_servers(s3: S3, bucket: str, kafka: Kafka, redis: Redis) -> Iterator[DemoServers]:
    """A bucket, Kafka and Redis with a name of this test's own; what the demo leaves on shared ones is removed."""
    project = f"demo_{uuid.uuid4().hex[:8]}"
    yield in_bucket(
        s3, f"{bucket}/there/demo", kafka=kafka.bootstrap, redis=redis.url, message_format="avro", project=project
    )
    for topic in kafka.admin().list_topics(timeout=10).topics:
        if topic.startswith((f"{project}_", f"{project}.")):
            kafka.delete_topic(topic)
    with redis.client() as client:
        keys = list(client.scan_iter(f"*{project}*"))
        if keys:
            client.delete(*keys)


def assert_same_story(output: Path, report: Any, embedded: tuple[Path, Any]) -> None:
    expected, told = embedded
    for name in ("source/users.parquet", "source/orders.parquet", "training_set.parquet"):
        assert pq.read_table(output / name).equals(pq.read_table(expected / name)), name
    assert pq.read_table(output / "training_set.parquet").num_rows > 50
    assert report["histograms"] == told["histograms"]
    assert all(report["online"][when] == told["online"][when] for when in ("before", "after"))
    assert report["audit"]["differences"] == [] and report["audit"]["active_keys"] > 0


@pytest.mark.soak
def test_beside_an_embedded_log_its_training_set_is_that_of_the_embedded_demo(
    embedded: tuple[Path, Any], s3: S3, bucket: str, storage: ObjectStorage, tmp_path: Path
) -> None:
    address = f"{bucket}/demo"
    storage.write(f"{bucket}/demonstration/mine", b"1")
    report = story.run(tmp_path, **SHOP, servers=in_bucket(s3, address), say=lambda text: None)

    assert_same_story(tmp_path, report, embedded)
    assert {path.name for path in (tmp_path / "repo" / "data").iterdir()} == {"log", "online.db"}
    assert storage.folders(address) == sorted(FOLDERS)
    kept = [each.address.partition("/history/")[2] for each in storage.objects_below(f"{address}/history")]
    assert [each for each in kept if each.startswith(f"shop/tables/{story.TRAINING_SET}.")]
    assert report["servers"] == {"Bucket": address}
    # What is saved is what another machine reads, whose folder has the definitions and nothing else.
    for name in ("feature_store.yaml", "features.py"):
        (tmp_path / "other").mkdir(exist_ok=True)
        (tmp_path / "other" / name).write_text((tmp_path / "repo" / name).read_text())
    with FeatureStore(tmp_path / "other") as store:
        read = store.read_training_set(story.TRAINING_SET).to_arrow()
    saved = pq.read_table(tmp_path / "training_set.parquet")
    assert read.select(saved.column_names).equals(saved)


def test_on_spark_its_training_set_is_that_of_the_embedded_demo(
    embedded: tuple[Path, Any], s3: S3, bucket: str, storage: ObjectStorage, private_service: Any, tmp_path: Path
) -> None:
    variables = {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY, "AWS_ENDPOINT_URL": s3.url,
        "AWS_ENDPOINT": s3.url, "AWS_ALLOW_HTTP": "true", "AWS_REGION": REGION,
    }  # fmt: skip
    sail = private_service(Sail, environment=variables)

    report = story.run(tmp_path, **SHOP, servers=in_bucket(s3, f"{bucket}/demo", spark=sail.url), say=lambda text: None)

    assert "type: spark" in (tmp_path / "repo" / "feature_store.yaml").read_text()
    assert_same_story(tmp_path, report, embedded)


def test_with_kafka_and_redis_nothing_is_on_the_disk_and_it_can_be_told_again(
    embedded: tuple[Path, Any], on_servers: DemoServers, s3: S3, storage: ObjectStorage, tmp_path: Path
) -> None:
    story.run(tmp_path, users=20, ticks=500, servers=on_servers, say=lambda text: None)
    storage.write(f"{on_servers.storage}/mine", b"1")
    again = story.run(tmp_path, **SHOP, servers=on_servers, say=lambda text: None)

    assert_same_story(tmp_path, again, embedded)
    assert {path.name for path in (tmp_path / "repo").iterdir()} - {"__pycache__"} == {
        "feature_store.yaml",
        "features.py",
        "servers.env",
    }
    assert storage.read(f"{on_servers.storage}/mine") == b"1"
    assert list(again["servers"]) == ["Bucket", "Kafka", "Redis"]
    with pytest.raises(NameTaken, match=f"a demo with topic '{on_servers.project}_traffic' already exists in s3://"):
        story.run(tmp_path / "b", users=5, ticks=50, servers=in_bucket(s3, on_servers.storage), say=lambda text: None)
    assert storage.read(f"{on_servers.storage}/demo.json")


def test_it_does_not_touch_what_it_did_not_make(s3: S3, bucket: str, storage: ObjectStorage, tmp_path: Path) -> None:
    storage.write(f"{bucket}/demo/registry/mine", b"1")

    with pytest.raises(NameTaken, match="object 'registry/mine' already exists in s3://.*/demo, and the demo did not"):
        story.run(tmp_path, users=5, ticks=50, servers=in_bucket(s3, f"{bucket}/demo"), say=lambda text: None)
    assert [each.address for each in storage.objects_below(bucket)] == [f"{bucket}/demo/registry/mine"]


def test_a_bucket_that_is_not_there_is_named(s3: S3, storage: ObjectStorage, tmp_path: Path) -> None:
    with pytest.raises(AsofError, match="s3://no-such-bucket") as raised:
        story.run(tmp_path, users=5, ticks=50, servers=in_bucket(s3, "s3://no-such-bucket/demo"), say=lambda text: None)
    assert raised.value.hint
