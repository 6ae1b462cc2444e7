"""The language in plain Python, one row at a time: slow, and what every engine is measured against."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_UP, Context, InvalidOperation
from decimal import Decimal as Number
from math import floor, inf, isfinite, isnan, trunc
from typing import Any, TypeAlias

from asof.dtypes import (
    Bool,
    Bytes,
    Date,
    Decimal,
    DType,
    Float64,
    Int64,
    String,
    Timestamp,
)
from asof.errors import ExpressionError, nearest, some
from asof.expressions.checker import Types, family, infer
from asof.expressions.language import DATE_TEXT, DECIMAL_TEXT, FLOAT_TEXT, INTEGER_TEXT, TIMESTAMP_TEXT
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

Value: TypeAlias = None | bool | int | float | Number | str | bytes | date
"""A value of a row; a datetime is a date too."""

# Enough digits for every product and every float's shortest text written out.
_EXACT = Context(prec=2000)
_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
_UPPER = {lower: upper for upper, lower in _LOWER.items()}


def evaluate(expression: Expression, row: Mapping[str, object], *, schema: Mapping[str, DType] | None = None) -> Value:
    """The expression's value over one row: None, bool, int, float, Decimal, str, bytes, date or an aware datetime.

    Args:
        row: Python values by column name; a naive datetime is taken as UTC.
        schema: the columns' types; without it they are read off the row's values.

    Raises:
        ExpressionError: a column is not in the row, or types do not fit together.
    """
    for name in expression.columns:
        if name not in row:
            hint = nearest(name, row) or f"the row has {some(row)}"
            raise ExpressionError(f"no column {name!r} for the expression `{expression}`", hint=hint)
    names = expression.columns
    types = infer(expression, tuple(schema[name] if schema is not None else _dtype(row[name]) for name in names))
    return _ReferenceEvaluator(types, row).value(types.root)


def _dtype(value: Any) -> DType | None:
    if value is None:
        return None
    if isinstance(value, Number):
        return Decimal(38, max(0, -int(value.as_tuple().exponent)))
    kinds = (
        (bool, Bool),
        (int, Int64),
        (float, Float64),
        (str, String),
        (bytes, Bytes),
        (datetime, Timestamp),
        (date, Date),
    )
    for kind, dtype in kinds:
        if isinstance(value, kind):
            return dtype
    raise ExpressionError(f"a value of the Python type {type(value).__name__} in an expression", hint="give a schema")


def _order(value: Any) -> Any:
    """What to compare: NaN equals itself and is the greatest."""
    if isinstance(value, float):
        return (1, 0.0) if isnan(value) else (0, value)
    return value


def _within(value: int | Number, dtype: DType) -> Any:
    """An integer or exact number as `dtype` holds it, halves away from zero; None where it does not fit."""
    if dtype.is_integer:
        bits = 31 if dtype.name == "Int32" else 63
        return int(value) if value == int(value) and -(2**bits) <= value < 2**bits else None
    try:
        fitted = Number(value).quantize(Number(1).scaleb(-dtype.scale), ROUND_HALF_UP, _EXACT)
    except InvalidOperation:
        return None
    # The copy_ methods, because abs() and unary minus round to the ambient context's digits; and there is no -0.00.
    fitted = fitted if fitted else fitted.copy_abs()
    return fitted if fitted.copy_abs() < Number(10) ** (dtype.precision - dtype.scale) else None


class _ReferenceEvaluator:
    def __init__(self, types: Types, row: Mapping[str, Any]) -> None:
        self.types = types
        self.row = row

    def as_type(self, node: Expression, dtype: DType | None) -> Any:
        own = self.types.of(node)
        if isinstance(node, Literal) and dtype is not None and dtype.name == "Decimal" and own == Float64:
            return Number(repr(node.value))
        value = self.value(node)
        return value if value is None or own is None or dtype is None else _convert(value, own, dtype)

    def compared(self, nodes: tuple[Expression, ...], inside: Expression) -> list[Any]:
        common = self.types.common(nodes, inside=inside)
        return [_order(self.as_type(node, common)) for node in nodes]

    def value(self, node: Expression) -> Any:
        if isinstance(node, Literal):
            return node.value
        if isinstance(node, ColumnReference):
            return self.column(node)
        if isinstance(node, Logic):
            values, deciding = [self.value(term) for term in node.terms], node.operator == "OR"
            return deciding if deciding in values else None if None in values else not deciding
        if isinstance(node, Not):
            value = self.value(node.operand)
            return None if value is None else not value
        if isinstance(node, IsNull):
            return (self.value(node.operand) is None) != node.negated
        if isinstance(node, Comparison):
            return _compare(node.operator, *self.compared(node.children, node))
        if isinstance(node, In):
            operand, *items = self.compared(node.children, node)
            found = [_compare("=", operand, item) for item in items]
            answer = True if True in found else None if None in found else False
            return None if answer is None else answer != node.negated
        if isinstance(node, Between):
            operand, low, high = self.compared(node.children, node)
            ends = [_compare("<=", low, operand), _compare("<=", operand, high)]
            answer = False if False in ends else None if None in ends else True
            return None if answer is None else answer != node.negated
        if isinstance(node, Like):
            text, pattern = self.value(node.operand), self.value(node.pattern)
            return None if text is None or pattern is None else like(text, pattern) != node.negated
        if isinstance(node, Negative):
            value = self.value(node.operand)
            if value is None:
                return None
            return self.number(value.copy_negate() if isinstance(value, Number) else -value, node)
        if isinstance(node, Arithmetic):
            return self.arithmetic(node)
        if isinstance(node, Case):
            return self.case(node)
        if isinstance(node, Cast):
            return self.as_type(node.operand, node.dtype)
        assert isinstance(node, FunctionCall)
        return self.call(node)

    def column(self, node: ColumnReference) -> Any:
        value, dtype = self.row[node.name], self.types.of(node)
        if value is None or dtype is None:
            return None
        if dtype.is_float:
            return float(value)
        if dtype.name == "Decimal":
            return _within(value, dtype)
        if dtype == Timestamp:
            return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        return value

    def number(self, value: Any, node: Expression) -> Any:
        """A result of arithmetic in the node's type; None where it does not fit."""
        dtype = self.types.of(node)
        assert dtype is not None
        return value if dtype.is_float else _within(value, dtype)

    def arithmetic(self, node: Arithmetic) -> Any:
        dtype, operator = self.types.of(node), node.operator
        if dtype is not None and dtype.name == "Decimal":
            shapes = [self.types.decimal(side) for side in node.children]
            scales = [shape.scale if operator == "*" and shape is not None else dtype.scale for shape in shapes]
            sides = [self.as_type(side, Decimal(38, scale)) for side, scale in zip(node.children, scales)]
        else:
            sides = [self.as_type(side, dtype) for side in node.children]
        left, right = sides
        if left is None or right is None or (operator in "/%" and right == 0):
            return None
        if operator == "/":
            return _divide(left, right)
        if operator == "%":
            return self.number(abs(left) % abs(right) * (-1 if left < 0 else 1), node)
        if isinstance(left, Number):
            operation = {"+": _EXACT.add, "-": _EXACT.subtract, "*": _EXACT.multiply}[operator]
            return self.number(operation(left, right), node)
        return self.number(left + right if operator == "+" else left - right if operator == "-" else left * right, node)

    def case(self, node: Case) -> Any:
        dtype = self.types.of(node)
        if node.operand is None:
            hits = [self.value(when) is True for when, _ in node.branches]
        else:
            operand, *whens = self.compared((node.operand, *(when for when, _ in node.branches)), node)
            hits = [_compare("=", operand, when) is True for when in whens]
        if True in hits:
            return self.as_type(node.branches[hits.index(True)][1], dtype)
        return None if node.otherwise is None else self.as_type(node.otherwise, dtype)

    def call(self, node: FunctionCall) -> Any:
        name, arguments = node.function, node.arguments
        if name == "coalesce":
            values = [self.as_type(argument, self.types.of(node)) for argument in arguments]
            return next((value for value in values if value is not None), None)
        if name == "nullif":
            return None if _compare("=", *self.compared(arguments, node)) is True else self.value(arguments[0])
        values = [self.value(argument) for argument in arguments]
        if None in values:
            return None
        first = values[0]
        if name == "lower":
            return first.translate(_LOWER)
        if name == "upper":
            return first.translate(_UPPER)
        if name == "length":
            return len(first)
        if name == "substr":
            start = values[1]
            end = start + values[2] if len(values) > 2 else len(first) + 1
            return first[max(start, 1) - 1 : max(end, 1) - 1]
        if name == "abs":
            return self.number(first.copy_abs() if isinstance(first, Number) else abs(first), node)
        if isinstance(first, float):
            return first if not isfinite(first) else float(floor(first)) if name == "floor" else _round(first)
        if isinstance(first, Number):
            return first.to_integral_value("ROUND_FLOOR" if name == "floor" else ROUND_HALF_UP)
        return first


