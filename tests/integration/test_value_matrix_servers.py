"""The matrix of values, of messages and of one wide row, on engines and online stores on servers."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from asof import FeatureStore, FeatureView, Field, PushSource
from asof.errors import AsofError
from asof.types import Array, Int32, Int64, Timestamp
from tests.matrix.batch import FRAMES, assert_labels_came_back
from tests.matrix.gaps import IN_POSTGRES
from tests.matrix.messages import FORMATS
from tests.matrix.outcomes import check
from tests.matrix.runs import AT, Found
from tests.matrix.wide import THING, pushed_in_one_row, sent

pytestmark = pytest.mark.integration

SET_UPS = {
    "Postgres and Redis": "offline_store: {{type: postgres, url: '{url}'}}\nonline_store: {{type: redis, url: '{redis}'}}\n",
    "Postgres and Postgres": "offline_store: {{type: postgres, url: '{url}'}}\nonline_store: {{type: postgres, url: '{url}'}}\n",
    "DuckDB and Redis": "online_store: {{type: redis, url: '{redis}'}}\n",
    "DuckDB and Postgres": "online_store: {{type: postgres, url: '{url}'}}\n",
}


@dataclass
class Matrix:
    """A store on servers.

    Args:
        leave_out: the cases that its archives have no type for.
    """

    store: FeatureStore
    leave_out: Sequence[str]


@pytest.fixture(scope="module", params=SET_UPS)
def matrix(request, postgres, redis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Matrix]:
    name = f"matrix_{uuid.uuid4().hex}"
    url = postgres.create_database(name)
    folder: Path = tmp_path_factory.mktemp("matrix")
    sections = SET_UPS[request.param].format(url=url, redis=redis.url)
    (folder / "feature_store.yaml").write_text(f"project: {name}\n{sections}", encoding="utf-8")
    with FeatureStore(folder, clock=lambda: AT) as store:
        yield Matrix(store, list(IN_POSTGRES) if "offline_store" in sections else [])
        store.teardown(purge=True)
    postgres.drop_database(name)


@pytest.mark.parametrize("kind", FORMATS)
def test_values_of_messages_are_the_same_or_dead_letters(matrix: Matrix, kind: str) -> None:
    cases = {name: case for name, case in FORMATS[kind][0].items() if name not in matrix.leave_out}
    found = sent(matrix.store, kind, matrix.leave_out)

    for side in ("trained", "served"):
        assert found[side].keys() == cases.keys()
        check(f"{kind} message, {side}", found[side], {}, "column 'c", "not a JSON object", cases=cases)


@pytest.fixture(scope="module")
def of_one_row(matrix: Matrix) -> Found:
    return pushed_in_one_row(matrix.store, matrix.leave_out)


def test_all_values_of_one_pushed_row_leave_as_they_are_by_every_way_out(of_one_row: Found) -> None:
    assert len(of_one_row) == 8 and all(len(cells) > 60 for cells in of_one_row.values())
    for way, cells in of_one_row.items():
        check(f"one row, {way}", cells, {})


@pytest.mark.parametrize("form", FRAMES)
@pytest.mark.usefixtures("of_one_row")
def test_labels_of_any_type_come_back_as_they_were_given(matrix: Matrix, form: str) -> None:
    assert_labels_came_back(matrix.store, "one_row_view:c0", form)


def test_a_type_that_postgres_has_no_place_for_is_refused_by_name(matrix: Matrix) -> None:
    lists = PushSource(
        "lists", [Field("user", Int64), Field("nested", Array(Array(Int32))), Field("at", Timestamp)], "at"
    )
    view = FeatureView("list_view", entities=[THING], source=lists, schema=[Field("nested", Array(Array(Int32)))])

    if not matrix.leave_out:
        matrix.store.apply([THING, lists, view])
        return
    with pytest.raises(AsofError, match="'lists': column 'nested' is .*, which no type of Postgres can hold"):
        matrix.store.apply([THING, lists, view])
