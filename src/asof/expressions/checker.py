"""Static types: the type of an expression over a schema, and errors where types do not match."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal as Number
from functools import lru_cache
from typing import NoReturn

from asof.dtypes import Bool, Date, Decimal, DType, Float64, Int64, String, Timestamp
from asof.errors import ExpressionError, nearest, some
from asof.expressions.tree import (
    Arithmetic,
    Between,
    Case,
    Cast,
    ColumnReference,
    Comparison,
    Expression,
    FunctionCall,
    In,
    IsNull,
    Like,
    Literal,
    Logic,
    Negative,
    Not,
)

DIGITS = 38
"""Digits of the largest Decimal."""

_COMPARABLE = ("Bool", "String", "Bytes", "Date", "Timestamp")

# Source type (by name; every integer is "Int", every float "Float") → the types that CAST allows from it.
CASTS: dict[str, tuple[str, ...]] = {
    "Bool": ("Bool", "Int", "String"),
    "Int": ("Bool", "Int", "Float", "Decimal", "String"),
    "Float": ("Int", "Float", "Decimal"),
    "Decimal": ("Int", "Float", "Decimal", "String"),
    "String": ("Bool", "Int", "Float", "Decimal", "String", "Date", "Timestamp"),
    "Json": ("String", "Json"),
    "Date": ("String", "Date", "Timestamp"),
    "Timestamp": ("String", "Date", "Timestamp"),
}


def family(dtype: DType) -> str:
    """The type's name, with one name for all integers and one for all floats."""
    return "Int" if dtype.is_integer else "Float" if dtype.is_float else dtype.name


def check(
    expression: Expression, schema: Mapping[str, DType], *, where: str = "", expected: DType | None = None
) -> DType:
    """The type of `expression` over columns of these types.

    Args:
        where: `file:line` of the definition, for the error.
        expected: refuse any other type; `Bool` for a condition.

    Raises:
        ExpressionError: a column is not in the schema, or types do not match, or the value is always NULL.
    """
    for name in expression.columns:
        if name not in schema:
            raise ExpressionError(
                f"no column {name!r} for the expression `{expression}`",
                hint=nearest(name, schema) or f"the columns are {some(schema)}; write text in single quotes",
                where=where,
            )
    try:
        dtype = _check(expression, tuple(schema[name] for name in expression.columns))
        if expected is not None and dtype != expected:
            hint = "write a comparison" if expected == Bool else f"write CAST(... AS {expected})"
            raise ExpressionError(f"the expression `{expression}` is of type {dtype}, expected {expected}", hint=hint)
        return dtype
    except ExpressionError as error:
        if where:
            raise ExpressionError(error.message, hint=error.hint, where=where) from None
        raise


@lru_cache(maxsize=4096)
def _check(expression: Expression, columns: tuple[DType, ...]) -> DType:
    types = infer(expression, columns)
    dtype = types.of(types.root)
    if dtype is None:
        raise ExpressionError(f"`{expression}` is always NULL and has no type", hint="write CAST(NULL AS <type>)")
    return dtype


@lru_cache(maxsize=1024)
def infer(expression: Expression, columns: tuple[DType | None, ...]) -> Types:
    """The types of the expression's nodes, from those of its `columns`; walk them from `Types.root`.

    The root may be an equal tree from an earlier call, and nodes are known by identity.
    """
    return Types(expression, dict(zip(expression.columns, columns)))


