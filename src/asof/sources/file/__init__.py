"""Sources in files: Parquet, CSV, and the Parquet files of a Delta table."""

from asof.sources.file.reader import FileReader

__all__ = ["FileReader"]
