"""Tree to SQL: the text of one expression for one engine, with the same result on every engine."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime

from asof.dtypes import INT_BOUNDS, Bool, DType, Float64, Int64, String
from asof.errors import ExpressionError, UnsupportedByDialect, nearest
from asof.expressions.checker import Types, check, family, infer
from asof.expressions.dialects import DIALECTS, SqlForms
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
from asof.timing import micros

MAX_SQL = 1_000_000
"""Maximum characters of an expression's SQL: forms repeat their operands, so SQL grows fast with nesting."""

_OPERAND = re.compile(r"\{([a-z]+)\}")
_SMALL = INT_BOUNDS["Int32"][1]
_LONGEST = 2_000_000_000
"""Code points that no string has, and that every engine's substr still takes."""
_LIMITS = {name: greatest + 1 for name, (_, greatest) in INT_BOUNDS.items()}


def print_sql(
    expression: Expression,
    dialect: str | SqlForms,
    *,
    schema: Mapping[str, DType],
    column: Callable[[str], str] | None = None,
) -> str:
    """The expression as SQL; its value has the SQL type of `check(expression, schema)`. It never raises at run time.

    Columns are expected in their DType's SQL type (a Timestamp as TIMESTAMPTZ); the session's zone does not matter.

    Args:
        dialect: "duckdb", "postgres" or "spark", or the forms of another engine.
        column: a column's SQL by its name, for example with a table's alias before it; by default the name, quoted.

    Raises:
        ExpressionError: see `check`; or the expression is nested too deep for this dialect's forms.
        UnsupportedByDialect: no such dialect.
    """
    forms = DIALECTS.get(dialect) if isinstance(dialect, str) else dialect
    if forms is None:
        hint = nearest(str(dialect), DIALECTS) or f"choose one of {', '.join(DIALECTS)}"
        raise UnsupportedByDialect(f"expressions cannot be printed for the dialect {dialect!r}", hint=hint)
    check(expression, schema)
    types = infer(expression, tuple(schema[name] for name in expression.columns))
    return _Printer(forms, types, column or forms.quote).sql(types.root)


