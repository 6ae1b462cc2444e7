"""Delta archives: damage is named."""

import pytest

from asof.errors import StorageError
from asof.offline.duckdb.engine import DuckDBOffline
from asof.testing.archive import CLICKS, clicks


def test_a_damaged_archive_is_named(tmp_path):
    store = DuckDBOffline(tmp_path, threads=1)
    store.append(CLICKS, clicks(0, 0, 2), {0: 1})
    for part in (tmp_path / "shop/events/clicks/_delta_log").glob("*.json"):
        part.write_text("{broken")

    with pytest.raises(StorageError, match="archive 'clicks' at .* cannot be opened") as caught:
        store.offsets(CLICKS, [0])

    assert "offline_store.path" in caught.value.hint
