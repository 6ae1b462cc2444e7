"""The offline stores' suite on Sail, which speaks Spark Connect without Java, in this process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from asof.offline.spark.engine import SparkOffline
from asof.testing.offline import OfflineStoreSuite
from tests.sail import running

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkOffline]:
    with running() as remote:
        store = SparkOffline(tmp_path_factory.mktemp("spark"), remote=remote)
        yield store
        store.close()


class TestSail(OfflineStoreSuite):
    @pytest.fixture
    def engine(self, shared: SparkOffline) -> SparkOffline:
        return shared
