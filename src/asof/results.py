"""What verbs that read and look return: rows with attributes, which become frames and show themselves.

Nothing heavy is loaded before it is asked for: `asof.client`, which loads neither an engine nor Arrow, uses this too.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import date, datetime
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Generic, TypeVar, Union, get_args, get_origin, get_type_hints, overload

from asof.display import SHOWN_ROWS, counted, html_table, text_table
from asof.errors import MissingExtra, RequestError

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa


class Record:
    """One row: its columns are attributes, and `row["column"]` is the same. A dataclass or a Struct is made of it."""

    __slots__ = ()

    def to_dict(self) -> dict[str, object]:
        """Column → value."""
        return {name: getattr(self, name) for name in columns_of(type(self))}

    def __getitem__(self, column: str) -> object:
        columns = self.to_dict()
        if column not in columns:
            raise KeyError(f"there is no column {column!r}; there are {list(columns)}")
        return columns[column]

    def _repr_html_(self) -> str:
        rows = [[name, value] for name, value in self.to_dict().items()]
        return html_table(type(self).__name__, ["column", "value"], rows, most=len(rows))


class Row(Record):
    """One row of a table whose columns only the data says."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, object]) -> None:
        self._values = values

    def to_dict(self) -> dict[str, object]:
        return dict(self._values)

    def __getattr__(self, column: str) -> object:
        # Python asks for its own names, too, before `__init__` ran: in a copy, or when it is unpickled.
        if column.startswith("__") or column == "_values" or column not in self._values:
            raise AttributeError(f"the row has no column {column!r}")
        return self._values[column]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Row) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]  # its values may be lists

    def __repr__(self) -> str:
        return f"Row({', '.join(f'{name}={value!r}' for name, value in self._values.items())})"


R = TypeVar("R", bound=Record)
R_co = TypeVar("R_co", bound=Record, covariant=True)


class Frames(ABC):
    """What turns into the frames of pandas, Polars and Arrow."""

    @abstractmethod
    def to_arrow(self) -> pa.Table:
        """All rows as an Arrow table."""

    def to_df(self) -> pd.DataFrame:
        """All rows as a pandas data frame; integers with nulls stay integers (`Int64`)."""
        require("pandas", "to_df()")
        return pandas_frame(self.to_arrow())

    def to_polars(self) -> pl.DataFrame:
        """All rows as a Polars data frame."""
        require("polars", "to_polars()")
        import polars as pl

        table = self.to_arrow()
        try:
            frame = pl.from_arrow(table)
        except BaseException as error:
            # What Polars' Rust code says of some types is no Exception.
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            raise _without_polars_type(table) from error
        assert isinstance(frame, pl.DataFrame)  # of a table; of one column it would be a series
        return frame

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """The rows for any library that takes Arrow streams: `duckdb.sql`, `polars.DataFrame`, `pyarrow.table` …"""
        return self.to_arrow().__arrow_c_stream__(requested_schema)


def _without_polars_type(table: pa.Table) -> RequestError:
    """The error for a table that Polars cannot take."""
    import pyarrow as pa

    ours = (pa.types.is_union, pa.types.is_decimal256, pa.types.is_run_end_encoded, pa.types.is_interval)
    odd = [field for field in table.schema if any(is_kind(field.type) for is_kind in ours)]
    named = ", ".join(f"{field.name!r} ({field.type})" for field in odd) or "a column"
    return RequestError(
        f"Polars has no type for {named} of the result", hint="use to_arrow() or to_df(), or leave it out"
    )


