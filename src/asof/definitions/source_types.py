"""Source types by name, and how to rebuild a source from its content."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from asof.definitions.entities import Field
from asof.definitions.logs import LogSource, PushSource
from asof.definitions.sources import FileSource, RequestSource, Source

SOURCE_TYPES: dict[str, type[Source]] = {"file": FileSource, "log": LogSource, "push": PushSource}


def source_of(content: Mapping[str, object]) -> Source | RequestSource:
    """The source that `content()` wrote."""
    values: dict[str, Any] = dict(content)
    kind = values.pop("type")
    if "schema" in values:
        values["schema"] = [Field.of(field) for field in values["schema"]]
    if kind == "request":
        return RequestSource(**values)
    if "message_schema" in values:
        values["message_schema"] = [Field.of(field) for field in values["message_schema"]]
    if "batch_source" in values:
        values["batch_source"] = source_of(values["batch_source"])
    for duration in ("lag", "allowed_lateness", "max_future", "event_id_horizon"):
        if duration in values:
            values[duration] = timedelta(microseconds=values[duration])
    return SOURCE_TYPES[kind](**values)