class _Printer:
    def __init__(self, dialect: SqlForms, types: Types, column: Callable[[str], str]) -> None:
        self.dialect = dialect
        self.types = types
        self.column = column

    def type(self, dtype: DType) -> str:
        name = self.dialect.types[dtype.name]
        return f"{name}({dtype.precision}, {dtype.scale})" if dtype.name == "Decimal" else name

    # -- forms ------------------------------------------------------------------------------------------------------

    def fill(self, form: str, *, texts: Mapping[str, str] | None = None, **operands: str) -> str:
        """A form of the dialect with its operands; the dialect may bind an operand that is used twice."""
        template = self.dialect.forms[form]
        used = _OPERAND.findall(template)
        bound = {}
        if self.dialect.binds:
            bound = {name: sql for name, sql in operands.items() if used.count(name) > 1 and not _is_atom(sql)}
        # Names that no table has: a column in the same form must not be confused with a bound one.
        values = {**(texts or {}), **operands, **{name: f"asof_v.asof_{name}" for name in bound}}
        sql = _OPERAND.sub(lambda match: values[match.group(1)], template)
        if bound:
            # OFFSET 0 keeps the planner from writing the operand out again.
            columns = ", ".join(f"{operand} AS asof_{name}" for name, operand in bound.items())
            sql = f"(SELECT {sql} FROM (SELECT {columns} OFFSET 0) AS asof_v)"
        if len(sql) > MAX_SQL:
            raise ExpressionError(
                f"the expression `{self.types.root}` grows beyond {MAX_SQL} characters of SQL",
                hint="nest it less deeply, or compute part of it in the source",
            )
        return sql

    def cast(self, sql: str, source: DType, target: DType) -> str:
        """`sql` of type `source` as `target`."""
        if source == target:
            return sql
        if source.name == "Float32" and target != Float64:
            return self.cast(f"CAST({sql} AS {self.type(Float64)})", Float64, target)
        if target.name == "Float32" and source != Float64:
            return self.cast(self.cast(sql, source, Float64), Float64, target)
        if source.is_float and target == Float64 or (source.name, target.name) == ("Int32", "Int64"):
            return f"CAST({sql} AS {self.type(target)})"
        form = f"{family(source)}>{family(target)}"
        texts = {"type": self.type(target), "source": self.type(source)}
        if target.is_integer:
            limit = _LIMITS[target.name]
            texts.update(least=str(-limit), greatest=str(limit - 1), beyond=str(limit))
        if target.name == "Decimal":
            texts.update(limit=f"1e{target.precision - target.scale}", scale=str(target.scale))
        if form == "String>Bool":
            sql = self.fill("lower", x=sql)
        if form == "Decimal>String" and source.precision == source.scale:
            form += " all fraction"
        if f"{form} reads" in self.dialect.forms:
            sql = self.fill(f"{form} reads", x=sql)
        return self.fill(form, texts=texts, x=sql)

    # -- operands ---------------------------------------------------------------------------------------------------

    def as_type(self, node: Expression, dtype: DType) -> str:
        """The node's SQL, cast to `dtype`."""
        own = self.types.of(node)
        if own is None:
            return f"CAST(NULL AS {self.type(dtype)})"
        number = isinstance(node, Literal) and own.is_numeric and (dtype == Float64 or dtype.name == "Decimal")
        if number and own != dtype:
            assert isinstance(node, Literal)
            return f"CAST('{node.value!r}' AS {self.type(dtype)})"
        return self.cast(self.sql(node), own, dtype)

    def wide(self, node: Expression) -> str:
        """An integer in a type that holds every sum and product of two."""
        own = self.types.of(node)
        return f"CAST({'NULL' if own is None else self.bare(node)} AS {self.dialect.types['wide']})"

    def bare(self, node: Expression) -> str:
        """The node's SQL; a small integer literal as it is, where its width does not matter."""
        if isinstance(node, Literal) and self.types.of(node) == Int64:
            value = node.value
            if isinstance(value, int) and abs(value) <= _SMALL:
                return str(value) if value >= 0 else f"({value})"
        return self.sql(node)

    def compared(self, nodes: Sequence[Expression], inside: Expression) -> list[str]:
        """The nodes in the type in which they are compared."""
        common = self.types.common(nodes, inside=inside)
        if common is None:
            return [f"CAST(NULL AS {self.type(Bool)})"] * len(nodes)
        if common.is_integer:
            return [self.as_type(node, common) if self.types.of(node) is None else self.bare(node) for node in nodes]
        texts = [self.as_type(node, common) for node in nodes]
        if common == String:
            texts[0] = self.fill("collated", x=texts[0])
        return texts

    def column_of(self, node: ColumnReference) -> str:
        text, dtype = self.column(node.name), self.types.of(node)
        if dtype is None or not dtype.is_float or node is self.types.root or "float column" not in self.dialect.forms:
            return text
        return self.fill("float column", texts={"type": self.type(dtype)}, x=text)

    # -- nodes ------------------------------------------------------------------------------------------------------

    def sql(self, node: Expression) -> str:
        """The node's SQL in its own SQL type; needs no brackets around it."""
        if self.types.of(node) is None:
            return "NULL"
        if isinstance(node, ColumnReference):
            return self.column_of(node)
        if isinstance(node, Literal):
            return self.literal(node)
        if isinstance(node, Logic):
            return f"({f' {node.operator} '.join(self.as_type(term, Bool) for term in node.terms)})"
        if isinstance(node, Not):
            return f"(NOT {self.as_type(node.operand, Bool)})"
        if isinstance(node, IsNull):
            return f"({self.sql(node.operand)} IS {'NOT ' if node.negated else ''}NULL)"
        if isinstance(node, Comparison):
            left, right = self.compared(node.children, node)
            return f"({left} {node.operator} {right})"
        if isinstance(node, In):
            operand, *items = self.compared(node.children, node)
            return f"({operand} {'NOT ' if node.negated else ''}IN ({', '.join(items)}))"
        if isinstance(node, Between):
            operand, low, high = self.compared(node.children, node)
            return f"({operand} {'NOT ' if node.negated else ''}BETWEEN {low} AND {high})"
        if isinstance(node, Like):
            texts = {"operator": "NOT LIKE" if node.negated else "LIKE"}
            operand, pattern = (self.as_type(side, String) for side in node.children)
            return self.fill("like", texts=texts, a=operand, b=pattern)
        if isinstance(node, Negative):
            return self.signless(node.operand, "negative", self.types.of(node))
        if isinstance(node, Arithmetic):
            return self.arithmetic(node)
        if isinstance(node, Case):
            return self.case(node)
        if isinstance(node, Cast):
            return self.as_type(node.operand, node.dtype)
        assert isinstance(node, FunctionCall)
        return self.call(node)

    def literal(self, node: Literal) -> str:
        value, dtype = node.value, node.dtype
        assert value is not None and dtype is not None
        if isinstance(value, bool):
            return "TRUE" if value else "FALSE"
        if isinstance(value, str):
            return self.dialect.text(value)
        if isinstance(value, datetime):
            iso = f"{value.replace(tzinfo=None).isoformat(sep=' ')}+00:00"
            return self.fill("timestamp", texts={"iso": iso, "us": str(micros(value))})
        if isinstance(value, date):
            return f"DATE '{value.isoformat()}'"
        return f"CAST('{value!r}' AS {self.type(dtype)})"

    def signless(self, operand: Expression, form: str, dtype: DType | None) -> str:
        """Unary minus or abs."""
        if dtype == Int64:
            return self.fill("narrow", x=self.fill(form, x=self.wide(operand)))
        is_decimal = dtype is not None and dtype.name == "Decimal"
        return self.fill(f"decimal {form}" if is_decimal else form, x=self.sql(operand))

    def arithmetic(self, node: Arithmetic) -> str:
        dtype, sides = self.types.of(node), node.children
        assert dtype is not None
        if node.operator == "%":
            return self.fill("remainder", a=self.wide(node.left), b=self.wide(node.right))
        if dtype == Int64:
            left, right = map(self.wide, sides)
            return self.fill("narrow", x=f"({left} {node.operator} {right})")
        if dtype == Float64:
            left, right = (self.as_type(side, Float64) for side in sides)
            return self.fill(f"float {node.operator}", a=left, b=right)
        # Decimals: a sum in the scale of its result, a product with each side in its own, so that the scales add up.
        scales = [
            dtype.scale if node.operator != "*" else getattr(self.types.decimal(side), "scale", 0) for side in sides
        ]
        left, right = (
            self.as_type(side, DType("Decimal", precision=38, scale=scale)) for side, scale in zip(sides, scales)
        )
        texts = {
            "type": self.type(dtype), "limit": f"1e{dtype.precision - dtype.scale}", "scale": str(dtype.scale),
            "greatest": f"{'9' * (dtype.precision - dtype.scale)}.{'9' * dtype.scale}".rstrip("."),
        }  # fmt: skip
        made = self.fill(f"decimal {node.operator}", texts=texts, a=left, b=right)
        return self.fill("decimal fit", texts=texts, x=made)

    def case(self, node: Case) -> str:
        dtype = self.types.of(node)
        assert dtype is not None
        if node.operand is None:
            operand, whens = "", [self.as_type(when, Bool) for when, _ in node.branches]
        else:
            first, *whens = self.compared([node.operand, *(when for when, _ in node.branches)], node)
            operand = f" {first}"
        branches = "".join(
            f" WHEN {when} THEN {self.as_type(then, dtype)}" for when, (_, then) in zip(whens, node.branches)
        )
        otherwise = "" if node.otherwise is None else f" ELSE {self.as_type(node.otherwise, dtype)}"
        return f"CASE{operand}{branches}{otherwise} END"

    def call(self, node: FunctionCall) -> str:
        name, arguments, dtype = node.function, node.arguments, self.types.of(node)
        assert dtype is not None
        if name == "coalesce":
            return f"COALESCE({', '.join(self.as_type(argument, dtype) for argument in arguments)})"
        if name == "nullif":
            return self.nullif(node, dtype)
        if name == "abs":
            return self.signless(arguments[0], "abs", dtype)
        if name in ("round", "floor"):
            if dtype.is_integer or dtype == self.types.of(arguments[0]) and dtype.name == "Decimal":
                return self.sql(arguments[0])
            if dtype == Float64:
                return self.fill(f"float {name}", x=self.as_type(arguments[0], Float64))
            return self.fill(f"decimal {name}", texts={"type": self.type(dtype)}, x=self.sql(arguments[0]))
        if name == "substr":
            return self.substr(arguments)
        return self.fill(name, x=self.as_type(arguments[0], String))

    def nullif(self, node: FunctionCall, dtype: DType) -> str:
        first, second = node.arguments
        if self.types.of(second) is None:
            return self.sql(first)
        left, right = self.compared(node.arguments, node)
        if self.types.of(second) == dtype:
            return self.fill("nullif", a=self.as_type(first, dtype) if dtype.is_integer else left, b=right)
        return f"CASE WHEN ({left} = {right}) THEN NULL ELSE {self.sql(first)} END"

    def substr(self, arguments: Sequence[Expression]) -> str:
        text, *counts = arguments
        whole = [count.value for count in counts if isinstance(count, Literal) and isinstance(count.value, int)]
        if len(whole) == len(counts):
            start, *count = whole
            sizes = [max(1, start), *(max(0, min(number + min(start - 1, 0), _LONGEST)) for number in count)]
            return f"substr({', '.join([self.as_type(text, String), *(str(min(size, _LONGEST)) for size in sizes)])})"
        texts = {"index": self.dialect.types["index"]}
        operands = {"x": self.as_type(text, String), "s": self.as_type(counts[0], Int64)}
        if len(counts) == 1:
            return self.fill("substr", texts=texts, **operands)
        operands["c"] = self.as_type(counts[1], Int64)
        operands["end"] = f"({self.wide(counts[0])} + {self.wide(counts[1])} - 1)"
        return self.fill("substr_count", texts=texts, **operands)


def _is_atom(sql: str) -> bool:
    """Whether repeating it costs nothing: a name or a literal, perhaps with its type."""
    return len(sql) < 64 and sql.count("(") <= 1 and "SELECT" not in sql and " " not in sql.replace(" AS ", "")