class Types:
    """The type of every node of one tree; None is the type of NULL, which fits everywhere.

    Args:
        columns: types by column name; None for a column known to hold only nulls.

    Raises:
        ExpressionError: types do not match.
    """

    def __init__(self, root: Expression, columns: Mapping[str, DType | None]) -> None:
        self.root = root
        self.columns = columns
        self._known: dict[int, DType | None] = {}
        # `walk` yields parents before children: in reverse, every child's type is known before its parent's.
        for node in reversed(list(root.walk())):
            self._known[id(node)] = self._infer(node)

    def of(self, node: Expression) -> DType | None:
        """The type of a node of the tree."""
        return self._known[id(node)]

    def common(self, nodes: Sequence[Expression], *, inside: Expression) -> DType | None:
        """The common type of all nodes.

        Equal types stay. Int32 with Int64 is Int64; an integer with a float, or two different floats, Float64; a
        Decimal with integers or number literals a Decimal that holds them all, with a float column Float64; a Date
        with a Timestamp is its midnight, UTC.
        """
        dtypes = [dtype for node in nodes if (dtype := self.of(node)) is not None]
        if not dtypes:
            return None
        if all(dtype == dtypes[0] for dtype in dtypes):
            return dtypes[0]
        if all(dtype.is_integer for dtype in dtypes):
            return Int64
        if all(dtype.is_numeric for dtype in dtypes):
            if self.has_float(nodes):
                return Float64
            return self._common_decimal(nodes, inside)
        if {dtype.name for dtype in dtypes} == {"Date", "Timestamp"}:
            return Timestamp
        self._misfit(inside, nodes)

    def has_float(self, nodes: Sequence[Expression]) -> bool:
        """Whether the common type is a float. A number literal next to a Decimal counts as a Decimal."""
        if any(dtype is not None and dtype.name == "Decimal" for dtype in map(self.of, nodes)):
            return any(
                dtype is not None and dtype.is_float and not isinstance(node, Literal)
                for node, dtype in ((node, self.of(node)) for node in nodes)
            )
        return any(dtype is not None and dtype.is_float for dtype in map(self.of, nodes))

    def decimal(self, node: Expression) -> DType | None:
        """The Decimal that holds every value of an integer, a Decimal or a number literal; None for NULL.

        Its precision may exceed 38, the limit of Decimal: the caller refuses that.
        """
        dtype = self.of(node)
        if isinstance(node, Literal) and node.value is not None:
            digits = Number(repr(node.value)).as_tuple()
            exponent = int(digits.exponent)
            whole, scale = len(digits.digits) + exponent, max(0, -exponent)
            return DType("Decimal", precision=max(1, max(0, whole) + scale), scale=scale)
        if dtype is not None and dtype.is_integer:
            return DType("Decimal", precision=10 if dtype.name == "Int32" else 19)
        return dtype

    # -- rules ------------------------------------------------------------------------------------------------------

    def _common_decimal(self, nodes: Sequence[Expression], inside: Expression) -> DType:
        shapes = [shape for node in nodes if (shape := self.decimal(node)) is not None]
        scale = max(shape.scale for shape in shapes)
        precision = max(shape.precision - shape.scale for shape in shapes) + scale
        if precision > DIGITS:
            self._refuse(
                f"{self._typed(nodes)} have no common Decimal: it would need {precision} digits, more than {DIGITS}",
                inside,
                "CAST one of them to a smaller Decimal",
            )
        return Decimal(precision, scale)

    def _infer(self, node: Expression) -> DType | None:
        if isinstance(node, ColumnReference):
            return self.columns[node.name]
        if isinstance(node, Literal):
            return node.dtype
        if isinstance(node, (Logic, Not)):
            for term in node.children:
                self._expect(term, Bool, node, f"a condition of {'NOT' if isinstance(node, Not) else node.operator}")
            return Bool
        if isinstance(node, IsNull):
            return Bool
        if isinstance(node, (Comparison, In, Between)):
            self._comparable(node.children, node)
            return Bool
        if isinstance(node, Like):
            for side in node.children:
                self._expect(side, String, node, "a side of LIKE")
            return Bool
        if isinstance(node, Negative):
            dtype = self._number(node.operand, node, "unary -")
            return Int64 if dtype is not None and dtype.is_integer else dtype
        if isinstance(node, Arithmetic):
            return self._arithmetic(node)
        if isinstance(node, Case):
            return self._case(node)
        if isinstance(node, Cast):
            return self._cast(node)
        assert isinstance(node, FunctionCall)
        return self._call(node)

    def _arithmetic(self, node: Arithmetic) -> DType | None:
        sides = node.children
        for side in sides:
            self._number(side, node, f"`{node.operator}`")
        known = [dtype for dtype in map(self.of, sides) if dtype is not None]
        if node.operator == "/":
            return Float64
        if node.operator == "%":
            for side in sides:
                dtype = self.of(side)
                if dtype is not None and not dtype.is_integer:
                    self._refuse(f"`%` takes integers, found {self._typed([side])}", node, "CAST it to Int64")
            return Int64
        if not known:
            return None
        if all(dtype.is_integer for dtype in known):
            return Int64
        if self.has_float(sides):
            return Float64
        if node.operator != "*":
            return Decimal(DIGITS, self._common_decimal(sides, node).scale)
        shapes = [shape for side in sides if (shape := self.decimal(side)) is not None]
        scale = sum(shape.scale for shape in shapes)
        if scale > DIGITS or any(shape.precision > DIGITS for shape in shapes):
            self._refuse(
                f"the product of {self._typed(sides)} would need {scale} digits after the point",
                node,
                "CAST them to Decimals with smaller scales",
            )
        return Decimal(DIGITS, scale)

    def _case(self, node: Case) -> DType | None:
        conditions = [when for when, _ in node.branches]
        if node.operand is None:
            for when in conditions:
                self._expect(when, Bool, node, "a condition of CASE")
        else:
            self._comparable([node.operand, *conditions], node)
        results = [then for _, then in node.branches] + ([] if node.otherwise is None else [node.otherwise])
        return self.common(results, inside=node)

    def _cast(self, node: Cast) -> DType:
        source, target = self.of(node.operand), node.dtype
        if source is not None and source != target and family(target) not in CASTS.get(family(source), ()):
            reached = ", ".join(_spelt(name) for name in CASTS.get(family(source), ()))
            hint = f"CAST from {source} reaches {reached}" if reached else f"a value of type {source} cannot be cast"
            if source.is_float and target == String:
                hint = "engines write floats differently; CAST it to a Decimal first"
            self._refuse(f"no CAST from {source} to {target}", node, hint)
        return target

    def _call(self, node: FunctionCall) -> DType | None:
        name, arguments = node.function, node.arguments
        if name == "coalesce":
            return self.common(arguments, inside=node)
        if name == "nullif":
            self._comparable(arguments, node)
            return self.of(arguments[0])
        if name in ("abs", "round", "floor"):
            dtype = self._number(arguments[0], node, name)
            if dtype is None:
                return None
            if name == "abs":
                return Int64 if dtype.is_integer else dtype
            if dtype.name == "Decimal" and dtype.scale:
                return Decimal(dtype.precision - dtype.scale + 1, 0)
            return Float64 if dtype.is_float else dtype
        self._expect(arguments[0], String, node, f"the text of {name}")
        for count in arguments[1:]:
            dtype = self.of(count)
            if dtype is not None and not dtype.is_integer:
                self._refuse(f"{name} counts in integers, found {self._typed([count])}", node, "CAST it to Int64")
        return Int64 if name == "length" else String

    # -- findings ---------------------------------------------------------------------------------------------------

    def _comparable(self, nodes: Sequence[Expression], inside: Expression) -> None:
        dtype = self.common(nodes, inside=inside)
        if dtype is not None and not dtype.is_numeric and dtype.name not in _COMPARABLE:
            self._refuse(
                f"values of type {dtype} cannot be compared", inside, "only IS NULL and IS NOT NULL work on them"
            )

    def _number(self, node: Expression, inside: Expression, what: str) -> DType | None:
        dtype = self.of(node)
        if dtype is not None and not dtype.is_numeric:
            self._refuse(f"{what} takes numbers, found {self._typed([node])}", inside, "CAST it to a number")
        return dtype

    def _expect(self, node: Expression, dtype: DType, inside: Expression, what: str) -> None:
        found = self.of(node)
        if found is not None and found != dtype:
            hint = "compare it, for example with = TRUE or > 0" if dtype == Bool else f"CAST it to {dtype}"
            self._refuse(f"{what} is of type {dtype}, found {self._typed([node])}", inside, hint)

    def _misfit(self, inside: Expression, nodes: Sequence[Expression]) -> NoReturn:
        hint = "CAST one of them"
        literals = [node for node in nodes if isinstance(node, Literal) and isinstance(node.value, str)]
        for name, moment in (("Date", Date), ("Timestamp", Timestamp)):
            if literals and any(self.of(node) == moment for node in nodes):
                hint = f"write {name.upper()} {literals[0]}"
        self._refuse(f"{self._typed(nodes)} have no common type", inside, hint)

    def _typed(self, nodes: Sequence[Expression]) -> str:
        texts = dict.fromkeys(f"`{node}` ({self.of(node) or 'NULL'})" for node in nodes)
        return " and ".join(texts) if len(texts) < 3 else ", ".join(texts)

    def _refuse(self, problem: str, inside: Expression, hint: str) -> NoReturn:
        place = f"`{inside}`" if inside == self.root else f"`{inside}` of the expression `{self.root}`"
        raise ExpressionError(f"in {place}: {problem}", hint=hint)


def _spelt(name: str) -> str:
    return {"Int": "Int32 and Int64", "Float": "Float32 and Float64"}.get(name, name)
