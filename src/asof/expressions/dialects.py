"""Differences between engines: type names and the SQL form of each operation, one table per dialect."""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from asof.expressions.language import (
    DATE_TEXT,
    DECIMAL_TEXT,
    FLOAT_TEXT,
    INTEGER_TEXT,
    OFFSET_TEXT,
    TIMESTAMP_TEXT,
    UTC_TEXT,
)
from asof.sql.quoting import quote, quote_spark, text, text_spark


@dataclass(frozen=True)
class SqlForms:
    """The SQL of each operation in one engine: `{a}`, `{b}`, `{x}` are operands; each form needs no brackets around it
    (CASE, call).

    Args:
        types: SQL names by type; Decimal has its precision and scale added.
        forms: SQL by operation; `A>B` are casts.
        binds: whether an operand that a form uses more than once is computed once, in a subquery; otherwise it is
            written out again (where the engine computes common parts once by itself, and a subquery would cost more).
        quote: a name as SQL.
        text: a string as SQL.
    """

    name: str
    types: Mapping[str, str]
    forms: Mapping[str, str]
    binds: bool
    quote: Callable[[str], str] = quote
    text: Callable[[str], str] = text


_ANY: dict[str, str] = {
    "lower": f"translate({{x}}, {text(string.ascii_uppercase)}, {text(string.ascii_lowercase)})",
    "upper": f"translate({{x}}, {text(string.ascii_lowercase)}, {text(string.ascii_uppercase)})",
    "negative": "(-{x})",
    "decimal negative": "(-{x})",
    "abs": "abs({x})",
    "decimal abs": "abs({x})",
    "substr": (
        "substr({x}, CAST(CASE WHEN {s} < 1 THEN 1 WHEN {s} > 2000000000 THEN 2000000000 ELSE {s} END AS {index}))"
    ),
    "substr_count": (
        "substr({x}, CAST(CASE WHEN {s} < 1 THEN 1 WHEN {s} > 2000000000 THEN 2000000000 ELSE {s} END AS {index}), "
        "CAST(CASE WHEN {c} <= 0 THEN 0 WHEN {s} < 1 THEN CASE WHEN {end} <= 0 THEN 0 WHEN {end} > 2000000000 "
        "THEN 2000000000 ELSE {end} END WHEN {c} > 2000000000 THEN 2000000000 ELSE {c} END AS {index}))"
    ),
    "Bool>Int": "CAST(CASE {x} WHEN TRUE THEN 1 WHEN FALSE THEN 0 END AS {type})",
    "Bool>String": "CASE {x} WHEN TRUE THEN 'true' WHEN FALSE THEN 'false' END",
    "Int>Bool": "CASE {x} WHEN 0 THEN FALSE WHEN 1 THEN TRUE END",
    "Int>Float": "CAST({x} AS {type})",
    "Int>String": "CAST({x} AS {type})",
    "String>Bool": "CASE {x} WHEN 'true' THEN TRUE WHEN 'false' THEN FALSE END",
    "Json>String": "CAST({x} AS {type})",
    "Timestamp>Date": "CAST(({x} AT TIME ZONE 'UTC') AS {type})",
    "timestamp": "TIMESTAMPTZ '{iso}'",
    "nullif": "NULLIF({a}, {b})",
    "decimal +": "({a} + {b})",
    "decimal -": "({a} - {b})",
    "decimal *": "({a} * {b})",
}

