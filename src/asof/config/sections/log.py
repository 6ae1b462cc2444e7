"""`log:`, where events come from and pushed rows go to."""

from __future__ import annotations

from typing import Annotated, ClassVar

from asof.config.sections.connections import KafkaConnection
from asof.config.sections.kinds import Doc, Number, Path, Prefix, Section, Settings, Text, Whole

Partitions = Annotated[Whole, Doc("How many partitions a topic gets that `apply` makes.")]


class Log(Section, frozen=True, kw_only=True):
    """The options of every log."""

    SECTION: ClassVar[str] = "log"

    type: Annotated[Text, Doc("The product.")] = "file"


class FileLog(Log, frozen=True, kw_only=True):
    """Files in a folder."""

    PRODUCT: ClassVar[str] = "file"

    path: Annotated[Path, Doc("The folder of the log's topics.")] = "data/log"
    partitions: Partitions = 1
    segment_bytes: Annotated[Whole | None, Doc("How large a segment grows.", unset=64 << 20)] = None
    session_timeout_s: Annotated[
        Number | None,
        Doc("How long a consumer may be silent before its partitions are given to others.", unset=60),
    ] = None


class KafkaLog(Log, frozen=True, kw_only=True):
    """Topics of a Kafka cluster."""

    PRODUCT: ClassVar[str] = "kafka"
    SERVER: ClassVar[type[Section] | None] = KafkaConnection

    partitions: Partitions = 1
    replication_factor: Annotated[
        Whole | None, Doc("On how many brokers such a topic stands; the broker's default where left out.")
    ] = None
    topic_settings: Annotated[
        Settings | None,
        Doc(
            "Kafka's own settings for such a topic, like `min.insync.replicas`; it keeps all records unless they say "
            "less."
        ),
    ] = None
    topic_prefix: Annotated[
        Prefix | None,
        Doc("Put before the names of the project's own topics, so that projects can share a cluster; else `PROJECT.`."),
    ] = None
