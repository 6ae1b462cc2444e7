"""Where rows come from, and which of their columns is the event time."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, ClassVar, TypedDict

from asof.definitions.base import Definition
from asof.definitions.entities import Field
from asof.definitions.formats import (
    AvroFormat,
    CsvFormat,
    DeltaFormat,
    ParquetFormat,
    format_name,
)
from asof.errors import DefinitionError, nearest
from asof.secrets import has_secret, literal_secret
from asof.timing import UNITS, Micros


class Source(Definition):
    """Rows with an event time.

    Args:
        timestamp_field: the column of the event time, by its name in the source or the one that `field_mapping` gives.
        created_timestamp_column: the column with the time when the row was written; may be the event time itself.
        timestamp_unit: `s`, `ms`, `us` or `ns`, where the event time is an integer.
        field_mapping: source column → name in Asof.
        schema: the columns and their types, where the source itself does not have them.
        delete_when: an expression over the columns; a row for which it is true deletes its key.
    """

    kind = "source"
    type: ClassVar[str] = ""
    is_log: ClassVar[bool] = False
    """Rows arrive as messages of a log and are archived."""

    timestamp_field: str
    created_timestamp_column: str
    timestamp_unit: str
    field_mapping: dict[str, str]
    schema: tuple[Field, ...]
    lag: Micros
    delete_when: str
    has_tombstones: bool = False
    """Messages without a value delete the message's key."""
    connection_ref: str = ""
    """The name of a connection of feature_store.yaml."""
    connection: Mapping[str, object] = MappingProxyType({})
    """Connection settings given in the definition itself; `${VAR}` is not expanded."""

    def _begin_source(
        self,
        *,
        timestamp_field: str | None,
        created_timestamp_column: str | None,
        timestamp_unit: str | None,
        field_mapping: Mapping[str, str] | None,
        schema: Sequence[Field] | None,
        lag: timedelta | str | None = None,
        delete_when: str | None = None,
    ) -> None:
        if timestamp_unit and timestamp_unit not in UNITS:
            raise self.refuse(f"timestamp_unit {timestamp_unit!r}", hint=f"choose one of {', '.join(UNITS)}")
        fields = tuple(schema or ())
        mapping = dict(field_mapping or {})
        timestamp_field = _raw(timestamp_field, mapping)
        created_timestamp_column = _raw(created_timestamp_column, mapping)
        names = [field.name for field in fields]
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise self.refuse(f"schema repeats the name {twice!r}", hint="name each column once")
        for label, column in (
            ("timestamp_field", timestamp_field),
            ("created_timestamp_column", created_timestamp_column),
        ):
            if column and names and column not in names:
                raise self.refuse(
                    f"{label} {column!r} is not in its schema", hint=nearest(column, names) or f"the schema has {names}"
                )
        self._set(
            timestamp_field=timestamp_field or "",
            created_timestamp_column=created_timestamp_column or "",
            timestamp_unit=timestamp_unit or "",
            field_mapping=mapping,
            schema=fields,
            lag=self._duration("lag", lag),
            delete_when=(delete_when or "").strip(),
        )

    def _begin_connection(self, connection_ref: str | None, fields: Mapping[str, Any]) -> None:
        """Set the source's server: by a connection's name, or by fields."""
        fields = {name: value for name, value in fields.items() if value not in (None, "", {})}
        if connection_ref and fields:
            raise self.refuse(
                f"has connection_ref= and {', '.join(f'{name}=' for name in fields)}", hint="give one of the two"
            )
        secret = literal_secret(fields)
        if secret:
            raise self.refuse(
                f"{secret} contains a secret in plain text, and the registry stores definitions",
                hint="write ${VAR} instead, which is read from the environment when the connection is opened, or "
                "name a connection of feature_store.yaml by connection_ref=",
            )
        self._set(connection_ref=connection_ref or "", connection=fields)

    def _connection_content(self) -> dict[str, Any]:
        named = {"connection_ref": self.connection_ref} if self.connection_ref else {}
        return {**named, **self.connection}

    @property
    def has_arrival(self) -> bool:
        """Whether of rows with equal times the later one is known; where not, the columns that a view reads decide."""
        return self.is_log

    def renamed(self, column: str) -> str:
        """A source column under its name in Asof."""
        return self.field_mapping.get(column, column)

    def raw(self, name: str) -> str:
        """The source column behind a name in Asof."""
        return next((column for column, mapped in self.field_mapping.items() if mapped == name), name)

    def _source_content(self) -> dict[str, Any]:
        content: dict[str, Any] = {**self._common(), "type": self.type}
        for key in (
            "timestamp_field", "created_timestamp_column", "timestamp_unit", "field_mapping", "lag", "delete_when"
        ):  # fmt: skip
            if getattr(self, key):
                content[key] = getattr(self, key)
        if self.schema:
            content["schema"] = [field.content() for field in self.schema]
        return content


