"""The conformance suite of source readers: each reader's tests subclass `SourceReaderSuite`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import pyarrow as pa
import pytest

from asof.definitions import Source
from asof.dtypes import Float64, Int64, String, Timestamp
from asof.errors import SourceError
from asof.offline.protocol import OfflineStore
from asof.sources.protocol import ScanRequest, SourceReader

ROWS = pa.table(
    {
        "user_id": pa.array([1, 2, None], pa.int64()),
        "at": pa.array([0, 1_000_000, 2_000_001], pa.timestamp("us", "UTC")),
        "fare": pa.array([1.5, None, float("inf")], pa.float64()),
        "city": pa.array(["Łódź", "", None], pa.string()),
    }
)


class SourceReaderSuite:
    """A reader says what is there, and hands over all of it.

    A subclass gives the fixtures `reader`, `engine` (an offline store that can read its rows), `source_of` (a callable
    that makes a source of the given rows, `None` for one that does not exist).
    """

    @pytest.fixture
    def source(self, source_of: Callable[[pa.Table | None], Source]) -> Source:
        return source_of(ROWS)

    def rows(
        self, reader: SourceReader, engine: OfflineStore, source: Source, need: ScanRequest
    ) -> list[dict[str, object]]:
        text = 'SELECT user_id, "at", fare, city FROM rides ORDER BY "at"'
        return engine.sql(text, {"rides": reader.scan(source, need)}).reader().read_all().to_pylist()

    def test_the_columns_are_described_in_our_types(self, reader: SourceReader, source: Source) -> None:
        columns = {column.name: column.dtype for column in reader.describe(source)}

        assert columns == {"user_id": Int64, "at": Timestamp, "fare": Float64, "city": String}

    def test_all_rows_come_as_they_are(self, reader: SourceReader, engine: OfflineStore, source: Source) -> None:
        found = self.rows(reader, engine, source, ScanRequest())

        assert [row["user_id"] for row in found] == [1, 2, None]
        assert [row["fare"] for row in found] == [1.5, None, float("inf")]
        assert [row["city"] for row in found] == ["Łódź", "", None]
        assert [row["at"].microsecond for row in found if isinstance(row["at"], datetime)] == [0, 0, 1]

    def test_a_need_loses_no_row_that_it_names(
        self, reader: SourceReader, engine: OfflineStore, source: Source
    ) -> None:
        # A reader may hand over more than is needed, and never less.
        need = ScanRequest(["user_id", "at", "fare", "city"], start=1_000_000, end=1_000_000)

        assert 2 in [row["user_id"] for row in self.rows(reader, engine, source, need)]

    def test_no_rows_are_no_error(
        self, reader: SourceReader, engine: OfflineStore, source_of: Callable[[pa.Table | None], Source]
    ) -> None:
        assert self.rows(reader, engine, source_of(ROWS.slice(0, 0)), ScanRequest()) == []

    def test_a_source_that_is_not_there_is_one_clear_error(
        self, reader: SourceReader, source_of: Callable[[pa.Table | None], Source]
    ) -> None:
        with pytest.raises(SourceError) as caught:
            reader.describe(source_of(None))

        assert "'rides'" in caught.value.message
        assert caught.value.hint
