"""Sources in files: Parquet, CSV, and the Parquet files of a Delta table."""

from __future__ import annotations

import glob
from difflib import get_close_matches
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from asof.definitions import FileSource, Source
from asof.dtypes import from_arrow
from asof.errors import SourceError
from asof.sources.protocol import Batches, Files, ScanRequest, SourceColumn, SourceReaderDefaults
from asof.values.local_paths import NotLocal, local_path

_ENDINGS = {"parquet": (".parquet", ".pq"), "csv": (".csv",)}


class FileReader(SourceReaderDefaults):
    """Reads `FileSource`s.

    Args:
        root: base of relative paths: the feature repository.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)

    def describe(self, source: Source) -> list[SourceColumn]:
        """The files' columns (of the first file; the others are read like it)."""
        assert isinstance(source, FileSource)
        paths = self._paths(source)
        try:
            if not paths:
                schema = self._delta_schema(source)
            elif source.file_format == "csv":
                schema = pa.csv.open_csv(paths[0]).schema
            else:
                schema = pa.parquet.read_schema(paths[0])
        except (pa.ArrowInvalid, OSError) as error:
            raise _refused(
                source, f"{paths[0]} is not a {source.file_format} file: {str(error).splitlines()[0]}"
            ) from error
        return [SourceColumn(each.name, from_arrow(each.type), str(each.type)) for each in schema]

    def scan(self, source: Source, need: ScanRequest) -> Files | Batches:
        """The source's files; the engine reads only the columns and the time range that it needs."""
        assert isinstance(source, FileSource)
        paths = self._paths(source)
        if not paths:
            schema = self._delta_schema(source)
            return Batches(schema, lambda need: pa.RecordBatchReader.from_batches(schema, []))
        return Files(tuple(paths), "csv" if source.file_format == "csv" else "parquet")

    def _delta_schema(self, source: FileSource) -> pa.Schema:
        """The columns of a Delta table without rows, which has no files."""
        return pa.schema(DeltaTable(self._path(source)).schema().to_arrow())

    def _path(self, source: FileSource) -> str:
        """Where a source's files are, as a path or a pattern."""
        try:
            return str(self.root / local_path(source.path))
        except NotLocal as error:
            raise _refused(
                source, f"path=: {error}",
                hint="give a path on this machine, or file:///…; copy or mount what is in object storage",
            ) from error  # fmt: skip

    def _paths(self, source: FileSource) -> list[str]:
        """The files, sorted: their order is part of the order of rows."""
        path = self._path(source)
        if source.file_format == "delta":
            return self._delta_paths(source, path)
        place = Path(path)
        if place.is_file():
            return [str(place)]
        if place.is_dir():
            found = sorted(
                str(each) for each in place.rglob("*")
                if each.suffix in _ENDINGS[source.file_format] and not each.name.startswith((".", "_"))
            )  # fmt: skip
            if not found:
                raise _refused(source, f"folder {place} has no {source.file_format} files")
        else:
            found = sorted(glob.glob(path, recursive=True))
            what = f"no file matches {path}" if glob.has_magic(path) else f"there is no file {path}"
        if not found:
            near = (
                get_close_matches(place.name, [each.name for each in place.parent.iterdir()], n=1)
                if place.parent.is_dir()
                else []
            )
            raise _refused(
                source, what, hint=f"did you mean {near[0]!r}?" if near else "check path=, or write the file first"
            )
        return found

    def _delta_paths(self, source: FileSource, path: str) -> list[str]:
        try:
            table = DeltaTable(path)
            features = table.protocol().reader_features or []
            if set(features) & {"deletionVectors", "columnMapping"}:
                raise _refused(
                    source, f"Delta table {path} uses {', '.join(sorted(features))}; its files cannot be read natively",
                    hint="rewrite the table without deletion vectors and column mapping",
                )  # fmt: skip
            return sorted(unquote(uri.removeprefix("file://")) for uri in table.file_uris())
        except (DeltaError, OSError) as error:
            raise _refused(source, f"{path} is not a Delta table: {str(error).splitlines()[0]}") from error


def _refused(source: Source, problem: str, *, hint: str = "check path= and file_format=") -> SourceError:
    return SourceError(f"source {source.name!r}: {problem}", hint=hint, where=source.where)
