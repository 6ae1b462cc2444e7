"""One entity row of plain views, from packed rows to JSON; it must equal the general path, byte for byte.

The most frequent request, without building columns. A missing, expired or too new row, or a key of another type, takes
the general path.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from math import isfinite
from typing import Any

import orjson

from asof.dtypes import INT_BOUNDS
from asof.flows.online.read import OnlineReader
from asof.online.protocol import OnlineTable
from asof.server.read.responses import EPOCH
from asof.timing import Micros, moment
from asof.values.json import feast_column_writer, write_float, write_floats
from asof.values.packing import key_bytes

_KEYS: dict[str, tuple[type, int, int]] = {
    **{name: (int, *bounds) for name, bounds in INT_BOUNDS.items()},
    "String": (str, 0, 0),
}
"""Join-key types whose JSON values can be packed as they are, with their bounds."""

_PRESENT, _NULL, _EPOCH = (orjson.Fragment(orjson.dumps([word])) for word in ("PRESENT", "NULL_VALUE", EPOCH))


class OneRow:
    """Response writer for one entity row of one selection, in Feast's format. Create it with `of`.

    Attributes:
        tables: the online table of each view; `names`: the views.
    """

    def __init__(self, reader: OnlineReader, metadata: Any, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._views = reader.views
        self.tables: list[OnlineTable] = [view.table for view in reader.views]
        self.names = [view.view.name for view in reader.views]
        self._keys: list[tuple[str, Any, int, int]] = [
            (field.name, *_KEYS[field.dtype.name]) for field in reader.key_fields
        ]
        # For each view, the positions of its join keys; mostly the same for all views.
        positions = {field.name: place for place, field in enumerate(reader.key_fields)}
        self._keys_of = [tuple(positions[name] for name in view.read.keys) for view in reader.views]
        self._is_plain = all(each == tuple(range(len(self._keys))) for each in self._keys_of)
        # The response's objects, built once; each response only replaces the contents of their lists.
        self._key_cells: list[list[Any]] = [[None] for _ in reader.key_fields]
        self._times: list[list[Any]] = [[None] for _ in reader.views]
        frames: dict[str, dict[str, Any]] = {}
        self._cells: list[list[list[Any]]] = []
        self._frames: list[dict[str, Any]] = []
        for view, when in zip(reader.views, self._times, strict=True):
            cells: list[list[Any]] = [[None] for _ in view.outputs]
            made = [{"values": cell, "statuses": _PRESENT, "event_timestamps": when} for cell in cells]
            frames |= dict(zip(view.outputs, made, strict=True))
            self._cells.append(cells)
            self._frames += made
        results = [{"values": cell, "statuses": _PRESENT, "event_timestamps": _EPOCH} for cell in self._key_cells]
        results += [frames[output.column] for output in reader.selection.outputs]
        self._answer = {"results": results, "metadata": metadata}

    @classmethod
    def of(cls, reader: OnlineReader, metadata: Any, *, most_bytes: int = sys.maxsize) -> OneRow | None:
        """A writer, or None if the selection has more than plain values of latest-value views.

        Args:
            most_bytes: the general path refuses rows with more bytes.
        """
        selection = reader.selection
        is_plain = (
            reader.views
            and not selection.derivations
            and not selection.request_fields
            and all(field.dtype.name in _KEYS for field in reader.key_fields)
            and all(view.is_plain for view in reader.views)
            and all(feast_column_writer(each.dtype) in (None, write_floats) for each in selection.outputs)
        )
        return cls(reader, metadata, most_bytes) if is_plain else None

    def keys(self, entities: Any) -> list[bytes] | None:
        """The packed key of each view; None if this is not one row of the declared types."""
        if type(entities) is not dict or len(entities) != len(self._keys):
            return None
        values = []
        for name, kind, least, most in self._keys:
            column = entities.get(name)
            if column is None or len(column) != 1:
                return None
            value = column[0]
            if type(value) is not kind or (kind is int and not least <= value <= most):
                return None
            values.append(value)
        try:
            if self._is_plain:
                return [key_bytes(values)] * len(self._keys_of)
            return [key_bytes([values[place] for place in positions]) for positions in self._keys_of]
        except UnicodeEncodeError:
            return None

    def answer(self, entities: dict[str, list[Any]], rows: Sequence[bytes | None], *, at: Micros) -> Any:
        """The response's bytes and the views' event times; None if the general path must be taken.

        Args:
            rows: the packed row of each view.
            at: the time of the read.
        """
        times = []
        size = 0
        written = None
        last = None
        for view, row, cells, when in zip(self._views, rows, self._cells, self._times):
            if row is None or (packed := view.known(row, at)) is None:
                return None
            size += len(row)
            time = packed[1]
            times.append(time)
            if time != last:
                # Views written by one run often share an event time.
                written, last = orjson.Fragment(orjson.dumps(moment(time), option=orjson.OPT_UTC_Z)), time
            when[0] = written
            for cell, value in zip(cells, view.pick(packed)):
                cell[0] = value
        for (name, *_), cell in zip(self._keys, self._key_cells):
            cell[0] = entities[name][0]
        if size > self._most_bytes:
            return None
        body = orjson.dumps(self._answer)
        # NaN and infinities are encoded as null: the cheapest way to detect them, and nulls.
        return (self._with_nulls() if b"null" in body else body), times

    def _with_nulls(self) -> bytes:
        """The response if some values are null, NaN or infinite."""
        nulls = []
        for each in self._frames:
            value = each["values"][0]
            if value is None:
                each["statuses"] = _NULL
                nulls.append(each)
            elif type(value) is float and not isfinite(value):
                each["values"][0] = write_float(value)
        body = orjson.dumps(self._answer)
        for each in nulls:
            each["statuses"] = _PRESENT
        return body
