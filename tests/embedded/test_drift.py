"""Files that changed after `apply`: every verb says what is not as it was, and `doctor` finds it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import deltalake
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from asof import FeatureStore, FileSource
from tests.drift.verbs import CHANGES, ROWS, VERBS, check_doctor, check_verb, used_store

WRITERS: dict[str, Callable[[Path, pa.Table], Any]] = {
    "parquet": lambda path, rows: pq.write_table(rows, path),
    "csv": lambda path, rows: pyarrow.csv.write_csv(rows, path),
    "delta": lambda path, rows: deltalake.write_deltalake(path, rows, mode="overwrite", schema_mode="overwrite"),
}

Drifted = Callable[[str, str], FeatureStore]


@pytest.fixture(scope="module")
def drifted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drifted]:
    """A store whose source has changed, by the format of its files and what changed."""
    made: dict[tuple[str, str], FeatureStore] = {}

    def store(kind: str, change: str) -> FeatureStore:
        if (kind, change) not in made:
            folder = tmp_path_factory.mktemp("store")
            (folder / "feature_store.yaml").write_text("project: shop\n")
            path = f"sales.{kind}"
            WRITERS[kind](folder / path, pa.table(ROWS))
            source = FileSource(path, name="sales", timestamp_field="at", file_format=kind)
            made[kind, change] = used_store(folder, source)
            WRITERS[kind](folder / path, pa.table(CHANGES[change][0]))
        return made[kind, change]

    yield store
    for each in made.values():
        each.close()


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", WRITERS)
def test_every_verb_says_which_column_of_a_file_is_not_as_it_was(
    kind: str, change: str, verb: str, drifted: Drifted
) -> None:
    check_verb(drifted(kind, change), verb, change)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", WRITERS)
def test_the_doctor_finds_a_file_that_changed(kind: str, change: str, drifted: Drifted) -> None:
    check_doctor(drifted(kind, change), change)
