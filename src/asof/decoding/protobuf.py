"""Decode Protobuf messages into columns: each is parsed by the generated class, then read field by field."""

from __future__ import annotations

import importlib
import re
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from operator import attrgetter
from typing import Any

import pyarrow as pa

from asof.decoding.bounds import MessageBounds
from asof.decoding.columns import arrow_column, empty_column, joined, object_column, time_column
from asof.decoding.protobuf_bounds import TypeBounds
from asof.decoding.schemas import Schemas, by_schema, schema_of
from asof.definitions import Field
from asof.definitions.formats import ProtoFormat
from asof.dtypes import DType
from asof.errors import DefinitionError, MissingExtra
from asof.timing import EARLIEST, LATEST, moment
from asof.values.fit import Misfit, salvaged
from asof.values.legible import why

try:
    from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
    from google.protobuf.descriptor import Descriptor, FieldDescriptor
    from google.protobuf.message import DecodeError
except ImportError as error:
    raise MissingExtra("Protobuf messages", "kafka") from error

_ARROW = {
    FieldDescriptor.CPPTYPE_BOOL: pa.bool_(), FieldDescriptor.CPPTYPE_INT32: pa.int32(),
    FieldDescriptor.CPPTYPE_INT64: pa.int64(), FieldDescriptor.CPPTYPE_UINT32: pa.uint32(),
    FieldDescriptor.CPPTYPE_UINT64: pa.uint64(), FieldDescriptor.CPPTYPE_FLOAT: pa.float32(),
    FieldDescriptor.CPPTYPE_DOUBLE: pa.float64(),
}  # fmt: skip

_WRAPPERS = frozenset(
    f"google.protobuf.{each}Value"
    for each in ("Bool", "Int32", "Int64", "UInt32", "UInt64", "Float", "Double", "String", "Bytes")
)


