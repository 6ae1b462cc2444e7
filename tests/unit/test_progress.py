"""The progress of online tables: kept under the names that stores have always had for it, and read back."""

from __future__ import annotations

import pytest

from asof.flows.generations.progress import TableProgress
from asof.sql.partitions import HISTORY, ArchivePartition

REPLAYED = ArchivePartition.of(3, epoch=1, is_replayed=True)


@pytest.mark.parametrize(
    ("progress", "kept"),
    [
        (TableProgress(), {}),
        (TableProgress(reached={0: 7, 12: -1}), {"partition 0": 7, "partition 12": -1}),
        (TableProgress(reached={HISTORY: 9, REPLAYED: 2}), {"partition -1": 9, "partition 1500003": 2}),
        (TableProgress(live={0: True, 1: False}), {"live 0": 1, "live 1": 0}),
        (TableProgress(incomplete={0: True, 1: False}), {"incomplete 0": 1, "incomplete 1": 0}),
        (TableProgress(built=0), {"built": 0}),
        (TableProgress(materialized=5), {"materialized": 5}),
        (TableProgress(restored_in="run-1"), {"restored": "in run-1"}),
        (TableProgress(restored_in=""), {"restored": "in "}),
        (TableProgress(restored_in="in "), {"restored": "in in "}),
        (TableProgress(reached={0: 7}, live={0: True}, built=3), {"partition 0": 7, "live 0": 1, "built": 3}),
    ],
)
def test_what_is_kept_has_its_names_and_is_read_back(progress: TableProgress, kept: dict[str, str | int]) -> None:
    assert progress.content() == kept
    assert TableProgress.of(kept) == progress
    assert all(type(value) in (int, str) for value in progress.content().values()), "what stores take"


def test_a_table_of_which_nothing_is_kept_is_nowhere() -> None:
    nothing = TableProgress.of({})

    assert (nothing.offset_of(0), nothing.is_live(0), nothing.is_incomplete(0)) == (-1, False, False)
    assert (nothing.is_built, nothing.built, nothing.materialized, nothing.restored_in) == (False, None, None, None)
    assert TableProgress.of({"built": 0}).is_built


@pytest.mark.parametrize("name", ["topic", "partitions", "shadow 3", "partition", "built 3", "lives"])
def test_names_of_a_newer_version_say_nothing(name: str) -> None:
    assert TableProgress.of({name: 1, "partition 0": 4}) == TableProgress(reached={0: 4})
