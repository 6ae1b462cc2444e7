"""`messages:`, what one message of a log may be, and what it may cost."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from asof.config.sections.kinds import Number, OptionDoc, Section, Whole
from asof.defaults import (
    CHILD_MEMORY_BYTES,
    CHILD_TIMEOUT_S,
    DECIMAL_BYTES,
    EMPTY_VALUES,
    MESSAGE_BYTES,
    MOST_DEPTH,
)


class MessagesSection(Section, frozen=True, kw_only=True):
    """Bounds on messages; what exceeds them is a dead letter."""

    SECTION: ClassVar[str] = "messages"

    max_bytes: Annotated[
        Whole,
        OptionDoc("Maximum size of a message: value, key and headers together. Larger rows of a push are refused."),
    ] = MESSAGE_BYTES
    max_depth: Annotated[
        int,
        Meta(ge=1, le=MOST_DEPTH),
        OptionDoc(
            "Maximum nesting of lists, objects, records and messages (JSON, Avro, Protobuf), and of Avro schemas and "
            "Protobuf types. Protobuf's library itself reads no more than 100 levels."
        ),
    ] = MOST_DEPTH
    max_empty_values: Annotated[
        Whole,
        OptionDoc(
            "Maximum number of values of an Avro message that take no bytes, like items of an array of nulls, beyond "
            "8 for each of its bytes."
        ),
    ] = EMPTY_VALUES
    max_decimal_bytes: Annotated[Whole, OptionDoc("Maximum size of a decimal of an Avro message.")] = DECIMAL_BYTES
    child_memory_bytes: Annotated[
        Whole,
        OptionDoc("Memory of a child process that takes messages which may kill it, beyond what it needs itself."),
    ] = CHILD_MEMORY_BYTES
    child_timeout_s: Annotated[Number, OptionDoc("How long such a process may take for a batch.")] = CHILD_TIMEOUT_S
