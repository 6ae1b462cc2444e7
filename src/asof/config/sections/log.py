"""`log:`, where events come from and pushed rows go to."""

from __future__ import annotations

from typing import Annotated, ClassVar

from asof.config.sections.connections import KafkaConnectionSection
from asof.config.sections.kinds import Number, OptionDoc, Path, Prefix, Section, Settings, Text, Whole

Partitions = Annotated[Whole, OptionDoc("How many partitions a topic gets that `apply` makes.")]


class LogSection(Section, frozen=True, kw_only=True):
    """The options of every log."""

    SECTION: ClassVar[str] = "log"

    type: Annotated[Text, OptionDoc("The product.")] = "file"


class FileLogSection(LogSection, frozen=True, kw_only=True):
    """Files in a folder."""

    PRODUCT: ClassVar[str] = "file"

    path: Annotated[Path, OptionDoc("The folder of the log's topics.")] = "data/log"
    partitions: Partitions = 1
    segment_bytes: Annotated[Whole | None, OptionDoc("How large a segment grows.", unset=64 << 20)] = None
    session_timeout_s: Annotated[
        Number | None,
        OptionDoc("How long a consumer may be silent before its partitions are given to others.", unset=60),
    ] = None


class KafkaLogSection(LogSection, frozen=True, kw_only=True):
    """Topics of a Kafka cluster."""

    PRODUCT: ClassVar[str] = "kafka"
    SERVER: ClassVar[type[Section] | None] = KafkaConnectionSection

    partitions: Partitions = 1
    replication_factor: Annotated[
        Whole | None, OptionDoc("On how many brokers such a topic stands; the broker's default where left out.")
    ] = None
    topic_settings: Annotated[
        Settings | None,
        OptionDoc(
            "Kafka's own settings for such a topic, like `min.insync.replicas`; it keeps all records unless they say "
            "less."
        ),
    ] = None
    topic_prefix: Annotated[
        Prefix | None,
        OptionDoc(
            "Put before the names of the project's own topics, so that projects can share a cluster; else `PROJECT.`."
        ),
    ] = None