def _round(value: float) -> float:
    whole = trunc(value)
    if abs(value - whole) >= 0.5:
        whole += 1 if value > 0 else -1
    return float(whole)


def _divide(left: float, right: float) -> float:
    try:
        return left / right
    except OverflowError:
        return inf if (left > 0) == (right > 0) else -inf


def _compare(operator: str, left: Any, right: Any) -> bool | None:
    if left is None or right is None:
        return None
    return {
        "=": left == right,
        "<>": left != right,
        "<": left < right,
        "<=": left <= right,
        ">": left > right,
        ">=": left >= right,
    }[operator]


def like(text: str, pattern: str) -> bool:
    """Whether the whole text matches: % is any text, _ one code point, all else itself."""
    form = "".join({"%": ".*", "_": "."}.get(dead_letter, re.escape(dead_letter)) for dead_letter in pattern)
    return re.fullmatch(form, text, re.DOTALL) is not None


def _convert(value: Any, source: DType, target: DType) -> Any:
    """CAST of a value that is not null; None where it does not fit."""
    if source == target:
        return value
    if target.is_float:
        return _to_float(value, target)
    if target == String:
        return _to_string(value)
    if source == String:
        return _from_string(value, target)
    if target == Bool:
        return {0: False, 1: True}.get(value)
    if target == Date:
        return value.date()
    if target == Timestamp:
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    if family(source) == "Float":
        if not isfinite(value):
            return None
        # Into a Decimal by the shortest text that names the float; an integer must be exactly it.
        return _within(Number(repr(value)) if target.name == "Decimal" else Number(value), target)
    return _within(int(value) if isinstance(value, bool) else value, target)


def _to_float(value: Any, target: DType) -> float | None:
    if isinstance(value, str):
        if not re.fullmatch(FLOAT_TEXT, value):
            return None
        value = float(value)
        if not isfinite(value):
            return None
    value = float(value)
    if target.name == "Float64":
        return value
    try:
        return float(struct.unpack("<f", struct.pack("<f", value))[0])
    except OverflowError:
        return None


def _to_string(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
    if isinstance(value, date):
        return value.isoformat()
    return f"{value:f}" if isinstance(value, Number) else str(value)


def _from_string(text: str, target: DType) -> Any:
    if target == Bool:
        return {"true": True, "false": False}.get(text.translate(_LOWER))
    if target.is_integer:
        return _within(int(text), target) if re.fullmatch(INTEGER_TEXT, text) else None
    if target.name == "Decimal":
        return _within(Number(text), target) if re.fullmatch(DECIMAL_TEXT, text) else None
    try:
        if target == Date:
            return date.fromisoformat(text) if re.fullmatch(DATE_TEXT, text) else None
        if not re.fullmatch(TIMESTAMP_TEXT, text):
            return None
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
