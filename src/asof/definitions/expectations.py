"""Expectations: what the values of a view must be, to be checked against its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal

from asof.definitions.base import written_at
from asof.errors import DefinitionError
from asof.timing import Micros, iso, micros, span, span_text

Plain = str | int | float | bool
"""A value as JSON has it: a decimal, a date and a time are text."""

Bound = Plain | Decimal | date | datetime


@dataclass(frozen=True)
class Expectation:
    """One condition on the rows of a view; made by `not_null`, `between`, `accepted_values`, `unique` or `fresh`.

    Args:
        kind: the name of the method that makes it.
        feature: empty for one of the whole view.
        mostly: which share of the rows must fulfil it, 1 for all.
        low, high: of `between`.
        values: of `accepted_values`.
        max_age: of `fresh`, in microseconds.
        where: `file:line` where it is written; a registry does not keep it.
    """

    kind: str
    feature: str = ""
    mostly: float = 1.0
    low: Plain | None = None
    high: Plain | None = None
    values: tuple[Plain, ...] = ()
    max_age: Micros = 0
    where: str = field(default="", compare=False)

    @classmethod
    def not_null(cls, feature: str, *, mostly: float = 1.0) -> Expectation:
        """The feature has a value in at least this share of the rows."""
        return _checked(cls("not_null", feature, _share(mostly)))

    @classmethod
    def between(
        cls, feature: str, low: Bound | None = None, high: Bound | None = None, *, mostly: float = 1.0
    ) -> Expectation:
        """Values, where there are any, are not below `low` and not above `high`; None is without an end."""
        if low is None and high is None:
            raise _refused(f"between({feature!r})", "has neither low= nor high=", "give at least one of them")
        return _checked(cls("between", feature, _share(mostly), _plain(low), _plain(high)))

    @classmethod
    def accepted_values(cls, feature: str, values: Sequence[Bound], *, mostly: float = 1.0) -> Expectation:
        """Values, where there are any, are among these."""
        if isinstance(values, str) or not values:
            raise _refused(f"accepted_values({feature!r})", f"values={values!r} is no list", "give the accepted values")
        accepted = tuple(each for value in values if (each := _plain(value)) is not None)
        return _checked(cls("accepted_values", feature, _share(mostly), values=accepted))

    @classmethod
    def unique(cls, feature: str) -> Expectation:
        """No two rows have the same value."""
        return _checked(cls("unique", feature))

    @classmethod
    def fresh(cls, max_age: timedelta | str) -> Expectation:
        """The newest row of the view's source is at most so old."""
        try:
            age = span(max_age)
        except ValueError as error:
            raise _refused("fresh", str(error), "give a timedelta, or text like '1d'") from error
        if age <= 0:
            raise _refused("fresh", f"max_age={max_age!r} is not above 0", "give a timedelta, or text like '1d'")
        return _checked(cls("fresh", max_age=age))

    @property
    def name(self) -> str:
        """`not_null(amount)`, for people and as a label."""
        return f"{self.kind}({self.feature})" if self.feature else self.kind

    @property
    def expected(self) -> str:
        """What it expects, for people."""
        share = "" if self.mostly == 1 else f" in {self.mostly:.4g} of the rows"
        if self.kind == "between":
            ends = [f"at least {self.low}"] if self.low is not None else []
            ends += [f"at most {self.high}"] if self.high is not None else []
            return " and ".join(ends) + share
        if self.kind == "accepted_values":
            shown = ", ".join(map(str, self.values[:10])) + (", …" if len(self.values) > 10 else "")
            return f"one of {shown}{share}"
        if self.kind == "fresh":
            return f"a row of the last {span_text(self.max_age)}"
        return {"not_null": "a value", "unique": "no value twice"}[self.kind] + share

    def content(self) -> dict[str, object]:
        """The expectation as JSON-ready data, without `where`."""
        content: dict[str, object] = {"kind": self.kind}
        if self.feature:
            content["feature"] = self.feature
        if self.mostly != 1:
            content["mostly"] = self.mostly
        for name, value in (("low", self.low), ("high", self.high)):
            if value is not None:
                content[name] = value
        if self.values:
            content["values"] = list(self.values)
        if self.max_age:
            content["max_age"] = self.max_age
        return content

    @classmethod
    def of(cls, content: Mapping[str, object]) -> Expectation:
        """The expectation that `content()` wrote."""
        said: dict[str, object] = {**content, "values": tuple(content.get("values", ()))}  # type: ignore[arg-type]  # a list, as it was written
        return cls(**said)  # type: ignore[arg-type]  # of the types that it was written with


def _checked(made: Expectation) -> Expectation:
    if made.kind != "fresh" and (not isinstance(made.feature, str) or not made.feature):
        raise _refused(made.kind, f"feature {made.feature!r}", "name a feature of the view")
    return Expectation(**{**made.__dict__, "where": written_at()})


def _share(mostly: float) -> float:
    if isinstance(mostly, bool) or not isinstance(mostly, int | float) or not 0 < mostly <= 1:
        raise _refused("mostly", f"{mostly!r} is no share", "give a number above 0, up to 1")
    return float(mostly)


def _plain(value: Bound | None) -> Plain | None:
    if isinstance(value, datetime):
        return iso(micros(value))
    if isinstance(value, date):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal) else value


def _refused(what: str, problem: str, hint: str) -> DefinitionError:
    return DefinitionError(f"expectation {what}: {problem}", hint=hint, where=written_at())


__all__ = ["Bound", "Expectation", "Plain"]
