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
"""The archive's column that says that a message had a key and no value."""

KEY_FORMATS = ("text", "int", "json")
"""How a message's key may be written, beside Avro."""


class LogSource(Source):
    """Events of a topic of the configured log (`log:` in feature_store.yaml); no batch source is needed.

    Args:
        topic: the topic's name; the source's own name where not given.
        schema: the columns that are read off each message; the others are passed over and counted.
        message_format: `JsonFormat` (the default), `AvroFormat`, `ProtoFormat`.
        transform: makes the rows out of the messages' columns: SQL (`SELECT … FROM message WHERE …`, evaluated with
            DuckDB), or a function of an Arrow table of messages. At most one row of each message.
        message_schema: the columns that are read off a message, where a transform makes those of `schema` of them.
        key_fields: the columns that are read from the message's key and not from its value. A message without a value
            (a tombstone) then says that its key is no more.
        key_format: `text` (UTF-8; digits for an integer), `int` (4 or 8 bytes, big-endian), `json` (a value, or an
            object with the columns), or an `AvroFormat`.
        header_fields: column → the header whose value it takes: text in UTF-8, or raw bytes for Bytes.
        record_time_field: the column that takes the time of the message's record; it may be the event time.
        event_id: the column that tells one event from another. Of the messages with one id the first that is taken
            counts, and the others are left out; a null is no id.
        event_id_horizon: for how long an id is remembered after that.
        dead_letter_topic: where messages that cannot be used are sent as well, beside the table of dead letters; with
            headers that say where they come from and why. At least once each.
        allowed_lateness: how much older than the newest event of its key an event may be and still join a session
            online without a look into the archive.
        max_future: how far ahead of the clock an event may be; later ones are dead letters.
        batch_source: rows for the years before `stream_from`, loaded once by `asof backfill`.
        stream_from: log events before this moment are left out; needed with a batch source.
        delete_when: an expression; an event for which it holds says that its key is no more from then on.
    """

    type = "log"
    is_log = True
    topic_is_ours = True
    """Whether Asof makes the topic, in the project's own log; else others make it, and it has a past of its own."""

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
        if batch_source is not None and stream_from is None and self.type in ("push", "kafka"):
            note = (
                f"source {name!r}: its batch source has no stream_from=, so all of its rows count beside all events of "
                "the log; aggregations count a row twice that is in both"
            )
            self._set(notes=(*self.notes, note))
        elif (batch_source is None) != (stream_from is None):
            raise self.refuse(
                "batch_source= and stream_from= go together", hint="say from which moment on the log's events count"
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
            raise self.refuse("dead_letter_topic is the topic of its own messages", hint="name another topic")
        self._begin_transform(transform, tuple(message_schema or ()))
        self._begin_metadata(key_fields, key_format, dict(header_fields or {}), record_time_field)

    def _begin_transform(self, transform: Any, message_schema: tuple[Field, ...]) -> None:
        if transform is None and message_schema:
            raise self.refuse("has a message_schema and no transform", hint="give transform=, or leave it out")
        if transform is not None and not (
            callable(transform) or isinstance(transform, str | Mapping | MessageTransform)
        ):
            raise self.refuse(f"transform is {transform!r}", hint="give a SELECT as text, or a function")
        made = MessageTransform.of(transform) if transform is not None else None
        # What its SQL says is read by the engine's own parser, when the definitions are checked and before it runs.
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
                f"event_id {self.event_id!r} is {dtypes[self.event_id]}", hint="name a column of text or whole numbers"
            )
        if not self.event_id_horizon:
            raise self.refuse("event_id_horizon is 0: no id would be remembered", hint="give for example '1d'")

    @property
    def replay_topic(self) -> str:
        """The topic through which dead letters come back; always one of the project's own log."""
        return f"{self.topic}.replay"

    @property
    def message_fields(self) -> tuple[Field, ...]:
        """The columns that are read off a message."""
        return self.message_schema or self.schema

    def _begin_metadata(
        self, key_fields: Sequence[str] | str, key_format: Any, header_fields: dict[str, str], record_time_field: str
    ) -> None:
        """The columns that stand beside a message's value."""
        keys = (key_fields,) if isinstance(key_fields, str) else tuple(key_fields)
        if isinstance(key_format, Mapping):
            key_format = message_format_of(key_format)
        if key_format not in KEY_FORMATS and not isinstance(key_format, AvroFormat):
            raise self.refuse(
                f"key_format {key_format!r}", hint=f"choose one of {', '.join(KEY_FORMATS)}, or an AvroFormat"
            )
        if len(keys) > 1 and key_format in ("text", "int"):
            raise self.refuse(
                f"a key of format {key_format!r} holds one column, and key_fields names {list(keys)}",
                hint="name one, or give key_format='json'",
            )
        dtypes = {field.name: field.dtype for field in self.message_fields}
        rows = {field.name: field.dtype for field in self.schema}
        beside = [*keys, *header_fields, *([record_time_field] if record_time_field else [])]
        for name in beside:
            if name not in dtypes:
                raise self.refuse(
                    f"column {name!r}, which stands beside the value, is not in its schema",
                    hint=nearest(name, dtypes) or "declare it there with its type",
                )
            if beside.count(name) > 1:
                raise self.refuse(f"column {name!r} would be taken from two places", hint="name it once")
        if key_format == "int" and keys and not dtypes[keys[0]].is_integer:
            raise self.refuse(f"key_format 'int', and {keys[0]!r} is {dtypes[keys[0]]}", hint="declare it as Int64")
        if record_time_field:
            self._check_record_time(record_time_field, dtypes[record_time_field])
        if keys and TOMBSTONE in rows:
            raise self.refuse(
                f"column {TOMBSTONE!r} has a meaning of its own where key_fields are", hint="give it another name"
            )
        self._set(
            key_fields=keys, key_format=key_format, header_fields=header_fields, record_time_field=record_time_field,
            has_tombstones=bool(keys) and all(rows.get(key) == dtypes[key] for key in keys),
        )  # fmt: skip

    def _check_record_time(self, name: str, dtype: DType) -> None:
        if dtype.name != "Timestamp" and not (dtype.is_integer and self.timestamp_unit):
            raise self.refuse(
                f"record_time_field {name!r} is {dtype}", hint="declare it as Timestamp, or Int64 with timestamp_unit="
            )

    @property
    def has_metadata(self) -> bool:
        """Whether some columns are not of the messages' values."""
        return bool(self.key_fields or self.header_fields or self.record_time_field)

    def _check_time(self) -> None:
        if not self.timestamp_field:
            raise self.refuse("has no timestamp_field", hint="name the column of the event time")
        dtype = next(field.dtype for field in self.schema if field.name == self.timestamp_field)
        if dtype.is_integer and not self.timestamp_unit:
            raise self.refuse(
                f"event time {self.timestamp_field!r} is {dtype}, and its unit is not said",
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
    """Rows that a program pushes; they are kept in a push log first, so no batch source is needed."""

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
            "message_schema", "dead_letter_topic",
        ):  # fmt: skip
            given = options.get(option)
            if given and given not in ("json", "text"):
                self._begin(name, description="", tags=None, owner="", ignored={})
                raise self.refuse(f"{option}= has no meaning: rows are pushed as rows", hint="leave it out")
