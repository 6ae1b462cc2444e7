"""Entity rows of an online request (dicts, columns or a table): checked and converted to columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from asof.definitions import Field
from asof.errors import EntityFrameError, rename
from asof.selection import Selection
from asof.timing import moment
from asof.values.check import checker, own_values
from asof.values.fit import fit
from asof.values.frames import MOST_NAMED, arrow_column, repeated_columns, table_columns, uneven
from asof.values.from_arrow import python_values
from asof.values.legible import why
from asof.values.packing import plainer

Columns = dict[str, list[Any]]


class EntityRows:
    """Reads the entity rows of one selection; other columns are ignored."""

    def __init__(self, selection: Selection) -> None:
        self.key_fields = list(selection.keys)
        self._fields = [*self.key_fields, *selection.request_fields]
        self._keys = frozenset(field.name for field in selection.keys)
        self._plain = {field.name: plainer(field.dtype) for field in self._fields if field.name in self._keys}
        self._needs = [field.name for field in self._fields]

    def columns(self, entity_rows: Any) -> tuple[Columns, Columns, int]:
        """Keys and request values as Python values, the keys as plain values, and the number of rows.

        Raises:
            EntityFrameError: a column is missing, a key is null, or a value does not fit its type.
        """
        given, n = self._given(entity_rows)
        columns = {field.name: self._fitted(field, given[field.name]) for field in self._fields}
        keys = {
            name: columns[name] if plain is None else list(map(plain, columns[name]))
            for name, plain in self._plain.items()
        }
        return columns, keys, n

    def _given(self, entity_rows: Any) -> tuple[dict[str, Any], int]:
        """The required columns, of equal length, before their values are checked."""
        if type(entity_rows) is list or type(entity_rows) is tuple:
            try:
                return {name: [row[name] for row in entity_rows] for name in self._needs}, len(entity_rows)
            except (KeyError, TypeError, IndexError):
                raise self._missing(entity_rows) from None
        if isinstance(entity_rows, Mapping):
            return self._given_columns(entity_rows)
        if repeated := repeated_columns(entity_rows):
            raise EntityFrameError(
                f"the entity rows have several columns of one name: {repeated}", hint="rename all but one of them"
            )
        columns = table_columns(entity_rows)
        if columns is not None and not self._needs:
            # A data frame without columns may still have rows.
            return {}, len(next(iter(columns.values()), entity_rows))
        if columns is not None:
            return self._given_columns(columns)
        if isinstance(entity_rows, str | bytes) or not hasattr(entity_rows, "__iter__"):
            raise EntityFrameError(
                f"the entity rows are {entity_rows!r}; expected dicts, a dict of columns, or a table",
                hint=f"write [{{{', '.join(f'{name!r}: …' for name in self._needs)}}}]",
            )
        return self._given(list(entity_rows))

    def _given_columns(self, given: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
        for name in self._needs:
            if name not in given:
                raise EntityFrameError(
                    f"the entity rows have no column {name!r}; they have {_listed(given)}",
                    hint=rename(name, list(map(str, given))) or f"the request needs {self._needs}",
                )
        for name, values in given.items():
            if isinstance(values, str | bytes) or not hasattr(values, "__len__"):
                raise EntityFrameError(
                    f"entity column {name!r} is {values!r}; expected one value per row",
                    hint=f"write {{{name!r}: [{values!r}]}}, or a list of dicts",
                )
        lengths = uneven(given)
        if lengths:
            raise EntityFrameError(f"entity columns differ in length: {lengths}", hint="give one value per row in each")
        # A request for views without entities needs no columns, and has one row.
        return {name: given[name] for name in self._needs}, next(map(len, given.values()), 1)

    def _missing(self, rows: Sequence[Any]) -> EntityFrameError:
        for at, row in enumerate(rows):
            if not isinstance(row, Mapping):
                return EntityFrameError(
                    f"entity row {at} is {row!r}; expected a dict",
                    hint=f"write {{{', '.join(f'{name!r}: …' for name in self._needs)}}}",
                )
            for name in self._needs:
                if name not in row:
                    return EntityFrameError(
                        f"entity row {at} has no {self._kind(name)} {name!r}; it has {_listed(row)}",
                        hint=rename(name, list(map(str, row))) or f"the request needs {self._needs}",
                    )
        return EntityFrameError("the entity rows cannot be read", hint="give dicts")

    def _kind(self, name: str) -> str:
        return "join key" if name in self._keys else "request value"

    def _fitted(self, field: Field, values: Any) -> list[Any]:
        if type(values) is not list:
            values = self._from_frame(field, values)
        own = own_values(values, field.dtype)
        if own is not None and own is values:
            return own
        check = checker(field.dtype)
        fitted = []
        for row, value in enumerate(values):
            if value is not None:
                try:
                    value = check(value)
                except Exception as error:
                    raise self._misfit(field, row, why(error)) from error
            # NaN, which pandas uses for a missing integer, is null by now.
            if value is None and field.name in self._keys:
                raise EntityFrameError(
                    f"join key {field.name!r} is null in entity row {row}", hint="remove such rows from the request"
                )
            fitted.append(value)
        if field.dtype.innermost.name == "Timestamp":
            return _times(fitted)
        if field.dtype.name == "String":
            # Convert subclasses of str, such as NumPy's.
            return [None if value is None else str.__str__(value) for value in fitted]
        return fitted

    def _from_frame(self, field: Field, values: Any) -> list[Any]:
        """A NumPy, pandas, Polars or Arrow column, or a sequence, as Python values of the declared type."""
        column = arrow_column(values)
        if type(column) is list:
            return column
        fitted, misfits = fit(column, field.dtype)
        if misfits:
            raise self._misfit(field, *misfits[0])
        return python_values(fitted)

    def _misfit(self, field: Field, row: int, reason: str) -> EntityFrameError:
        return EntityFrameError(
            f"{self._kind(field.name)} {field.name!r} in entity row {row}: {reason}",
            hint=f"give values of type {field.dtype}",
        )


def _times(checked: list[Any]) -> list[Any]:
    """Microseconds, and lists of them, as datetimes."""
    return [None if each is None else _times(each) if type(each) is list else moment(each) for each in checked]


def _listed(names: Iterable[Any]) -> str:
    """The names in order; of many, the first ones and the number of the others."""
    found = sorted(map(str, names))
    return str(found) if len(found) <= MOST_NAMED else f"{found[:MOST_NAMED]} and {len(found) - MOST_NAMED} more"
