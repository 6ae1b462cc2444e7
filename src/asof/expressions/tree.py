"""The tree of an expression: frozen nodes that know their canonical text and the columns they use."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property
from typing import ClassVar

from asof.dtypes import DType
from asof.expressions.language import RESERVED
from asof.sql import quoting

_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

# How tightly a node binds, for the brackets of the canonical text.
OR, AND, NOT, COMPARISON, SUM, PRODUCT, NEGATION, ATOM = range(1, 9)


@dataclass(frozen=True)
class Expression:
    """A node and all below it. `str()` is the canonical text: parsed again it gives an equal tree."""

    binding: ClassVar[int] = ATOM

    @property
    def children(self) -> tuple[Expression, ...]:
        """The nodes directly below, in the order they are written."""
        return ()

    def walk(self) -> Iterator[Expression]:
        """This node and all below it, in the order they are written."""
        pending: list[Expression] = [self]
        while pending:
            node = pending.pop()
            yield node
            pending.extend(reversed(node.children))

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns used, each once, by first use."""
        return tuple(dict.fromkeys(node.name for node in self.walk() if isinstance(node, ColumnReference)))

    @cached_property
    def text(self) -> str:
        """The canonical text."""
        return self._text()

    def __str__(self) -> str:
        return self.text

    def _text(self) -> str:
        raise NotImplementedError

    def _within(self, binding: int) -> str:
        """The text, in brackets where this node binds less tightly than its context requires."""
        return self.text if self.binding >= binding else f"({self.text})"


@dataclass(frozen=True)
class ColumnReference(Expression):
    """A column by its exact name."""

    name: str

    def _text(self) -> str:
        plain = _PLAIN_NAME.fullmatch(self.name) and self.name.upper() not in RESERVED
        return self.name if plain else quoting.quote(self.name)


@dataclass(frozen=True)
class Literal(Expression):
    """A constant. Its type is part of it: 1, 1.0 and TRUE are three constants, though Python calls them equal.

    Args:
        value: None, bool, int, float, str, date, or an aware datetime in UTC.
        dtype: Bool, Int64, Float64, String, Date, Timestamp; None for NULL.
    """

    value: bool | int | float | str | date | datetime | None
    dtype: DType | None

    def _text(self) -> str:
        value = self.value
        if value is None:
            return "NULL"
        if isinstance(value, bool):
            return "TRUE" if value else "FALSE"
        if isinstance(value, str):
            return quoting.text(value)
        if isinstance(value, datetime):
            return f"TIMESTAMP '{value.replace(tzinfo=None).isoformat()}Z'"
        if isinstance(value, date):
            return f"DATE '{value.isoformat()}'"
        return repr(value)


@dataclass(frozen=True)
class Negative(Expression):
    """Unary minus. A minus before a number is part of the number instead."""

    operand: Expression
    binding: ClassVar[int] = NEGATION

    @property
    def children(self) -> tuple[Expression, ...]:
        return (self.operand,)

    def _text(self) -> str:
        # The brackets around a number keep `-(5)` apart from `-5`, and `-(-x)` from a comment.
        number = isinstance(self.operand, Literal) and self.operand.dtype is not None and self.operand.dtype.is_numeric
        bare = self.operand.binding == ATOM and not number
        return f"-{self.operand.text}" if bare else f"-({self.operand.text})"


@dataclass(frozen=True)
class Not(Expression):
    """NOT."""

    operand: Expression
    binding: ClassVar[int] = NOT

    @property
    def children(self) -> tuple[Expression, ...]:
        return (self.operand,)

    def _text(self) -> str:
        return f"NOT {self.operand._within(NOT)}"


@dataclass(frozen=True)
class Logic(Expression):
    """AND or OR over two or more terms."""

    operator: str
    terms: tuple[Expression, ...]

    @property
    def binding(self) -> int:  # type: ignore[override]  # by the operator, not by the class
        return AND if self.operator == "AND" else OR

    @property
    def children(self) -> tuple[Expression, ...]:
        return self.terms

    def _text(self) -> str:
        return f" {self.operator} ".join(term._within(self.binding + 1) for term in self.terms)


