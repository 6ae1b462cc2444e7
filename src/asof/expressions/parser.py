"""Text to tree: a small Pratt parser whose errors point at the position and list what is allowed there.

Over 400 lines: it is one grammar, whose rules call one another.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import NamedTuple, NoReturn

from asof import dtypes
from asof.errors import DefinitionError, ExpressionError, nearest
from asof.expressions.language import DATE_TEXT, FUNCTION_BY_NAME, MAX_DEPTH, MAX_TEXT, RESERVED, TIMESTAMP_TEXT
from asof.expressions.tree import AND as AND_BINDING
from asof.expressions.tree import (
    COMPARISON,
    NEGATION,
    NOT,
    PRODUCT,
    SUM,
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
from asof.expressions.tree import OR as OR_BINDING
from asof.sql.quoting import quote

_TOKEN = re.compile(
    r"""
      (?P<space>\s+)
    | (?P<comment>--|/\*)
    | (?P<number>(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?)
    | (?P<name>[^\W\d]\w*)
    | (?P<string>'(?:[^']|'')*')
    | (?P<quoted>"(?:[^"]|"")+")
    | (?P<symbol><=|>=|<>|!=|==|[-+*/%=<>(),])
    """,
    re.VERBOSE,
)
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_SAME = {"==": "=", "!=": "<>"}
_COMPARISONS = frozenset(("=", "<>", "<", "<=", ">", ">="))
_SUGGEST = {
    "ceil": "-floor(-x)",
    "ceiling": "-floor(-x)",
    "if": "CASE WHEN ... THEN ... ELSE ... END",
    "iff": "CASE WHEN ... THEN ... ELSE ... END",
    "ifnull": "COALESCE(a, b)",
    "nvl": "COALESCE(a, b)",
    "len": "length(x)",
    "substring": "substr(x, start, count)",
    "left": "substr(x, 1, count)",
    "try_cast": "CAST(x AS type), which is null where x does not fit",
    "mod": "a % b",
    "trunc": "CASE WHEN x < 0 THEN -floor(-x) ELSE floor(x) END",
}


class Token(NamedTuple):
    """A piece of the text: kind is number, name, string, quoted, symbol or end."""

    kind: str
    text: str
    at: int

    @property
    def upper(self) -> str:
        """The token for comparison with the grammar: keywords in upper case; quoted text is never a keyword."""
        return self.text.upper() if self.kind in ("name", "symbol") else ""


def parse(text: str, *, where: str = "") -> Expression:
    """Read an expression of the closed language; the same text gives the same tree object.

    Args:
        where: `file:line` of the definition, for the error.

    Raises:
        ExpressionError: the text is outside the language. The message shows the position.
    """
    try:
        return _parse(text)
    except ExpressionError as error:
        if where:
            raise ExpressionError(error.message, hint=error.hint, where=where) from None
        raise


@lru_cache(maxsize=4096)
def _parse(text: str) -> Expression:
    if not isinstance(text, str):
        raise ExpressionError(f"an expression is text, found {type(text).__name__}", hint="write it in quotes")
    if len(text) > MAX_TEXT:
        raise ExpressionError(
            f"the expression has {len(text)} characters, at most {MAX_TEXT} are allowed",
            hint="compute it in the source",
        )
    parser = _Parser(text)
    tree = parser.expression(0)
    if parser.token.kind != "end":
        hint = ""
        if parser.token.kind == "name":
            hint = 'expected an operator, or the end; a name with spaces is written in double quotes: "unit price"'
        parser.fail(f"found {parser.found()} after a complete expression", "an operator, or the end", hint=hint)
    if _depth(tree) > MAX_DEPTH:
        raise ExpressionError(
            f"the expression is nested deeper than {MAX_DEPTH} levels", hint="compute it in the source"
        )
    return tree


def _depth(tree: Expression) -> int:
    deepest, pending = 0, [(tree, 1)]
    while pending:
        node, depth = pending.pop()
        deepest = max(deepest, depth)
        pending.extend((child, depth + 1) for child in node.children)
    return deepest


def _pointed(text: str, at: int, problem: str) -> str:
    """The problem, its line of the text, and a caret below the position."""
    start = text.rfind("\n", 0, at) + 1
    line = text[start:].split("\n", 1)[0]
    return f"in the expression: {problem}\n    {line}\n    {' ' * (at - start)}^"


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.level = 0
        self.tokens = self._split()
        self.index = 0
        self.token = self.tokens[0]

    def _split(self) -> list[Token]:
        tokens, at = [], 0
        while at < len(self.text):
            match = _TOKEN.match(self.text, at)
            if match is None:
                self.token = Token("symbol", self.text[at], at)
                problem = {"'": "a string without its closing quote", '"': "a name without its closing quote"}
                self.fail(
                    problem.get(self.text[at], f"unexpected character {self.text[at]!r}"),
                    "columns, literals, operators and functions",
                )
            kind = match.lastgroup or ""
            if kind == "comment":
                self.token = Token("symbol", match.group(), at)
                self.fail("comments are not part of the language", "a space between two minus signs")
            if kind != "space":
                tokens.append(Token(kind, match.group(), at))
            at = match.end()
        tokens.append(Token("end", "", len(self.text)))
        return tokens

    # -- errors -----------------------------------------------------------------------------------------------------

    def found(self) -> str:
        return "the end" if self.token.kind == "end" else f"`{self.token.text}`"

    def fail(self, problem: str, allowed: str = "", *, at: int | None = None, hint: str = "") -> NoReturn:
        place = self.token.at if at is None else at
        raise ExpressionError(_pointed(self.text, place, problem), hint=hint or f"allowed here: {allowed}")

    # -- tokens -----------------------------------------------------------------------------------------------------

    def advance(self) -> Token:
        token = self.token
        self.index += 1
        self.token = self.tokens[min(self.index, len(self.tokens) - 1)]
        return token

    def peek(self) -> Token:
        return self.tokens[min(self.index + 1, len(self.tokens) - 1)]

    def accept(self, *keywords: str) -> bool:
        if self.token.upper in keywords:
            self.advance()
            return True
        return False

    def expect(self, word: str, place: str) -> None:
        if not self.accept(word):
            self.fail(f"expected `{word}` {place}, found {self.found()}", f"`{word}`")

    # -- the grammar ------------------------------------------------------------------------------------------------

    def expression(self, binding: int) -> Expression:
        """Parse the longest expression from here whose operators bind tighter than `binding`."""
        self.level += 1
        if self.level > MAX_DEPTH:
            self.fail(f"nested deeper than {MAX_DEPTH} levels", "fewer brackets")
        left = self.prefix()
        while True:
            operator = self.token.upper
            if operator in ("AND", "OR"):
                own = AND_BINDING if operator == "AND" else OR_BINDING
                if own <= binding:
                    break
                left = self.logic(left, operator, own)
            elif operator in ("+", "-", "*", "/", "%"):
                own = SUM if operator in "+-" else PRODUCT
                if own <= binding:
                    break
                self.advance()
                left = Arithmetic(operator, left, self.expression(own))
            elif operator in ("IS", "IN", "BETWEEN", "LIKE", "NOT", "==", "!=") or operator in _COMPARISONS:
                if binding >= COMPARISON:
                    break
                left = self.comparison(left)
                if self.token.upper in _COMPARISONS or self.token.upper in ("IS", "IN", "BETWEEN", "LIKE", "==", "!="):
                    self.fail("comparisons do not chain", "AND or OR; or brackets around the first comparison")
            else:
                break
        self.level -= 1
        return left

    def logic(self, first: Expression, operator: str, binding: int) -> Expression:
        terms = [first]
        while self.accept(operator):
            terms.append(self.expression(binding))
        return Logic(operator, tuple(terms))

    def comparison(self, left: Expression) -> Expression:
        operator = self.advance().upper
        if operator == "IS":
            negated = self.accept("NOT")
            self.expect("NULL", "after IS" + (" NOT" if negated else ""))
            return IsNull(left, negated)
        negated = operator == "NOT"
        if negated:
            if self.token.upper not in ("IN", "BETWEEN", "LIKE"):
                self.fail(f"expected IN, BETWEEN or LIKE after NOT, found {self.found()}", "IN, BETWEEN, LIKE")
            operator = self.advance().upper
        if operator == "IN":
            self.expect("(", "after IN")
            return In(left, self.items("IN list"), negated)
        if operator == "BETWEEN":
            low = self.expression(COMPARISON)
            self.expect("AND", "between the two ends of BETWEEN")
            return Between(left, low, self.expression(COMPARISON), negated)
        if operator == "LIKE":
            return Like(left, self.expression(COMPARISON), negated)
        return Comparison(_SAME.get(operator, operator), left, self.expression(COMPARISON))

    def items(self, what: str) -> tuple[Expression, ...]:
        """The rest of a list in brackets, from after its opening bracket."""
        items = [self.expression(0)]
        while self.accept(","):
            items.append(self.expression(0))
        self.expect(")", f"at the end of the {what}")
        return tuple(items)

    def prefix(self) -> Expression:
        token = self.token
        if token.kind == "number":
            return self.number(self.advance())
        if token.kind == "string":
            return Literal(self.unquoted(self.advance()), dtypes.String)
        if token.kind == "quoted":
            return ColumnReference(self.unquoted(self.advance()))
        if token.kind == "name":
            return self.word()
        if self.accept("-"):
            if self.token.kind == "number":
                return self.number(self.advance(), negative=True)
            return Negative(self.expression(NEGATION))
        if self.accept("("):
            inner = self.expression(0)
            self.expect(")", "to close the bracket")
            return inner
        self.fail(f"expected a value, found {self.found()}", "a column, a literal, a function, CASE, NOT, - or (")

    def number(self, token: Token, *, negative: bool = False) -> Literal:
        if self.token.kind in ("name", "number") and self.token.at == token.at + len(token.text):
            self.fail(f"found {self.found()} right after a number", "an operator")
        sign = "-" if negative else ""
        if token.text.isdecimal():
            digits = int(sign + token.text)
            if not dtypes.LEAST_INT64 <= digits <= dtypes.GREATEST_INT64:
                self.fail("the number is outside Int64", at=token.at, hint="write it with .0 to make it a Float64")
            return Literal(digits, dtypes.Int64)
        number = float(sign + token.text)
        if number in (float("inf"), float("-inf")):
            self.fail("the number is outside Float64", "numbers up to 1.7e308", at=token.at)
        return Literal(number, dtypes.Float64)

    def unquoted(self, token: Token) -> str:
        mark = token.text[0]
        text = token.text[1:-1].replace(mark * 2, mark)
        if _UNSTORABLE.search(text):
            self.fail(
                "a string with a zero or an unpaired surrogate, which not every engine can hold", "text", at=token.at
            )
        return text

    def word(self) -> Expression:
        token = self.token
        upper, following = token.upper, self.peek()
        if upper in ("TRUE", "FALSE"):
            self.advance()
            return Literal(upper == "TRUE", dtypes.Bool)
        if upper == "NULL":
            self.advance()
            return Literal(None, None)
        if upper == "NOT":
            self.advance()
            return Not(self.expression(NOT - 1))
        if upper == "CASE":
            return self.case()
        if upper == "CAST":
            return self.cast()
        if upper in ("DATE", "TIMESTAMP") and following.kind == "string":
            return self.moment(upper)
        if following.upper == "(" and upper not in RESERVED:
            return self.call()
        if upper in RESERVED:
            self.fail(
                f"expected a value, found the keyword {token.text}",
                hint=f"a column of this name is written {quote(token.text)}",
            )
        if following.kind == "string":
            self.fail(
                f"a string after {token.text}",
                "DATE '...' and TIMESTAMP '...', or an operator before it",
                at=following.at,
            )
        return ColumnReference(self.advance().text)

    def moment(self, kind: str) -> Literal:
        self.advance()
        token = self.advance()
        text = self.unquoted(token)
        pattern, form = (DATE_TEXT, "2026-01-31") if kind == "DATE" else (TIMESTAMP_TEXT, "2026-01-31T12:00:00Z")
        try:
            if not re.fullmatch(pattern, text):
                raise ValueError(text)
            if kind == "DATE":
                return Literal(date.fromisoformat(text), dtypes.Date)
            moment = datetime.fromisoformat(text)
            moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
            return Literal(moment, dtypes.Timestamp)
        except ValueError:
            self.fail(f"{text!r} is not a {kind.lower()}", hint=f"write it like {kind} '{form}'", at=token.at)

    def case(self) -> Case:
        self.advance()
        operand = None if self.token.upper == "WHEN" else self.expression(0)
        branches = []
        while self.accept("WHEN"):
            when = self.expression(0)
            self.expect("THEN", "after the condition of WHEN")
            branches.append((when, self.expression(0)))
        if not branches:
            self.fail(f"expected WHEN in CASE, found {self.found()}", "WHEN")
        otherwise = self.expression(0) if self.accept("ELSE") else None
        self.expect("END", "at the end of CASE")
        return Case(operand, tuple(branches), otherwise)

    def cast(self) -> Cast:
        self.advance()
        self.expect("(", "after CAST")
        operand = self.expression(0)
        self.expect("AS", "in CAST")
        at = self.token.at
        depth, end = 0, at
        while self.token.kind != "end" and (depth or self.token.upper != ")"):
            depth += {"(": 1, ")": -1}.get(self.token.upper, 0)
            end = self.token.at + len(self.token.text)
            self.advance()
        name = self.text[at:end]
        self.expect(")", "at the end of CAST")
        try:
            return Cast(operand, _dtype(name))
        except (DefinitionError, ValueError) as error:
            hint = error.hint if isinstance(error, DefinitionError) else ""
            self.fail(f"no type {name!r}", hint=hint or f"choose one of {', '.join(dtypes.SCALARS)}", at=at)

    def call(self) -> FunctionCall:
        token = self.advance()
        name = token.text.lower()
        word = FUNCTION_BY_NAME.get(name)
        if word is None:
            near = f"write {_SUGGEST[name]}" if name in _SUGGEST else nearest(name, FUNCTION_BY_NAME)
            functions = f"the functions are {', '.join(FUNCTION_BY_NAME)}"
            self.fail(f"no function {token.text}", hint=f"{near}; {functions}" if near else functions, at=token.at)
        self.advance()
        if self.token.upper == ")":
            self.fail(f"{name} needs arguments", hint=f"write {word.form}")
        arguments = self.items(f"arguments of {name}")
        least, most = word.arguments
        if len(arguments) < least or (most is not None and len(arguments) > most):
            self.fail(f"{name} does not take {len(arguments)} arguments", hint=f"write {word.form}", at=token.at)
        return FunctionCall(name, arguments)


def _dtype(name: str) -> dtypes.DType:
    """A type by its name in any case: `int64`, `Decimal(12, 2)`."""
    name = "".join(name.split())
    by_case: dict[str, Callable[[], str] | str] = {
        known.lower(): known for known in (*dtypes.SCALARS, "Array", "Embedding")
    }
    return dtypes.parse(re.sub(r"[A-Za-z]\w*", lambda word: str(by_case.get(word.group().lower(), word.group())), name))
