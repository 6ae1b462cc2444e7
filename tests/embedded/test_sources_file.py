"""Files as sources: URLs, CSV, and broken ones are named."""

import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from asof.definitions import FileSource
from asof.errors import SourceError
from asof.offline.duckdb.engine import DuckDBOffline
from asof.sources.file import FileReader
from asof.sources.protocol import ScanRequest
from asof.testing.sources import ROWS

REMOTE = (
    "hdfs://host/rides.parquet",
    "abfss://container@account/rides/*.parquet",
    "https://h/rides.csv",
    "file://other/rides.parquet",
)


@pytest.mark.parametrize("path", REMOTE)
@pytest.mark.parametrize("format", ["parquet", "csv", "delta"])
def test_a_url_is_no_path_of_files(tmp_path, path, format):
    # What a path would have been made of it is there, and is not read.
    place = tmp_path / path
    place.parent.mkdir(parents=True)
    write_deltalake(place, ROWS) if format == "delta" else pq.write_table(ROWS, place)
    source = FileSource(path, name="rides", timestamp_field="at", file_format=format)
    reader = FileReader(tmp_path)

    for use in (reader.describe, lambda source: reader.scan(source, ScanRequest())):
        with pytest.raises(SourceError, match=r"source 'rides': path=: (.|\n)*file:///"):
            use(source)


def test_csv_files_are_read(tmp_path):
    pyarrow.csv.write_csv(ROWS.slice(0, 2), tmp_path / "rides.csv")
    source = FileSource("rides.csv", timestamp_field="at")
    reader, engine = FileReader(tmp_path), DuckDBOffline(tmp_path / "offline", threads=1)

    assert [column.name for column in reader.describe(source)] == ROWS.column_names
    rows = engine.sql("SELECT city FROM rides", {"rides": reader.scan(source, ScanRequest())}).reader().read_all()
    assert rows["city"].to_pylist()[0] == "Łódź"


@pytest.mark.parametrize(
    ("path", "message", "hint"),
    [
        ("ridez.parquet", "there is no file", "did you mean 'rides.parquet'?"),
        ("empty", "has no parquet files", "check path="),
        ("*.pqt", "no file matches", "check path="),
        ("broken.parquet", "is not a parquet file", "check path= and file_format="),
    ],
)
def test_a_path_that_holds_nothing_usable_is_one_clear_error(tmp_path, path, message, hint):
    pq.write_table(ROWS, tmp_path / "rides.parquet")
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 not really")

    with pytest.raises(SourceError) as caught:
        FileReader(tmp_path).describe(FileSource(path, name="rides", timestamp_field="at"))

    assert message in caught.value.message
    assert hint in caught.value.hint
