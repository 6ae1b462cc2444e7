"""The matrix of values on embedded parts: what comes in comes out as it is, or is refused by name, by every way."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from asof import FeatureStore
from tests.matrix.cases import CASES
from tests.matrix.gaps import EMBEDDED
from tests.matrix.outcomes import check
from tests.matrix.runs import AT, PUSHES, BatchRun, Found, parquet_source, pushed

OUT = ("to_arrow", "to_df", "to_polars", "rows")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeatureStore]:
    folder = tmp_path_factory.mktemp("matrix")
    (folder / "feature_store.yaml").write_text("project: matrix\n", encoding="utf-8")
    with FeatureStore(folder, clock=lambda: AT) as store:
        yield store


@pytest.fixture(scope="module")
def of_files(store: FeatureStore, tmp_path_factory: pytest.TempPathFactory) -> Found:
    return BatchRun(store, parquet_source(tmp_path_factory.mktemp("files"))).run()


@pytest.fixture(scope="module")
def of_pushes(store: FeatureStore) -> Found:
    return pushed(store)


@pytest.mark.parametrize("side", ["trained", "served"])
def test_values_of_parquet_files_are_the_same_or_refused(of_files: Found, side: str) -> None:
    assert of_files[side].keys() == CASES.keys()
    check(f"parquet, {side}", of_files[side], EMBEDDED["parquet"], "'value'", "source 's", "feature view 'v")


@pytest.mark.parametrize("way", [f"{side}, {way}" for side in ("trained", "served") for way in OUT])
def test_values_leave_as_they_are_by_every_way_out(of_files: Found, way: str) -> None:
    assert len(of_files[way]) > 60
    check(f"parquet, {way}", of_files[way], EMBEDDED[way])


@pytest.mark.parametrize("way", PUSHES)
@pytest.mark.parametrize("side", ["trained", "served"])
def test_pushed_values_are_the_same_or_refused(of_pushes: Found, way: str, side: str) -> None:
    found = of_pushes[f"push of {way}, {side}"]
    assert len(found) > 90
    check(f"push of {way}, {side}", found, EMBEDDED[f"push of {way}"], "'value'")
