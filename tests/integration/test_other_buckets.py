"""Buckets of Azure and Google, on emulators that are fetched when they are first started: the suites of S3, in `make soak`."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from asof.connections.object_storage import ObjectStorage, StorageSettings
from asof.errors import StorageError
from asof.offline.duckdb.engine import DuckDBOffline
from asof.testing.archive import CLICKS

# Collected here again, with the fixtures of this module.
from tests.integration.test_archives_in_a_bucket import (  # noqa: F401
    test_two_writers_that_are_killed_and_started_again_lose_and_double_nothing,
)
from tests.integration.test_object_registry import (  # noqa: F401
    test_a_damaged_version_is_named_with_the_last_good_one_and_can_be_replaced,
    test_a_store_needs_nothing_of_this_machine_but_a_log_that_it_says_is_its_own,
    test_processes_that_commit_at_once_lose_no_update,
)
from tests.integration.test_object_storage import (  # noqa: F401
    test_a_large_object_is_uploaded_in_pieces_and_appears_as_a_whole,
    test_an_object_is_created_only_once_and_replaced_only_unchanged,
    test_an_object_is_read_back_whole_and_in_ranges,
    test_objects_are_listed_ascending_and_deleted,
    test_of_an_upload_that_breaks_off_nothing_is_seen,
    test_of_writers_at_once_one_creates_the_object,
)
from tests.integration.test_stores_in_a_bucket import (  # noqa: F401
    test_a_read_fetches_the_columns_and_row_groups_that_it_needs,
    test_an_address_means_the_objects_that_a_path_means_as_files,
    test_an_object_that_is_deleted_while_it_is_read_is_named,
    test_sources_entity_frames_and_exports_are_objects,
    test_what_is_pushed_is_archived_in_the_bucket_read_from_there_and_saved_there,
    tree,
)
from tests.other_buckets import Provider
from tests.services import S3Proxy

pytestmark = [pytest.mark.integration, pytest.mark.soak]


@pytest.fixture(scope="module")
def s3(other_provider: Provider) -> Provider:
    return other_provider


@pytest.fixture
def bucket(s3: Provider) -> str:
    return s3.create_bucket(f"test-{uuid.uuid4().hex[:12]}")


@pytest.fixture
def s3_proxy(s3: Provider) -> Iterator[S3Proxy]:
    proxy = S3Proxy(s3)
    yield proxy
    proxy.close()


@pytest.fixture
def storage(s3: Provider) -> ObjectStorage:
    return ObjectStorage(StorageSettings(**s3.storage))


def test_wrong_credentials_are_said_to_be_wrong(s3: Provider, bucket: str) -> None:
    if "account_key" not in s3.storage:
        pytest.skip("the emulator of Google's checks no credentials")
    wrong = ObjectStorage(StorageSettings(**{**s3.storage, "retries": 0, "account_key": "d3Jvbmc="}))

    for fails in (
        lambda: wrong.read(f"{bucket}/a"),
        lambda: DuckDBOffline(bucket, threads=1, storage=wrong).offsets(CLICKS, [0]),
    ):
        with pytest.raises(StorageError, match="the secret key is wrong") as caught:
            fails()
        assert "d3Jvbmc=" not in str(caught.value)
