"""The archives' suite on Delta tables that Sail reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from asof.offline.spark.engine import SparkOffline
from asof.testing.archive import ArchiveSuite
from tests.sail import running

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def remote() -> Iterator[str]:
    with running() as remote:
        yield remote


class TestArchivesOfSpark(ArchiveSuite):
    @pytest.fixture
    def open_store(self, tmp_path: Path, remote: str) -> Callable[[], SparkOffline]:
        return lambda: SparkOffline(tmp_path / "a folder", remote=remote)
