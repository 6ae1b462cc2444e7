"""The source readers' suite on files of every format."""

import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from asof.connections.object_storage import ObjectStorage, StorageSettings
from asof.definitions import FileSource
from asof.offline.duckdb.engine import DuckDBOffline
from asof.sources.file import FileReader
from asof.testing.sources import SourceReaderSuite


class FileSuite(SourceReaderSuite):
    path: str

    def write(self, rows, place):
        raise NotImplementedError

    @pytest.fixture
    def reader(self, tmp_path):
        return FileReader(tmp_path)

    @pytest.fixture
    def engine(self, tmp_path):
        return DuckDBOffline(tmp_path / "offline", threads=1)

    @pytest.fixture
    def source_of(self, tmp_path):
        def make(rows):
            if rows is None:
                return FileSource("nowhere.parquet", name="rides", timestamp_field="at")
            self.write(rows, tmp_path / self.path)
            return FileSource(self.path, name="rides", timestamp_field="at", file_format=self.format)

        return make

    format = None


class TestParquetFile(FileSuite):
    path = "rides.parquet"

    def write(self, rows, place):
        pq.write_table(rows, place)


class TestFileUrl(FileSuite):
    path = "rides of may.parquet"

    def write(self, rows, place):
        pq.write_table(rows, place)

    @pytest.fixture
    def source_of(self, tmp_path):
        def make(rows):
            if rows is None:
                return FileSource(f"file://{tmp_path}/nowhere.parquet", name="rides", timestamp_field="at")
            self.write(rows, tmp_path / self.path)
            return FileSource(f"file://{tmp_path}/rides%20of%20may.parquet", name="rides", timestamp_field="at")

        return make


class TestDeltaTableByUrl(FileSuite):
    path = "rides_delta"
    format = "delta"

    def write(self, rows, place):
        write_deltalake(place, rows)

    @pytest.fixture
    def source_of(self, tmp_path):
        def make(rows):
            if rows is not None:
                self.write(rows, tmp_path / self.path)
            return FileSource(f"file://{tmp_path}/{self.path}", name="rides", timestamp_field="at", file_format="delta")

        return make


class TestFolderOfParquetFiles(FileSuite):
    path = "rides"

    def write(self, rows, place):
        (place / "day=1").mkdir(parents=True)
        pq.write_table(rows.slice(0, 1), place / "day=1" / "a.parquet")
        pq.write_table(rows.slice(1), place / "b.parquet")


class TestDeltaTable(FileSuite):
    path = "rides_delta"
    format = "delta"

    def write(self, rows, place):
        write_deltalake(place, rows)


@pytest.mark.integration
class TestParquetObject(FileSuite):
    """The same files in a bucket."""

    path = "rides.parquet"

    def write(self, rows, place):
        pq.write_table(rows, place)

    @pytest.fixture
    def storage(self, s3):
        return ObjectStorage(StorageSettings(**s3.storage))

    @pytest.fixture
    def reader(self, tmp_path, storage):
        return FileReader(tmp_path, storage=storage)

    @pytest.fixture
    def source_of(self, tmp_path, storage, bucket):
        def make(rows):
            if rows is not None:
                self.write(rows, tmp_path / self.path)
                upload(storage, tmp_path / self.path, f"{bucket}/data/{self.path}")
            return FileSource(f"{bucket}/data/{self.path}", name="rides", timestamp_field="at", file_format=self.format)

        return make


class TestFolderOfParquetObjects(TestParquetObject):
    path = "rides"
    write = TestFolderOfParquetFiles.write


class TestDeltaTableInABucket(TestParquetObject):
    path = "rides_delta"
    format = "delta"
    write = TestDeltaTable.write


def upload(storage, place, address):
    """Write a file, or all files below a folder, into a bucket."""
    for each in sorted(place.rglob("*")) if place.is_dir() else [place]:
        if each.is_file():
            storage.write(address if each == place else f"{address}/{each.relative_to(place)}", each.read_bytes())
