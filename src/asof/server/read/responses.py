"""Encodes responses: Feast's format (column by column), and Asof's (row by row), in JSON or Arrow."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import count
from typing import Any

import orjson

from asof.online_response import OnlineResponse
from asof.selection import Selection
from asof.timing import moment
from asof.values.json import ConvertColumn, all_finite, column_writer, feast_column_writer, write_floats

EPOCH = "1970-01-01T00:00:00Z"
"""Feast's event timestamp of a value without one."""

FEW = 8
"""Up to this number, times are formatted one by one; beyond, NumPy is faster."""

FRAME_ROWS, FRAME_CELLS = 128, 64 << 10
"""Response objects are cached up to this number of rows; and for this number of columns in all requests together, each
of about 250 bytes."""

Cell = tuple[int, str, ConvertColumn | None]
"""Index of the output column, index among the values, and the conversion to JSON."""

ARROW = "application/vnd.apache.arrow.stream"


class ResponseObjects:
    """The objects of responses: built once for a request and a number of rows, filled for each response.

    The oldest are dropped beyond `FRAME_CELLS`, also those of requests that are no more.
    """

    def __init__(self) -> None:
        self._of: dict[tuple[int, int], list[dict[str, Any]]] = {}
        self.cells = 0

    def get(self, encoder: int, n: int) -> list[dict[str, Any]] | None:
        return self._of.get((encoder, n))

    def keep(self, encoder: int, n: int, frame: list[dict[str, Any]]) -> None:
        self.drop(encoder, n)
        self._of[encoder, n] = frame
        self.cells += len(frame)
        while self.cells > FRAME_CELLS:
            self.drop(*next(iter(self._of)))

    def drop(self, encoder: int, n: int) -> None:
        self.cells -= len(self._of.pop((encoder, n), ()))


FRAMES = ResponseObjects()
_NUMBERS = count()


