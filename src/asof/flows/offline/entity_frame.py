"""Entity frames: input forms, the time column, and checks of columns against the request."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from asof.connections.csv_files import ENDINGS as CSV_ENDINGS
from asof.connections.csv_files import csv_table
from asof.connections.object_storage import ObjectStorage
from asof.connections.object_storage.access import for_arrow
from asof.display import counted
from asof.dtypes import Timestamp, from_arrow
from asof.errors import EntityFrameError, nearest, rename
from asof.selection import Selection
from asof.sources.protocol import Files
from asof.sql.casts import cast_example
from asof.sql.names import alike
from asof.values.fit import fit
from asof.values.frames import entity_table, repeated_columns, repeated_names
from asof.values.legible import is_unicode
from asof.values.local_paths import NotLocal, is_object_address, local_path

TIME = "event_timestamp"
"""Name of the entity frame's time column; without it, the only time column is used."""


def spine_of(entity_df: Any, selection: Selection, storage: ObjectStorage) -> pa.Table | Files | str:
    """An entity frame in a form that engines take; a CSV file's keys and request values in the declared types."""
    if isinstance(entity_df, str) and is_object_address(entity_df):
        return _object_of(entity_df.strip(), selection, storage)
    if isinstance(entity_df, Path) or (
        isinstance(entity_df, str) and not entity_df.lstrip().upper().startswith(("SELECT", "WITH", "FROM", "("))
    ):
        try:
            return _file_of(Path(local_path(str(entity_df))).expanduser(), selection)
        except NotLocal as error:
            raise EntityFrameError(
                f"the entity frame: {error}", hint="copy the file to a local path, or read it into a data frame"
            ) from error
    if isinstance(entity_df, str):
        if not is_unicode(entity_df):
            raise EntityFrameError(
                "SQL entity frame: its text has a lone surrogate, which is no character", hint="remove it from the text"
            )
        return entity_df
    if repeated := repeated_columns(entity_df):
        raise several_of_one_name(repeated)
    table = entity_table(entity_df)
    if table is not None:
        return table
    raise EntityFrameError(
        f"the entity frame is a {type(entity_df).__name__}; expected a table, a file's path, or a SELECT",
        hint="give a pandas, Polars or Arrow table, the path of a Parquet or CSV file, or a SELECT",
    )


def _object_of(address: str, selection: Selection, storage: ObjectStorage) -> Files | pa.Table:
    is_csv = _is_csv(address)
    found = storage.head(address)
    if found is None:
        raise EntityFrameError(f"there is no object {address!r} for the entity frame", hint="check the address")
    storage.files.remember([found])
    return _csv(address, selection, storage) if is_csv else _parquet(address, storage)


def _is_csv(path: str) -> bool:
    """Whether the file is CSV, and not Parquet.

    Raises:
        EntityFrameError: it is neither.
    """
    is_csv = path.lower().endswith(CSV_ENDINGS)
    if not is_csv and not path.lower().endswith((".parquet", ".pq")):
        raise EntityFrameError(
            f"the entity frame {path!r} is neither a SELECT nor a .parquet or .csv file",
            hint="SQL begins with SELECT or WITH; files end in .parquet or .csv",
        )
    return is_csv


def _csv(path: str, selection: Selection, storage: ObjectStorage | None) -> pa.Table:
    declared = {field.name: field.dtype for field in (*selection.keys, *selection.request_fields)}
    return csv_table(path, {TIME: Timestamp, **declared}, "the entity frame", error=EntityFrameError, storage=storage)


def _file_of(path: Path, selection: Selection) -> Files | pa.Table:
    is_csv = _is_csv(str(path))
    if not path.is_file():
        near = nearest(path.name, [each.name for each in path.parent.iterdir()]) if path.parent.is_dir() else ""
        raise EntityFrameError(f"there is no file {str(path)!r} for the entity frame", hint=near or "check the path")
    return _csv(str(path), selection, None) if is_csv else _parquet(str(path), None)


def _parquet(path: str, storage: ObjectStorage | None) -> Files | pa.Table:
    """A Parquet file as it is, for engines to read; read here where they may take one column for another."""
    try:
        names = pyarrow.parquet.read_schema(for_arrow(path, storage)).names
        if repeated := repeated_names(names):
            raise several_of_one_name(repeated)
        if alike(names) is None:
            return Files((path,), storage=storage)
        return pyarrow.parquet.read_table(for_arrow(path, storage))
    except (pa.ArrowInvalid, OSError):
        # The engine says what is wrong with the file.
        return Files((path,), storage=storage)


