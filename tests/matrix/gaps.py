"""The cells that are not right yet, each with its reason: way → case → reason."""

from __future__ import annotations

from collections import defaultdict

EMBEDDED: dict[str, dict[str, str]] = defaultdict(dict)
