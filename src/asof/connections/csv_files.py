"""CSV files: read as text in bounded memory, their columns fitted to declared types, and nothing taken for another."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv

from asof.connections.object_storage import ObjectStorage
from asof.connections.object_storage.access import for_reading, stamp_of
from asof.dtypes import DType
from asof.errors import AsofError, SourceError, some
from asof.values.fit import Misfit
from asof.values.text_columns import Narrowest, fit_text

ENDINGS = (".csv", ".csv.gz", ".csv.bz2", ".csv.zst")

_BLOCK_BYTES = 4 << 20
_COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
_OTHER_KINDS = {
    b"PAR1": "a Parquet file", b"\x1f\x8b": "compressed with gzip", b"\x28\xb5\x2f\xfd": "compressed with zstd",
    b"BZh91AY": "compressed with bzip2", b"PK\x03\x04": "a zip archive", b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text", b"ARROW1\0": "an Arrow file", b"Obj\x01": "an Avro file",
}  # fmt: skip
"""First bytes → what such a file is, and no CSV."""

_BOM = b"\xef\xbb\xbf"
_Stamp = tuple[str, int]
_DELIMITERS = ",;\t|"
_INNER_QUOTE = rb'[^%b\r\n]"[^%b\r\n]'
_AFTER_EMPTY = rb'(?:^|[%b\r\n])""[^"%b\r\n]'


@dataclass(frozen=True)
class _Head:
    """The header of one file.

    Args:
        columns: their names, in the file's order; empty for an empty file.
    """

    columns: tuple[str, ...]
    delimiter: str = ","


class CsvFiles:
    """Files with a header line each, read as one table; columns are found by name, and a file may lack some.

    Args:
        paths: in the order of their rows.
        what: what they are, to begin messages.
        storage: how those in object storage are read.

    Raises:
        SourceError: a file is no CSV, or its header is unusable.
    """

    def __init__(self, paths: Sequence[str], what: str, *, storage: ObjectStorage | None = None) -> None:
        self.paths, self.what, self.storage = tuple(paths), what, storage
        self._heads = {path: _head(path, _stamp(path, storage), what, storage) for path in self.paths}
        self.columns = tuple(dict.fromkeys(name for head in self._heads.values() for name in head.columns))
        if not self.columns:
            raise SourceError(f"{what}: {self.paths[0]!r} is empty: a CSV file begins with a header line",
                           hint="write the names of the columns into its first line")  # fmt: skip

    @property
    def columns_of_files(self) -> Mapping[str, Sequence[str]]:
        """Path → the names of its columns."""
        return {path: head.columns for path, head in self._heads.items()}

    def types(self, declared: Mapping[str, DType], columns: Sequence[str] | None = None) -> dict[str, DType]:
        """The types of columns (of all, if none are named): as declared, else the narrowest that loses no text."""
        wanted = self.columns if columns is None else [name for name in self.columns if name in columns]
        unknown = tuple(name for name in wanted if name not in declared)
        found = dict(zip(unknown, _narrowest(self, unknown))) if unknown else {}
        return {name: declared.get(name) or found[name] for name in wanted}

    def batches(self, types: Mapping[str, DType]) -> pa.RecordBatchReader:
        """All rows of the columns, in the order of the files.

        Raises:
            SourceError: while it is read, as of `rows`.
        """
        schema = pa.schema([(name, dtype.arrow()) for name, dtype in types.items()])
        return pa.RecordBatchReader.from_batches(schema, (b for path in self.paths for b in self.rows(path, types)))

    def rows(self, path: str, types: Mapping[str, DType]) -> Iterator[pa.RecordBatch]:
        """The rows of one file, each batch fitted as a whole; null where the file lacks a column.

        Raises:
            SourceError: a value does not fit its type; all such columns of the batch are named.
        """
        schema = pa.schema([(name, dtype.arrow()) for name, dtype in types.items()])
        row = 1
        for batch in self._texts(path, tuple(types)):
            fitted: list[pa.Array] = []
            problems = []
            for name, dtype in types.items():
                column, misfits = fit_text(batch.column(name), dtype)
                fitted.append(column)
                if misfits:
                    problems.append(_problem(name, dtype, misfits, row))
            if problems:
                raise SourceError(
                    f"{self.what}: {'; '.join(problems)}; file {path!r}",
                    hint="declare the type that its values have (String takes any text), or fix the file; an empty "
                    "field without quotes is null",
                )
            row += batch.num_rows
            yield pa.RecordBatch.from_arrays(fitted, schema=schema) if types else batch

    def texts(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """The rows of all files as text, of these columns."""
        for path in self.paths:
            yield from self._texts(path, columns)

    def _texts(self, path: str, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """One file's rows as text: an empty field without quotes is null, one in quotes is an empty text."""
        head = self._heads[path]
        there = [name for name in columns if name in head.columns]
        if not head.columns:
            return
        # Without a column that is asked for, any tells how many rows there are.
        read = there or list(head.columns[:1])
        _check_quotes(path, _stamp(path, self.storage), head.delimiter, self.what, self.storage)
        try:
            opened = pyarrow.csv.open_csv(
                path if self.storage is None else _unpacked(path, self.storage),
                read_options=pyarrow.csv.ReadOptions(
                    block_size=_BLOCK_BYTES, use_threads=False
                ),
                parse_options=pyarrow.csv.ParseOptions(delimiter=head.delimiter, newlines_in_values=True),
                convert_options=pyarrow.csv.ConvertOptions(
                    column_types=dict.fromkeys(read, pa.string()), include_columns=read, null_values=[""],
                    strings_can_be_null=True, quoted_strings_can_be_null=False,
                ),
            )  # fmt: skip
            for batch in opened:
                arrays = [
                    batch.column(name) if name in there else pa.nulls(batch.num_rows, pa.string()) for name in columns
                ]
                yield pa.RecordBatch.from_arrays(arrays, names=list(columns)) if columns else batch.select([])
        except (pa.ArrowInvalid, pa.ArrowKeyError, OSError) as error:
            raise _unreadable(path, error, self.what) from error


