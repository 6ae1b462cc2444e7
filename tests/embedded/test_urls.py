"""A URL where a path belongs is refused, and no folder of its name is ever made."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asof import FeatureStore
from asof.config import ProductConfig, load_config
from asof.errors import CheckFailed, ConfigError, EntityFrameError, RequestError
from asof.store import open_store_of

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
DEFINITIONS = """
from asof import *
from asof.types import *

user = Entity("user", join_keys=["user_id"])
profile = FeatureView("profile", entities=[user], schema=[Field("age", Int64)],
    source=FileSource({path!r}, name="rows", timestamp_field="at"))
"""


def repository(folder: Path, *, path: str) -> Path:
    (folder / "feature_store.yaml").write_text("project: shop\nclock: 2026-01-01T12:00:00Z\n")
    (folder / "features.py").write_text(DEFINITIONS.format(path=path))
    at = pa.array([NOON], pa.timestamp("us", "UTC"))
    pq.write_table(pa.table({"user_id": [1], "age": [30], "at": at}), folder / "profile.parquet")
    pq.write_table(pa.table({"user_id": [1], "event_timestamp": at}), folder / "frame.parquet")
    return folder


@pytest.mark.parametrize("path", ["hdfs://h/profile.parquet", "abfss://c@a/*.parquet", "https://h/profile.parquet"])
def test_plan_names_the_source_whose_path_is_a_url(tmp_path: Path, path: str) -> None:
    with FeatureStore(repository(tmp_path, path=path)) as store, pytest.raises(CheckFailed) as refused:
        store.apply()

    assert "features.py:7" in str(refused.value) and "source 'rows': path=: a URL (" in str(refused.value)


def test_entity_frames_and_results_are_files_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = repository(tmp_path, path=f"file://{tmp_path}/profile.parquet")
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    with FeatureStore(folder) as store:
        store.apply()
        for frame in ("hdfs://h/frame.parquet", Path("s3://bucket/frame.parquet"), "https://h/frame.csv"):
            with pytest.raises(EntityFrameError, match="a URL"):
                store.get_historical_features(frame, ["profile:age"])
        result = store.get_historical_features(f"file://{tmp_path}/frame.parquet", ["profile:age"])
        for place in ("hdfs://h/out.parquet", Path("gs://bucket/out.parquet"), "file://other/out.csv"):
            with pytest.raises(RequestError, match="the file to write: a"):
                result.write(place)
        assert result.write(f"file://{tmp_path}/out.parquet") == 1

    assert pq.read_table(tmp_path / "out.parquet")["age"].to_pylist() == [30]
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("section", "product", "refusal"),
    [
        ("registry", "sqlite", r"a URL \(s3://\)"),
        ("offline_store", "duckdb", "an address with credentials"),
        ("online_store", "sqlite", r"a URL \(s3://\)"),
        ("log", "file", r"a URL \(s3://\)"),
    ],
)
def test_a_configuration_made_in_code_has_no_url_for_a_path_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, section: str, product: str, refusal: str
) -> None:
    folder = repository(tmp_path, path="profile.parquet")
    monkeypatch.chdir(folder)
    before = sorted(folder.iterdir())
    config = replace(load_config(folder), **{section: ProductConfig(product, {"path": "s3://me:hunter2@bucket/x"})})

    with FeatureStore(config=config) as store, pytest.raises(ConfigError, match=refusal) as refused:
        getattr(
            open_store_of(store).stores, {"offline_store": "offline", "online_store": "online"}.get(section, section)
        )
    assert "hunter2" not in str(refused.value)
    assert sorted(folder.iterdir()) == before


def test_a_store_takes_a_configuration_or_a_file(tmp_path: Path) -> None:
    folder = repository(tmp_path, path="profile.parquet")

    with pytest.raises(ConfigError, match="both config and fs_yaml_file"):
        FeatureStore(config=load_config(folder), fs_yaml_file=folder / "feature_store.yaml")
