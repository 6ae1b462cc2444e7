"""Sources on Apache Kafka: a topic that others write to, on a cluster of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Unpack

from asof.definitions.entities import Field
from asof.definitions.formats import MessageFormat
from asof.definitions.kafka_settings import refusals
from asof.definitions.logs import LogSource
from asof.definitions.source_types import SOURCE_TYPES
from asof.definitions.sources import LogOptions, Source
from asof.timing import iso, micros

STARTS = ("earliest", "latest")


class KafkaOptions(LogOptions, total=False):
    """Options of a Kafka source in addition to its own parameters; other options of Feast are ignored with a note."""

    date_partition_column: str


class KafkaSource(LogSource):
    """Events of a Kafka topic that other programs create and write to; no batch source is needed.

    Where the cluster is: `bootstrap_servers`, or `connection_ref`; without both the project's own log, if that is
    Kafka, else the only connection of that type in feature_store.yaml. `${VAR}` is read from the environment when the
    connection is opened. All other parameters are those of `LogSource`.

    Args:
        topic: the topic's name; the source's own name where not given.
        bootstrap_servers: `host:port`, several with commas. Feast's `kafka_bootstrap_servers` is the same.
        start: where the first run begins in each partition: `earliest`, `latest`, or a time, compared with the records'
            times. Later runs continue where the archive ends.
        connection_ref: the name of a connection of feature_store.yaml.
        kafka_settings: librdkafka's settings, passed through: `security.protocol`, `sasl.*`, `ssl.*` and so on; secrets
            as `${VAR}`. Those that load a library, run a command (Kerberos), fetch a token (OAuth) or write files are
            refused: they belong into a connection of feature_store.yaml.
        watermark_delay_threshold: Feast's name for `allowed_lateness`.
    """

    type = "kafka"
    topic_is_ours = False
    accepted = frozenset({"date_partition_column"})

    def __init__(
        self,
        name: str,
        *,
        schema: Sequence[Field] | None = None,
        timestamp_field: str = "",
        topic: str = "",
        bootstrap_servers: str | Sequence[str] | None = None,
        kafka_bootstrap_servers: str | Sequence[str] | None = None,
        message_format: str | MessageFormat | Mapping[str, object] | None = "json",
        start: datetime | str = "earliest",
        connection_ref: str | None = "",
        kafka_settings: Mapping[str, object] | None = None,
        batch_source: Source | None = None,
        watermark_delay_threshold: timedelta | None = None,
        allowed_lateness: timedelta | str | None = None,
        **options: Unpack[KafkaOptions],
    ) -> None:
        if batch_source is not None:
            schema = schema or batch_source.schema
            timestamp_field = timestamp_field or batch_source.timestamp_field
        super().__init__(
            name, schema=schema or (), timestamp_field=timestamp_field, topic=topic, message_format=message_format,
            batch_source=batch_source, allowed_lateness=allowed_lateness or watermark_delay_threshold, **options,
        )  # fmt: skip
        if bootstrap_servers and kafka_bootstrap_servers and bootstrap_servers != kafka_bootstrap_servers:
            raise self.refuse("bootstrap_servers= and kafka_bootstrap_servers= differ", hint="give one of the two")
        servers = bootstrap_servers or kafka_bootstrap_servers or ""
        if not isinstance(servers, str):
            servers = ",".join(servers)
        settings = dict(kafka_settings or {})
        self._begin_connection(connection_ref, {"bootstrap_servers": servers, "kafka_settings": settings})
        if settings and not servers:
            raise self.refuse(
                "has kafka_settings= and no bootstrap_servers=",
                hint="give both, or put the settings into a connection of feature_store.yaml",
            )
        for name, reason in refusals(settings):
            raise self.refuse(
                f"kafka_settings={{{name!r}: …}} {reason}",
                hint="keep it in `settings` of a connection of feature_store.yaml, and name that by connection_ref=",
            )
        self._set(start=self._start(start))

    @property
    def replay_topic(self) -> str:
        # Several sources may read one topic, and each replays its own dead letters.
        return f"kafka.{self.name}.replay"

    def _start(self, start: datetime | str) -> str:
        if start in STARTS:
            return str(start)
        try:
            if isinstance(start, str | datetime):
                return iso(micros(start))
        except ValueError:
            pass
        raise self.refuse(
            f"start={start!r} is neither {' nor '.join(STARTS)}nor a time",
            hint="give one of them, such as start='2026-01-31T00:00:00Z'",
        )

    def content(self) -> dict[str, object]:
        content = {**super().content(), **self._connection_content()}
        if self.start != STARTS[0]:
            content["start"] = self.start
        return content


SOURCE_TYPES["kafka"] = KafkaSource
