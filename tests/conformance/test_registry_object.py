"""The registries' suite on object storage: a bucket of S3, and a folder."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from asof.connections.object_storage import ObjectStorage, StorageSettings
from asof.registry.object import ObjectRegistry
from asof.testing.registry import OpenRegistry, RegistrySuite
from tests.openers import opener
from tests.other_buckets import Provider
from tests.services import S3


@pytest.mark.integration
class TestObjectRegistryInABucket(RegistrySuite):
    @pytest.fixture
    def open_registry(self, s3: S3, bucket: str) -> Iterator[OpenRegistry]:
        storage = ObjectStorage(StorageSettings(**s3.storage))
        yield from opener(lambda: ObjectRegistry(f"{bucket}/registry", storage=storage))


class TestObjectRegistryInAFolder(RegistrySuite):
    @pytest.fixture
    def open_registry(self, tmp_path: Path) -> Iterator[OpenRegistry]:
        yield from opener(lambda: ObjectRegistry(tmp_path / "registry"))


@pytest.mark.integration
@pytest.mark.soak
class TestObjectRegistryOnAzureAndGoogle(RegistrySuite):
    @pytest.fixture
    def open_registry(self, other_provider: Provider) -> Iterator[OpenRegistry]:
        bucket = other_provider.create_bucket(f"test-{uuid.uuid4().hex[:12]}")
        storage = ObjectStorage(StorageSettings(**other_provider.storage))
        yield from opener(lambda: ObjectRegistry(f"{bucket}/registry", storage=storage))
