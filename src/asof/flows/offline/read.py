"""Historical reads: an entity frame is made ready, the selection is compiled and run, on-demand functions follow."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from asof.definitions import FeatureView, Field, Snapshot
from asof.dtypes import from_arrow
from asof.errors import EntityFrameError, MissingExtra, RequestError, StorageError, nearest
from asof.flows.offline.inputs import inputs_of
from asof.flows.offline.run import HistoricalRead, Shape, check_keys
from asof.flows.offline.training_sets.save import save_training_set
from asof.flows.stores import Parts
from asof.selection import FeatureOut, Selection, ViewRead
from asof.sources.protocol import Files
from asof.sql.query import PointInTime
from asof.timing import Micros, moment
from asof.values.fit import fit
from asof.values.frames import entity_table
from asof.values.from_arrow import python_values
from asof.values.local_paths import NotLocal, local_path

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

TIME = "event_timestamp"
"""The entity frame's column of times; else its only time column is taken."""


class HistoricalResult:
    """A lazy historical read: nothing runs before one of the `to_…` methods is called; each call runs it again."""

    def __init__(self, read: HistoricalRead) -> None:
        self._read = read

    @property
    def schema(self) -> pa.Schema:
        """The entity frame's columns, then the features in the order asked for."""
        return self._read.schema

    def to_batches(self, batch_rows: int = 100_000) -> Iterator[pa.RecordBatch]:
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
        assert isinstance(frame, pl.DataFrame)  # of a table; of one column it would be a series
        return frame

    def to_sql(self) -> str:
        """The SQL that the engine runs (on-demand functions follow it in Python)."""
        return self._read.run().text

    def write(self, path: str | Path) -> int:
        """Write all rows to a Parquet or CSV file, in bounded memory; answers how many.

        The file appears once it is whole; one of this name is replaced then.

        Raises:
            StorageError: the file cannot be written.
        """
        import pyarrow.csv
        import pyarrow.parquet

        try:
            path = Path(local_path(str(path)))
        except NotLocal as error:
            raise RequestError(f"the file to write: {error}", hint="write it here, then upload it") from error
        if path.suffix not in (".parquet", ".csv"):
            raise RequestError(f"file {str(path)!r} is neither .parquet nor .csv", hint="choose one of these endings")
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
        """Keep the rows as a training set of this name; answers the manifest of how they were made.

        Args:
            overwrite: replace a training set that has this name already.
        """
        return save_training_set(self._read, name, overwrite=overwrite)


def read_history(
    parts: Parts,
    snapshot: Snapshot,
    selection: Selection,
    entity_df: Any = None,
    *,
    known_at: bool | Micros | None = None,
    start: Micros | None = None,
    end: Micros | None = None,
    seen: Mapping[str, Mapping[int, int]] | None = None,
) -> HistoricalResult:
    """Prepare a historical read.

    Args:
        entity_df: a pandas, Polars or Arrow table, a path of a Parquet or CSV file, or a SELECT over the sources by
            name; None reads every row of the views' sources with `start <= event time < end`.

    Raises:
        EntityFrameError: the frame lacks a key or a time, or holds what cannot be used.
    """
    reads = _with_hidden_features(selection)
    query = PointInTime(reads, TIME, known_at, seen, start, end)
    if entity_df is None:
        if selection.request_fields:
            names = [field.name for field in selection.request_fields]
            raise EntityFrameError(f"request values {names} have to come with an entity frame", hint="pass entity_df=")
        if not reads:
            raise EntityFrameError("there is no view to read rows of", hint="pass entity_df=")
        result = parts.offline.run(query, inputs_of(parts, snapshot, query, None), spine=None)
        frame = pa.schema(list(result.schema)[: len(result.schema) - len(query.outputs)])
        shape = Shape(frame, selection.outputs)
        return HistoricalResult(HistoricalRead(parts, snapshot, selection, query, None, shape))
    spine = spine_of(entity_df)
    if isinstance(spine, pa.Table):
        time = time_column(spine.schema)
        spine = _normal_frame(spine, selection, time)
        frame = spine.schema
    else:
        described = PointInTime((), TIME)
        inputs = inputs_of(parts, snapshot, query, spine)
        frame = _described(parts, described, inputs, spine)
        time = time_column(frame)
        _check_columns(frame, selection, time)
        _check_types(frame, selection)
    query = replace(query, time=time)
    shape = Shape(frame, selection.outputs)
    return HistoricalResult(HistoricalRead(parts, snapshot, selection, query, spine, shape))


def _described(parts: Parts, query: PointInTime, inputs: Mapping[str, Any], spine: Any) -> pa.Schema:
    if isinstance(spine, Files):
        schema: pa.Schema = parts.offline.run(query, {}, spine=spine).schema
        return schema
    return parts.offline.sql(spine.strip().rstrip(";"), inputs).schema


def _with_hidden_features(selection: Selection) -> tuple[ViewRead, ...]:
    """The reads; a view of which only keys are needed is not read."""
    return tuple(read for read in selection.reads if read.features)


def spine_of(entity_df: Any) -> pa.Table | Files | str:
    """An entity frame in a form that engines take."""
    if isinstance(entity_df, Path) or (
        isinstance(entity_df, str) and not entity_df.lstrip().upper().startswith(("SELECT", "WITH", "FROM", "("))
    ):
        try:
            return _file_of(Path(local_path(str(entity_df))))
        except NotLocal as error:
            raise EntityFrameError(
                f"the entity frame: {error}", hint="copy the file here, or read it into a data frame"
            ) from error
    if isinstance(entity_df, str):
        return entity_df
    table = entity_table(entity_df)
    if table is not None:
        return table
    raise EntityFrameError(
        f"the entity frame is a {type(entity_df).__name__}",
        hint="give a pandas, Polars or Arrow table, the path of a Parquet or CSV file, or a SELECT",
    )