class ProtobufCodec:
    """The decoder of one source's Protobuf messages.

    Args:
        fields: the columns to read from a message.
        where: the source's `file:line`, for errors.

    Raises:
        DefinitionError: the type cannot be found, or is nested too deeply.
    """

    def __init__(
        self, fields: Sequence[Field], message_format: ProtoFormat, *, where: str, bounds: MessageBounds
    ) -> None:
        self.fields = fields
        self.where = where
        self.bounds = bounds
        self.is_framed = bool(message_format.registry)
        self.message_class, self._type_bounds = _class_of(message_format, where, bounds)
        descriptor: Descriptor = self.message_class.DESCRIPTOR
        self.full_name = descriptor.full_name
        known = descriptor.fields_by_name
        read = partial(_reader, bounds=self._type_bounds)
        self.readers = {each.name: read(known[each.name], each.dtype) for each in fields if each.name in known}
        names = {each.name for each in fields}
        self.undeclared = [each for each in descriptor.fields if each.name not in names]
        self._types: dict[int, dict[tuple[int, ...], str] | str] = {}

    def decode(
        self,
        indexes: list[int],
        values: list[bytes],
        *,
        dead_letters: dict[int, str],
        undeclared: Counter[str],
        schemas: Schemas | None,
    ) -> tuple[list[int], dict[str, pa.Array]]:
        """Positions and columns of the decodable messages.

        Raises:
            SourceError: no schema registry is configured.
        """
        parts = [
            self._decode(*each, dead_letters, undeclared) for each in self._bare(indexes, values, dead_letters, schemas)
        ]
        if not parts:
            return [], {each.name: empty_column(0, each.dtype) for each in self.fields}
        return joined(parts)

    def _bare(
        self, indexes: list[int], values: list[bytes], dead_letters: dict[int, str], schemas: Schemas | None
    ) -> list[tuple[list[int], list[bytes]]]:
        """Strip the frames of messages; those of another type become dead letters."""
        if not self.is_framed:
            return [(indexes, values)]
        found = []
        for schema_id, (its_indexes, its_values) in by_schema(indexes, values, dead_letters).items():
            types = self._types_of(schema_id, schemas)
            good: tuple[list[int], list[bytes]] = ([], [])
            for place, value in zip(its_indexes, its_values, strict=True):
                reason = types
                if not isinstance(types, str):
                    try:
                        type_indexes, start = _indexes(value)
                    except ValueError as error:
                        dead_letters[place] = str(error)
                        continue
                    named = types.get(type_indexes)
                    if named == self.full_name:
                        good[0].append(place)
                        good[1].append(value[start:])
                        continue
                    reason = (
                        f"is a {named or f'message {list(type_indexes)} of schema {schema_id}'}, not {self.full_name}"
                    )
                dead_letters[place] = str(reason)
            found.append(good)
        return found

    def _types_of(self, schema_id: int, schemas: Schemas | None) -> dict[tuple[int, ...], str] | str:
        """The message types of a schema by their indexes, or the reason why its messages cannot be used."""
        if schema_id in self._types:
            return self._types[schema_id]
        schema = schema_of(schemas, schema_id, where=self.where)
        if isinstance(schema, str):
            # Not cached: the registry may have it later.
            return schema
        types: dict[tuple[int, ...], str] | str = f"names schema {schema_id}, which is {schema.kind} and not PROTOBUF"
        if schema.kind == "PROTOBUF":
            types = message_types(schema.text)
        self._types[schema_id] = types
        return types

    def _decode(
        self, indexes: list[int], values: list[bytes], dead_letters: dict[int, str], undeclared: Counter[str]
    ) -> tuple[list[int], dict[str, pa.Array]]:
        parse = self.message_class.FromString
        try:
            messages = [parse(value) for value in values] if not self._type_bounds.are_needed else None
        except Exception:  # reading one by one finds the message and the reason
            messages = None
        if messages is None:
            indexes, messages = self._each(indexes, values, dead_letters)
        if not all(message.ListFields() for message in messages):
            # Only unknown fields: it is a message of another type.
            for place, message in zip(indexes, messages, strict=True):
                if not message.ListFields():
                    dead_letters[place] = f"has no field of {self.full_name}"
        for each in self.undeclared:
            if found := _times_set(messages, each):
                undeclared[each.name] += found
        columns = {}
        for field in self.fields:
            reader = self.readers.get(field.name)
            if reader is None:
                columns[field.name] = empty_column(len(messages), field.dtype)
                continue
            array, misfits = salvaged(reader, messages, field.dtype)
            for row, reason in misfits:
                dead_letters.setdefault(indexes[row], f"column {field.name!r}: {reason}")
            columns[field.name] = array
        return indexes, columns

    def _each(
        self, indexes: list[int], values: list[bytes], dead_letters: dict[int, str]
    ) -> tuple[list[int], list[Any]]:
        good, messages = [], []
        for place, value in zip(indexes, values, strict=True):
            if self._type_bounds.are_needed and (reason := self._type_bounds.refusal(value)):
                dead_letters[place] = f"not a {self.full_name}: it {reason}"
                continue
            try:
                messages.append(self.message_class.FromString(value))
            except Exception as error:
                dead_letters[place] = f"not a {self.full_name}: {why(error)}"
                continue
            good.append(place)
        return good, messages


