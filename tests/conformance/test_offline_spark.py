"""The offline stores' suite on Sail, which speaks Spark Connect without Java, in this process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from asof.offline.spark.engine import SparkOffline
from asof.testing.offline import OfflineStoreSuite

pysail = pytest.importorskip("pysail.spark")

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkOffline]:
    server = pysail.SparkConnectServer("127.0.0.1", 0)
    server.start(background=True)
    host, port = server.listening_address
    store = SparkOffline(tmp_path_factory.mktemp("spark"), remote=f"sc://{host}:{port}")
    yield store
    store.close()
    server.stop()


class TestSail(OfflineStoreSuite):
    @pytest.fixture
    def engine(self, shared: SparkOffline) -> SparkOffline:
        return shared
