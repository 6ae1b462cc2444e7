"""Archives in a bucket: writers that are killed lose and double nothing, and a flush takes a bounded number of requests."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from deltalake import DeltaTable

from asof.connections.object_storage import ObjectStorage, StorageSettings
from asof.errors import StorageError
from asof.offline.duckdb.engine import DuckDBOffline
from asof.testing.archive import CLICKS, clicks
from tests.archive_writer import append_next
from tests.services import S3, S3Proxy
from tests.services.certificates import Certificates

pytestmark = pytest.mark.integration

MOST_REQUESTS, MOST_TO_OPEN, MOST_WITH_CHECKPOINT, MOST_AFTER_CHECKPOINT = 9, 21, 29, 14
"""Of one flush, as docs/how-to/object-storage.md says."""


def writer(settings: object, address: str, partition: int) -> subprocess.Popen[str]:
    """A process that appends until it is killed."""
    command = [sys.executable, "-m", "tests.archive_writer", json.dumps(settings), address, str(partition)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])


def test_two_writers_that_are_killed_and_started_again_lose_and_double_nothing(
    s3: S3, s3_proxy: S3Proxy, bucket: str
) -> None:
    address = f"{bucket}/archives"
    store = DuckDBOffline(address, threads=1, storage=ObjectStorage(StorageSettings(**s3.storage)))
    store.create(CLICKS, clicks(0, 0, 1).schema)
    running = [writer(s3_proxy.storage, address, partition) for partition in (0, 1)]
    for each in running:
        assert each.stdout is not None
        each.stdout.readline()  # it has committed at least once
    s3_proxy.drop = 1
    for each in running:
        each.send_signal(signal.SIGKILL)
        each.wait()
        each.stdout.close() if each.stdout else None

    def again(partition: int) -> None:
        mine = DuckDBOffline(address, threads=1, storage=ObjectStorage(StorageSettings(**s3_proxy.storage)))
        for _ in range(2):
            append_next(mine, partition)

    with ThreadPoolExecutor() as pool:
        list(pool.map(again, (0, 1)))

    found = store.sql(
        'SELECT "partition", count(*) AS n, count(DISTINCT "offset") AS different, min("offset") AS least, '
        'max("offset") AS greatest FROM archive GROUP BY ALL ORDER BY ALL', {"archive": store.rows(CLICKS)},
    ).reader().read_all().to_pylist()  # fmt: skip
    assert [each["partition"] for each in found] == [0, 1]
    for each in found:
        assert each["n"] == each["different"] == each["greatest"] + 1 >= 18 and each["least"] == 0
    offsets = store.offsets(CLICKS, [0, 1])
    assert offsets == {each["partition"]: each["greatest"] for each in found}


@pytest.mark.soak
@pytest.mark.parametrize("fault", ["drop", "refuse"])
def test_a_flush_survives_a_fault_at_each_of_its_requests(fault: str, s3_proxy: S3Proxy, bucket: str) -> None:
    store = DuckDBOffline(bucket, threads=1, storage=ObjectStorage(StorageSettings(**s3_proxy.storage)))
    store.create(CLICKS, clicks(0, 0, 1).schema)
    flushes = 24  # more than a checkpoint's
    for number in range(flushes):
        s3_proxy.after = number % 12
        setattr(s3_proxy, fault, 1)
        store.append(CLICKS, clicks(0, 3 * number, 3), {0: 3 * number + 2})
    s3_proxy.after = 0
    setattr(s3_proxy, fault, 0)

    found = store.sql('SELECT "offset" AS o FROM archive ORDER BY ALL', {"archive": store.rows(CLICKS)}).reader()
    assert found.read_all()["o"].to_pylist() == list(range(3 * flushes)) and store.offsets(CLICKS, [0])[0] == 71


@pytest.mark.parametrize("version", [10, 100])
def test_a_flush_takes_a_bounded_number_of_requests_whatever_the_version(
    version: int, tmp_path: Path, s3_proxy: S3Proxy, bucket: str
) -> None:
    storage = ObjectStorage(StorageSettings(**s3_proxy.storage))
    upload_archive(tmp_path, bucket, storage, version=version - 3)
    store = DuckDBOffline(bucket, threads=1, storage=storage)
    counts = []
    for each in range(version - 2, version + 2):
        with s3_proxy.counted() as requests:
            assert store.append(CLICKS, clicks(0, 3 * each, 3), {0: 3 * each + 2}) == 3
        counts.append(len(requests))

    assert store.version(CLICKS) == version + 1
    opening, checkpointing, after_checkpoint, other = counts
    assert opening <= MOST_TO_OPEN and checkpointing <= MOST_WITH_CHECKPOINT, counts
    assert after_checkpoint <= MOST_AFTER_CHECKPOINT and other <= MOST_REQUESTS, counts


@pytest.mark.parametrize("has_checkpoint", [True, False])
def test_the_log_is_read_once_whatever_the_number_of_partitions(
    has_checkpoint: bool, tmp_path: Path, s3_proxy: S3Proxy, bucket: str
) -> None:
    storage = ObjectStorage(StorageSettings(**s3_proxy.storage))
    version = 12
    upload_archive(tmp_path, bucket, storage, version=version, has_checkpoint=has_checkpoint)
    DuckDBOffline(bucket, threads=1, storage=storage).append(CLICKS, clicks(7, 0, 3), {7: 2})
    counts = []
    for partitions in (range(1), range(8)):
        with s3_proxy.counted() as requests:
            found = DuckDBOffline(bucket, threads=1, storage=storage).offsets(CLICKS, partitions)
        counts.append(len(requests))
        assert found == {0: 3 * version + 2, **dict.fromkeys(partitions[1:7], -1), **dict.fromkeys(partitions[7:], 2)}

    assert counts[0] == counts[1], counts


def upload_archive(
    folder: Path, bucket: str, storage: ObjectStorage, *, version: int, has_checkpoint: bool = True
) -> None:
    """An archive at a version, made here, since each commit in the bucket is several requests."""
    table = folder / "shop" / "events" / "clicks"
    here = DuckDBOffline(folder, threads=1)
    here.create(CLICKS, clicks(0, 0, 1).schema)
    # As flushes of an archive in a bucket make it.
    log = table / "_delta_log"
    first = log / f"{0:020}.json"
    first.write_text(first.read_text().replace('"delta.checkpointInterval":"50"', '"delta.checkpointInterval":"10"'))
    for each in range(1, version + 1):
        commit = {"txn": {"appId": "partition 0", "version": 3 * each + 2, "lastUpdated": 0}}
        (log / f"{each:020}.json").write_text(json.dumps(commit))
    names = [f"{each:020}.json" for each in range(version + 1)]
    if has_checkpoint:
        DeltaTable(table).create_checkpoint()
        names = ["_last_checkpoint", f"{version:020}.checkpoint.parquet", names[-1]]
    for name in names:
        storage.write(f"{bucket}/shop/events/clicks/_delta_log/{name}", (log / name).read_bytes())


def test_an_authority_of_ones_own_is_trusted_by_both_drivers_and_no_other(tmp_path: Path, s3: S3, bucket: str) -> None:
    certificates = Certificates.below(tmp_path / "certificates")
    proxy = S3Proxy(s3, certificates)
    try:
        given = {**proxy.storage, "allow_http": False, "retries": 0}
        trusting = ObjectStorage(StorageSettings(**{**given, "ca_file": str(certificates.ca)}))
        store = DuckDBOffline(bucket, threads=1, storage=trusting)
        assert store.append(CLICKS, clicks(0, 0, 3), {0: 2}) == 3
        assert DuckDBOffline(bucket, threads=1, storage=trusting).offsets(CLICKS, [0]) == {0: 2}
        read = store.sql("SELECT count(*) AS n FROM archive", {"archive": store.rows(CLICKS)}).reader().read_all()
        assert read["n"].to_pylist() == [3]

        for other in ({}, {"ca_file": str(certificates.other_ca)}):
            storage = ObjectStorage(StorageSettings(**{**given, **other}))
            for fails in (
                lambda: storage.read(f"{bucket}/a"),  # noqa: B023, it is called in this round
                lambda: DuckDBOffline(bucket, threads=1, storage=storage).offsets(CLICKS, [0]),  # noqa: B023
            ):
                with pytest.raises(StorageError, match="the server's certificate is not trusted") as caught:
                    fails()
                assert "set ca_file" in str(caught.value)
    finally:
        proxy.close()
