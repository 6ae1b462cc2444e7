"""DuckDB's exceptions as Asof's errors, with the next step."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import duckdb
import pyarrow as pa

from asof.errors import AsofError, EntityFrameError, Interrupted, SourceError, StorageError
from asof.sources.protocol import Files

_ASOF_ERROR = re.compile(r"asof: (.*)")
_USED = re.compile(r"\(([\d.]+ \w+)/([\d.]+ \w+) used\)")


@contextmanager
def wrapping(what: str, *, user_sql: bool = False, given: Iterable[object] = ()) -> Iterator[None]:
    """Convert DuckDB's exceptions to Asof's errors.

    Args:
        what: what was being done, for the message.
        user_sql: whether the SQL is the user's, so that errors in it are reported as theirs.
        given: the inputs that are read; an error of a read from object storage is raised as that.
    """
    try:
        with _object_errors(given):
            yield
    except duckdb.InterruptException as error:
        raise Interrupted("the query was interrupted") from error
    except duckdb.OutOfMemoryException as error:
        raise _out_of_memory(what, str(error)) from error
    except duckdb.IOException as error:
        if "No space left" in str(error):
            raise StorageError(f"{what}: the disk is full", hint="free some space, or set temp_directory") from error
        raise SourceError(f"{what}: {_line(error)}", hint="check that the files exist and are complete") from error
    except (duckdb.ConversionException, duckdb.InvalidInputException, duckdb.OutOfRangeException) as error:
        own = _ASOF_ERROR.search(str(error))
        problem = own.group(1).splitlines()[0] if own else f"{what}: a value cannot be converted: {_line(error)}"
        raise SourceError(problem, hint="declare the column's actual type, or fix the value") from error
    except (duckdb.BinderException, duckdb.CatalogException, duckdb.ParserException) as error:
        kind: type[AsofError] = EntityFrameError if user_sql else SourceError
        problem = _pointed(error) if user_sql else _line(error)
        hint = "check the names of tables and columns"
        if isinstance(error, duckdb.ParserException):
            hint += "; names that are keywords of SQL (order, at, user, …) are written in double quotes"
        raise kind(f"{what}: {problem}", hint=hint) from error
    except duckdb.Error as error:
        raise StorageError(f"{what}: {_line(error)}") from error
    except RuntimeError as error:
        # On Ctrl-C, DuckDB's module raises an exception that is not one of its own types.
        if "interrupted" not in str(error):
            raise
        raise Interrupted("the query was interrupted") from error


@contextmanager
def _object_errors(given: Iterable[object]) -> Iterator[None]:
    """Raise the errors of object storage as they were: DuckDB has only their traceback, as text in its own error."""
    try:
        yield
    except duckdb.Error as error:
        for each in given:
            if isinstance(each, Files) and each.storage is not None:
                each.storage.files.raise_error(error)
        raise


def late_errors(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The batches of a result. Where it fails after its first rows, Arrow raises the text alone: here, DuckDB's own."""
    try:
        yield from batches
    except OSError as error:
        name, _, _ = str(error).partition(":")
        raise _LATE.get(name, duckdb.Error)(str(error)) from error


_LATE: dict[str, type[duckdb.Error]] = {
    "Invalid Input Error": duckdb.InvalidInputException, "Conversion Error": duckdb.ConversionException,
    "Out of Range Error": duckdb.OutOfRangeException, "Out of Memory Error": duckdb.OutOfMemoryException,
    "IO Error": duckdb.IOException, "INTERRUPT Error": duckdb.InterruptException,
}  # fmt: skip


def _out_of_memory(what: str, message: str) -> StorageError:
    used = _USED.search(message)
    found = f" ({used[1]} of {used[2]} used)" if used else ""
    if "failed to offload" in message:
        return StorageError(
            f"{what}: the disk for data beyond memory_limit is full{found}",
            hint="free disk space, set temp_directory of the offline store to a folder on a larger disk, or raise "
            "memory_limit",
        )
    return StorageError(
        f"{what}: DuckDB needs more than its memory_limit{found}",
        hint="raise memory_limit of the offline store; if temp_directory is not set, and the system's folder for "
        "temporary files cannot be written to, set it",
    )


def _pointed(error: BaseException) -> str:
    """DuckDB's message with its line of the text and the caret below the place."""
    lines = [line.rstrip() for line in str(error).splitlines() if line.strip()]
    return "\n    ".join([lines[0], *lines[-2:]]) if len(lines) > 2 and "^" in lines[-1] else _line(error)


def _line(error: BaseException) -> str:
    return " ".join(str(error).splitlines()[:2])


__all__ = ["late_errors", "wrapping"]