DUCKDB = SqlForms(
    name="duckdb",
    binds=False,
    types={
        "Bool": "BOOLEAN",
        "Int32": "INTEGER",
        "Int64": "BIGINT",
        "wide": "HUGEINT",
        "index": "BIGINT",
        "Float32": "FLOAT",
        "Float64": "DOUBLE",
        "Decimal": "DECIMAL",
        "String": "VARCHAR",
        "Json": "VARCHAR",
        "Bytes": "BLOB",
        "Date": "DATE",
        "Timestamp": "TIMESTAMPTZ",
    },
    forms={
        **_ANY,
        # Statistics of Parquet files leave NaN out, and the optimizer takes them for bounds of all values: it folds
        # `x < 1` to true where the greatest number is below 1. It knows no bounds of this.
        "float column": "CASE WHEN isnan({x}) THEN CAST('nan' AS {type}) ELSE {x} END",
        "collated": "{x}",
        "like": "({a} {operator} {b})",
        "length": "length({x})",
        # HUGEINT holds every sum and product of two BIGINT.
        "narrow": "TRY_CAST({x} AS BIGINT)",
        "remainder": "CAST(({a} % NULLIF({b}, 0)) AS BIGINT)",
        "float +": "({a} + {b})",
        "float -": "({a} - {b})",
        "float *": "({a} * {b})",
        "float /": "({a} / NULLIF({b}, 0))",
        "float round": "round({x})",
        "float floor": "floor({x})",
        # DECIMAL arithmetic raises on overflow, and holds a little more than 38 digits before it does.
        "decimal fit": "TRY_CAST(CAST(TRY({x}) AS VARCHAR) AS {type})",
        "decimal round": "CAST(round({x}, 0) AS {type})",
        "decimal floor": "CAST(floor({x}) AS {type})",
        "Int>Int": "TRY_CAST({x} AS {type})",
        "Int>Decimal": "TRY_CAST({x} AS {type})",
        "Float>Int": "CASE WHEN {x} = trunc({x}) THEN TRY_CAST({x} AS {type}) END",
        "Float>Float": "TRY_CAST({x} AS {type})",
        # Via the shortest text, which is the same everywhere; engines round the binary value differently.
        # First 38 digits wide: a narrow DECIMAL refuses a text like 1e-200.
        "Float>Decimal": "TRY_CAST(TRY_CAST(CAST({x} AS VARCHAR) AS DECIMAL(38, {scale})) AS {type})",
        "Decimal>Int": "CASE WHEN {x} = floor({x}) THEN TRY_CAST({x} AS {type}) END",
        # Not DECIMAL to DOUBLE directly: that divides, and is sometimes off by one bit.
        "Decimal>Float": "CAST(CAST({x} AS VARCHAR) AS {type})",
        "Decimal>Decimal": "TRY_CAST({x} AS {type})",
        "Decimal>String": "CAST({x} AS VARCHAR)",
        # DECIMAL(2,2) is written as .50.
        "Decimal>String all fraction": "regexp_replace(CAST({x} AS VARCHAR), '^-?', '\\00')",
        "String>Int": f"TRY_CAST(regexp_extract({{x}}, '^({INTEGER_TEXT})$') AS {{type}})",
        "String>Float": (
            f"NULLIF(NULLIF(TRY_CAST(regexp_extract({{x}}, '^({FLOAT_TEXT})$') AS {{type}}), "
            "CAST('inf' AS {type})), CAST('-inf' AS {type}))"
        ),
        "String>Decimal": f"TRY_CAST(regexp_extract({{x}}, '^({DECIMAL_TEXT})$') AS {{type}})",
        "String>Date": f"TRY_CAST(regexp_extract({{x}}, '^({DATE_TEXT})$') AS {{type}})",
        # TIMESTAMP drops an offset; TIMESTAMPTZ reads text without an offset in the session's time zone.
        "String>Timestamp": (
            f"COALESCE((TRY_CAST(regexp_extract({{x}}, '^({UTC_TEXT})$') AS TIMESTAMP) AT TIME ZONE 'UTC'), "
            f"TRY_CAST(regexp_extract({{x}}, '^({OFFSET_TEXT})$') AS TIMESTAMPTZ))"
        ),
        "Date>String": "strftime({x}, '%Y-%m-%d')",
        "Date>Timestamp": "(CAST({x} AS TIMESTAMP) AT TIME ZONE 'UTC')",
        "Timestamp>String": "strftime(({x} AT TIME ZONE 'UTC'), '%Y-%m-%dT%H:%M:%S.%fZ')",
    },
)

