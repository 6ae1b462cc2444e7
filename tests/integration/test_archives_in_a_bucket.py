"""Archives in a bucket: writers that are killed lose and double nothing, and a flush takes a bounded number of requests."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

from asof.connections.object_storage import ObjectStorage, StorageSettings
from asof.offline.duckdb.engine import DuckDBOffline
from asof.testing.archive import CLICKS, clicks
from tests.services import S3, S3Proxy

pytestmark = pytest.mark.integration

MOST_REQUESTS = 60
"""Of one flush, as docs/how-to/object-storage.md says."""

WRITER = """
import json, sys
from asof.connections.object_storage import ObjectStorage, StorageSettings
from asof.offline.duckdb.engine import DuckDBOffline
from asof.testing.archive import CLICKS, clicks

settings, address, partition, rows = json.loads(sys.argv[1])
store = DuckDBOffline(address, threads=1, storage=ObjectStorage(StorageSettings(**settings)))
while (archived := store.offsets(CLICKS, [partition])[partition]) < rows - 1:
    # As after a restart: some rows come again.
    first = max(0, archived - 2)
    store.append(CLICKS, clicks(partition, first, 8), {partition: first + 7})
    print(archived, flush=True)
"""


def writer(settings: object, address: str, partition: int, rows: int) -> subprocess.Popen[str]:
    arguments = json.dumps([settings, address, partition, rows])
    return subprocess.Popen([sys.executable, "-c", WRITER, arguments], stdout=subprocess.PIPE, text=True)


def test_two_writers_that_are_killed_and_started_again_lose_and_double_nothing(
    s3: S3, s3_proxy: S3Proxy, bucket: str
) -> None:
    rows, address = 40, f"{bucket}/archives"
    store = DuckDBOffline(address, threads=1, storage=ObjectStorage(StorageSettings(**s3.storage)))
    store.create(CLICKS, clicks(0, 0, 1).schema)
    for _ in range(2):
        running = [writer(s3_proxy.storage, address, partition, rows) for partition in (0, 1)]
        for each in running:
            assert each.stdout is not None
            each.stdout.readline()  # it has committed at least once
        s3_proxy.drop = 1
        for each in running:
            each.send_signal(signal.SIGKILL)
            each.wait()
            each.stdout.close() if each.stdout else None
    for each in [writer(s3_proxy.storage, address, partition, rows) for partition in (0, 1)]:
        each.communicate(timeout=120)
        assert each.returncode == 0

    found = store.sql(
        'SELECT "partition", count(*) AS n, count(DISTINCT "offset") AS different, min("offset") AS least, '
        'max("offset") AS greatest FROM archive GROUP BY ALL ORDER BY ALL', {"archive": store.rows(CLICKS)},
    ).reader().read_all().to_pylist()  # fmt: skip
    assert [each["partition"] for each in found] == [0, 1]
    for each in found:
        assert each["n"] == each["different"] == each["greatest"] + 1 >= rows and each["least"] == 0
    offsets = store.offsets(CLICKS, [0, 1])
    assert offsets == {each["partition"]: each["greatest"] for each in found}


def test_a_flush_takes_a_bounded_number_of_requests_whatever_the_version(s3_proxy: S3Proxy, bucket: str) -> None:
    storage = ObjectStorage(StorageSettings(**s3_proxy.storage))
    store = DuckDBOffline(f"{bucket}/archives", threads=1, storage=storage)
    store.create(CLICKS, clicks(0, 0, 1).schema)
    counts = []
    for number in range(22):
        with s3_proxy.counted() as requests:
            store.append(CLICKS, clicks(0, number * 3, 3), {0: number * 3 + 2})
        counts.append(len(requests))

    early, late = counts[1:11], counts[11:]
    assert max(early) <= MOST_REQUESTS and max(late) <= MOST_REQUESTS, counts
    with s3_proxy.counted() as requests:
        DuckDBOffline(f"{bucket}/archives", threads=1, storage=storage).offsets(CLICKS, [0])
    assert len(requests) <= MOST_REQUESTS, requests
