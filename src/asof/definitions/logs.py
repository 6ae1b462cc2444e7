"""Sources whose rows come as messages of a log: the base of them, and pushes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Unpack

from asof.definitions.entities import Field
from asof.definitions.formats import AvroFormat, MessageFormat, message_format_of
from asof.definitions.sources import PushOptions, Source
from asof.definitions.transforms import FORM, MessageTransform
from asof.dtypes import DType
from asof.errors import nearest
from asof.timing import HOUR, MINUTE, Micros, iso, micros

TOMBSTONE = "tombstone"
"""The archive's column that marks a tombstone: a message with a key and no value."""

KEY_FORMATS = ("text", "int", "json")
"""Formats of a message's key, besides Avro."""


class LogSource(Source):
    """Events of a topic of the configured log (`log:` in feature_store.yaml); no batch source is needed.

    Args:
        topic: the topic's name; the source's own name where not given.
        schema: the columns to read from each message; undeclared ones are skipped and counted.
        message_format: `JsonFormat` (the default), `AvroFormat`, `ProtoFormat`.
        transform: turns messages into rows, at most one row per message: SQL (`SELECT … FROM message WHERE …`, run by
            DuckDB) over the messages' columns, or a function of an Arrow table of messages.
        transform_version: a text that stands for what that function uses and Asof cannot compare; change it when that
            changes.
        message_schema: the columns to read from a message, where a transform computes those of `schema` from them.
        key_fields: columns that are read from the message's key instead of its value. With them, a message without a
            value (a tombstone) deletes its key.
        key_format: `text` (UTF-8; digits for an integer), `int` (4 or 8 bytes, big-endian), `json` (a value, or an
            object with the columns), or an `AvroFormat`.
        header_fields: column → the header whose value it takes: text in UTF-8, or raw bytes for Bytes.
        record_time_field: the column that takes the time of the message's record; it may be the event time.
        event_id: the column that identifies an event. The first message with an ID is kept; later ones are dropped and
            counted. Messages with a null ID are all kept.
        event_id_horizon: how long an ID is remembered.
        dead_letter_topic: a topic that dead letters are also sent to, at least once each, with headers for their origin
            and reason.
        allowed_lateness: how much older than its key's newest event an event may be and still be merged into an online
            session; sessions with later ones are recomputed from the archive.
        max_future: how far ahead of the clock an event may be; later ones are dead letters.
        batch_source: the history: its rows before `stream_from` are loaded into the archive, each once, by `apply`,
            `materialize` and `backfill`.
        stream_from: the time from which events of the log count, and rows of the batch source do not. Push and Kafka
            sources may omit it: then all rows and all events count.
        delete_when: an expression; an event for which it is true deletes its key from then on.
    """

    type = "log"
    is_log = True
    topic_is_ours = True
    """True if Asof creates the topic in the project's log; False if it exists already, with events of its own."""

    start: str = "earliest"
    accepted = frozenset({"watermark_delay_threshold", "connection_ref", "date_partition_column"})

    topic: str
    message_format: MessageFormat
    transform: MessageTransform | None
    message_schema: tuple[Field, ...]
    key_fields: tuple[str, ...]
    key_format: str | AvroFormat
    header_fields: dict[str, str]
    record_time_field: str
    event_id: str
    event_id_horizon: Micros
    dead_letter_topic: str
    allowed_lateness: Micros
    max_future: Micros
    batch_source: Source | None
    stream_from: Micros | None

    def __init__(
        self,
        name: str,
        *,
        schema: Sequence[Field],
        timestamp_field: str,
        topic: str = "",
        message_format: str | MessageFormat | Mapping[str, object] | None = "json",
        transform: str | Callable[..., object] | None = None,
        transform_version: str = "",
        message_schema: Sequence[Field] | None = None,
        key_fields: Sequence[str] | str = (),
        key_format: str | AvroFormat = "text",
        header_fields: Mapping[str, str] | None = None,
        record_time_field: str = "",
        event_id: str = "",
        event_id_horizon: timedelta | str = timedelta(days=1),
        dead_letter_topic: str = "",
        created_timestamp_column: str | None = None,
        timestamp_unit: str | None = None,
        field_mapping: Mapping[str, str] | None = None,
        allowed_lateness: timedelta | str | None = timedelta(hours=1),
        max_future: timedelta | str = timedelta(minutes=5),
        batch_source: Source | None = None,
        stream_from: datetime | str | None = None,
        delete_when: str | None = None,
        description: str = "",
        tags: Mapping[str, str] | None = None,
        owner: str = "",
        **ignored: object,
    ) -> None:
        self._begin(name, description=description, tags=tags, owner=owner, ignored=ignored)
        if not schema:
            raise self.refuse("has no schema", hint="give schema=[Field(…), …] with the columns of a message")
        self._begin_source(
            timestamp_field=timestamp_field,
            created_timestamp_column=created_timestamp_column,
            timestamp_unit=timestamp_unit,
            field_mapping=field_mapping,
            schema=schema,
            delete_when=delete_when,
        )
        self._check_time()
        may_omit = batch_source is not None and self.type in ("push", "kafka")
        if (batch_source is None) != (stream_from is None) and not may_omit:
            raise self.refuse(
                "batch_source= and stream_from= go together",
                hint="give stream_from=, the time from which events of the log count",
            )
        self._set(
            topic=topic or name,
            message_format=message_format_of(message_format),
            allowed_lateness=HOUR if allowed_lateness is None else self._duration("allowed_lateness", allowed_lateness),
            max_future=5 * MINUTE if max_future is None else self._duration("max_future", max_future),
            batch_source=batch_source,
            stream_from=micros(stream_from) if stream_from is not None else None,
        )
        self._set(
            dead_letter_topic=dead_letter_topic, event_id=event_id,
            event_id_horizon=self._duration("event_id_horizon", event_id_horizon),
        )  # fmt: skip
        self._check_event_id()
        if dead_letter_topic == self.topic:
            raise self.refuse("dead_letter_topic= is the source's own topic", hint="name another topic")
        self._begin_transform(transform, tuple(message_schema or ()), transform_version)
        self._begin_metadata(key_fields, key_format, dict(header_fields or {}), record_time_field)

    def _begin_transform(self, transform: Any, message_schema: tuple[Field, ...], version: str) -> None:
        if transform is None and message_schema:
            raise self.refuse(
                "has message_schema= but no transform=", hint="give transform=, or leave out message_schema="
            )
        if transform is not None and not (
            callable(transform) or isinstance(transform, str | Mapping | MessageTransform)
        ):
            raise self.refuse(
                f"transform={transform!r} is not a transform", hint="give a SELECT as text, or a function"
            )
        if version and not callable(transform):
            raise self.refuse("transform_version= needs a function as transform=", hint="leave out transform_version=")
        made = MessageTransform.of(transform, version=version) if transform is not None else None
        self.refuse_odd_text("transform=", made.sql if made is not None else "")
        # The engine's own parser reads the SQL, when definitions are checked and before it runs.
        if made is not None and not made.sql and not made.function_name:
            raise self.refuse("transform is empty", hint=FORM)
        self._set(transform=made, message_schema=message_schema)

    def _check_event_id(self) -> None:
        dtypes = {field.name: field.dtype for field in self.schema}
        if not self.event_id:
            return
        if self.event_id not in dtypes:
            raise self.refuse(
                f"event_id {self.event_id!r} is not in its schema",
                hint=nearest(self.event_id, dtypes) or f"the schema has {list(dtypes)}",
            )
        if dtypes[self.event_id].name in ("Float32", "Float64", "Array", "Embedding"):
            raise self.refuse(
                f"event_id {self.event_id!r} is {dtypes[self.event_id]}, which cannot identify an event",
                hint="name a column of text or integers",
            )
        if not self.event_id_horizon:
            raise self.refuse("event_id_horizon is 0, so no ID would be kept", hint="give a duration such as '1d'")

    @property
    def replay_topic(self) -> str:
        """The topic through which dead letters are replayed; always in the project's own log."""
        return f"{self.topic}.replay"

    @property
    def message_fields(self) -> tuple[Field, ...]:
        """The columns to read from a message."""
        return self.message_schema or self.schema

    @property
    def key_columns(self) -> list[Field]:
        """The columns to read from a message's key."""
        return [field for field in self.message_fields if field.name in self.key_fields]

    def _begin_metadata(
        self, key_fields: Sequence[str] | str, key_format: Any, header_fields: dict[str, str], record_time_field: str
    ) -> None:
        """Check and set the columns from a message's key, headers and record time."""
        keys = (key_fields,) if isinstance(key_fields, str) else tuple(key_fields)
        if isinstance(key_format, Mapping):
            key_format = message_format_of(key_format)
        if key_format not in KEY_FORMATS and not isinstance(key_format, AvroFormat):
            raise self.refuse(
                f"key_format {key_format!r}", hint=f"choose one of {', '.join(KEY_FORMATS)}, or an AvroFormat"
            )
        if len(keys) > 1 and key_format in ("text", "int"):
            raise self.refuse(
                f"a key of format {key_format!r} holds one column, but key_fields names {list(keys)}",
                hint="name one column, or give key_format='json'",
            )
        dtypes = {field.name: field.dtype for field in self.message_fields}
        rows = {field.name: field.dtype for field in self.schema}
        names = [*keys, *header_fields, *([record_time_field] if record_time_field else [])]
        for name in names:
            if name not in dtypes:
                raise self.refuse(
                    f"column {name!r}, taken from a message's metadata, is not in schema=",
                    hint=nearest(name, dtypes) or "declare it in schema= with its type",
                )
            if names.count(name) > 1:
                raise self.refuse(
                    f"column {name!r} is named twice in key_fields, header_fields and record_time_field",
                    hint="name it once",
                )
        if key_format == "int" and keys and not dtypes[keys[0]].is_integer:
            raise self.refuse(
                f"key_format 'int' needs an integer column, but {keys[0]!r} is {dtypes[keys[0]]}",
                hint="declare it as Int64",
            )
        if record_time_field:
            self._check_record_time(record_time_field, dtypes[record_time_field])
        if keys and TOMBSTONE in rows:
            raise self.refuse(
                f"column name {TOMBSTONE!r} is reserved in a source with key_fields=", hint="rename the column"
            )
        self._set(
            key_fields=keys, key_format=key_format, header_fields=header_fields, record_time_field=record_time_field,
            has_tombstones=bool(keys) and all(rows.get(key) == dtypes[key] for key in keys),
        )  # fmt: skip

    def _check_record_time(self, name: str, dtype: DType) -> None:
        if dtype.name != "Timestamp" and not (dtype.is_integer and self.timestamp_unit):
            raise self.refuse(
                f"record_time_field {name!r} is {dtype}; expected Timestamp or an integer",
                hint="declare it as Timestamp, or Int64 with timestamp_unit=",
            )

    @property
    def has_metadata(self) -> bool:
        """Whether some columns come from keys, headers or record times."""
        return bool(self.key_fields or self.header_fields or self.record_time_field)

    def _check_time(self) -> None:
        if not self.timestamp_field:
            raise self.refuse("has no timestamp_field", hint="name the column of the event time")
        dtype = next(field.dtype for field in self.schema if field.name == self.timestamp_field)
        if dtype.is_integer and not self.timestamp_unit:
            raise self.refuse(
                f"event time {self.timestamp_field!r} is {dtype} without a unit",
                hint="give timestamp_unit='ms' (or s, us, ns)",
            )
        if not dtype.is_integer and dtype.name not in ("Timestamp", "Date"):
            raise self.refuse(
                f"event time {self.timestamp_field!r} is {dtype}; expected Timestamp, or an integer with "
                "timestamp_unit=",
                hint="name another column, or declare it as Timestamp (ISO 8601 text in messages)",
            )

    def content(self) -> dict[str, object]:
        content = {
            **self._source_content(),
            "topic": self.topic,
            "message_format": self.message_format.content(),
            "allowed_lateness": self.allowed_lateness,
            "max_future": self.max_future,
        }
        if self.transform is not None:
            content["transform"] = self.transform.content()
        if self.message_schema:
            content["message_schema"] = [field.content() for field in self.message_schema]
        if self.event_id:
            content |= {"event_id": self.event_id, "event_id_horizon": self.event_id_horizon}
        for name in ("header_fields", "record_time_field", "dead_letter_topic"):
            if getattr(self, name):
                content[name] = getattr(self, name)
        if self.key_fields:
            content["key_fields"] = list(self.key_fields)
            named = self.key_format
            content["key_format"] = named if isinstance(named, str) else named.content()
        if self.batch_source is not None:
            content["batch_source"] = self.batch_source.content()
        if self.stream_from is not None:
            content["stream_from"] = iso(self.stream_from)
        return content