@dataclass(frozen=True)
class Comparison(Expression):
    """= <> < <= > >=."""

    operator: str
    left: Expression
    right: Expression
    binding: ClassVar[int] = COMPARISON

    @property
    def children(self) -> tuple[Expression, ...]:
        return (self.left, self.right)

    def _text(self) -> str:
        return f"{self.left._within(SUM)} {self.operator} {self.right._within(SUM)}"


@dataclass(frozen=True)
class IsNull(Expression):
    """IS NULL, IS NOT NULL."""

    operand: Expression
    negated: bool = False
    binding: ClassVar[int] = COMPARISON

    @property
    def children(self) -> tuple[Expression, ...]:
        return (self.operand,)

    def _text(self) -> str:
        return f"{self.operand._within(SUM)} IS {'NOT ' if self.negated else ''}NULL"


@dataclass(frozen=True)
class In(Expression):
    """IN, NOT IN over one or more items."""

    operand: Expression
    items: tuple[Expression, ...]
    negated: bool = False
    binding: ClassVar[int] = COMPARISON

    @property
    def children(self) -> tuple[Expression, ...]:
        return (self.operand, *self.items)

    def _text(self) -> str:
        items = ", ".join(item.text for item in self.items)
        return f"{self.operand._within(SUM)} {'NOT ' if self.negated else ''}IN ({items})"


@dataclass(frozen=True)
class Between(Expression):
    """BETWEEN, NOT BETWEEN: both ends belong to it."""

    operand: Expression
    low: Expression
    high: Expression
    negated: bool = False
    binding: ClassVar[int] = COMPARISON

    @property
    def children(self) -> tuple[Expression, ...]:
        return (self.operand, self.low, self.high)

    def _text(self) -> str:
        word = "NOT BETWEEN" if self.negated else "BETWEEN"
        return f"{self.operand._within(SUM)} {word} {self.low._within(SUM)} AND {self.high._within(SUM)}"


@dataclass(frozen=True)
class Like(Expression):
    """LIKE, NOT LIKE."""

    operand: Expression
    pattern: Expression
    negated: bool = False
    binding: ClassVar[int] = COMPARISON

    @property
    def children(self) -> tuple[Expression, ...]:
        return (self.operand, self.pattern)

    def _text(self) -> str:
        word = "NOT LIKE" if self.negated else "LIKE"
        return f"{self.operand._within(SUM)} {word} {self.pattern._within(SUM)}"


@dataclass(frozen=True)
class Arithmetic(Expression):
    """+ - * / %."""

    operator: str
    left: Expression
    right: Expression

    @property
    def binding(self) -> int:  # type: ignore[override]  # by the operator, not by the class
        return SUM if self.operator in "+-" else PRODUCT

    @property
    def children(self) -> tuple[Expression, ...]:
        return (self.left, self.right)

    def _text(self) -> str:
        return f"{self.left._within(self.binding)} {self.operator} {self.right._within(self.binding + 1)}"


@dataclass(frozen=True)
class Case(Expression):
    """CASE with conditions, or, with an operand, with values that it is compared to."""

    operand: Expression | None
    branches: tuple[tuple[Expression, Expression], ...]
    otherwise: Expression | None = None

    @property
    def children(self) -> tuple[Expression, ...]:
        first = () if self.operand is None else (self.operand,)
        last = () if self.otherwise is None else (self.otherwise,)
        return (*first, *(node for branch in self.branches for node in branch), *last)

    def _text(self) -> str:
        operand = "" if self.operand is None else f" {self.operand.text}"
        branches = "".join(f" WHEN {when.text} THEN {then.text}" for when, then in self.branches)
        otherwise = "" if self.otherwise is None else f" ELSE {self.otherwise.text}"
        return f"CASE{operand}{branches}{otherwise} END"


@dataclass(frozen=True)
class FunctionCall(Expression):
    """A function of `language.FUNCTIONS`."""

    function: str
    arguments: tuple[Expression, ...]

    @property
    def children(self) -> tuple[Expression, ...]:
        return self.arguments

    def _text(self) -> str:
        return f"{self.function}({', '.join(argument.text for argument in self.arguments)})"


@dataclass(frozen=True)
class Cast(Expression):
    """CAST to one of Asof's types."""

    operand: Expression
    dtype: DType

    @property
    def children(self) -> tuple[Expression, ...]:
        return (self.operand,)

    def _text(self) -> str:
        return f"CAST({self.operand.text} AS {self.dtype})"
