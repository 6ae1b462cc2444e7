"""What became of a value, and whether that is what had to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from asof.errors import AsofError
from tests.matrix.cases import CASES, REFUSED, Impossible, expected


class Refused:
    """A refusal, with its words."""

    def __init__(self, error: BaseException | str) -> None:
        self.is_ours = isinstance(error, AsofError | str)
        self.words = str(error)

    def names(self, *names: str) -> bool:
        """Whether it is one of Asof's own errors and says what it is about."""
        return self.is_ours and any(name in self.words for name in names)

    def __repr__(self) -> str:
        return f"Refused({self.words.splitlines()[0][:200]!r})"


def is_same(found: Any, expected: Any) -> bool:
    """Whether two values are one, in type and digits too: -0.0 is not 0.0, 1 is not 1.0, NaN is NaN."""
    if isinstance(expected, list):
        return isinstance(found, list) and len(found) == len(expected) and all(map(is_same, found, expected))
    if type(found) is not type(expected) and not (isinstance(found, datetime) and isinstance(expected, datetime)):
        return False
    if isinstance(expected, float):
        return (found != found and expected != expected) or (
            found == expected and math.copysign(1, found) == math.copysign(1, expected)
        )
    if isinstance(expected, Decimal):
        return found == expected and found.as_tuple().exponent == expected.as_tuple().exponent
    if isinstance(expected, datetime):
        return found.tzinfo is not None and found == expected
    return bool(found == expected)


def plain(value: Any) -> Any:
    """A value of pandas or NumPy as Python's own."""
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    if hasattr(value, "to_pydatetime"):
        return value.to_pydatetime()
    if hasattr(value, "tolist"):
        value = value.tolist()
    return list(map(plain, value)) if isinstance(value, list) else value


def wrong(way: str, found: Mapping[str, Any], *names: str, cases: Mapping[str, Any] = CASES) -> dict[str, str]:
    """The cells of a way that are neither right nor refused as they must be: case → what came out.

    Args:
        names: what a refusal must name one of.
    """
    problems = {}
    for case, value in found.items():
        wanted = expected(way, case, cases)
        if isinstance(wanted, Impossible):
            continue
        if wanted is REFUSED:
            fine = isinstance(value, Refused) and value.names(*names)
        else:
            fine = not isinstance(value, Refused) and is_same(value, wanted)
        if not fine:
            problems[case] = f"{value!r:.200} instead of {wanted!r:.200}"
    return problems


def check(
    way: str, found: Mapping[str, Any], gaps: Mapping[str, str], *names: str, cases: Mapping[str, Any] = CASES
) -> None:
    """Every cell of a way is right, but for the gaps, which are wrong.

    Raises:
        AssertionError: a cell is wrong, or a gap has closed and is to leave the list.
    """
    problems = wrong(way, found, *names, cases=cases)
    assert {case: problem for case, problem in problems.items() if case not in gaps} == {}
    assert [case for case in gaps if case in found and case not in problems] == [], "no gaps any more"
