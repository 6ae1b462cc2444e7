"""Decode Avro messages into columns: a batch is read as one array, and message by message only if that fails."""

from __future__ import annotations

import copy
import io
import json
import secrets
from collections import Counter
from collections.abc import Sequence
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from functools import partial
from operator import itemgetter
from typing import Any

import pyarrow as pa

from asof.decoding.avro_bounds import LONGER, SHORTER, SchemaBounds
from asof.decoding.bounds import MessageBounds
from asof.decoding.columns import arrow_column, date_column, empty_column, joined, object_column, time_column
from asof.decoding.schemas import Schemas, WriterSchema, by_schema, schema_of, unusable
from asof.definitions import Field
from asof.definitions.formats import AvroFormat
from asof.dtypes import DType
from asof.errors import DefinitionError, MissingExtra
from asof.values.fit import Misfit, salvaged
from asof.values.legible import why
from asof.values.nesting import is_too_deep

try:
    from fastavro import parse_schema, schemaless_reader
    from fastavro.read import LOGICAL_READERS
except ImportError as error:
    raise MissingExtra("Avro messages", "kafka") from error

GUARD = "asof_guard"
"""A field with a known value after each record: a wrong value shows that a record does not end with its message."""

EXACT_DECIMAL = "asof-decimal"
DECIMAL_LIMIT = "asof-max-bytes"
_WIDE = Context(prec=200, Emax=MAX_EMAX, Emin=MIN_EMIN)

GUARD_BYTES = 8
MOST_READERS = 200

_READ_AS_NUMBERS = frozenset(
    {"timestamp-millis", "timestamp-micros", "timestamp-nanos", "local-timestamp-millis", "local-timestamp-micros",
     "local-timestamp-nanos", "time-millis", "time-micros", "date"}
)  # fmt: skip
"""Logical types of columns that are cast as a whole, which is faster than one object per value."""

_ARROW = {
    "boolean": pa.bool_(), "int": pa.int32(), "long": pa.int64(), "float": pa.float32(), "double": pa.float64(),
    "string": pa.string(), "enum": pa.string(), "bytes": pa.binary(), "fixed": pa.binary(),
}  # fmt: skip


class AvroCodec:
    """The decoder of one source's Avro messages.

    Args:
        fields: the columns to read from a message.
        where: the source's `file:line`, for errors.
        single: the column for values that are not records.

    Raises:
        DefinitionError: the format's own schema is not an Avro schema, or exceeds the bounds.
    """

    def __init__(
        self,
        fields: Sequence[Field],
        message_format: AvroFormat,
        *,
        where: str,
        bounds: MessageBounds,
        single: str = "",
    ) -> None:
        self.fields = fields
        self.single = single
        self.where = where
        self.bounds = bounds
        self.is_framed = bool(message_format.registry)
        self.own: Any = None
        self._readers: dict[int, _Reader | str] = {}
        if message_format.schema_json:
            try:
                self.own = _schema(message_format.schema_json, bounds)
                alone = _Reader(self.own, None, (), fields, bounds)
            except Exception as error:  # fastavro raises many types of errors; each is caused by this schema
                raise DefinitionError(
                    f"AvroFormat: schema_json is not an Avro schema that can be used: {why(error)}",
                    hint="fix the schema", where=where,
                ) from error  # fmt: skip
            if not self.is_framed:
                self._readers[-1] = alone

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
        groups = by_schema(indexes, values, dead_letters) if self.is_framed else {-1: (indexes, values)}
        parts = []
        for schema_id, (its_indexes, its_values) in groups.items():
            reader = self._reader(schema_id, schemas)
            if isinstance(reader, str):
                dead_letters.update(dict.fromkeys(its_indexes, reader))
                continue
            parts.append(reader.decode(its_indexes, its_values, dead_letters, undeclared))
        if not parts:
            return [], {each.name: empty_column(0, each.dtype) for each in self.fields}
        return joined(parts)

    def _reader(self, schema_id: int, schemas: Schemas | None) -> _Reader | str:
        """The reader of a schema, or the reason why its messages cannot be used."""
        known = self._readers.get(schema_id)
        if known is not None:
            return known
        schema = schema_of(schemas, schema_id, where=self.where)
        if isinstance(schema, str):
            # Not cached: the registry may have it later.
            return schema
        made = self._made(schema_id, schema)
        if len(self._readers) >= MOST_READERS:
            self._readers.clear()
        self._readers[schema_id] = made
        return made

    def _made(self, schema_id: int, schema: WriterSchema) -> _Reader | str:
        if schema.kind != "AVRO":
            return f"names schema {schema_id}, which is {schema.kind} and not AVRO"
        try:
            writer = _schema(schema.text, self.bounds)
            if self.single and not (isinstance(writer, dict) and writer.get("type") == "record"):
                # A record with one field has the same bytes as the field alone.
                writer = {"type": "record", "name": "asof_single", "fields": [{"name": self.single, "type": writer}]}
            references = [_schema(text, self.bounds) for text in schema.references]
            return _Reader(writer, self.own, references, self.fields, self.bounds)
        except Exception as error:  # fastavro raises many types of errors; each is caused by this schema
            return unusable(schema_id, error)


