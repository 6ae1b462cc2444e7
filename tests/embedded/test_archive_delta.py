"""Delta archives pass the archives' suite."""

import pytest

from asof.errors import StorageError
from asof.offline.duckdb.engine import DuckDBOffline
from asof.testing.archive import CLICKS, ArchiveSuite, clicks


class TestDeltaArchives(ArchiveSuite):
    @pytest.fixture
    def open_store(self, tmp_path):
        return lambda: DuckDBOffline(tmp_path / "a folder", threads=1)


def test_a_damaged_archive_is_named(tmp_path):
    store = DuckDBOffline(tmp_path, threads=1)
    store.append(CLICKS, clicks(0, 0, 2), {0: 1})
    for part in (tmp_path / "shop/events/clicks/_delta_log").glob("*.json"):
        part.write_text("{broken")

    with pytest.raises(StorageError, match="archive 'clicks' at .* cannot be opened") as caught:
        store.offsets(CLICKS, [0])

    assert "offline_store.path" in caught.value.hint