class PushSource(LogSource):
    """Rows that a program pushes. They are written to a push log first, so no batch source is needed."""

    type = "push"
    accepted = frozenset()

    def __init__(
        self,
        name: str,
        schema: Sequence[Field] | None = None,
        timestamp_field: str = "",
        *,
        batch_source: Source | None = None,
        **options: Unpack[PushOptions],
    ) -> None:
        if batch_source is not None and schema is None:
            schema = batch_source.schema
        if batch_source is not None and not timestamp_field:
            timestamp_field = batch_source.timestamp_field
        options.setdefault("topic", f"push.{name}")
        self._refuse_message_options(name, options)
        super().__init__(
            name, schema=schema or (), timestamp_field=timestamp_field, batch_source=batch_source, **options
        )

    def _refuse_message_options(self, name: str, options: Mapping[str, object]) -> None:
        for option in (
            "message_format", "key_fields", "key_format", "header_fields", "record_time_field", "transform",
            "transform_version", "message_schema", "dead_letter_topic",
        ):  # fmt: skip
            given = options.get(option)
            if given and given not in ("json", "text"):
                self._begin(name, description="", tags=None, owner="", ignored={})
                raise self.refuse(
                    f"{option}= does not apply to a PushSource: it receives rows, not messages", hint="leave it out"
                )