class _Reader:
    """Reads records of one writer's schema, resolved against the reader's schema if there is one."""

    def __init__(
        self, writer: Any, reader: Any, references: Sequence[Any], fields: Sequence[Field], bounds: MessageBounds
    ) -> None:
        self.fields = fields
        self.guard = secrets.token_bytes(GUARD_BYTES)
        if not isinstance(writer, dict) or writer.get("type") != "record":
            raise ValueError("it is not a record")
        shape = reader if reader is not None else writer
        self.kinds = {each["name"]: _kind(each["type"]) for each in shape["fields"]}
        self.undeclared = [each["name"] for each in writer["fields"] if each["name"] not in {f.name for f in fields}]
        record, own = _guarded(writer), _guarded(reader) if reader is not None else None
        named: dict[str, Any] = {}
        self.bounds = SchemaBounds(_parsed(writer, references, named), named, bounds, skips=reader is not None)
        exact = partial(_exact, most=bounds.max_decimal_bytes)
        references = list(map(exact, references))
        record, own = exact(record), exact(own)
        self.one = (_parsed(record, references), _parsed(own, ()))
        self.many = (_parsed(_array(record), references), _parsed(_array(own), ()))

    def decode(
        self, indexes: list[int], values: list[bytes], dead_letters: dict[int, str], undeclared: Counter[str]
    ) -> tuple[list[int], dict[str, pa.Array]]:
        records = self._all(values)
        if records is None:
            indexes, records = self._each(indexes, values, dead_letters)
        undeclared.update(dict.fromkeys(self.undeclared, len(records)) if records else {})
        columns = {}
        for each in self.fields:
            kind = self.kinds.get(each.name)
            if kind is None:
                columns[each.name] = empty_column(len(records), each.dtype)
                continue
            values_of = list(map(itemgetter(each.name), records))
            array, misfits = salvaged(partial(_column, kind=kind, dtype=each.dtype), values_of, each.dtype)
            for row, reason in misfits:
                dead_letters.setdefault(indexes[row], f"column {each.name!r}: {reason}")
            columns[each.name] = array
        return indexes, columns

    def _all(self, values: list[bytes]) -> list[dict[str, Any]] | None:
        """Read all records at once; None where one of them does not fit the schema."""
        if not values:
            return []
        if self.bounds.are_needed:
            return None
        stream = io.BytesIO(b"".join((_varint(len(values)), self.guard.join(values), self.guard, b"\0")))
        try:
            records: Any = schemaless_reader(stream, self.many[0], self.many[1])
        except Exception:  # reading one by one finds the record and the reason
            return None
        guard = self.guard
        return records if all(each[GUARD] == guard for each in records) else None

    def _each(
        self, indexes: list[int], values: list[bytes], dead_letters: dict[int, str]
    ) -> tuple[list[int], list[dict[str, Any]]]:
        good, records = [], []
        for place, value in zip(indexes, values, strict=True):
            if self.bounds.are_needed and (reason := self.bounds.refusal(value)):
                dead_letters[place] = f"not an Avro record of its schema: it {reason}"
                continue
            try:
                record: Any = schemaless_reader(io.BytesIO(value + self.guard), self.one[0], self.one[1])
            except EOFError:
                dead_letters[place] = f"not an Avro record of its schema: it {SHORTER}"
                continue
            except Exception as error:  # fastavro may raise anything on damaged bytes
                dead_letters[place] = f"not an Avro record of its schema: {why(error)}"
                continue
            if record[GUARD] != self.guard:
                dead_letters[place] = f"not an Avro record of its schema: it {LONGER}"
                continue
            good.append(place)
            records.append(record)
        return good, records


