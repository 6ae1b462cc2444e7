"""The matrix of values over HTTP and as request values: equal on both sides, or refused by name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from asof import FeatureStore
from tests.matrix.cases import CASES, REFUSED
from tests.matrix.gaps import EMBEDDED
from tests.matrix.messages import JSON_CASES
from tests.matrix.outcomes import check
from tests.matrix.requests import (
    FORMS,
    Web,
    apply_posted,
    given_with_requests,
    json_form,
    pushed_as_json,
    read_over_http,
    web_over,
    write_repository,
)
from tests.matrix.runs import AT
from tests.matrix.wide import pushed_in_one_row


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("matrix")
    (folder / "feature_store.yaml").write_text("project: matrix\n", encoding="utf-8")
    write_repository(folder)
    return folder


@pytest.fixture(scope="module")
def store(folder: Path) -> Iterator[FeatureStore]:
    with FeatureStore(folder, clock=lambda: AT) as store:
        store.apply()
        apply_posted(store)
        pushed_in_one_row(store)
        yield store


@pytest.fixture(scope="module")
def web(folder: Path, store: FeatureStore) -> Iterator[Web]:
    with web_over(folder) as web:
        yield web


@pytest.mark.parametrize("form", FORMS)
def test_request_values_reach_functions_as_they_are_in_training_and_serving(store: FeatureStore, form: str) -> None:
    found = given_with_requests(store, form)

    for side, cells in found.items():
        assert len(cells) > 85
        # As in pushes: what has no types of its own, or other ones, is the same there.
        check(f"push of {form}, {side}", cells, EMBEDDED[f"request of {form}"], "'c")


def test_values_pushed_over_http_are_the_same_or_refused(store: FeatureStore, web: Web) -> None:
    found = pushed_as_json(store, web)

    for side, cells in found.items():
        assert cells.keys() == JSON_CASES.keys()
        check(
            f"push over HTTP, {side}", cells, EMBEDDED["push over HTTP"], "'c", "the request's body", cases=JSON_CASES
        )


def test_values_leave_over_http_and_by_the_client_as_they_are(web: Web) -> None:
    fit = {name: case for name, case in CASES.items() if case.expected is not REFUSED and name != "struct into string"}
    raw, read = read_over_http(web, "one_row_view", 1, {name: f"c{place}" for place, name in enumerate(fit)})

    check("client, served", read, EMBEDDED["client"])
    assert {name: repr(value) for name, value in raw.items()} == {
        name: repr(json_form(case.expected)) for name, case in fit.items()
    }
