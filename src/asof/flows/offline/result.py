"""The lazy result of a historical read: each `to_…` method runs the read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from asof.connections.object_storage.uploads import file_bytes
from asof.defaults import BATCH_ROWS
from asof.definitions.facts import TrainingSet
from asof.display import counted, html_table, text_table
from asof.errors import RequestError, StorageError
from asof.flows.offline.read import HistoricalRead
from asof.flows.offline.training_sets.save import save_training_set
from asof.flows.runs import TRAINING_SET, recorded_run
from asof.flows.stores import Progress, silent
from asof.flows.use import count_training_set
from asof.results import Frames, Row, require, rows_of
from asof.timing import iso
from asof.values.local_paths import NotLocal, is_object_address, local_path

if TYPE_CHECKING:
    import pandas as pd


class HistoricalResult(Frames):
    """A lazy historical read: it runs when a `to_…` method is called, and again at each call.

    Iteration also runs it, and yields its rows one by one, in bounded memory.
    """

    def __init__(self, read: HistoricalRead) -> None:
        self._read = read

    @property
    def schema(self) -> pa.Schema:
        """The entity frame's columns, then the features in the requested order."""
        return self._read.schema

    def to_batches(self, batch_rows: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
        """The rows in batches, in bounded memory."""
        return self._read.batches(batch_rows)

    def to_arrow(self) -> pa.Table:
        """All rows as an Arrow table."""
        return self._read.table()

    def to_df(self) -> pd.DataFrame:
        """All rows as a pandas data frame; integers with nulls stay integers (`Int64`).

        Of an entity frame that is a data frame, its own columns and its index are as they came.
        """
        require("pandas", "to_df()")
        return self._read.data_frame()

    def __iter__(self) -> Iterator[Row]:
        return rows_of(self.to_batches())

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        reader = pa.RecordBatchReader.from_batches(self.schema, self.to_batches())
        return reader.__arrow_c_stream__(requested_schema)

    def __repr__(self) -> str:
        return text_table(self._title(), *self._described())

    def _repr_html_(self) -> str:
        return html_table(self._title(), *self._described())

    def _title(self) -> str:
        """What a run would compute; it is not run for that."""
        query, features = self._read.query, self._read.selection.outputs
        if self._read.spine is None:
            bounds = [iso(each) for each in (query.start, query.end) if each is not None]
            rows = "all rows of the sources" + (f", event times {' to '.join(bounds)}" if bounds else "")
        elif isinstance(self._read.spine, pa.Table):
            rows = counted(self._read.spine.num_rows, "row") + " of a table"
        else:
            rows = "the rows of a query or file"
        known = "" if query.known_at in (None, False) else ", with what was known then"
        return f"HistoricalResult, not run yet: {counted(len(features), 'feature')} for {rows}{known}"

    def _described(self) -> tuple[list[str], list[list[object]]]:
        outputs = {each.name: each.reference for each in self._read.selection.outputs}
        fields = [[each.name, str(each.type), outputs.get(each.name, "the entity frame")] for each in self.schema]
        return ["column", "type", "from"], fields

    def to_sql(self) -> str:
        """The SQL that the engine runs (on-demand functions follow it in Python)."""
        return self._read.run().text()

    def write(self, path: str | Path) -> int:
        """Write all rows to a Parquet or CSV file, or an object such as `s3://bucket/rows.parquet`.

        Memory is bounded; returns the number of rows.

        The file appears, or replaces an existing one, once it is complete.

        Raises:
            StorageError: the file cannot be written.
        """
        import pyarrow.csv
        import pyarrow.parquet

        if is_object_address(str(path)):
            return self._upload(str(path))
        try:
            path = Path(local_path(str(path)))
        except NotLocal as error:
            raise RequestError(
                f"the file to write: {error}", hint="write it to a local path, then upload it"
            ) from error
        if path.suffix not in (".parquet", ".csv"):
            raise RequestError(f"file {str(path)!r} is neither .parquet nor .csv", hint="use one of these extensions")
        opened = pyarrow.parquet.ParquetWriter if path.suffix == ".parquet" else pyarrow.csv.CSVWriter
        batches = self.to_batches()
        part = path.with_name(f".{path.name}.part")
        rows = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with opened(str(part), self.schema) as writer:
                for batch in batches:
                    writer.write_batch(batch)
                    rows += batch.num_rows
            part.replace(path)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise StorageError(
                f"file {str(path)!r} cannot be written: {reason}", hint="check the path, its rights and the disk"
            ) from error
        finally:
            part.unlink(missing_ok=True)
        return rows

    def _upload(self, address: str) -> int:
        """Write all rows to an object, which appears once it is complete."""
        import pyarrow.csv
        import pyarrow.parquet

        ending = address.rpartition(".")[2]
        if ending not in ("parquet", "csv"):
            raise RequestError(f"object {address!r} is neither .parquet nor .csv", hint="use one of these extensions")
        opened = pyarrow.parquet.ParquetWriter if ending == "parquet" else pyarrow.csv.CSVWriter
        rows = 0

        def counted_batches() -> Iterator[pa.RecordBatch]:
            nonlocal rows
            for batch in self.to_batches():
                rows += batch.num_rows
                yield batch

        self._read.stores.storage.write(address, file_bytes(self.schema, counted_batches(), opened))
        return rows

    def save(self, name: str, *, overwrite: bool = False, progress: Progress = silent) -> TrainingSet:
        """Save the rows as a training set with this name; returns its manifest.

        Args:
            overwrite: replace an existing training set with this name.
        """
        with recorded_run(self._read.stores, TRAINING_SET) as notes:
            notes.details["training_set"] = name
            saved = save_training_set(self._read, name, overwrite=overwrite, progress=progress)
            notes.rows = saved.rows
            count_training_set(self._read.stores, self._read.selection)
        return saved
