"""Page views as Avro records."""

from __future__ import annotations

import json
from collections.abc import Iterable
from io import BytesIO

import fastavro

from asof.demo.repository import TRAFFIC_RECORD


def encode_views(views: Iterable[dict[str, object]]) -> list[bytes]:
    """Each page view as one Avro message, without a file's header."""
    schema = fastavro.parse_schema(json.loads(TRAFFIC_RECORD))
    messages = []
    for view in views:
        buffer = BytesIO()
        fastavro.schemaless_writer(buffer, schema, view)
        messages.append(buffer.getvalue())
    return messages