def _class_of(message_format: ProtoFormat, where: str, bounds: MessageBounds) -> tuple[Any, TypeBounds]:
    """The class of a format's messages, and their bounds."""
    if message_format.class_path:
        module, _, name = message_format.class_path.rpartition(".")
        try:
            found = getattr(importlib.import_module(module), name)
        except Exception as error:  # a module may raise anything
            raise DefinitionError(
                f"ProtoFormat: {message_format.class_path!r} cannot be imported: {why(error)}",
                hint="put its package on the Python path of every worker, or give descriptor_set= and message_type=",
                where=where,
            ) from error
        if not hasattr(found, "DESCRIPTOR"):
            raise DefinitionError(
                f"ProtoFormat: {message_format.class_path!r} is not a generated message class",
                hint="name the class in the _pb2 module", where=where,
            )  # fmt: skip
        return found, _bounds_of(found.DESCRIPTOR, bounds, where)
    name = message_format.message_type
    try:
        files = descriptor_pb2.FileDescriptorSet.FromString(message_format.descriptor_set)
        pool = descriptor_pool.DescriptorPool()
        for each in files.file:
            pool.Add(each)
        descriptor = pool.FindMessageTypeByName(name)
    except (DecodeError, KeyError, TypeError) as error:
        raise DefinitionError(
            f"ProtoFormat: message {name!r} is not in its descriptor set: {why(error)}",
            hint="make the set with `protoc --include_imports --descriptor_set_out=…`", where=where,
        ) from error  # fmt: skip
    found_bounds = _bounds_of(descriptor, bounds, where)
    try:
        return message_factory.GetMessageClass(descriptor), found_bounds
    except RecursionError as error:
        # The library follows a chain of types by recursion, also one that ends in a circle.
        raise _unusable(name, f"its types are in a chain of more than {bounds.max_depth}", where) from error


def _bounds_of(descriptor: Descriptor, bounds: MessageBounds, where: str) -> TypeBounds:
    try:
        return TypeBounds(descriptor, bounds)
    except ValueError as error:
        raise _unusable(descriptor.full_name, f"it {error}", where) from error


def _unusable(name: str, problem: str, where: str) -> DefinitionError:
    return DefinitionError(
        f"ProtoFormat: message {name!r} cannot be used: {problem}", hint="use a flatter type", where=where
    )


def _reader(
    field: FieldDescriptor, dtype: DType, bounds: TypeBounds
) -> Callable[[Sequence[Any]], tuple[pa.Array, list[Misfit]]]:
    """Reads one field of many messages into its column."""
    name = field.name
    as_dict = partial(_as_dict, bounds=bounds)
    value_of = _value_of(field, dtype, as_dict)
    if field.is_repeated:
        if _is_map(field):
            return lambda messages: object_column([as_dict(each).get(name) for each in messages], dtype)
        return lambda messages: object_column(
            [[value_of(item) for item in getattr(each, name)] for each in messages], dtype
        )
    if dtype.name == "Timestamp" and _is_time(field):
        return lambda messages: time_column(
            [_micros(getattr(each, name)) if each.HasField(name) else None for each in messages], "us", dtype
        )
    is_plain = field.type not in (FieldDescriptor.TYPE_MESSAGE, FieldDescriptor.TYPE_GROUP, FieldDescriptor.TYPE_ENUM)
    if field.has_presence:

        def present(messages: Sequence[Any]) -> list[Any]:
            return [value_of(getattr(each, name)) if each.HasField(name) else None for each in messages]
    else:

        def present(messages: Sequence[Any]) -> list[Any]:
            return [value_of(getattr(each, name)) for each in messages]

    if is_plain and field.cpp_type in _ARROW and dtype.name not in ("Json", "Decimal"):
        kind = _ARROW[field.cpp_type]
        if field.has_presence:
            return lambda messages: arrow_column(present(messages), kind, dtype)
        return lambda messages: arrow_column(list(map(attrgetter(name), messages)), kind, dtype)
    if is_plain and dtype.name in ("String", "Bytes"):
        kind = pa.string() if field.type == FieldDescriptor.TYPE_STRING else pa.binary()
        return lambda messages: arrow_column(present(messages), kind, dtype)
    return lambda messages: object_column(present(messages), dtype)


def _value_of(field: FieldDescriptor, dtype: DType, as_dict: Callable[[Any], dict[str, Any]]) -> Callable[[Any], Any]:
    if field.type == FieldDescriptor.TYPE_ENUM:
        names = field.enum_type.values_by_number
        inner = dtype.inner if dtype.name == "Array" and dtype.inner is not None else dtype
        if inner.is_integer:
            return lambda value: value
        # An unknown enum number is kept as its digits.
        return lambda value: names[value].name if value in names else str(value)
    if field.type not in (FieldDescriptor.TYPE_MESSAGE, FieldDescriptor.TYPE_GROUP):
        return lambda value: value
    full_name = field.message_type.full_name
    if _is_time(field) and "Json" not in str(dtype):
        return _moment
    if full_name in _WRAPPERS:
        return lambda value: value.value
    return as_dict