_INF = "CAST('Infinity' AS double precision)"
# Powers of two: scaling by them is exact, so a scaled result shows in advance where Postgres would raise an error.
_UP, _DOWN, _LEAST = "1.3407807929942597e154", "7.458340731200207e-155", "4.440892098500626e-16"
_INT64 = "-9223372036854775808 AND 9223372036854775807"
_DAY_EXISTS = (
    "CAST(substr({x}, 9, 2) AS int) <= EXTRACT(DAY FROM make_date(CAST(substr({x}, 1, 4) AS int), "
    "CAST(substr({x}, 6, 2) AS int), 1) + INTERVAL '1 month -1 day')"
)
_FIT = "CASE WHEN abs({x}) < {limit} THEN CAST({x} AS {type}) END"
_ROUNDED_FIT = "CASE WHEN abs(round({x}, {scale})) < {limit} THEN CAST({x} AS {type}) END"

POSTGRES = SqlForms(
    name="postgres",
    binds=True,
    types={
        "Bool": "boolean",
        "Int32": "integer",
        "Int64": "bigint",
        "wide": "numeric",
        "index": "integer",
        "Float32": "real",
        "Float64": "double precision",
        "Decimal": "numeric",
        "String": "text",
        "Json": "text",
        "Bytes": "bytea",
        "Date": "date",
        "Timestamp": "timestamptz",
    },
    forms={
        **_ANY,
        "collated": '({x} COLLATE "C")',
        "like": "(({a} COLLATE \"C\") {operator} {b} ESCAPE '')",
        "length": "CAST(length({x}) AS bigint)",
        "narrow": f"CASE WHEN {{x}} BETWEEN {_INT64} THEN CAST({{x}} AS bigint) END",
        "remainder": "CAST(mod({a}, NULLIF({b}, 0)) AS bigint)",
        # Postgres raises where other engines return infinity or zero, so the form checks first.
        "float +": (
            f"CASE WHEN abs({{a}}) < 1e280 OR abs({{b}}) < 1e280 OR abs({{a}}) >= {_INF} OR abs({{b}}) >= {_INF} "
            f"THEN {{a}} + {{b}} WHEN abs({{a}} * 0.5 + {{b}} * 0.5) > 8.988465674311579e307 THEN sign({{a}}) * {_INF} "
            "ELSE {a} + {b} END"
        ),
        "float -": (
            f"CASE WHEN abs({{a}}) < 1e280 OR abs({{b}}) < 1e280 OR abs({{a}}) >= {_INF} OR abs({{b}}) >= {_INF} "
            f"THEN {{a}} - {{b}} WHEN abs({{a}} * 0.5 - {{b}} * 0.5) > 8.988465674311579e307 THEN sign({{a}}) * {_INF} "
            "ELSE {a} - {b} END"
        ),
        "float *": (
            f"CASE WHEN abs({{a}}) >= {_INF} OR abs({{b}}) >= {_INF} OR {{a}} = 0 OR {{b}} = 0 THEN {{a}} * {{b}} "
            f"WHEN abs({{a}}) >= 1 AND abs({{b}}) >= 1 THEN CASE WHEN abs(({{a}} * {_DOWN}) * ({{b}} * {_DOWN})) >= 1 "
            f"THEN sign({{a}}) * sign({{b}}) * {_INF} ELSE {{a}} * {{b}} END "
            "WHEN abs({a}) < 1e-200 AND abs({b}) < 1e-200 THEN 0 WHEN abs({a}) < 1 AND abs({b}) < 1 "
            f"THEN CASE WHEN abs(({{a}} * {_UP}) * ({{b}} * {_UP})) <= {_LEAST} THEN 0 ELSE {{a}} * {{b}} END "
            "ELSE {a} * {b} END"
        ),
        "float /": (
            f"CASE WHEN {{b}} = 0 THEN NULL WHEN abs({{a}}) >= {_INF} OR abs({{b}}) >= {_INF} OR {{a}} = 0 "
            f"THEN {{a}} / {{b}} WHEN abs({{b}}) < 1 AND abs({{a}}) >= 1 THEN CASE WHEN abs({{a}}) >= {_UP} "
            f"AND abs({{b}}) <= {_DOWN} * 0.5 THEN sign({{a}}) * sign({{b}}) * {_INF} "
            f"WHEN abs(({{a}} * {_DOWN}) / ({{b}} * {_UP})) >= 1 THEN sign({{a}}) * sign({{b}}) * {_INF} "
            "ELSE {a} / {b} END WHEN abs({b}) < 1e-300 AND abs({a}) >= 1e-20 "
            f"THEN CASE WHEN abs({{a}} / ({{b}} * {_UP} * {_UP})) >= 1 THEN sign({{a}}) * sign({{b}}) * {_INF} "
            "ELSE {a} / {b} END WHEN abs({a}) < 1 AND abs({b}) > 1 "
            f"THEN CASE WHEN abs(({{a}} * {_UP}) / ({{b}} * {_DOWN})) <= {_LEAST} THEN 0 ELSE {{a}} / {{b}} END "
            "ELSE {a} / {b} END"
        ),
        # round() of a double goes to the even neighbour.
        "float round": (
            "CASE WHEN abs({x}) >= 4503599627370496 THEN {x} ELSE sign({x}) * (trunc(abs({x})) + "
            "CASE WHEN abs({x}) - trunc(abs({x})) >= 0.5 THEN 1 ELSE 0 END) END"
        ),
        "float floor": "floor({x})",
        "decimal fit": _FIT,
        "decimal round": "CAST(round({x}, 0) AS {type})",
        "decimal floor": "CAST(floor({x}) AS {type})",
        "Int>Int": "CASE WHEN {x} BETWEEN {least} AND {greatest} THEN CAST({x} AS {type}) END",
        "Int>Decimal": _FIT,
        "Float>Int": (
            "CASE WHEN {x} = trunc({x}) AND {x} >= CAST('{least}' AS double precision) "
            "AND {x} < CAST('{beyond}' AS double precision) THEN CAST({x} AS {type}) END"
        ),
        "Float>Float": (
            f"CASE WHEN abs({{x}}) >= {_INF} THEN CAST({{x}} AS real) "
            "WHEN abs({x}) >= 3.4028235677973366e38 THEN NULL "
            "WHEN abs({x}) <= 7.006492321624085e-46 THEN 0 ELSE CAST({x} AS real) END"
        ),
        "Float>Decimal": _ROUNDED_FIT,
        "Decimal>Int": (
            "CASE WHEN {x} = trunc({x}) AND {x} BETWEEN {least} AND {greatest} THEN CAST({x} AS {type}) END"
        ),
        "Decimal>Float": "CAST({x} AS {type})",
        "Decimal>Decimal": _ROUNDED_FIT,
        "Decimal>String": "CAST(CAST({x} AS {source}) AS text)",
        "Decimal>String all fraction": "CAST(CAST({x} AS {source}) AS text)",
        "String>Int": "CASE WHEN CAST({x} AS numeric) BETWEEN {least} AND {greatest} THEN CAST({x} AS {type}) END",
        "String>Float": (
            "CASE WHEN abs({x}) >= 1.797693134862315807937e308 THEN NULL "
            "WHEN abs({x}) <= 2.4703282292062327e-324 THEN 0 "
            "ELSE CAST({x} AS {type}) END"
        ),
        "String>Decimal": _ROUNDED_FIT,
        "String>Date": f"CASE WHEN {_DAY_EXISTS} THEN CAST({{x}} AS date) END",
        "String>Timestamp": (
            f"CASE WHEN {_DAY_EXISTS} THEN CAST(CASE WHEN length({{x}}) = 10 THEN {{x}} || 'T00:00:00Z' "
            "WHEN {x} ~ '(Z|[+-][0-9]{2}:[0-9]{2})$' THEN {x} ELSE {x} || 'Z' END AS timestamptz) END"
        ),
        "Date>String": "to_char({x}, 'YYYY-MM-DD')",
        "Date>Timestamp": "(CAST({x} AS timestamp) AT TIME ZONE 'UTC')",
        "Timestamp>String": "to_char(({x} AT TIME ZONE 'UTC'), 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')",
        # The input of a cast from String: only text of the grammar, as a number where needed.
        # abs() of the least bigint is an error.
        "Int>Decimal reads": "CAST({x} AS numeric)",
        "Float>Decimal reads": "CAST(CAST({x} AS text) AS numeric)",
        "String>Int reads": f"substring({{x}} from '^({INTEGER_TEXT})$')",
        "String>Float reads": f"CAST(substring({{x}} from '^({FLOAT_TEXT})$') AS numeric)",
        "String>Decimal reads": f"CAST(substring({{x}} from '^({DECIMAL_TEXT})$') AS numeric)",
        "String>Date reads": f"substring({{x}} from '^({DATE_TEXT})$')",
        "String>Timestamp reads": f"substring({{x}} from '^({TIMESTAMP_TEXT})$')",
    },
)


