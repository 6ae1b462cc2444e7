"""The matrix of values, of wide files and of the labels of entity frames, on embedded parts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from asof import FeatureStore
from tests.matrix.batch import (
    FRAMES,
    WRITERS,
    assert_labels_came_back,
    assert_sql_frame_has_its_columns,
    holds,
    read_in_one_row,
)
from tests.matrix.gaps import EMBEDDED
from tests.matrix.outcomes import check
from tests.matrix.runs import AT
from tests.matrix.wide import pushed_in_one_row


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeatureStore]:
    folder = tmp_path_factory.mktemp("matrix")
    (folder / "feature_store.yaml").write_text("project: matrix\n", encoding="utf-8")
    with FeatureStore(folder, clock=lambda: AT) as store:
        pushed_in_one_row(store)
        yield store


@pytest.mark.parametrize("kind", WRITERS)
def test_values_of_a_wide_file_leave_as_they_are_by_every_way_out(
    store: FeatureStore, kind: str, tmp_path: Path
) -> None:
    (tmp_path / "tries").mkdir()
    cases = holds(WRITERS[kind], tmp_path / "tries")
    found = read_in_one_row(store, kind, tmp_path, cases)

    assert len(found) == 8 and all(len(cells) > 70 for cells in found.values())
    for way, cells in found.items():
        check(f"{kind} file, {way}", cells, EMBEDDED[f"{kind} file"])
    assert_sql_frame_has_its_columns(store, f"{kind}_rows", f"{kind}_wide:c0", cases)


@pytest.mark.parametrize("form", FRAMES)
def test_labels_of_any_type_come_back_as_they_were_given(store: FeatureStore, form: str) -> None:
    assert_labels_came_back(store, "one_row_view:c0", form)
