"""`log:`, where events come from and pushed rows go to."""

from __future__ import annotations

from typing import Annotated, ClassVar

from asof.config.sections.connections import KafkaConnection
from asof.config.sections.kinds import Doc, Number, Path, Prefix, Section, Settings, Text, Whole

Partitions = Annotated[Whole, Doc("Number of partitions of a topic that `apply` creates.")]


class Log(Section, frozen=True, kw_only=True):
    """The options of every log."""

    SECTION: ClassVar[str] = "log"

    type: Annotated[Text, Doc("The product.")] = "file"


class FileLog(Log, frozen=True, kw_only=True):
    """Files in a folder."""

    PRODUCT: ClassVar[str] = "file"

    path: Annotated[Path, Doc("The folder for the log's topics.")] = "data/log"
    partitions: Partitions = 1
    segment_bytes: Annotated[Whole | None, Doc("Maximum size of a segment.", unset=64 << 20)] = None
    session_timeout_s: Annotated[
        Number | None,
        Doc("How long a consumer may be silent before its partitions are reassigned.", unset=60),
    ] = None


class KafkaLog(Log, frozen=True, kw_only=True):
    """Topics of a Kafka cluster."""

    PRODUCT: ClassVar[str] = "kafka"
    SERVER: ClassVar[type[Section] | None] = KafkaConnection

    partitions: Partitions = 1
    replication_factor: Annotated[Whole | None, Doc("Replication factor of such a topic; default: the broker's.")] = (
        None
    )
    topic_settings: Annotated[
        Settings | None,
        Doc("Kafka's own settings for such a topic, like `min.insync.replicas`; by default a topic keeps all records."),
    ] = None
    topic_prefix: Annotated[
        Prefix | None,
        Doc("Prefix of the project's own topics, so that projects can share a cluster; default `PROJECT.`."),
    ] = None
