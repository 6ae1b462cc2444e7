"""The result of an online read, from a store or a client: values, statuses and event times.

Heavy packages are imported only when needed: a client that reads JSON needs neither an engine nor Arrow.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from asof.display import SHOWN_ROWS, counted, html_table, text_table
from asof.dtypes import DType
from asof.errors import RequestError
from asof.results import Frames, Row, require
from asof.timing import Micros, iso, moment

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd
    import pyarrow as pa

PRESENT = "PRESENT"
NULL_VALUE = "NULL_VALUE"
NOT_FOUND = "NOT_FOUND"
OUTSIDE_MAX_AGE = "OUTSIDE_MAX_AGE"

Columns = dict[str, list[object]]
Times = Sequence[Micros | None]


class TypedName(Protocol):
    """A name and the type of its values."""

    @property
    def name(self) -> str: ...

    @property
    def dtype(self) -> DType: ...


class ResponseColumn(TypedName, Protocol):
    """One column of a response: its name, its column among the values, and its reference `view:feature`."""

    @property
    def column(self) -> str: ...

    @property
    def reference(self) -> str: ...


class ResponseSelection(Protocol):
    """The attributes of a selection that a response needs: ordered outputs, join keys and request values."""

    @property
    def outputs(self) -> Sequence[ResponseColumn]: ...

    @property
    def keys(self) -> Sequence[TypedName]: ...

    @property
    def request_fields(self) -> Sequence[TypedName]: ...


class ViewMetadata:
    """Statuses and event times of one view's rows.

    Args:
        outputs: the view's outputs.
        marks: per row NOT_FOUND or OUTSIDE_MAX_AGE, or "" if the row was found; None if all were found.
        times: per row, the event time of the online row.
        nulls: output → its values before nulls were replaced by defaults, if any were.
    """

    __slots__ = ("marks", "nulls", "outputs", "times")

    def __init__(self, outputs: Sequence[str], marks: list[str] | None, times: Times) -> None:
        self.outputs = outputs
        self.marks = marks
        self.times = times
        self.nulls: Columns = {}

    def statuses(self, values: Sequence[object]) -> list[str]:
        if self.marks is None:
            return _statuses(values)
        return [mark or status for mark, status in zip(self.marks, _statuses(values), strict=True)]


def _statuses(values: Sequence[Any]) -> list[str]:
    return [NULL_VALUE if value is None else PRESENT for value in values]


class OnlineResponse(Frames):
    """The result of an online read: one value per feature and entity row, in the requested order.

    Attributes:
        selection: the request.
        keys: join keys and request values, by column.
        values: column of the selection → its values.
        found: statuses and event times of each view's rows.
        at: the time of the read, in microseconds.
    """

    def __init__(
        self,
        selection: ResponseSelection,
        keys: Columns,
        values: Columns,
        found: list[ViewMetadata],
        *,
        at: Micros,
        rows: int,
    ) -> None:
        self.selection = selection
        self.keys = keys
        self.values = values
        self.found = found
        self._rows = rows
        self.at = at

    @property
    def statuses(self) -> dict[str, list[str]]:
        """Output name → status of each entity row: PRESENT, NULL_VALUE, NOT_FOUND or OUTSIDE_MAX_AGE.

        A null that is replaced by a default keeps its status. An on-demand feature is PRESENT or NULL_VALUE.
        """
        answer = {}
        of_column = self._answers()
        for output in self.selection.outputs:
            found, values = of_column.get(output.column), self.values[output.column]
            answer[output.name] = (
                _statuses(values) if found is None else found.statuses(found.nulls.get(output.column, values))
            )
        return answer

    @property
    def event_times(self) -> dict[str, list[datetime | None]]:
        """Output name → event time of each entity row's online row, or None.

        For windows it is the time of the newest event in the row; on-demand features have none.
        """
        answer = {}
        of_column = self._answers()
        for output in self.selection.outputs:
            found = of_column.get(output.column)
            times: Times = [None] * self._rows if found is None else found.times
            answer[output.name] = [None if time is None else moment(time) for time in times]
        return answer

    def _answers(self) -> dict[str, ViewMetadata]:
        return {output: answer for answer in self.found for output in answer.outputs}

    def __len__(self) -> int:
        return self._rows

    def __iter__(self) -> Iterator[Row]:
        """The entity rows with their features, one by one."""
        columns = self.to_dict()
        return (Row({name: values[i] for name, values in columns.items()}) for i in range(self._rows))

    def __repr__(self) -> str:
        return text_table(self._title(), *self._shown(), count=self._rows)

    def _repr_html_(self) -> str:
        return html_table(self._title(), *self._shown(), count=self._rows)

    def _title(self) -> str:
        rows, features = counted(self._rows, "row"), counted(len(self.selection.outputs), "feature")
        return f"OnlineResponse of {iso(self.at)}: {rows}, {features}"

    def _shown(self) -> tuple[list[str], list[list[object]]]:
        columns = self.to_dict()
        rows = range(min(self._rows, SHOWN_ROWS))
        return list(columns), [[values[i] for values in columns.values()] for i in rows]

    def to_dict(self, include_event_timestamps: bool = False) -> Columns:
        """The join keys and request values, then the features, as lists; with Feast's `__ts` columns if asked for."""
        values = self.values
        answer = self.keys | {output.name: values[output.column] for output in self.selection.outputs}
        if include_event_timestamps:
            answer |= {f"{name}__ts": list(times) for name, times in self.event_times.items()}
        return answer

    def to_arrow(self, include_event_timestamps: bool = False) -> pa.Table:
        """The same as an Arrow table, with features in their declared types."""
        import pyarrow as pa

        times = pa.timestamp("us", "UTC")
        types = {f"{output.name}__ts": times for output in self.selection.outputs}
        types |= {output.name: output.dtype.arrow() for output in self.selection.outputs}
        types |= {field.name: field.dtype.arrow() for field in (*self.selection.keys, *self.selection.request_fields)}
        columns = self.to_dict(include_event_timestamps)
        return pa.table({name: pa.array(values, types[name]) for name, values in columns.items()})

    def to_df(self, include_event_timestamps: bool = False) -> pd.DataFrame:
        """The same as a pandas data frame, as pandas makes one of the lists; integers with nulls stay integers."""
        require("pandas", "to_df()")
        import pandas as pd

        columns: dict[str, Any] = dict(self.to_dict(include_event_timestamps))
        for field in (*self.selection.keys, *self.selection.request_fields, *self.selection.outputs):
            if field.dtype.is_integer and None in columns[field.name]:
                # pandas would make floats of them.
                columns[field.name] = pd.array(columns[field.name], dtype=field.dtype.name)
        return pd.DataFrame(columns)

    def to_numpy(self) -> npt.NDArray[np.float64]:
        """The features as a float matrix, entity rows × features in the requested order; nulls are NaN.

        Decimals become the nearest floats.

        Raises:
            RequestError: a feature is not numeric, or an integer has no float of its own (beyond 2**53).
        """
        import numpy as np

        matrix = np.full((self._rows, len(self.selection.outputs)), np.nan)
        for place, output in enumerate(self.selection.outputs):
            if not (output.dtype.is_numeric or output.dtype.name == "Bool"):
                raise RequestError(
                    f"feature {output.reference!r} has type {output.dtype}; expected a number",
                    hint="remove it from the request, or use to_arrow() or to_df()",
                )
            numbers: list[Any] = self.values[output.column]
            if output.dtype.name == "Int64":
                # As on any way out, no integer becomes another one.
                inexact = [value for value in numbers if value is not None and int(float(value)) != value]
                if inexact:
                    raise RequestError(
                        f"feature {output.reference!r} is {inexact[0]}, which no float is exactly",
                        hint="remove it from the request, or use to_arrow() or to_df()",
                    )
            matrix[:, place] = [np.nan if value is None else float(value) for value in numbers]
        return matrix