def csv_table(
    path: Path | str, declared: Mapping[str, DType], what: str, *, error: type[AsofError] = SourceError,
    storage: ObjectStorage | None = None,
) -> pa.Table:  # fmt: skip
    """A whole CSV file; columns that are not declared are of the narrowest type.

    Args:
        error: what to raise where it cannot be read, or a value does not fit.
    """
    try:
        files = CsvFiles([str(path)], what, storage=storage)
        return files.batches(files.types(declared)).read_all()
    except SourceError as caught:
        raise error(caught.message, hint=caught.hint) from caught


def _problem(name: str, dtype: DType, misfits: Sequence[Misfit], first: int) -> str:
    at, reason = misfits[0]
    more = f", and {len(misfits) - 1} more near it" if len(misfits) > 1 else ""
    return f"column {name!r} does not fit {dtype} in row {first + at}: {reason}{more}"


def _stamp(path: str, storage: ObjectStorage | None) -> _Stamp:
    """Changes whenever the file does."""
    try:
        return stamp_of(path, storage)
    except OSError:
        return ("", 0)


def _compression(path: str) -> str | None:
    return next((name for ending, name in _COMPRESSIONS.items() if path.lower().endswith(ending)), None)


def _unpacked(path: str, storage: ObjectStorage | None) -> Any:
    """The file's bytes, unpacked by its ending."""
    source = path if storage is None else for_reading(path, storage)
    return pa.input_stream(source, compression=_compression(path))


@lru_cache(maxsize=256)
def _narrowest_of(
    paths: tuple[str, ...], what: str, columns: tuple[str, ...], stamps: tuple[_Stamp, ...],
    storage: ObjectStorage | None,
) -> tuple[DType, ...]:  # fmt: skip
    files = CsvFiles(paths, what, storage=storage)
    looks = {name: Narrowest() for name in columns}
    for batch in files.texts(columns):
        for name, look in looks.items():
            look.look(batch.column(name))
        if all(look.is_settled for look in looks.values()):
            break
    return tuple(look.dtype for look in looks.values())


def _narrowest(files: CsvFiles, columns: tuple[str, ...]) -> tuple[DType, ...]:
    """The narrowest types of columns; files that did not change are not read again for it."""
    stamps = tuple(_stamp(path, files.storage) for path in files.paths)
    return _narrowest_of(files.paths, files.what, columns, stamps, files.storage)


@lru_cache(maxsize=4096)
def _head(path: str, stamp: _Stamp, what: str, storage: ObjectStorage | None) -> _Head:
    """The header line of a file, which is not compressed in a way that its name does not say."""
    try:
        with for_reading(path, storage) as raw:
            first = raw.read(8)
        compression = _compression(path)
        kind = next((kind for magic, kind in _OTHER_KINDS.items() if first.startswith(magic)), "")
        if kind and compression is None:
            raise SourceError(f"{what}: {path!r} is {kind}, and no CSV file",
                           hint=_instead(kind))  # fmt: skip
        with _unpacked(path, storage) as stream:
            block = stream.read(1 << 20)
    except (OSError, pa.ArrowInvalid) as error:
        raise _unreadable(path, error, what) from error
    if not block.strip():
        return _Head(())
    inner = next((kind for magic, kind in _OTHER_KINDS.items() if compression and block.startswith(magic)), "")
    if inner or b"\0" in block[:4096]:
        raise SourceError(f"{what}: {path!r} is {inner or 'binary'}, and no CSV file", hint=_instead(inner))
    try:
        text = block.removeprefix(_BOM).decode("utf-8", "strict" if len(block) < 1 << 20 else "ignore")
    except UnicodeDecodeError:
        # Where it is says the reader of the rows; a header has to be read in any case.
        text = block.removeprefix(_BOM).split(b"\n", 1)[0].decode("utf-8", "replace")
        if "\ufffd" in text:
            raise _not_utf8(path, what) from None
    return _header(text.lstrip("\r\n"), path, what)


