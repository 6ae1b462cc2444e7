"""Historical reads against the oracle again, with every view and every function, on many more histories."""

from __future__ import annotations

from pathlib import Path

import pytest

from asof.offline.duckdb.engine import DuckDBEngine
from tests.embedded.test_point_in_time import check_against_the_oracle, check_what_was_known, views_of_every_kind

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.mark.parametrize("seed", range(12))
def test_all_views_and_functions_answer_like_the_oracle(tmp_path: Path, seed: int) -> None:
    engine = DuckDBEngine(threads=2)

    check_against_the_oracle(engine, tmp_path, seed, views_of_every_kind())


@pytest.mark.parametrize("seed", range(100, 106))
def test_all_views_and_functions_count_only_what_was_known(tmp_path: Path, seed: int) -> None:
    engine = DuckDBEngine(threads=2)

    check_what_was_known(engine, tmp_path, seed, views_of_every_kind())
