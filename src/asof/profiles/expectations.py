"""What the expectations of a view found in its rows."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from asof.definitions import Expectation
from asof.results import Record
from asof.timing import Micros, iso, span_text

_ROUNDING = 1e-12


class ExpectationResult(Record, msgspec.Struct, frozen=True, kw_only=True):
    """Whether one expectation held.

    Args:
        feature: empty for one of the whole view.
        expectation: its name, such as `not_null(amount)`.
        expected, found: for people; no value of the feature is in `found`.
        when: the store's time of the check, in microseconds.
    """

    view: str
    feature: str
    expectation: str
    ok: bool
    expected: str
    found: str
    when: Micros

    @classmethod
    def of(cls, content: Mapping[str, object]) -> ExpectationResult:
        """The result that `to_dict()` wrote; fields of a newer Asof are passed over.

        Raises:
            msgspec.ValidationError: a field has another type than it was written with.
        """
        return msgspec.convert(content, cls)


def result_of_rows(
    expectation: Expectation, *, view: str, misses: int, values: int, rows: int, when: Micros
) -> ExpectationResult:
    """The result of an expectation about a feature.

    Args:
        misses: how many rows miss it.
        values: how many rows have a value; only those can miss it, but for `not_null`.
    """
    of = rows if expectation.kind == "not_null" else values
    share = misses / of if of else 0.0
    what = "rows" if expectation.kind == "not_null" else "values"
    return ExpectationResult(
        view=view, feature=expectation.feature, expectation=expectation.name,
        ok=share <= 1 - expectation.mostly + _ROUNDING, expected=expectation.expected,
        found=f"{misses:,} of {of:,} {what} miss it" if of else f"no {what}", when=when,
    )  # fmt: skip


def result_of_age(expectation: Expectation, *, view: str, newest: Micros | None, when: Micros) -> ExpectationResult:
    """The result of an expectation about the age of the newest row."""
    ok = newest is not None and when - newest <= expectation.max_age
    found = "no rows" if newest is None else f"the newest is of {iso(newest)}, {_age(when - newest)} old"
    return ExpectationResult(
        view=view, feature="", expectation=expectation.name, ok=ok, expected=expectation.expected, found=found,
        when=when,
    )  # fmt: skip


def _age(age: Micros) -> str:
    return span_text(age - age % 1_000_000) if age >= 1_000_000 else "0s"


__all__ = ["ExpectationResult", "result_of_age", "result_of_rows"]