def _found(grammar: str) -> str:
    """The whole of a text of the grammar; else an empty one, which no cast takes. `$` would let a newline be."""
    return f"regexp_extract({{x}}, '^({grammar})\\\\z', 1)"


SPARK = SqlForms(
    name="spark",
    binds=False,
    types={
        "Bool": "BOOLEAN",
        "Int32": "INT",
        "Int64": "BIGINT",
        "wide": "DECIMAL(38,0)",
        "index": "INT",
        "Float32": "FLOAT",
        "Float64": "DOUBLE",
        "Decimal": "DECIMAL",
        "String": "STRING",
        "Json": "STRING",
        "Bytes": "BINARY",
        "Date": "DATE",
        "Timestamp": "TIMESTAMP",
    },
    forms={
        **_ANY,
        "timestamp": "timestamp_micros({us})",
        "collated": "{x}",
        # A backslash escapes in every pattern, so each is doubled.
        "like": r"({a} {operator} replace({b}, '\\', '\\\\'))",
        "length": "CAST(length({x}) AS BIGINT)",
        # Products of two BIGINT have 38 digits.
        "narrow": "try_cast({x} AS BIGINT)",
        "remainder": "CAST(({a} % NULLIF({b}, 0)) AS BIGINT)",
        "float +": "({a} + {b})",
        "float -": "({a} - {b})",
        "float *": "({a} * {b})",
        # NULLIF takes -0.0 for another number than 0.0.
        "float /": "CASE WHEN {b} = 0 THEN NULL ELSE {a} / {b} END",
        "nullif": "CASE WHEN ({a} = {b}) THEN NULL ELSE {a} END",
        # No position is the first.
        "substr": f"CASE WHEN {{s}} IS NOT NULL THEN {_ANY['substr']} END",
        "substr_count": f"CASE WHEN {{s}} IS NOT NULL AND {{c}} IS NOT NULL THEN {_ANY['substr_count']} END",
        "float round": "round({x})",
        # floor() of a double is a BIGINT.
        "float floor": "CASE WHEN abs({x}) >= 4503599627370496D THEN {x} ELSE CAST(floor({x}) AS DOUBLE) END",
        # The unary minus rounds to 34 digits.
        "decimal negative": "(0 - {x})",
        "decimal abs": "CASE WHEN {x} < 0 THEN 0 - {x} ELSE {x} END",
        "decimal +": "try_add({a}, {b})",
        "decimal -": "try_subtract({a}, {b})",
        "decimal *": "try_multiply({a}, {b})",
        "decimal fit": "try_cast({x} AS {type})",
        "decimal round": "CAST(round({x}, 0) AS {type})",
        "decimal floor": "CAST(floor({x}) AS {type})",
        "Int>Int": "try_cast({x} AS {type})",
        "Int>Decimal": "try_cast({x} AS {type})",
        # The cast takes 2^63, which is a float, for the greatest BIGINT.
        "Float>Int": (
            "CASE WHEN {x} < CAST('{beyond}' AS DOUBLE) AND {x} = CAST(try_cast({x} AS BIGINT) AS DOUBLE) "
            "THEN try_cast({x} AS {type}) END"
        ),
        "Float>Float": (
            "CASE WHEN abs({x}) >= CAST('Infinity' AS DOUBLE) THEN CAST({x} AS {type}) "
            "WHEN abs({x}) < 3.4028235677973366e38D THEN CAST({x} AS {type}) END"
        ),
        # By the shortest text, as in the other engines.
        "Float>Decimal": "try_cast(CAST({x} AS STRING) AS {type})",
        "Decimal>Int": "CASE WHEN {x} % 1 = 0 THEN try_cast({x} AS {type}) END",
        "Decimal>Float": "CAST(CAST({x} AS STRING) AS {type})",
        "Decimal>Decimal": "try_cast({x} AS {type})",
        "Decimal>String": "CAST({x} AS STRING)",
        "Decimal>String all fraction": "CAST({x} AS STRING)",
        "String>Int": "try_cast({x} AS {type})",
        "String>Float": (
            "NULLIF(NULLIF(try_cast({x} AS {type}), CAST('Infinity' AS {type})), CAST('-Infinity' AS {type}))"
        ),
        "String>Decimal": "try_cast({x} AS {type})",
        "String>Date": "try_cast({x} AS {type})",
        "String>Timestamp": "try_cast({x} AS {type})",
        "Date>String": "CAST({x} AS STRING)",
        "Date>Timestamp": "timestamp_micros(CAST(unix_date({x}) AS BIGINT) * 86400000000)",
        "Timestamp>Date": "CAST({x} AS {type})",
        "Timestamp>String": "date_format({x}, 'yyyy-MM-dd\\'T\\'HH:mm:ss.SSSSSS\\'Z\\'')",
        # The input of a cast from String: only text of the grammar.
        "String>Int reads": _found(INTEGER_TEXT),
        "String>Float reads": _found(FLOAT_TEXT),
        "String>Decimal reads": _found(DECIMAL_TEXT),
        "String>Date reads": _found(DATE_TEXT),
        "String>Timestamp reads": _found(TIMESTAMP_TEXT),
    },
    quote=quote_spark,
    text=text_spark,
)
"""Spark's, in a session whose zone is UTC, with ANSI mode and without loss of decimals' digits."""