def _file_of(path: Path) -> Files:
    if path.suffix.lower() not in (".parquet", ".pq", ".csv"):
        raise EntityFrameError(
            f"the entity frame {str(path)!r} is neither a SELECT nor a .parquet or .csv file",
            hint="SQL begins with SELECT or WITH; files end in .parquet or .csv",
        )
    if not path.is_file():
        near = nearest(path.name, [each.name for each in path.parent.iterdir()]) if path.parent.is_dir() else ""
        raise EntityFrameError(f"there is no file {str(path)!r} for the entity frame", hint=near or "check the path")
    return Files((str(path),), "csv" if path.suffix.lower() == ".csv" else "parquet")


def time_column(schema: pa.Schema) -> str:
    """The entity frame's column of times: `event_timestamp`, else its only time column.

    Raises:
        EntityFrameError: there is none, or several, or it is not a time.
    """
    if TIME in schema.names:
        kind = schema.field(TIME).type
        if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
            return TIME
        if pa.types.is_integer(kind):
            raise EntityFrameError(
                f"the entity frame's {TIME!r} holds integers ({kind}), and their unit is not known",
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
            f"the entity frame has no time: expected a column {TIME!r}; it has {list(schema.names)}",
            hint=_rename(TIME, schema.names) or "add the moment as of which each row's features are wanted",
        )
    raise EntityFrameError(f"the entity frame has several time columns: {times}", hint=f"name the one to use {TIME!r}")


def _normal_frame(frame: pa.Table, selection: Selection, time: str) -> pa.Table:
    """The frame with its keys and request values in the declared types; everything else untouched."""
    _check_columns(frame.schema, selection, time)
    for field in (*selection.keys, *selection.request_fields):
        column = frame[field.name]
        fitted, misfits = fit(column, field.dtype)
        if misfits:
            row, reason = misfits[0]
            what = "join key" if field in selection.keys else "request value"
            raise EntityFrameError(
                f"the entity frame's {what} {field.name!r} does not fit {field.dtype} in {len(misfits)} rows, "
                f"first in row {row}: {reason}",
                hint="give values of the declared type",
            )
        if column.type != fitted.type and not _keeps(column.type):
            frame = frame.set_column(frame.schema.get_field_index(field.name), field.name, fitted)
    check_keys(frame, selection)
    return frame


def _keeps(kind: pa.DataType) -> bool:
    """Types that engines compare with the declared one by value, so that the user's column may stay as it is."""
    return pa.types.is_integer(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _check_columns(schema: pa.Schema, selection: Selection, time: str) -> None:
    for field in (*selection.keys, *selection.request_fields):
        if field.name not in schema.names:
            what = "join key" if field in selection.keys else "request value"
            raise EntityFrameError(
                f"the entity frame has no {what} {field.name!r}; it has {list(schema.names)}",
                hint=_rename(field.name, schema.names) or f"add a column {field.name!r}",
            )


def _check_types(schema: pa.Schema, selection: Selection) -> None:
    """Refuse keys that can never equal the declared ones, such as text for numbers."""
    for field in selection.keys:
        kind = schema.field(field.name).type
        found = from_arrow(kind)
        if found is None or (found != field.dtype and not (found.is_numeric and field.dtype.is_numeric)):
            raise EntityFrameError(
                f"the entity frame's join key {field.name!r} is {kind}; expected {field.dtype}",
                hint=f"cast it, for example CAST({field.name} AS {_SQL_NAMES.get(field.dtype.name, 'VARCHAR')})",
            )


_SQL_NAMES = {"Int32": "INTEGER", "Int64": "BIGINT", "String": "VARCHAR", "Timestamp": "TIMESTAMPTZ", "Date": "DATE"}


def _rename(wanted: str, known: Sequence[str]) -> str:
    """What to do where the frame has a column that is nearly the wanted one."""
    near = get_close_matches(wanted, known, n=1)
    return f"rename its column {near[0]!r} to {wanted!r}" if near else ""


def view_as_of(
    parts: Parts,
    snapshot: Snapshot,
    read: ViewRead,
    keys: Mapping[str, Sequence[Any]],
    at: Micros,
    *,
    seen: Mapping[str, Mapping[int, int]] | None = None,
) -> dict[str, list[Any]]:
    """One view's features for some keys as of one moment, from history: output → values."""
    fields: list[Field] = [
        Field(column, field.dtype) for column, field in zip(read.keys, read.view.key_fields, strict=True)
    ]
    n = len(next(iter(keys.values()))) if keys else 1
    columns = {field.name: pa.array(keys[field.name], field.dtype.arrow()) for field in fields}
    columns["asof_at"] = pa.array([moment(at)] * n, pa.timestamp("us", "UTC"))
    query = PointInTime((read,), "asof_at", None, seen)
    result = parts.offline.run(query, inputs_of(parts, snapshot, query, None), spine=pa.table(columns))
    table = result.reader().read_all()
    return {feature.output: python_values(table[feature.output]) for feature in read.features}


def whole_view(view: FeatureView, *, keys: Sequence[str] | None = None) -> ViewRead:
    """A read of all features of a view, under their own names."""
    features = tuple(FeatureOut(field.name, field.name, field.dtype, field.default) for field in view.features)
    return ViewRead(view, tuple(keys or view.join_keys), features)