class Result(Frames, Generic[R_co]):
    """Rows that are at hand: iterate over them, count them, look at them, or take them as a frame."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __iter__(self) -> Iterator[R_co]: ...

    @abstractmethod
    def _columns(self) -> Sequence[str]:
        """The names of the columns."""

    @abstractmethod
    def _first(self, n: int) -> Sequence[R_co]:
        """The first rows, to show."""

    def _title(self) -> str:
        return f"{type(self).__name__}: {counted(len(self), 'row')}"

    def to_dicts(self) -> list[dict[str, object]]:
        """Each row as a dict."""
        return [each.to_dict() for each in self]

    def _shown(self) -> list[list[object]]:
        rows = [each.to_dict() for each in self._first(SHOWN_ROWS)]
        return [[each.get(name) for name in self._columns()] for each in rows]

    def __repr__(self) -> str:
        return text_table(self._title(), self._columns(), self._shown(), count=len(self))

    def _repr_html_(self) -> str:
        return html_table(self._title(), self._columns(), self._shown(), count=len(self))


class Records(Result[R]):
    """Rows of one known shape, by place too.

    It is no `Sequence`: Polars and others would then guess the columns' types from the values.

    Args:
        kind: the class of the rows, which says the columns' names and types also where there are none.
    """

    def __init__(self, kind: type[R], rows: Sequence[R]) -> None:
        self._kind = kind
        self._rows = tuple(rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[R]:
        return iter(self._rows)

    @overload
    def __getitem__(self, place: int) -> R: ...
    @overload
    def __getitem__(self, place: slice) -> Records[R]: ...
    def __getitem__(self, place: int | slice) -> R | Records[R]:
        return Records(self._kind, self._rows[place]) if isinstance(place, slice) else self._rows[place]

    def to_arrow(self) -> pa.Table:
        """All rows as an Arrow table; a column of values of several types is JSON text."""
        return arrow_of(self._kind, self._rows)

    def _columns(self) -> list[str]:
        return columns_of(self._kind)

    def _first(self, n: int) -> Sequence[R]:
        return self._rows[:n]

    def _title(self) -> str:
        return f"{self._kind.__name__}: {counted(len(self), 'row')}"


class TableResult(Result[Row]):
    """Rows of a table whose columns only the data says.

    Args:
        table: the rows.
        title: what they are, for people.
    """

    def __init__(self, table: pa.Table, title: str) -> None:
        self._table = table
        self._name = title

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __iter__(self) -> Iterator[Row]:
        return rows_of(self._table.to_batches())

    def to_arrow(self) -> pa.Table:
        return self._table

    def _columns(self) -> list[str]:
        return list(self._table.column_names)

    def _first(self, n: int) -> list[Row]:
        return list(rows_of(self._table.slice(0, n).to_batches()))

    def _title(self) -> str:
        return f"{self._name}: {counted(len(self), 'row')}"


def rows_of(batches: Sequence[pa.RecordBatch] | Iterator[pa.RecordBatch]) -> Iterator[Row]:
    """The rows of Arrow batches.

    Raises:
        RequestError: Python has no value for one.
    """
    for batch in batches:
        try:
            rows = batch.to_pylist()
        except OverflowError as error:
            raise _without_python_value(batch) from error
        yield from map(Row, rows)


def _without_python_value(batch: pa.RecordBatch) -> RequestError:
    """The error for a batch with a time that no `datetime` can be."""
    for name, column in zip(batch.schema.names, batch.columns):
        try:
            column.to_pylist()
        except OverflowError:
            return RequestError(
                f"column {name!r} of the result has a time outside the years 1 to 9999, which no datetime can be",
                hint="take the result by to_arrow() or to_df()",
            )
    raise AssertionError("each column has its Python values")


def arrow_of(kind: type[Record], rows: Sequence[Record]) -> pa.Table:
    """Records as an Arrow table, in the types that their class declares."""
    import pyarrow as pa

    hints = get_type_hints(kind)
    found = [each.to_dict() for each in rows]
    columns = {}
    for name in columns_of(kind):
        type_ = _arrow_type(hints[name])
        values: list[Any] = [each.get(name) for each in found]
        if type_ is None:
            values = [None if value is None else json.dumps(value, default=str) for value in values]
        columns[name] = pa.array(values, type_ or pa.string())
    return pa.table(columns)


def pandas_frame(table: pa.Table) -> pd.DataFrame:
    """The table as a data frame.

    pandas makes floats of integers where one is null, so such columns get its nullable types. Inside of lists NumPy has
    neither nulls nor zones: lists with nulls or times are Python's own, all others NumPy's arrays.
    """
    import pandas as pd
    import pyarrow as pa

    kinds = (
        pd.Int8Dtype(), pd.Int16Dtype(), pd.Int32Dtype(), pd.Int64Dtype(),
        pd.UInt8Dtype(), pd.UInt16Dtype(), pd.UInt32Dtype(), pd.UInt64Dtype(),
    )  # fmt: skip
    nullable = {pa.from_numpy_dtype(kind.numpy_dtype): kind for kind in kinds}
    columns = {}
    for place, (field, column) in enumerate(zip(table.schema, table.columns, strict=True)):
        if _has_to_be_lists(column):
            columns[place] = pd.Series(column.to_pylist(), dtype=object)
        elif column.null_count and field.type in nullable:
            columns[place] = column.to_pandas(types_mapper=nullable.get)
        else:
            columns[place] = column.to_pandas()
    frame = pd.DataFrame(columns, index=pd.RangeIndex(table.num_rows))
    frame.columns = pd.Index(table.column_names)
    return frame


def _has_to_be_lists(column: pa.ChunkedArray) -> bool:
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_list(column.type):
        return bool(pa.types.is_nested(column.type))
    kind = column.type.value_type
    return pa.types.is_nested(kind) or pa.types.is_temporal(kind) or pc.list_flatten(column).null_count > 0


def columns_of(kind: type[Record]) -> list[str]:
    """The names of the columns that the class of a row declares, in its order."""
    structs: tuple[str, ...] | None = getattr(kind, "__struct_fields__", None)
    names = [each.name for each in fields(kind)] if structs is None else structs  # type: ignore[arg-type]  # a dataclass
    return [name for name in names if name != "others"]


def _arrow_type(hint: Any) -> pa.DataType | None:
    """The Arrow type of a declared one; None where it may be several."""
    import pyarrow as pa

    if get_origin(hint) in (Union, UnionType):
        known = [each for each in get_args(hint) if each is not NoneType]
        return _arrow_type(known[0]) if len(known) == 1 else None
    if get_origin(hint) in (list, tuple, Sequence):
        inner = _arrow_type(get_args(hint)[0])
        return None if inner is None else pa.list_(inner)
    simple = {
        int: pa.int64(), float: pa.float64(), str: pa.string(), bool: pa.bool_(), bytes: pa.binary(),
        datetime: pa.timestamp("us", "UTC"), date: pa.date32(),
    }  # fmt: skip
    return simple.get(hint)


def require(package: str, what: str) -> None:
    """Refuse what needs a package that is not installed.

    Raises:
        MissingExtra: it cannot be imported.
    """
    try:
        __import__(package)
    except ImportError as error:
        raise MissingExtra(what, package) from error


__all__ = [
    "Frames",
    "Record",
    "Records",
    "Result",
    "Row",
    "TableResult",
    "arrow_of",
    "columns_of",
    "pandas_frame",
    "require",
    "rows_of",
]
