"""What the expectations of a view found in its profile."""

from __future__ import annotations

import msgspec

from asof.results import Record
from asof.timing import Micros


class ExpectationResult(Record, msgspec.Struct, frozen=True, kw_only=True):
    """Whether one expectation held.

    Args:
        expectation: its name, such as `not_null(amount)`.
        feature: empty for one of the whole view.
        ok: False too where it could not be evaluated: `found` says why.
        expected, found: for people.
        when: the store's time of the profile that it was evaluated on.
    """

    view: str
    feature: str
    expectation: str
    ok: bool
    expected: str
    found: str
    when: Micros


__all__ = ["ExpectationResult"]
