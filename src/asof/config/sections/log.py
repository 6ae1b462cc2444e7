"""`log:`, where events come from and pushed rows go to."""

from __future__ import annotations

from typing import Annotated, ClassVar

from asof.config.sections.connections import KafkaConnectionSection
from asof.config.sections.kinds import Number, OptionDoc, Path, Prefix, Section, Settings, Text, Whole
from asof.defaults import SEGMENT_BYTES, SESSION_TIMEOUT_S

Partitions = Annotated[Whole, OptionDoc("Number of partitions of a topic that `apply` creates.")]


class LogSection(Section, frozen=True, kw_only=True):
    """The options of every log."""

    SECTION: ClassVar[str] = "log"

    type: Annotated[Text, OptionDoc("The product.")] = "file"


class FileLogSection(LogSection, frozen=True, kw_only=True):
    """Files in a folder."""

    PRODUCT: ClassVar[str] = "file"

    path: Annotated[Path, OptionDoc("The folder for the log's topics.")] = "data/log"
    local: Annotated[
        bool | None,
        OptionDoc(
            "Whether this log may be this machine's alone where the registry is in a bucket and serves many machines; "
            "default: no."
        ),
    ] = None
    partitions: Partitions = 1
    segment_bytes: Annotated[Whole | None, OptionDoc("Maximum size of a segment.", unset=SEGMENT_BYTES)] = None
    session_timeout_s: Annotated[
        Number | None,
        OptionDoc("How long a consumer may be silent before its partitions are reassigned.", unset=SESSION_TIMEOUT_S),
    ] = None


class KafkaLogSection(LogSection, frozen=True, kw_only=True):
    """Topics of a Kafka cluster."""

    PRODUCT: ClassVar[str] = "kafka"
    SERVER: ClassVar[type[Section] | None] = KafkaConnectionSection

    partitions: Partitions = 1
    replication_factor: Annotated[
        Whole | None, OptionDoc("Replication factor of such a topic; default: the broker's.")
    ] = None
    topic_settings: Annotated[
        Settings | None,
        OptionDoc(
            "Kafka's own settings for such a topic, like `min.insync.replicas`; by default a topic keeps all records."
        ),
    ] = None
    topic_prefix: Annotated[
        Prefix | None,
        OptionDoc("Prefix of the project's own topics, so that projects can share a cluster; default `PROJECT.`."),
    ] = None
