"""The matrix of values, of messages and of one wide row, on embedded parts: equal by every way out, or refused by name."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from asof import FeatureStore
from tests.matrix.gaps import EMBEDDED
from tests.matrix.messages import FORMATS
from tests.matrix.outcomes import check
from tests.matrix.runs import AT
from tests.matrix.wide import pushed_in_one_row, sent

REFUSALS = "column 'c", "not a JSON object"
"""What a dead letter says: the column, or that the message is no JSON at all."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeatureStore]:
    folder = tmp_path_factory.mktemp("matrix")
    (folder / "feature_store.yaml").write_text("project: matrix\n", encoding="utf-8")
    with FeatureStore(folder, clock=lambda: AT) as store:
        yield store


@pytest.mark.parametrize("kind", FORMATS)
def test_values_of_messages_are_the_same_or_dead_letters(store: FeatureStore, kind: str) -> None:
    cases, _ = FORMATS[kind]
    found = sent(store, kind)

    for side in ("trained", "served"):
        assert found[side].keys() == cases.keys()
        check(f"{kind} message, {side}", found[side], EMBEDDED[f"{kind} message"], *REFUSALS, cases=cases)


def test_all_values_of_one_pushed_row_leave_as_they_are_by_every_way_out(store: FeatureStore) -> None:
    found = pushed_in_one_row(store)

    assert len(found) == 8 and all(len(cells) > 60 for cells in found.values())
    for way, cells in found.items():
        check(f"one row, {way}", cells, EMBEDDED[f"one row, {way}"])