def _raw(column: str | None, mapping: Mapping[str, str]) -> str | None:
    """The source column that is meant, where its mapped name was given."""
    if not column or column in mapping:
        return column
    return next((raw for raw, mapped in mapping.items() if mapped == column), column)


_CSV = re.compile(r"\.csv(\.(gz|bz2|zst))?$", re.IGNORECASE)
_ENDING = re.compile(r"\.(parquet|pq|delta|csv(\.(gz|bz2|zst))?)$", re.IGNORECASE)
_DERIVED = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


def _name_of(path: str) -> str:
    """The name that follows from a path: of its last part without wildcards; empty where that would be no plain one."""
    parts = [part for part in path.split("/") if part and not re.search(r"[*?\[]", part)]
    name = _ENDING.sub("", parts[-1]) if parts else ""
    return name if _DERIVED.fullmatch(name) and "__" not in name else ""


class FileSource(Source):
    """Rows in Parquet or CSV files, or in a Delta table; append-only.

    Args:
        path: a file, a folder, a glob, or a Delta table's folder; relative to the feature repository.
        lag: how late rows may be written; materialize reads back by it.
        delete_when: an expression; a row for which it is true deletes its key from then on.
    """

    type = "file"
    accepted = frozenset({"s3_endpoint_override", "connection_ref", "date_partition_column"})

    path: str
    file_format: str

    def __init__(
        self,
        path: str = "",
        *,
        name: str = "",
        event_timestamp_column: str | None = None,
        file_format: str | ParquetFormat | CsvFormat | DeltaFormat | None = None,
        created_timestamp_column: str | None = None,
        field_mapping: Mapping[str, str] | None = None,
        timestamp_field: str | None = None,
        timestamp_unit: str | None = None,
        schema: Sequence[Field] | None = None,
        lag: timedelta | str | None = None,
        delete_when: str | None = None,
        description: str = "",
        tags: Mapping[str, str] | None = None,
        owner: str = "",
        **ignored: object,
    ) -> None:
        derived = name or _name_of(str(path)) or "file"
        self._begin(derived, description=description, tags=tags, owner=owner, ignored=ignored)
        if not path:
            raise self.refuse("has no path", hint="give path=")
        if has_secret(str(path)):
            raise self.refuse(
                "path= contains a secret, and the registry stores definitions",
                hint="put credentials into `storage:` of feature_store.yaml",
            )
        if not name and not _name_of(str(path)):
            raise DefinitionError(
                f"source without a name: none can be derived from path={str(path)!r}",
                hint="give name=; a name follows only from a path whose last part without wildcards has letters, "
                "digits, '_' and '-' before its ending, such as trips.parquet or trips/*.parquet",
                where=self.where,
            )
        self._begin_source(
            timestamp_field=timestamp_field or event_timestamp_column,
            created_timestamp_column=created_timestamp_column,
            timestamp_unit=timestamp_unit,
            field_mapping=field_mapping,
            schema=schema,
            lag=lag,
            delete_when=delete_when,
        )
        guess = "csv" if _CSV.search(str(path)) else "parquet"
        self._set(path=str(path), file_format=format_name(file_format, ("parquet", "csv", "delta"), default=guess))

    @property
    def has_arrival(self) -> bool:
        # A rewrite of a Delta table moves its rows.
        return self.file_format != "delta"

    def content(self) -> dict[str, object]:
        return {**self._source_content(), "path": self.path, "file_format": self.file_format}


class LogOptions(TypedDict, total=False):
    """Options of log sources in addition to their own parameters: see `LogSource`."""

    transform: str | Callable[..., object] | None
    transform_version: str
    message_schema: Sequence[Field] | None
    key_fields: Sequence[str] | str
    key_format: str | AvroFormat
    header_fields: Mapping[str, str] | None
    record_time_field: str
    event_id: str
    event_id_horizon: timedelta | str
    dead_letter_topic: str
    created_timestamp_column: str | None
    timestamp_unit: str | None
    field_mapping: Mapping[str, str] | None
    max_future: timedelta | str
    stream_from: datetime | str | None
    delete_when: str | None
    description: str
    tags: Mapping[str, str] | None
    owner: str


class PushOptions(LogOptions, total=False):
    """Options of a push source in addition to its own parameters; those about messages are refused with a reason."""

    topic: str
    allowed_lateness: timedelta | str | None


class RequestSource(Definition):
    """Values that come with a request, for on-demand feature views."""

    kind = "request source"
    accepted = frozenset({"timestamp_field"})

    schema: tuple[Field, ...]

    def __init__(
        self,
        name: str,
        schema: Sequence[Field],
        *,
        description: str = "",
        tags: Mapping[str, str] | None = None,
        owner: str = "",
        **ignored: object,
    ) -> None:
        self._begin(name, description=description, tags=tags, owner=owner, ignored=ignored)
        self._set(schema=tuple(schema))

    def content(self) -> dict[str, object]:
        return {**self._common(), "type": "request", "schema": [field.content() for field in self.schema]}
