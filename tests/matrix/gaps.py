"""The cells that are not right yet, each with its reason: way → case → reason."""

from __future__ import annotations

from collections import defaultdict

from tests.matrix.cases import CASES
from tests.matrix.messages import FORMATS

EMBEDDED: dict[str, dict[str, str]] = defaultdict(dict)
ON_SPARK: dict[str, str] = {}
_RECTANGLES = "an array of Postgres is a rectangle, so no type there holds lists of lists: `apply` refuses them"
IN_POSTGRES: dict[str, str] = {
    name: _RECTANGLES
    for cases in (CASES, *(cases for cases, _ in FORMATS.values()))
    for name, case in cases.items()
    if case.dtype.inner is not None and case.dtype.inner.name == "Array"
}
"""Cases that archives in Postgres have no type for, each with its reason."""
