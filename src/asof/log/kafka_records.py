"""librdkafka's messages as columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from asof.log.protocol import Headers, Messages


def columns_of(records: Sequence[Any]) -> Messages:
    """Messages without errors, as columns in their order."""
    if not records:
        return Messages.empty()
    count = len(records)
    headers: list[Headers] | None = None
    found = [each.headers() for each in records]
    if any(found):
        headers = [tuple((name, value) for name, value in each) if each else () for each in found]
    return Messages(
        np.fromiter((each.partition() for each in records), np.int32, count),
        np.fromiter((each.offset() for each in records), np.int64, count),
        np.fromiter((each.timestamp()[1] for each in records), np.int64, count) * 1000,
        [each.key() for each in records],
        [each.value() for each in records],
        headers,
    )
