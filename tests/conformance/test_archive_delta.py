"""The archives' suite on Delta."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from asof.connections.object_storage import ObjectStorage, StorageSettings
from asof.offline.duckdb.engine import DuckDBOffline
from asof.testing.archive import ArchiveSuite
from tests.other_buckets import Provider
from tests.services import S3


class TestDeltaArchives(ArchiveSuite):
    @pytest.fixture
    def open_store(self, tmp_path: Path) -> Callable[[], DuckDBOffline]:
        return lambda: DuckDBOffline(tmp_path / "a folder", threads=1)


@pytest.mark.integration
class TestDeltaArchivesInABucket(ArchiveSuite):
    @pytest.fixture
    def open_store(self, s3: S3, bucket: str) -> Callable[[], DuckDBOffline]:
        return lambda: DuckDBOffline(
            f"{bucket}/archives", threads=1, storage=ObjectStorage(StorageSettings(**s3.storage))
        )


@pytest.mark.integration
@pytest.mark.soak
class TestDeltaArchivesOnAzureAndGoogle(ArchiveSuite):
    @pytest.fixture
    def open_store(self, other_provider: Provider) -> Callable[[], DuckDBOffline]:
        bucket = other_provider.create_bucket(f"test-{uuid.uuid4().hex[:12]}")
        storage = ObjectStorage(StorageSettings(**other_provider.storage))
        return lambda: DuckDBOffline(f"{bucket}/archives", threads=1, storage=storage)