def _header(text: str, path: str, what: str) -> _Head:
    """The first record of a file, and what stands between its fields."""
    bare = re.sub(r'"[^"]*"', "", text.splitlines()[0])
    delimiter = next((each for each in _DELIMITERS if each in bare), ",")
    names = next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SourceError(f"{what}: the header of {path!r} has {some(twice)} more than once",
                       hint="give each column a name of its own")  # fmt: skip
    return _Head(tuple(names), delimiter)


@lru_cache(maxsize=4096)
def _check_quotes(path: str, stamp: _Stamp, delimiter: str, what: str, storage: ObjectStorage | None) -> None:
    """Refuse text after a closing quote, and a quote that nothing closes: the reader would take them for values."""
    odd, count = False, 0
    between = re.escape(delimiter.encode())
    inner, after = (re.compile(each.replace(b"%b", between)) for each in (_INNER_QUOTE, _AFTER_EMPTY))
    try:
        with _unpacked(path, storage) as stream:
            tail = b""
            while block := stream.read(_BLOCK_BYTES):
                if b'"' not in block and not tail.endswith(b'"'):
                    tail = block[-2:]
                    continue
                count += block.count(b'"')
                # Quotes in quoted text are doubled.
                given = tail + block
                odd = odd or bool(inner.search(given.replace(b'""', b"")) or after.search(given))
                tail = block[-2:]
        if not odd and count % 2 == 0:
            return
        with _unpacked(path, storage) as stream:
            rows = csv.reader(
                io.TextIOWrapper(stream, "utf-8", errors="replace", newline=""), delimiter=delimiter, strict=True
            )
            _walk(rows, path, what)
    except (OSError, pa.ArrowInvalid) as error:
        raise _unreadable(path, error, what) from error


def _walk(rows: Iterator[list[str]], path: str, what: str) -> None:
    """Read all records; what is said of quotes is said of their row, the header being row 0."""
    row = 0
    limit = csv.field_size_limit(1 << 30)
    try:
        for _ in rows:
            row += 1
    except csv.Error as error:
        problem = "a quote that nothing closes" if "unexpected end" in str(error) else "text after a closing quote"
        raise SourceError(f"{what}: {path!r} has {problem} in row {row}",
                       hint='write a quote in a value as "", and the value in quotes') from error  # fmt: skip
    finally:
        csv.field_size_limit(limit)


def _instead(kind: str) -> str:
    if kind == "a Parquet file":
        return 'give file_format="parquet", and the file the ending .parquet'
    if kind.startswith("compressed"):
        return f"give the file an ending that says so ({', '.join(ENDINGS[1:])}), or unpack it"
    return "write it as CSV in UTF-8" if "UTF" in kind else "check path= and file_format="


def _not_utf8(path: str, what: str) -> SourceError:
    return SourceError(f"{what}: {path!r} is not UTF-8 text", hint="write it in UTF-8, for example with iconv -t UTF-8")


def _unreadable(path: str, error: Exception, what: str) -> SourceError:
    said = str(error).splitlines()[0]
    if "UTF8" in said:
        found = re.search(r"Row #(\d+)", said)
        refused = _not_utf8(path, what)
        return SourceError(f"{refused.message} in row {int(found[1]) - 1}", hint=refused.hint) if found else refused
    if isinstance(error, FileNotFoundError):
        return SourceError(f"{what}: there is no file {path!r}", hint="check the path")
    found = re.search(r"(?:Row #(\d+): )?Expected (\d+) columns, got (\d+)", said)
    if found is not None:
        row = f"row {int(found[1]) - 1}" if found[1] else "a row"
        return SourceError(
            f"{what}: {row} of {path!r} has {found[3]} fields, and the header has {found[2]}",
            hint="write as many fields as there are columns; a value with a comma stands in quotes",
        )
    return SourceError(
        f"{what}: {path!r} cannot be read as CSV: {said}", hint="check that the file exists and is complete"
    )


__all__ = ["ENDINGS", "CsvFiles", "csv_table"]
