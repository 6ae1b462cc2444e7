"""The operators, functions and casts of the expression language, each with its meaning, for parser and docs."""

from __future__ import annotations

from dataclasses import dataclass

RESERVED = frozenset("AND AS BETWEEN CASE CAST ELSE END FALSE IN IS LIKE NOT NULL OR THEN TRUE WHEN".split())
"""Keywords, which are columns only in double quotes. `date` and `timestamp` are columns unless a string follows."""

MAX_TEXT = 10_000
"""Maximum characters of an expression."""
MAX_DEPTH = 100
"""Maximum nodes from the root to the deepest leaf."""


@dataclass(frozen=True)
class ReferenceEntry:
    """One entry of the reference page.

    Args:
        name: how an operator or a function is called.
        form: how it is written.
        meaning: its result, in one line.
        arguments: least and greatest number of arguments of a function; the greatest None where there is no limit.
    """

    name: str
    form: str
    meaning: str
    arguments: tuple[int, int | None] = (0, 0)


_COMPARISON = "False or true; null where a side is null. NaN equals itself and is the greatest number"

OPERATORS: tuple[ReferenceEntry, ...] = (
    ReferenceEntry("OR", "a OR b", "True if one side is; null if none is and one is null"),
    ReferenceEntry("AND", "a AND b", "False if one side is; null if none is and one is null"),
    ReferenceEntry("NOT", "NOT a", "The opposite; null of null"),
    ReferenceEntry("=", "a = b", f"Equal. {_COMPARISON}. Also written =="),
    ReferenceEntry("<>", "a <> b", f"Not equal. {_COMPARISON}. Also written !="),
    ReferenceEntry("<", "a < b", f"Less. {_COMPARISON}; strings compare by code point"),
    ReferenceEntry("<=", "a <= b", f"Less or equal. {_COMPARISON}; strings compare by code point"),
    ReferenceEntry(">", "a > b", f"Greater. {_COMPARISON}; strings compare by code point"),
    ReferenceEntry(">=", "a >= b", f"Greater or equal. {_COMPARISON}; strings compare by code point"),
    ReferenceEntry("IS NULL", "a IS [NOT] NULL", "Whether there is no value; NaN is a value"),
    ReferenceEntry("IN", "a [NOT] IN (b, c)", "Equal to one of the list; null if equal to none and one is null"),
    ReferenceEntry("BETWEEN", "a [NOT] BETWEEN b AND c", "b <= a AND a <= c"),
    ReferenceEntry(
        "LIKE", "a [NOT] LIKE 'pattern'", "Matches whole: % is any text, _ one code point; a backslash is itself"
    ),
    ReferenceEntry("+", "a + b", "Sum: integers give Int64, an integer and a float Float64; outside Int64 is null"),
    ReferenceEntry("-", "a - b", "Difference, as the sum"),
    ReferenceEntry("*", "a * b", "Product, as the sum; of Decimals the scales add up"),
    ReferenceEntry("/", "a / b", "Quotient, always Float64; null where b is 0"),
    ReferenceEntry("%", "a % b", "Remainder of integers, with the sign of a; null where b is 0"),
    ReferenceEntry("unary -", "-a", "The negative; of the least Int64 null"),
)

FUNCTIONS: tuple[ReferenceEntry, ...] = (
    ReferenceEntry("coalesce", "COALESCE(a, b, ...)", "The first that is not null", (1, None)),
    ReferenceEntry("nullif", "NULLIF(a, b)", "Null where a equals b, otherwise a", (2, 2)),
    ReferenceEntry(
        "lower", "lower(text)", "A to Z in lower case; other characters stay as they are, in every engine", (1, 1)
    ),
    ReferenceEntry(
        "upper", "upper(text)", "a to z in upper case; other characters stay as they are, in every engine", (1, 1)
    ),
    ReferenceEntry("length", "length(text)", "Code points", (1, 1)),
    ReferenceEntry(
        "substr",
        "substr(text, start[, count])",
        "The code points start to start + count - 1, counted from 1; positions before the first are skipped",
        (2, 3),
    ),
    ReferenceEntry("abs", "abs(number)", "Without its sign; of the least Int64 null", (1, 1)),
    ReferenceEntry(
        "round",
        "round(number)",
        "The nearest whole number, halves away from zero; Float64 stays, integers as is",
        (1, 1),
    ),
    ReferenceEntry(
        "floor", "floor(number)", "The greatest whole number not above; Float64 stays, integers as they are", (1, 1)
    ),
)

SPECIAL_FORMS: tuple[ReferenceEntry, ...] = (
    ReferenceEntry(
        "CASE", "CASE WHEN a THEN b [ELSE c] END", "b of the first a that is true, otherwise c, or null without ELSE"
    ),
    ReferenceEntry("CASE value", "CASE x WHEN a THEN b [ELSE c] END", "b of the first a that equals x"),
    ReferenceEntry("CAST", "CAST(a AS type)", "a as another type; null where it does not fit"),
)

LITERALS: tuple[ReferenceEntry, ...] = (
    ReferenceEntry("String", "'it''s'", "Text; a quote is doubled, a backslash is itself"),
    ReferenceEntry("Int64", "42", "A whole number within Int64"),
    ReferenceEntry("Float64", "4.2, 1e3", "A Float64; next to a Decimal, the Decimal as written"),
    ReferenceEntry("Bool", "TRUE, FALSE", "Truth values"),
    ReferenceEntry("null", "NULL", "No value, of any type"),
    ReferenceEntry("Date", "DATE '2026-01-31'", "A day"),
    ReferenceEntry(
        "Timestamp", "TIMESTAMP '2026-01-31T12:00:00Z'", "A time; UTC without an offset, up to microseconds"
    ),
    ReferenceEntry("column", 'page or "a page"', "A column by its exact name"),
)

SUPPORTED: dict[str, tuple[ReferenceEntry, ...]] = {
    "literals": LITERALS,
    "operators": OPERATORS,
    "functions": FUNCTIONS,
    "special forms": SPECIAL_FORMS,
}
"""All operators and functions by heading, the source of the reference page."""

FUNCTION_BY_NAME = {word.name: word for word in FUNCTIONS}

INTEGER_TEXT = r"[+-]?[0-9]{1,38}"
DECIMAL_TEXT = r"[+-]?(?:[0-9]{1,255}(?:[.][0-9]{0,255})?|[.][0-9]{1,255})"
FLOAT_TEXT = DECIMAL_TEXT + r"(?:[eE][+-]?[0-9]{1,3})?"
_MONTH_DAY = r"-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])"
DATE_TEXT = rf"(?:[1-9][0-9]{{3}}|0[1-9][0-9]{{2}}|00[1-9][0-9]|000[1-9]){_MONTH_DAY}"
_TIME = r"[T ](?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:[.][0-9]{1,6})?"
UTC_TEXT = rf"{DATE_TEXT}(?:{_TIME}Z?)?"
# Only in years where the time in UTC cannot leave the years 1 to 9999.
OFFSET_TEXT = rf"(?:[1-8][0-9]{{3}}|9[0-8][0-9]{{2}}){_MONTH_DAY}{_TIME}[+-](?:0[0-9]|1[0-5]):[0-5][0-9]"
TIMESTAMP_TEXT = f"(?:{UTC_TEXT}|{OFFSET_TEXT})"
"""Texts that CAST accepts from a String (others are null), as regular expressions for Python, RE2 and Postgres."""
