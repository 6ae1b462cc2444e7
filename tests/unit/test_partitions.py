"""An archive's partition numbers: written as archives have always kept them, and read back."""

from __future__ import annotations

import json

import pytest

from asof.sql.partitions import HISTORY, ArchivePartition


@pytest.mark.parametrize(
    ("epoch", "is_replayed", "number", "kept"),
    [
        (0, False, 0, 0), (0, False, 7, 7), (0, True, 0, 500_000), (0, True, 3, 500_003), (1, False, 0, 1_000_000),
        (2, False, 3, 2_000_003), (2, True, 3, 2_500_003), (0, False, 499_999, 499_999),
    ],
)  # fmt: skip
def test_a_partition_is_kept_as_one_number_and_read_back(epoch: int, is_replayed: bool, number: int, kept: int) -> None:
    made = ArchivePartition.of(number, epoch=epoch, is_replayed=is_replayed)
    read = ArchivePartition(kept)

    assert made == kept
    assert (read.epoch, read.is_replayed, read.number, read.is_history) == (epoch, is_replayed, number, False)


def test_history_is_no_partition_of_a_log() -> None:
    assert HISTORY == -1
    assert (HISTORY.is_history, HISTORY.epoch, HISTORY.is_replayed, HISTORY.number) == (True, 0, False, -1)


def test_it_is_written_and_looked_up_as_the_integer_that_it_is() -> None:
    partition = ArchivePartition.of(1, is_replayed=True)

    assert (f"{partition}", str(HISTORY), json.dumps([partition])) == ("500001", "-1", "[500001]")
    assert {500_001: "offset"}[partition] == "offset"


@pytest.mark.parametrize(
    ("partition", "text"),
    [
        (HISTORY, "the loaded history"),
        (ArchivePartition(3), "partition 3"),
        (ArchivePartition.of(1, is_replayed=True), "replay partition 1"),
        (ArchivePartition.of(4, epoch=2), "partition 4 of the topic's epoch 2"),
    ],
)
def test_a_partition_is_described_with_the_numbers_of_the_log(partition: ArchivePartition, text: str) -> None:
    assert partition.described == text