_GREATEST = "CAST('{greatest}' AS {type})"
_SHORT = "CAST({x} AS STRING)"
_DIGITS = f"replace(regexp_extract({_SHORT}, '^-?([0-9.]+)', 1), '.', '')"
_EXPONENT = f"CAST(regexp_extract({_SHORT}, 'e(-?[0-9]+)$', 1) AS INT)"


def _checked(operator: str) -> str:
    """A decimal of 38 digits at most: 128 bits hold half as much again, so the doubles need to be near only."""
    near, exact = f"CAST({{a}} AS DOUBLE) {operator} CAST({{b}} AS DOUBLE)", f"{{a}} {operator} {{b}}"
    return f"CASE WHEN abs({near}) < 1.1D * {{limit}}D THEN CASE WHEN abs({exact}) <= {_GREATEST} THEN {exact} END END"


CHECKED_SPARK = replace(
    SPARK,
    name="spark_checked",
    forms={
        **SPARK.forms,
        "decimal +": _checked("+"),
        "decimal -": _checked("-"),
        "decimal *": _checked("*"),
        # No exponent is read as a decimal's.
        "Float>Decimal": (
            f"CASE WHEN {_SHORT} LIKE '%e-%' THEN try_cast(concat(CASE WHEN {{x}} < 0 THEN '-0.' ELSE '0.' END, "
            f"repeat('0', least(-{_EXPONENT} - 1, 40)), {_DIGITS}) AS {{type}}) "
            f"WHEN {_SHORT} LIKE '%e%' THEN try_cast(concat(CASE WHEN {{x}} < 0 THEN '-' ELSE '' END, "
            f"rpad({_DIGITS}, {_EXPONENT} + 1, '0')) AS {{type}}) ELSE try_cast({_SHORT} AS {{type}}) END"
        ),
    },
)
"""Of engines of Spark's SQL without `try_add` of decimals, which raise an error beyond 38 digits."""

DIALECTS: dict[str, SqlForms] = {dialect.name: dialect for dialect in (DUCKDB, POSTGRES, SPARK, CHECKED_SPARK)}
