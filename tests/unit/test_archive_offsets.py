"""What a bucket's log says of the archived offsets, read once for all partitions; and forms of it that only the driver knows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asof.connections.object_storage import ObjectStorage
from asof.offline.delta.offsets import OffsetCache

TXN = pa.struct([("appId", pa.string()), ("version", pa.int64())])


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """The log of a table at version 4, with a checkpoint at 2."""
    log = tmp_path / "clicks" / "_delta_log"
    log.mkdir(parents=True)
    for version, transactions in {3: {0: 30, 2: 5}, 4: {1: 7}}.items():
        lines = [{"txn": {"appId": f"partition {each}", "version": last}} for each, last in transactions.items()]
        text = "\n".join(map(json.dumps, [{"commitInfo": {"note": '"txn"'}}, *lines]))
        (log / f"{version:020}.json").write_text(text)
    rows = [
        {"appId": "partition 0", "version": 20},
        {"appId": "partition -1", "version": 3},
        {"appId": "other", "version": 9},
        None,
    ]
    pq.write_table(pa.table({"txn": pa.array(rows, TXN)}), log / f"{2:020}.checkpoint.parquet")
    (log / "_last_checkpoint").write_text('{"version": 2, "size": 9}')
    return log


def of_driver(asked: list[str]) -> Any:
    """A table at version 4, of which the driver is asked for each partition."""

    def transaction_version(name: str) -> int:
        asked.append(name)
        return 99

    return SimpleNamespace(version=lambda: 4, transaction_version=transaction_version)


def offsets(log: Path, asked: list[str]) -> dict[int, int]:
    cache = OffsetCache(ObjectStorage(), most_commits=10)
    return cache.offsets(f"file://{log.parent}", of_driver(asked), [-1, 0, 1, 2, 3])


def test_checkpoint_and_commits_say_the_offsets_of_all_partitions(log: Path) -> None:
    asked: list[str] = []

    assert offsets(log, asked) == {-1: 3, 0: 30, 1: 7, 2: 5, 3: -1} and not asked


def test_a_log_without_a_checkpoint_is_read_from_its_first_commit(log: Path) -> None:
    for name in ("_last_checkpoint", f"{2:020}.checkpoint.parquet"):
        (log / name).unlink()
    for version in range(3):
        (log / f"{version:020}.json").write_text("{}")
    asked: list[str] = []

    assert offsets(log, asked) == {-1: -1, 0: 30, 1: 7, 2: 5, 3: -1} and not asked


OTHER_FORMS: dict[str, Callable[[Path], object]] = {
    "in several files": lambda log: (log / f"{2:020}.checkpoint.parquet").rename(log / "parts"),
    "not readable": lambda log: (log / f"{2:020}.checkpoint.parquet").write_bytes(b"PAR1"),
    "without transactions": lambda log: pq.write_table(pa.table({"add": [1]}), log / f"{2:020}.checkpoint.parquet"),
    "named by no JSON": lambda log: (log / "_last_checkpoint").write_text("{"),
    "behind the table": lambda log: (log / "_last_checkpoint").write_text('{"version": 9}'),
    "without a commit after it": lambda log: (log / f"{3:020}.json").unlink(),
}


@pytest.mark.parametrize("form", OTHER_FORMS)
def test_of_another_form_the_driver_is_asked(form: str, log: Path) -> None:
    OTHER_FORMS[form](log)
    asked: list[str] = []

    assert set(offsets(log, asked).values()) == {99}, form
    assert len(asked) == 5
