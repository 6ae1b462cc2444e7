"""Decode JSON messages into columns: as structs in bulk; messages that do not match exactly are checked one by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

import msgspec
import pyarrow as pa

from asof.decoding.bounds import MessageBounds
from asof.decoding.columns import arrow_column
from asof.decoding.schemas import FRAME, Schemas
from asof.definitions import Field
from asof.definitions.formats import JsonFormat
from asof.dtypes import DType
from asof.values.check import checker
from asof.values.exact_floats import exact_decoder, exact_float
from asof.values.fit import fit_values
from asof.values.json import message_reader
from asof.values.legible import why
from asof.values.nesting import is_too_deep


class JsonCodec:
    """The decoder of one source's messages.

    Args:
        fields: the columns that are read off a message.
        passed_over: names of other fields that are known and skipped.
    """

    def __init__(
        self,
        fields: Sequence[Field],
        message_format: JsonFormat,
        *,
        bounds: MessageBounds,
        passed_over: Sequence[str] = (),
    ) -> None:
        self.fields = fields
        self.bounds = bounds
        self.is_framed = bool(message_format.registry)
        # Field names need not be Python identifiers, so attributes are numbered.
        self.attribute = {each.name: f"f{i}" for i, each in enumerate(fields)}
        members: list[tuple[str, Any, Any]] = [(f"f{i}", _wire_type(each.dtype), None) for i, each in enumerate(fields)]
        rename = {f"f{i}": each.name for i, each in enumerate(fields)}
        self.passed_over = frozenset(passed_over)
        members += [(f"p{i}", msgspec.Raw, msgspec.Raw()) for i in range(len(passed_over))]
        rename |= {f"p{i}": name for i, name in enumerate(passed_over)}
        self.fitted_type = msgspec.defstruct("Message", members, gc=False)
        # In lists of integers and in Json the text decides; elsewhere that would cost a call for each float.
        by_text = any(_holds_json(each.dtype) or _holds_lists_of_integers(each.dtype) for each in fields)
        self.strict = _strict_decoder(members, rename, float_hook=exact_float if by_text else None)
        self.plain = exact_decoder(dict[str, Any]).decode
        # Other types have no nested lists; the recursion limit of the parser depends on the caller's stack.
        self.may_nest = bool(passed_over) or any(_wire_type(each.dtype) is Any for each in fields)
        self.dtypes = {each.name: each.dtype for each in fields}
        self.readers = {each.name: message_reader(each.dtype) for each in fields}
        self.checks = {each.name: checker(each.dtype) for each in fields}

    def decode(
        self,
        indexes: list[int],
        values: list[bytes],
        *,
        dead_letters: dict[int, str],
        undeclared: Counter[str],
        schemas: Schemas | None,  # JSON messages name their fields
    ) -> tuple[list[int], dict[str, pa.Array]]:
        """Positions and columns of the decodable messages."""
        if self.is_framed:
            indexes, values = _unframed(indexes, values, dead_letters)
        structs, indexes = self._structs(indexes, values, dead_letters, undeclared)
        columns = {}
        for each in self.fields:
            column = list(map(attrgetter(self.attribute[each.name]), structs))
            columns[each.name] = self._column(each.dtype, column, each.name, indexes, dead_letters)
        return indexes, columns

    def _structs(
        self, indexes: list[int], values: list[bytes], dead_letters: dict[int, str], undeclared: Counter[str]
    ) -> tuple[list[Any], list[int]]:
        """The decodable messages as structs, and their positions."""
        strict, most = self.strict, self.bounds.max_depth
        try:
            if not (self.may_nest and any(is_too_deep(value, most) for value in values)):
                return [strict(value) for value in values], indexes
        except Exception:
            pass
        structs: list[Any] = []
        good: list[int] = []
        for place, value in zip(indexes, values, strict=True):
            if is_too_deep(value, most):
                dead_letters[place] = f"not a JSON object: it {self.bounds.too_deep}"
                continue
            try:
                struct = strict(value)
            except Exception:
                struct = self._second_look(place, value, dead_letters, undeclared)
                if struct is None:
                    continue
            structs.append(struct)
            good.append(place)
        return structs, good

    def _second_look(self, place: int, value: bytes, dead_letters: dict[int, str], undeclared: Counter[str]) -> Any:
        """Check one message that does not match exactly: count undeclared fields, report a misfit."""
        try:
            fields = self.plain(value)
        except Exception as error:
            dead_letters[place] = f"not a JSON object: {why(error)}"
            return None
        undeclared.update(name for name in fields if name not in self.attribute and name not in self.passed_over)
        fitted: dict[str, Any] = {}
        for name, attribute in self.attribute.items():
            found = fields.get(name)
            if found is None:
                continue
            read = self.readers[name]
            if read is not None:
                found = read(found)
            try:
                # The check refuses values that would change; the message's own form is kept for the column's
                # conversion.
                self.checks[name](found)
                is_whole = isinstance(found, float) and self.dtypes[name].is_integer
                fitted[attribute] = self.checks[name](found) if is_whole else found
            except Exception as error:
                dead_letters[place] = f"column {name!r}: {why(error)}"
                return None
        return self.fitted_type(**fitted)

    def _column(
        self, dtype: DType, values: list[Any], name: str, indexes: list[int], dead_letters: dict[int, str]
    ) -> pa.Array:
        """A column of decoded values in its Arrow type; misfits become dead letters."""
        if dtype.name in ("Bool", "Int32", "Int64", "Float64", "String"):
            try:
                return pa.array(values, dtype.arrow())
            except (OverflowError, pa.ArrowInvalid, pa.ArrowTypeError, UnicodeEncodeError):
                pass  # 2**63 in Int64 and the like: converting one by one finds the row
        # Numbers beyond Float32 would become infinity, and integers beyond 2**24 others: check them one by one.
        is_plain = dtype.name == "Float32" and not any(type(value) is int for value in values)
        array, misfits = arrow_column(values, pa.float64(), dtype) if is_plain else fit_values(values, dtype)
        read = self.readers[name]
        if misfits and read is not None:
            # Lists with text for numbers or bytes: they are still in their JSON form.
            array, misfits = fit_values([None if value is None else read(value) for value in values], dtype)
        for row, reason in misfits:
            dead_letters.setdefault(indexes[row], f"column {name!r}: {reason}")
        return array


def _holds_integers(dtype: DType) -> bool:
    return dtype.is_integer or (dtype.inner is not None and _holds_integers(dtype.inner))


def _holds_lists_of_integers(dtype: DType) -> bool:
    return dtype.name == "Array" and _holds_integers(dtype)


def _holds_json(dtype: DType) -> bool:
    return dtype.name == "Json" or (dtype.inner is not None and _holds_json(dtype.inner))


def _strict_decoder(
    members: list[tuple[str, Any, Any]], rename: dict[str, str], *, float_hook: Callable[[str], float] | None
) -> Callable[[bytes], Any]:
    """What decodes a message that is plainly as declared, and raises for any other."""
    try:
        strict = msgspec.defstruct("Message", members, forbid_unknown_fields=True, rename=rename, gc=False)
    except ValueError:
        # msgspec takes no names with quotes, backslashes or control characters: each message gets the second look.
        return _refuse
    return msgspec.json.Decoder(strict, float_hook=float_hook).decode


def _refuse(value: bytes) -> Any:
    raise ValueError("looked at one by one")


def _unframed(indexes: list[int], values: list[bytes], dead_letters: dict[int, str]) -> tuple[list[int], list[bytes]]:
    good, bare = [], []
    for place, value in zip(indexes, values, strict=True):
        if len(value) < FRAME or value[0]:
            dead_letters[place] = "has no schema registry frame (a zero byte and a schema id)"
            continue
        good.append(place)
        bare.append(value[FRAME:])
    return good, bare


def _wire_type(dtype: DType) -> Any:
    """The type that msgspec expects in JSON; types without a JSON form are checked afterwards."""
    plain: dict[str, Any] = {
        # As float alone, an integer would be rounded before it is checked.
        "Bool": bool, "Int32": int, "Int64": int, "Float32": int | float, "Float64": int | float, "String": str,
        "Bytes": bytes, "Date": str, "Timestamp": str,
    }  # fmt: skip
    return plain.get(dtype.name, Any) | None if dtype.name in plain else Any


__all__ = ["JsonCodec"]