def _schema(text: str, bounds: MessageBounds) -> Any:
    """A schema's text as JSON. Its nesting is bounded, since fastavro follows it in native code."""
    if is_too_deep(text, bounds.max_depth):
        raise ValueError(f"its text {bounds.too_deep}")
    return json.loads(text)


def _varint(number: int) -> bytes:
    """A count in Avro's encoding."""
    number <<= 1
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def _guarded(record: Any) -> Any:
    """A record's schema with its guard; top-level times are read as numbers."""
    record = copy.deepcopy(record)
    for each in record["fields"]:
        each["type"] = _as_numbers(each["type"])
    guard = {"type": "fixed", "name": f"{GUARD}_bytes", "namespace": "", "size": GUARD_BYTES}
    record["fields"] = [*record["fields"], {"name": GUARD, "type": guard}]
    return record


def _array(record: Any) -> Any:
    return {"type": "array", "items": record} if record is not None else None


def _parsed(schema: Any, references: Sequence[Any], named: dict[str, Any] | None = None) -> Any:
    if schema is None:
        return None
    named = {} if named is None else named
    for each in references:
        parse_schema(copy.deepcopy(each), named_schemas=named)
    return parse_schema(copy.deepcopy(schema), named_schemas=named)


def _exact(schema: Any, most: int) -> Any:
    """A schema whose decimals, of at most so many bytes, are read by `_decimal`, wherever they are."""
    if isinstance(schema, list):
        return [_exact(each, most) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {**schema, **{key: _exact(schema[key], most) for key in ("type", "items", "values") if key in schema}}
    if isinstance(schema.get("fields"), list):
        made["fields"] = [{**each, "type": _exact(each["type"], most)} for each in schema["fields"]]
    if schema.get("logicalType") == "decimal" and schema.get("type") in ("bytes", "fixed"):
        made |= {"logicalType": EXACT_DECIMAL, DECIMAL_LIMIT: most}
    return made


def _decimal(data: bytes, writer_schema: Any, reader_schema: Any = None) -> Decimal:
    """Read a decimal with all digits; fastavro's own reader rounds it, and takes minutes for one of a megabyte."""
    if len(data) > (most := writer_schema[DECIMAL_LIMIT]):
        raise ValueError(f"a decimal has {len(data)} bytes; the most are {most}")
    number = Decimal(int.from_bytes(data, "big", signed=True))
    return number.scaleb(-writer_schema.get("scale", 0), _WIDE)


# Registered under a name of its own, so that decimals of other users of fastavro are not affected.
LOGICAL_READERS[f"bytes-{EXACT_DECIMAL}"] = LOGICAL_READERS[f"fixed-{EXACT_DECIMAL}"] = _decimal


def _as_numbers(kind: Any) -> Any:
    if isinstance(kind, list) and len(kind) == 2 and "null" in kind:
        return [_as_numbers(each) for each in kind]
    if isinstance(kind, dict) and kind.get("logicalType") in _READ_AS_NUMBERS:
        return {key: value for key, value in kind.items() if key != "logicalType"}
    return kind


def _kind(kind: Any) -> str:
    """A field's type as one name: its logical type, its primitive or named type's kind, else `other`."""
    if isinstance(kind, list):
        others = [each for each in kind if each != "null"]
        return _kind(others[0]) if len(others) == 1 else "other"
    if isinstance(kind, dict):
        logical, base = kind.get("logicalType"), kind.get("type")
        if logical in _READ_AS_NUMBERS and base in ("int", "long"):
            return logical
        if logical is not None:
            return "other"
        return _kind(base) if isinstance(base, dict | list) else base if base in _ARROW else "other"
    return kind if kind in _ARROW else "other"


def _column(values: Sequence[Any], kind: str, dtype: DType) -> tuple[pa.Array, list[Misfit]]:
    if kind in _ARROW and dtype.name not in ("Json", "Decimal"):
        return arrow_column(values, _ARROW[kind], dtype)
    if kind.endswith(("-millis", "-micros", "-nanos")) and not kind.startswith("time-"):
        return time_column(values, {"millis": "ms", "micros": "us", "nanos": "ns"}[kind.rpartition("-")[2]], dtype)
    if kind.startswith("time-"):
        return arrow_column(values, pa.int64(), dtype)
    if kind == "date":
        return date_column(values, dtype)
    return object_column(values, dtype)


__all__ = ["AvroCodec"]
