"""A process that appends to an archive until it is killed: `python -m tests.archive_writer SETTINGS ADDRESS PARTITION`."""

from __future__ import annotations

import json
import sys

from asof.connections.object_storage import ObjectStorage, StorageSettings
from asof.offline.duckdb.engine import DuckDBOffline
from asof.testing.archive import CLICKS, clicks


def append_next(store: DuckDBOffline, partition: int) -> int:
    """Append eight rows as after a restart, where some rows come again; returns the offset before."""
    archived = store.offsets(CLICKS, [partition])[partition]
    first = max(0, archived - 2)
    store.append(CLICKS, clicks(partition, first, 8), {partition: first + 7})
    return archived


def main(settings: str, address: str, partition: str) -> None:
    store = DuckDBOffline(address, threads=1, storage=ObjectStorage(StorageSettings(**json.loads(settings))))
    while True:
        print(append_next(store, int(partition)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
