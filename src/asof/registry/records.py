"""What a registry keeps next to its snapshots: records of what happened, and counts per day. Neither is a version."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

from asof.timing import Micros

RECORDS = 100
"""How many records are read where nothing else is asked for."""

KEPT_COUNT_DAYS = 100
"""Counts are dropped once they are so many days older than the newest: a quarter, and what a comparison with it needs.

Every feature that is used takes one row per day: 10,000 of them are a million rows then, some 60 MB.
"""

RUN_KINDS = (
    "materialize", "backfill", "load-history", "rebuild", "compact", "audit", "profile", "stream", "training-set",
    "backup", "restore",
)  # fmt: skip
"""The kinds of runs that Asof keeps records of. An apply is a version in the history, not a run."""

DayCounts = Mapping[date, Mapping[str, int]]
"""Day in UTC → subject → amount."""


@dataclass(frozen=True)
class RegistryRecord:
    """One thing that happened, or was measured. It is never changed; a later one replaces none.

    Args:
        kind: what it is a record of, such as `run`, `audit` or `profile`.
        subject: what it is about, such as the name of a view.
        when: microseconds.
        body: JSON: text, finite numbers, booleans, None, lists and mappings with text as keys.
    """

    kind: str
    subject: str
    when: Micros
    body: Mapping[str, object] = field(default_factory=dict)


def encode_body(body: Mapping[str, object]) -> str:
    """A record's body as JSON text.

    Raises:
        ValueError, TypeError: it is not JSON.
    """
    return json.dumps(dict(body), allow_nan=False, separators=(",", ":"), default=_plain)


def decode_record(kind: str, subject: str, when: Micros, text: str) -> RegistryRecord | None:
    """A record as it was kept; None where its text is damaged.

    No other record and no definition depends on it: who reads the others is not stopped by it.
    """
    try:
        body = json.loads(text)
    except ValueError:
        return None
    return RegistryRecord(kind, subject, when, body) if isinstance(body, dict) else None


def _plain(value: object) -> object:
    """Mappings that are no dicts, which the `json` module does not take."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"the body of a record is JSON, and {type(value).__name__} is not: {value!r}")