class Encoder:
    """Encodes the responses of one selection; what all of them share is encoded once."""

    def __init__(self, selection: Selection) -> None:
        positions = {
            feature.output: place for place, read in enumerate(selection.reads) for feature in read.features
        }  # fmt: skip
        self.names = [*(field.name for field in selection.keys), *selection.names]
        self._keys = [(field.name, feast_column_writer(field.dtype)) for field in selection.keys]
        self._derived: list[Cell] = []
        self._of_view: list[list[Cell]] = [[] for _ in selection.reads]
        for at, output in enumerate(selection.outputs, start=len(self._keys)):
            cell = (at, output.column, feast_column_writer(output.dtype))
            place = positions.get(output.column)
            (self._derived if place is None else self._of_view[place]).append(cell)
        numbers = (output for output in selection.outputs if output.dtype.is_float or output.dtype.is_integer)
        self._numbers = frozenset(output.column for output in numbers)
        self._number = next(_NUMBERS)
        self._lean = [column_writer(output.dtype) for output in selection.outputs]
        self._lean_keys = [column_writer(field.dtype) for field in selection.keys]
        self._lean_request = [(field.name, column_writer(field.dtype)) for field in selection.request_fields]
        self._types = orjson.Fragment(orjson.dumps(types_of(selection)))
        self._selection = selection
        self.metadata = orjson.Fragment(orjson.dumps({"feature_names": self.names}))

    def feast(self, response: OnlineResponse, *, versions: bool = False, is_shared: bool = True) -> bytes:
        """Column by column, each value with its status and event time; entity columns first.

        Args:
            is_shared: use cached objects, into which each response is filled: on the event loop only.
        """
        n = len(response)
        values = response.values
        frame = (is_shared and FRAMES.get(self._number, n)) or self._frame(n, is_shared=is_shared)
        for (name, convert), each in zip(self._keys, frame):
            column = response.keys[name]
            each["values"] = column if convert is None else convert(column)
        # One check over all numbers together: mostly all are there, and finite.
        plain = all_finite([values[name] for name in self._numbers])
        whole = self._numbers if plain else frozenset()
        is_changed = False
        for found, cells in zip(response.found, self._of_view):
            when = _times(found.times)
            known = found.marks is None and not found.nulls
            for at, name, convert in cells:
                column = values[name]
                each = frame[at]
                each["event_timestamps"] = when
                if not known or (name not in whole and None in column):
                    each["statuses"] = found.statuses(found.nulls.get(name, column))
                    is_changed = True
                each["values"] = column if convert is None or (plain and convert is write_floats) else convert(column)
        for at, name, convert in self._derived:
            column = values[name]
            each = frame[at]
            if name not in whole and None in column:
                each["statuses"] = ["NULL_VALUE" if value is None else "PRESENT" for value in column]
                is_changed = True
            each["values"] = column if convert is None else convert(column)
        if is_changed:
            FRAMES.drop(self._number, n)
        metadata: Any = self.metadata
        if versions:
            views = [{"name": read.view.name, "version": 0} for read in self._selection.reads]
            metadata = {"feature_names": self.names, "feature_view_metadata": views}
        body = orjson.dumps({"results": frame, "metadata": metadata})
        for each in frame:
            # The objects are cached; values of a request must not stay in them.
            each["values"] = None
        return body

    def frame(self, n: int) -> list[dict[str, Any]] | None:
        """The objects that are cached for a response of n rows."""
        return FRAMES.get(self._number, n)

    def _frame(self, n: int, *, is_shared: bool) -> list[dict[str, Any]]:
        """Objects of a response of n rows with nothing missing, without values."""
        present, epoch = _present(n), _epoch(n)
        frame = [{"values": None, "statuses": present, "event_timestamps": epoch} for _ in self.names]
        if is_shared and n <= FRAME_ROWS:
            FRAMES.keep(self._number, n, frame)
        return frame

    def rows(
        self, response: OnlineResponse, *, statuses: bool = False, event_times: bool = False, types: bool = False
    ) -> bytes:
        """Asof's JSON: row by row, with the names once."""
        columns = [
            response.keys[field.name] if convert is None else convert(response.keys[field.name])
            for field, convert in zip(self._selection.keys, self._lean_keys, strict=True)
        ]
        for output, convert in zip(self._selection.outputs, self._lean, strict=True):
            column = response.values[output.column]
            columns.append(column if convert is None else convert(column))
        answer: dict[str, Any] = {
            "names": self.names,
            "rows": list(zip(*columns, strict=True)) if columns else [],
        }
        if statuses:
            of_output = response.statuses
            answer["statuses"] = list(zip(*(of_output[name] for name in self._selection.names), strict=True))
        if event_times:
            times = response.event_times
            answer["event_times"] = list(zip(*(times[name] for name in self._selection.names), strict=True))
        if types:
            answer["types"] = self._types
            answer["at"] = moment(response.at)
            if self._lean_request:
                answer["request"] = {
                    name: response.keys[name] if convert is None else convert(response.keys[name])
                    for name, convert in self._lean_request
                }
        return orjson.dumps(answer, option=orjson.OPT_UTC_Z)

    def arrow(self, response: OnlineResponse, *, statuses: bool = False, event_times: bool = False) -> bytes:
        """An Arrow stream of one batch, features in their declared types.

        Statuses are columns `name__status`, event times `name__ts`.
        """
        import pyarrow as pa

        table = response.to_arrow(include_event_timestamps=event_times)
        if statuses:
            for name, column in response.statuses.items():
                table = table.append_column(f"{name}__status", pa.array(column, pa.string()))
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        return sink.getvalue().to_pybytes()


def types_of(selection: Selection) -> dict[str, Any]:
    """Names and types of keys, request values and features, from which a client restores typed values."""
    return {
        "keys": [[field.name, str(field.dtype)] for field in selection.keys],
        "request": [[field.name, str(field.dtype)] for field in selection.request_fields],
        "features": [[output.name, str(output.dtype), output.reference] for output in selection.outputs],
    }


def _present(n: int) -> Any:
    return _kept("PRESENT", n) if n <= FRAME_ROWS else _repeated("PRESENT", n)


def _epoch(n: int) -> Any:
    return _kept(EPOCH, n) if n <= FRAME_ROWS else _repeated(EPOCH, n)


def _repeated(word: str, n: int) -> Any:
    return orjson.Fragment(orjson.dumps([word] * n))


# Cached for few rows only: the number of rows is the caller's choice.
_kept = lru_cache(maxsize=256)(_repeated)


def _times(times: Sequence[int | None]) -> Any:
    """Event times of a view's rows, encoded once for all of its features; the epoch if there is none."""
    if len(times) <= FEW:
        return orjson.Fragment(orjson.dumps([moment(time or 0) for time in times], option=orjson.OPT_UTC_Z))
    import numpy as np

    if None in times:
        times = [time or 0 for time in times]
    return orjson.Fragment(orjson.dumps(np.array(times, dtype="datetime64[us]"), option=_NUMPY_TIMES))


_NUMPY_TIMES = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z