def several_of_one_name(names: Sequence[str]) -> EntityFrameError:
    """The error for a frame with equal column names."""
    return EntityFrameError(
        f"the entity frame has several columns of one name: {names}", hint="rename all but one of them"
    )


def time_column(schema: pa.Schema) -> str:
    """The entity frame's time column: `event_timestamp`, else its only timestamp column.

    Raises:
        EntityFrameError: there is none, or several, or it is not a timestamp.
    """
    if TIME in schema.names:
        kind = schema.field(TIME).type
        if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
            return TIME
        if pa.types.is_integer(kind):
            raise EntityFrameError(
                f"the entity frame's {TIME!r} has integers ({kind}) of unknown unit; expected timestamps",
                hint="convert it to a timestamp, for example pd.to_datetime(…, unit='ms', utc=True)",
            )
        raise EntityFrameError(
            f"the entity frame's {TIME!r} is {kind}; expected a timestamp", hint="convert it to a timestamp"
        )
    times = [field.name for field in schema if pa.types.is_timestamp(field.type)]
    if len(times) == 1:
        return times[0]
    if not times:
        raise EntityFrameError(
            f"the entity frame has no time column: expected {TIME!r}; it has {list(schema.names)}",
            hint=rename(TIME, schema.names) or "add a column with the time as of which each row's features are read",
        )
    raise EntityFrameError(f"the entity frame has several time columns: {times}", hint=f"name the one to use {TIME!r}")


def normal_frame(frame: pa.Table, selection: Selection, time: str) -> pa.Table:
    """The frame with keys and request values cast to the declared types; other columns unchanged."""
    check_columns(frame.schema, selection, time)
    for field in (*selection.keys, *selection.request_fields):
        column = frame[field.name]
        fitted, misfits = fit(column, field.dtype)
        if misfits:
            row, reason = misfits[0]
            what = "join key" if field in selection.keys else "request value"
            raise EntityFrameError(
                f"the entity frame's {what} {field.name!r} does not fit {field.dtype} in "
                f"{counted(len(misfits), 'row')}, first in row {row}: {reason}",
                hint="give values of the declared type",
            )
        if column.type != fitted.type and not _keeps(column.type):
            frame = frame.set_column(frame.schema.get_field_index(field.name), field.name, fitted)
    check_keys(frame, selection)
    return frame


def _keeps(kind: pa.DataType) -> bool:
    """Whether engines compare this type with the declared one by value, so that the column needs no cast."""
    return pa.types.is_integer(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def check_columns(schema: pa.Schema, selection: Selection, time: str) -> None:
    for field in (*selection.keys, *selection.request_fields):
        if field.name not in schema.names:
            what = "join key" if field in selection.keys else "request value"
            raise EntityFrameError(
                f"the entity frame has no {what} {field.name!r}; it has {list(schema.names)}",
                hint=rename(field.name, schema.names) or f"add a column {field.name!r}",
            )


def check_types(schema: pa.Schema, selection: Selection) -> None:
    """Refuse key types that can never equal the declared type, such as strings for integers."""
    for field in selection.keys:
        kind = schema.field(field.name).type
        found = from_arrow(kind)
        if found is None or (found != field.dtype and not (found.is_numeric and field.dtype.is_numeric)):
            raise EntityFrameError(
                f"the entity frame's join key {field.name!r} is {kind}; expected {field.dtype}",
                hint=f"cast it, for example {cast_example(field.name, field.dtype)}",
            )


def check_frame(frame: pa.Table, selection: Selection, time: str) -> None:
    """Refuse null times, and those that no event can have.

    Raises:
        EntityFrameError: names the number of such rows, and the first.
    """
    nulls = frame[time].null_count
    if nulls:
        row = pc.index(pc.is_null(frame[time]), True).as_py()
        raise EntityFrameError(
            f"the entity frame's time {time!r} is null in {counted(nulls, 'row')}, first in row {row}",
            hint="remove such rows",
        )
    misfits = fit(frame[time], Timestamp)[1] if pa.types.is_timestamp(frame[time].type) else []
    if misfits:
        row, reason = misfits[0]
        raise EntityFrameError(
            f"the entity frame's time {time!r} {reason} in {counted(len(misfits), 'row')}, first in row {row}",
            hint="check the times and their unit (s, ms, us, ns)",
        )


def check_keys(frame: pa.Table, selection: Selection) -> None:
    """Refuse null join keys."""
    for field in selection.keys:
        nulls = frame[field.name].null_count
        if nulls:
            row = pc.index(pc.is_null(frame[field.name]), True).as_py()
            raise EntityFrameError(
                f"the entity frame's join key {field.name!r} is null in {counted(nulls, 'row')}, first in row {row}",
                hint="remove such rows",
            )