def _is_time(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.full_name == "google.protobuf.Timestamp"


def _micros(stamp: Any) -> int:
    return stamp.seconds * 1_000_000 + stamp.nanos // 1000


def _moment(stamp: Any) -> datetime:
    if not EARLIEST <= _micros(stamp) <= LATEST:
        raise ValueError(f"{_micros(stamp)} us is beyond the calendar")
    return moment(_micros(stamp))


def _as_dict(message: Any, bounds: TypeBounds) -> dict[str, Any]:
    # The type in an `Any` is one of those that came with the message's own.
    pool = message.DESCRIPTOR.file.pool
    found = json_format.MessageToDict(message, preserving_proto_field_name=True, descriptor_pool=pool)
    return bounds.checked(found)


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _times_set(messages: list[Any], field: FieldDescriptor) -> int:
    name = field.name
    if field.has_presence:
        return sum([message.HasField(name) for message in messages])
    return len(list(filter(None, map(attrgetter(name), messages))))


def _indexes(value: bytes) -> tuple[tuple[int, ...], int]:
    """Parse the message's indexes within its schema, and their end; a single zero is short for the first message."""
    count, at = _zigzag(value, 0)
    if count == 0:
        return (0,), at
    if not 0 < count <= 32:
        raise ValueError("has no message indexes behind its schema id")
    found = []
    for _ in range(count):
        index, at = _zigzag(value, at)
        found.append(index)
    return tuple(found), at


def _zigzag(value: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while at < len(value) and shift < 35:
        byte = value[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return (number >> 1) ^ -(number & 1), at
        shift += 7
    raise ValueError("has no message indexes behind its schema id")


# What is open at the end is read to the end: each other try would read it again, which takes forever for many.
_TOKEN = re.compile(
    r"""//[^\n]*|/\*.*?(?:\*/|\Z)|"(?:\\.|[^"\\])*(?:"|\\?\Z)|'(?:\\.|[^'\\])*(?:'|\\?\Z)|[A-Za-z_][\w.]*|[{};]""",
    re.DOTALL,
)

MOST_TYPE_LEVELS = 32
"""How deeply message types are nested in each other at most; protoc itself takes no more."""


def message_types(text: str) -> dict[tuple[int, ...], str]:
    """The message types of a .proto file: indexes → full name. Of types that are nested too deeply there is none."""
    tokens = [each for each in _TOKEN.findall(text) if not each.startswith(("//", "/*", '"', "'"))]
    found: dict[tuple[int, ...], str] = {}
    package = ""
    # Per open brace: the message's indexes and name, or None; and the number of nested messages so far.
    open_braces: list[tuple[tuple[int, ...], str] | None] = []
    counts: Counter[tuple[int, ...]] = Counter()
    at = 0
    while at < len(tokens):
        token = tokens[at]
        starts = at == 0 or tokens[at - 1] in "{};"
        named = tokens[at + 1] if at + 1 < len(tokens) else ""
        if token == "package" and starts and not open_braces and named:
            package = named + "."
        elif (
            token == "message" and starts and tokens[at + 2 : at + 3] == ["{"]
            and len(open_braces) < MOST_TYPE_LEVELS and None not in open_braces
        ):  # fmt: skip
            outer, prefix = open_braces[-1] if open_braces and open_braces[-1] else ((), package)
            indexes = (*outer, counts[outer])
            counts[outer] += 1
            found[indexes] = prefix + named
            open_braces.append((indexes, found[indexes] + "."))
            at += 2
        elif token == "{":
            open_braces.append(None)
        elif token == "}" and open_braces:
            open_braces.pop()
        at += 1
    return found


__all__ = ["ProtobufCodec", "message_types"]
