"""The drill of backups on servers: from files to PostgreSQL, from there by a bucket to a registry and archives in one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from asof import FeatureStore
from tests.embedded.test_backup import click, lose_but, opened, served
from tests.embedded.test_backup import shop as shop
from tests.services import S3

pytestmark = [pytest.mark.integration, pytest.mark.soak]


def moved(folder: Path, source: str | Path, **sections: object) -> FeatureStore:
    """A store of this configuration, restored from a backup, fed and built again."""
    (folder / "feature_store.yaml").write_text(yaml.safe_dump({"project": "shop", **sections}))
    store = opened(folder)
    store.restore(source)
    store.stream_run(accept_gap=True, until_caught_up=True)
    store.rebuild()
    assert store.audit().ok and store.rebuild_training_set("first").identical
    return store


def test_a_store_moves_by_backups_between_files_servers_and_a_bucket(
    shop: Path, tmp_path: Path, postgres_url: str, s3: S3, bucket: str
) -> None:
    folder = tmp_path / "shop"
    shutil.copytree(shop, folder)
    with opened(folder) as store:
        before, versions = served(store), store.history(100).to_dicts()
    server = {"type": "postgres", "url": postgres_url}
    in_bucket = {
        "registry": {"registry_type": "object", "path": f"{bucket}/registry"},
        "offline_store": {"type": "duckdb", "path": f"{bucket}/archive"}, "storage": s3.storage,
        "log": {"type": "file", "local": True},
    }  # fmt: skip

    on_server = {
        "registry": {"registry_type": "postgres", "path": postgres_url}, "offline_store": server,
        "online_store": server, "storage": s3.storage,
    }  # fmt: skip
    with moved(folder, folder / "backup", **on_server) as store:
        assert served(store) == before
        assert store.history(100).to_dicts()[-len(versions) :] == versions
        store.push("clicks", [click(1, "1.00")])
        before = served(store)
        done = store.backup(f"{bucket}/backups/monday")
        assert done.archives == {"clicks": 5, "visits": 2, "dead letters of visits": 1}

    lose_but(folder)
    with moved(folder, f"{bucket}/backups/monday", **in_bucket) as store:
        assert served(store) == before
        store.backup(f"{bucket}/backups/tuesday")
        assert store.restore(f"{bucket}/backups/tuesday", replace=True).archives == dict(done.archives)
        store.rebuild()
        assert served(store) == before and store.audit().ok
