"""Online reads: one multi-key read at one moment for all views, then the same on-demand step as in training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from asof.aggregation import decode, finish
from asof.definitions import Field, Snapshot
from asof.derive import derive_values
from asof.derive.columns import python_values
from asof.errors import EntityFrameError, StorageError, nearest
from asof.fitting import checker
from asof.flows.feeding import layout_of
from asof.flows.parts import Parts, current_generation, table_of
from asof.online.protocol import Lookup
from asof.packing import key_bytes, restorer, unpack_row, versions_of
from asof.selection import Selection, ViewRead
from asof.timing import Micros, moment

if TYPE_CHECKING:
    import pyarrow as pa

PRESENT = "PRESENT"
NULL_VALUE = "NULL_VALUE"
NOT_FOUND = "NOT_FOUND"
OUTSIDE_MAX_AGE = "OUTSIDE_MAX_AGE"

Columns = dict[str, list[Any]]
History = Callable[[ViewRead, Columns, Micros], tuple[Columns, list[Micros | None]]]
"""Answers a view's features for a few keys as of a moment from history: outputs by name, and the rows' event times."""


class OnlineResponse:
    """The answer to an online read: one value per feature and entity row, in the order asked for.

    Attributes:
        statuses: output name → one of PRESENT, NULL_VALUE, NOT_FOUND, OUTSIDE_MAX_AGE per entity row.
        event_times: output name → per entity row the time of the row that the value is from; None where there is none.
        at: the moment that was answered, in microseconds.
    """

    def __init__(
        self, selection: Selection, keys: Columns, values: Columns, found: dict[str, tuple[Any, Any]], at: Micros
    ) -> None:
        self._selection = selection
        self._keys = keys
        self._values = values
        self._found = found
        self.at = at

    @property
    def statuses(self) -> dict[str, list[str]]:
        return {
            output.name: self._statuses(output.column, self._values[output.column]) for output in self._selection.outputs
        }

    def _statuses(self, column: str, values: list[Any]) -> list[str]:
        rows = self._found[column][0] if column in self._found else None
        if rows is None:
            return [NULL_VALUE if value is None else PRESENT for value in values]
        # A default stands in place of a null, and does not make it present.
        return [status if status else PRESENT for status in rows]

    @property
    def event_times(self) -> dict[str, list[Any]]:
        answer = {}
        for output in self._selection.outputs:
            times = self._found[output.column][1] if output.column in self._found else [None] * len(self)
            answer[output.name] = [None if time is None else moment(time) for time in times]
        return answer

    def __len__(self) -> int:
        return len(next(iter(self._keys.values()))) if self._keys else 1

    def to_dict(self, include_event_timestamps: bool = False) -> dict[str, list[Any]]:
        """The entity rows' columns and the features, as lists; with Feast's `__ts` columns if asked for."""
        answer = {name: list(values) for name, values in self._keys.items()}
        answer |= {output.name: self._values[output.column] for output in self._selection.outputs}
        if include_event_timestamps:
            answer |= {f"{name}__ts": times for name, times in self.event_times.items()}
        return answer

    def to_arrow(self) -> pa.Table:
        """The same as a table, features in their declared types."""
        import pyarrow as pa  # noqa: PLC0415

        types = {output.name: output.dtype.arrow() for output in self._selection.outputs}
        types |= {field.name: field.dtype.arrow() for field in (*self._selection.keys, *self._selection.request_fields)}
        return pa.table({name: pa.array(values, types.get(name)) for name, values in self.to_dict().items()})

    def to_df(self, include_event_timestamps: bool = False) -> Any:
        """The same as a pandas data frame."""
        import pandas as pd  # noqa: PLC0415

        return pd.DataFrame(self.to_dict(include_event_timestamps))

    def to_numpy(self) -> Any:
        """The features alone as a matrix of floats, entity rows × features in the order asked for; nulls are NaN.

        Raises:
            TypeError, ValueError: a feature is not a number.
        """
        import numpy as np  # noqa: PLC0415

        columns = [
            [np.nan if value is None else value for value in self._values[output.column]]
            for output in self._selection.outputs
        ]
        return np.array(columns, dtype=np.float64).T


class Reader:
    """Answers one selection from the online store; made once per selection and snapshot.

    Args:
        history: answers what an online row cannot: a moment before the newest event that the row has merged.
    """

    def __init__(self, parts: Parts, snapshot: Snapshot, selection: Selection, *, history: History) -> None:
        self.parts = parts
        self.snapshot = snapshot
        self.selection = selection
        self._views = [ViewReader(parts, snapshot, read, history) for read in selection.reads]
        self._fields = (*selection.keys, *selection.request_fields)
        self._checks = {field.name: (_QUICK.get(field.dtype.name), checker(field.dtype)) for field in self._fields}
        self._only = frozenset(self._checks)
        self._plain_keys = {
            field.name: _plainer(field) for field in selection.keys if field.dtype.name in ("Timestamp", "Date", "Decimal")
        }

    def read(self, entity_rows: Any, *, at: Micros) -> tuple[OnlineResponse, bool]:
        """The answer as of `at`, and whether every row was found (a missing one may be in a newer generation).

        Args:
            entity_rows: a list of dicts, or a dict of columns: join keys and request values.
        """
        given, n = self._columns(entity_rows)
        columns = {field.name: self._fitted(field.name, given) for field in self._fields}
        keys = {
            name: [self._plain_keys[name](value) for value in columns[name]] if name in self._plain_keys else columns[name]
            for name in (field.name for field in self.selection.keys)
        }
        lookups = [view.lookup(keys, n) for view in self._views]
        answers = self.parts.online.read(lookups)
        values: Columns = {}
        found: dict[str, tuple[Any, Any]] = {}
        complete = True
        for view, rows in zip(self._views, answers, strict=True):
            if None in rows:
                complete = False
            view.answer(rows, keys=columns, at=at, values=values, found=found)
        if self.selection.derivations:
            values |= derive_values({**columns, **values}, n, self.selection.derivations, at)
        return OnlineResponse(self.selection, columns or given, values, found, at), complete

    def _columns(self, entity_rows: Any) -> tuple[Columns, int]:
        """Entity rows as columns of one length."""
        if isinstance(entity_rows, Mapping):
            for name, values in entity_rows.items():
                if isinstance(values, str | bytes) or not hasattr(values, "__iter__"):
                    raise EntityFrameError(
                        f"entity column {name!r} is {values!r}; expected one value per row",
                        hint=f"write {{{name!r}: [{values!r}]}}, or a list of dicts",
                    )
            columns = {name: list(values) for name, values in entity_rows.items()}
            lengths = {name: len(values) for name, values in columns.items()}
            if len(set(lengths.values())) > 1:
                raise EntityFrameError(f"entity columns differ in length: {lengths}", hint="give one value per row in each")
            return columns, next(iter(lengths.values()), 0)
        if not isinstance(entity_rows, Sequence) or isinstance(entity_rows, str | bytes):
            raise EntityFrameError(
                f"the entity rows are of type {type(entity_rows).__name__}",
                hint="give a list of dicts, or a dict of columns; of a table: .to_dict('list') or .to_pydict()",
            )
        rows = list(entity_rows)
        columns = {}
        for field in self._fields:
            try:
                columns[field.name] = [row[field.name] for row in rows]
            except (KeyError, TypeError, IndexError):
                raise self._missing(field.name, rows) from None
        return columns, len(rows)

    def _missing(self, name: str, rows: Sequence[Any]) -> EntityFrameError:
        at = next((i for i, row in enumerate(rows) if not isinstance(row, Mapping) or name not in row), 0)
        row = rows[at] if rows else {}
        if not isinstance(row, Mapping):
            return EntityFrameError(f"entity row {at} is {row!r}; expected a dict", hint=f"write {{{name!r}: …}}")
        kind = "request value" if name in {field.name for field in self.selection.request_fields} else "join key"
        return EntityFrameError(
            f"entity row {at} has no {kind} {name!r}; it has {sorted(row)}",
            hint=nearest(name, list(map(str, row))) or f"the request needs {[field.name for field in self._fields]}",
        )

    def _fitted(self, name: str, given: Columns) -> list[Any]:
        values = given.get(name)
        if values is None:
            raise EntityFrameError(
                f"the entity rows have no column {name!r}; they have {sorted(given)}",
                hint=nearest(name, given) or f"the request needs {[field.name for field in self._fields]}",
            )
        quick, check = self._checks[name]
        if quick is not None and all(map(quick, values)):
            return values
        is_key = any(field.name == name for field in self.selection.keys)
        fitted = []
        for row, value in enumerate(values):
            if value is None:
                if is_key:
                    raise EntityFrameError(f"join key {name!r} is null in entity row {row}", hint="leave such rows out")
                fitted.append(None)
                continue
            try:
                fitted.append(check(value))
            except (ValueError, TypeError, OverflowError, ArithmeticError) as error:
                what = "join key" if is_key else "request value"
                raise EntityFrameError(
                    f"{what} {name!r} in entity row {row}: {error}", hint="give values of the declared type"
                ) from error
        if self._checks[name] and any(field.name == name and field.dtype.name == "Timestamp" for field in self._fields):
            return [None if value is None else moment(value) for value in fitted]
        return fitted


_QUICK: dict[str, Callable[[Any], bool]] = {
    "Int64": lambda value: type(value) is int and -(2**63) <= value < 2**63,
    "String": lambda value: type(value) is str,
    "Float64": lambda value: type(value) is float,
    "Bool": lambda value: type(value) is bool,
}


def _plainer(field: Field) -> Callable[[Any], Any]:
    from datetime import date  # noqa: PLC0415

    from asof.timing import micros  # noqa: PLC0415

    if field.dtype.name == "Timestamp":
        return micros
    if field.dtype.name == "Date":
        return lambda day: (day - date(1970, 1, 1)).days
    return lambda number: str(number)


class ViewReader:
    """How one view of the selection is read."""

    def __init__(self, parts: Parts, snapshot: Snapshot, read: ViewRead, history: History) -> None:
        self.read = read
        self.history = history
        self.view = read.view
        generation = current_generation(snapshot, read.view)
        if not read.view.online:
            raise StorageError(
                f"feature view {read.view.name!r} is not kept online", hint="set online=True and apply", where=read.view.where
            )
        self.table = table_of(parts.project, read.view, generation or "none")
        self.names = [feature.name for feature in read.features]
        self.outputs = [feature.output for feature in read.features]
        self.defaults = [feature.default for feature in read.features]
        self.restore = [restorer(feature.dtype) for feature in read.features]
        fields = [field.name for field in read.view.features]
        self.width = len(fields)
        self.places = [2 + fields.index(name) for name in self.names]
        self.layout = layout_of(read.view) if read.view.is_aggregated else None
        self.is_log_fed = read.view.source.is_log

    def lookup(self, keys: Columns, n: int) -> Lookup:
        columns = [keys[key] for key in self.read.keys]
        if not columns:
            return Lookup(self.table, [key_bytes(())] * n)
        return Lookup(self.table, [key_bytes(each) for each in zip(*columns, strict=True)])

    def answer(
        self, rows: Sequence[Any], *, keys: Columns, at: Micros, values: Columns, found: dict[str, tuple[Any, Any]]
    ) -> None:
        """Add this view's columns to `values`, and statuses and event times to `found`."""
        t = at - self.view.delay
        columns, times, marks, behind = self._windows(rows, t) if self.layout else self._latest(rows, t)
        if behind:
            self._from_history(behind, keys, at, columns, times, marks)
        for name, column, default in zip(self.outputs, columns, self.defaults, strict=True):
            statuses = None
            if None in column or any(marks):
                statuses = [
                    mark or (NULL_VALUE if value is None else "") for mark, value in zip(marks, column, strict=True)
                ]
                if default is not None:
                    column = [default if value is None else value for value in column]
            found[name] = (statuses or [""] * len(column), times)
            values[name] = column

    def _latest(self, rows: Sequence[Any], t: Micros) -> tuple[list[list[Any]], list[Any], list[str], list[int]]:
        """Values, event times, marks (empty: known), and the rows that are newer than t."""
        oldest = t - self.view.ttl if self.view.ttl else None
        times: list[Any] = []
        marks: list[str] = []
        unpacked: list[Any] = []
        behind: list[int] = []
        for i, row in enumerate(rows):
            packed = None
            if row is not None:
                packed = unpack_row(row[0])
                if self.is_log_fed and (packed[-1] or packed[1] is None):
                    packed = self._due(row[0], t)
            if packed is None:
                unpacked.append(None)
                times.append(None)
                marks.append(NOT_FOUND)
                continue
            time = packed[1]
            times.append(time)
            if time > t:
                behind.append(i)
                unpacked.append(None)
                marks.append(NOT_FOUND)
            elif oldest is not None and time < oldest:
                unpacked.append(None)
                marks.append(OUTSIDE_MAX_AGE)
            else:
                unpacked.append(packed)
                marks.append("")
        columns = []
        for place, restore in zip(self.places, self.restore, strict=True):
            column = [None if packed is None else packed[place] for packed in unpacked]
            if restore is not None:
                column = [None if value is None else restore(value) for value in column]
            columns.append(column)
        return columns, times, marks, behind

    def _due(self, stored: bytes, t: Micros) -> list[Any] | None:
        """The newest of a row's versions that is not later than t, as a packed row."""
        due = [each for each in versions_of(stored, self.width) if each.event_time <= t]
        return [1, due[-1].event_time, *due[-1].values] if due else None

    def _windows(self, rows: Sequence[Any], t: Micros) -> tuple[list[list[Any]], list[Any], list[str], list[int]]:
        layout = self.layout
        assert layout is not None
        state = decode(layout, [None if row is None else row[0] for row in rows])
        answers = finish(layout, state, t, self.names)
        columns = [python_values(answers.columns[name]) for name in self.names]
        times = [None if horizon < 0 else horizon for horizon in state.horizon.tolist()]
        behind = [i for i, late in enumerate(answers.behind.tolist()) if late]
        return columns, times, [""] * len(rows), behind

    def _from_history(
        self, behind: list[int], keys: Columns, at: Micros, columns: list[list[Any]], times: list[Any], marks: list[str]
    ) -> None:
        """Answer rows from history that have merged events later than the moment asked for."""
        asked = {key: [keys[key][i] for i in behind] for key in self.read.keys}
        values, event_times = self.history(self.read, asked, at)
        for column, output in zip(columns, self.outputs, strict=True):
            for place, i in enumerate(behind):
                column[i] = values[output][place]
        for place, i in enumerate(behind):
            times[i] = event_times[place]
            known = self.view.is_aggregated or any(values[output][place] is not None for output in self.outputs)
            marks[i] = "" if known else NOT_FOUND
