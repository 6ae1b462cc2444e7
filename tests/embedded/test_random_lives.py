"""Random lives of stores on embedded parts: each value that training and serving return is the oracle's."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lives.life import Life, SetUp


@pytest.mark.parametrize("seed", [1, 2])
def test_a_random_life_returns_what_the_oracle_says(tmp_path: Path, seed: int) -> None:
    life = Life(tmp_path / "life", SetUp(), seed)

    assert life.live(12) > 500
