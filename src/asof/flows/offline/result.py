"""The lazy result of a historical read: each `to_…` method runs the read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from asof.defaults import BATCH_ROWS
from asof.errors import MissingExtra, RequestError, StorageError
from asof.flows.offline.read import HistoricalRead
from asof.flows.offline.training_sets.save import save_training_set
from asof.values.local_paths import NotLocal, local_path

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl


class HistoricalResult:
    """A lazy historical read: it runs when a `to_…` method is called, and again at each call."""

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
        """All rows as a pandas data frame."""
        try:
            import pandas as pd  # noqa: F401
        except ImportError as error:
            raise MissingExtra("to_df()", "pandas") from error
        return self.to_arrow().to_pandas()

    def to_polars(self) -> pl.DataFrame:
        """All rows as a Polars data frame."""
        try:
            import polars as pl
        except ImportError as error:
            raise MissingExtra("to_polars()", "polars") from error
        frame = pl.from_arrow(self.to_arrow())
        assert isinstance(frame, pl.DataFrame)  # a table gives a frame; a column would give a series
        return frame

    def to_sql(self) -> str:
        """The SQL that the engine runs (on-demand functions follow it in Python)."""
        return self._read.run().text

    def write(self, path: str | Path) -> int:
        """Write all rows to a Parquet or CSV file, in bounded memory; returns their number.

        The file appears, or replaces an existing one, once it is complete.

        Raises:
            StorageError: the file cannot be written.
        """
        import pyarrow.csv
        import pyarrow.parquet

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

    def save(self, name: str, *, overwrite: bool = False) -> dict[str, object]:
        """Save the rows as a training set with this name; returns its manifest.

        Args:
            overwrite: replace an existing training set with this name.
        """
        return save_training_set(self._read, name, overwrite=overwrite)
