"""What every engine must return for the expression language: each operator with nulls, negatives and extremes.

Over 400 lines: a suite is one class, which a product subclasses as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal as Number
from itertools import product
from math import inf, isnan, nan
from typing import Any

import pytest

from asof.dtypes import Bool, Bytes, Date, Decimal, DType, Float32, Float64, Int32, Int64, Json, String, Timestamp
from asof.expressions import check, parse, print_sql
from asof.testing.evaluator import evaluate

Rows = Sequence[Mapping[str, object]]
Run = Callable[[Sequence[str], Rows, Mapping[str, DType]], "list[tuple[object, ...]]"]
"""`run(columns, rows, schema)`: the values of these SQL texts over a table of `rows`, a tuple per row, in their order.

The table's columns are named as in `schema` and have the engine's types for it. Values are as `evaluate` returns them.
"""

INTEGERS = (None, 0, 1, -1, 2, 7, -7, 3, 10**10, 2**53 + 1, 2**62, 2**63 - 1, -(2**63), -(2**63) + 1)
SMALL_INTEGERS = (None, 0, 5, -5, 2**31 - 1, -(2**31))
FLOATS = (
    *(None, 0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.5, -2.5, 0.49999999999999994, 1e16, 0.1, -7.25, 12345.675),
    *(
        2.0**63,
        -(2.0**63),
        2.0**31,
        9.007199254740993e15,
        1.7976931348623157e308,
        -1.7976931348623157e308,
        1e308,
        5e-324,
    ),
    *(-5e-324, 2.2250738585072014e-308, 1e-200, 1e-300, 1e200, 1.5e-45, 3.4028235677973366e38, 3.5e38, inf, -inf, nan),
)
SHORT_FLOATS = (None, 0.0, -1.5, 0.10000000149011612, 3.4028234663852886e38, -inf, nan)
DECIMALS = tuple(
    None if text is None else Number(text)
    for text in (
        None,
        "0",
        "1",
        "-1",
        "0.5",
        "-0.5",
        "2.5",
        "-2.5",
        "9.99",
        "-0.01",
        "0.1",
        "9999999999.99",
        "-9999999999.99",
    )
)
HUGE_DECIMALS = tuple(
    None if text is None else Number(text)
    for text in (None, "0", "1e-9", "-2.5", "1e15", "1e20", "6e28", "-6e28", "99999999999999999999999999999.999999999")
)
STRINGS = (
    *(None, "", " ", "a", "A", "abc", "aBc", "b", "é", "É", "ß", "z", "ab", "😀", "a😀b", "\uffff", "e\u0301", "中文"),
    *("a_b", "a%b", "a\\b", "\\", "%", "_", "a\nb", "it's", '"', "İ", "ǅ", "{x}"),
)
NUMERALS = (
    *("0", "-0", "+5", "007", "-7", "9223372036854775807", "9223372036854775808", "-9223372036854775808", "2147483648"),
    *("1.5", "1.", ".5", ".", "-.5", "1e3", "1E-3", "1e400", "-1e400", "1e-400", "4.9e-324", "2e-324", "0x10", "1_000"),
    *(" 1", "1 ", "1\n", "", "+", "-", "--1", "1e", "e1", "inf", "nan", "NaN", "Infinity", "٣", "9" * 38, "9" * 39),
    *(
        "0.1",
        "123456789.123456789123456789",
        "0.125",
        "-0.125",
        "2.675",
        "1.7976931348623157e308",
        "1.7976931348623159e308",
    ),
    *("true", "TRUE", "False", "t", "yes", "1e0005", "0.004999999999999999999999999", "0.005", "-0.001", None),
)
MOMENTS = (
    *("2024-02-29", "2023-02-29", "2024-04-31", "2024-12-31", "0001-01-01", "0000-01-01", "9999-12-31", "2024-13-01"),
    *("2024-1-1", "2024-01-01T00:00:00", "2024-01-01 23:59:59.999999", "2024-01-01T23:59:60", "2024-01-01T24:00:00"),
    *("2024-01-01T10:00:00Z", "2024-01-01T10:00:00.5Z", "2024-01-01T10:00:00+02:00", "2024-01-01T10:00:00-05:30"),
    *("2024-01-01T10:00:00+15:59", "2024-01-01T10:00:00+16:00", "9999-12-31T23:59:59-01:00", "2024-01-01T10:00", "now"),
    *(
        "epoch",
        "infinity",
        "today",
        "2024-01-01T10:00:00.1234567",
        "2024-01-01T10:00:00 UTC",
        "20240101",
        "1969-12-31",
        None,
    ),
    *("2023-02-29T00:00:00Z", "1900-02-29T00:00:00", "0001-01-01T00:00:00", " 2024-01-01", "2024-01-01\n", ""),
)
DATES = (None, date(1, 1, 1), date(1969, 12, 31), date(1970, 1, 1), date(2024, 2, 29), date(9999, 12, 31))
TIMES = (
    None,
    datetime(1, 1, 1, tzinfo=UTC),
    datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    datetime(1970, 1, 1, tzinfo=UTC),
    datetime(2024, 2, 29, 23, 30, 0, 1, tzinfo=UTC),
    datetime(2024, 3, 1, tzinfo=UTC),
    datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
)
TRUTHS = (None, True, False)
COMPARISONS = ("=", "<>", "<", "<=", ">", ">=")


def pairs(first: Sequence[object], second: Sequence[object]) -> list[dict[str, object]]:
    """A row for each pair, as the columns a and b."""
    return [{"a": a, "b": b} for a, b in product(first, second)]


def _same(found: Any, expected: Any) -> bool:
    if found is None or expected is None:
        return found is expected
    if isinstance(expected, float):
        return isinstance(found, float) and (found == expected or (isnan(found) and isnan(expected)))
    return type(found) is type(expected) and found == expected


class ExpressionSuite:
    """Subclass it and give the fixture `run`; set `dialect` to the dialect that the engine reads."""

    dialect = "duckdb"

    @pytest.fixture
    def run(self) -> Run:
        raise NotImplementedError("give a fixture `run` that evaluates SQL texts over rows")

    def agree(self, run: Run, texts: Sequence[str], rows: Rows, **schema: DType) -> None:
        """Every expression returns, for every row, what the Python evaluator returns, in the type that `check` says."""
        trees = [parse(text) for text in texts]
        for tree in trees:
            check(tree, schema)
        answers = run([print_sql(tree, self.dialect, schema=schema) for tree in trees], rows, schema)
        assert len(answers) == len(rows)
        wrong = [
            f"{text} over {row}: {found!r}, expected {expected!r}"
            for row, answer in zip(rows, answers)
            for text, tree, found in zip(texts, trees, answer)
            if not _same(found, expected := evaluate(tree, row, schema=schema))
        ]
        assert not wrong, f"{len(wrong)} wrong results:\n" + "\n".join(wrong[:20])

    def test_truth_has_three_values(self, run: Run) -> None:
        texts = [
            "a AND b",
            "a OR b",
            "NOT a",
            "a IS NULL",
            "a IS NOT NULL",
            "a = b",
            "a < b",
            "a OR NULL",
            "a AND NULL AND b",
        ]
        self.agree(run, [*texts, "NOT (a OR b) = b", "a IN (b, TRUE)"], pairs(TRUTHS, TRUTHS), a=Bool, b=Bool)

    def test_integers_stay_integers_and_overflow_is_null(self, run: Run) -> None:
        texts = [
            "a + b",
            "a - b",
            "a * b",
            "a % b",
            "-a",
            "abs(a)",
            "round(a)",
            "floor(a)",
            "a + b - b",
            "a * b * 0",
            "a % 3",
        ]
        self.agree(run, [*texts, "a + 1", "a - -9223372036854775808"], pairs(INTEGERS, INTEGERS), a=Int64, b=Int64)

    def test_small_integers_are_widened(self, run: Run) -> None:
        texts = ["a + b", "a * b", "-a", "abs(a)", "a % b", "a = b", "a < 3000000000", "COALESCE(a, b)", "NULLIF(a, b)"]
        self.agree(run, [*texts, "floor(a)", "CAST(b AS Int32)"], pairs(SMALL_INTEGERS, INTEGERS), a=Int32, b=Int64)

    def test_division_is_always_float_and_by_zero_null(self, run: Run) -> None:
        self.agree(run, ["a / b", "a / 0", "1 / a", "a / 2", "a / NULL"], pairs(INTEGERS, INTEGERS), a=Int64, b=Int64)

    def test_float_arithmetic_is_that_of_ieee_754(self, run: Run) -> None:
        self.agree(run, ["a + b", "a - b", "a * b", "a / b"], pairs(FLOATS, FLOATS), a=Float64, b=Float64)
        one = [{"a": a} for a in FLOATS]
        self.agree(run, ["-a", "abs(a)", "round(a)", "floor(a)", "a + 1", "a * a * a", "a - a"], one, a=Float64)

    def test_an_integer_with_a_float_is_a_float(self, run: Run) -> None:
        texts = [
            "a + b",
            "a * b",
            *(f"a {sign} b" for sign in COMPARISONS),
            "COALESCE(a, b)",
            "a IN (b)",
            "NULLIF(b, a)",
        ]
        self.agree(run, texts, pairs(INTEGERS, FLOATS), a=Int64, b=Float64)

    def test_short_floats_are_widened(self, run: Run) -> None:
        texts = [
            "a + b",
            "a * 2",
            "a = b",
            "a > 0.1",
            "-a",
            "abs(a)",
            "floor(a)",
            "COALESCE(a, b)",
            "CAST(a AS Float64)",
        ]
        self.agree(
            run,
            [*texts, "CAST(a AS Decimal(20,4))", "CAST(a AS Int32)"],
            pairs(SHORT_FLOATS, FLOATS),
            a=Float32,
            b=Float64,
        )

    @pytest.mark.parametrize(
        ("values", "dtype"),
        [
            (INTEGERS, Int64),
            (FLOATS, Float64),
            (STRINGS, String),
            (DATES, Date),
            (TIMES, Timestamp),
            (DECIMALS, Decimal(12, 2)),
        ],
        ids=lambda value: str(value) if isinstance(value, DType) else "",
    )
    def test_comparisons_order_all_values_in_one_way(self, run: Run, values: Sequence[object], dtype: DType) -> None:
        texts = [f"a {sign} b" for sign in COMPARISONS]
        texts += [
            "a BETWEEN b AND b",
            "a NOT BETWEEN b AND a",
            "NULLIF(a, b)",
            "CASE a WHEN b THEN 1 WHEN a THEN 2 END",
        ]
        texts += ["a IN (b)", "a NOT IN (b, NULL)", "a IN (b, a)", "COALESCE(a, b)", "a IS NULL", "a = NULL"]
        self.agree(run, texts, pairs(values, values), a=dtype, b=dtype)

    def test_bytes_compare_bytewise(self, run: Run) -> None:
        values = (None, b"", b"\x00", b"\x7f", b"\xff", b"\x00\x01")
        self.agree(run, ["a < b", "a = b", "a IN (b)", "COALESCE(a, b)"], pairs(values, values), a=Bytes, b=Bytes)

    def test_a_date_is_its_midnight_beside_a_timestamp(self, run: Run) -> None:
        texts = [
            "a = b",
            "a < b",
            "a >= b",
            "COALESCE(a, b)",
            "a > DATE '2024-02-29'",
            "b = TIMESTAMP '1970-01-01T00:00:00Z'",
        ]
        self.agree(run, texts, pairs(TIMES, DATES), a=Timestamp, b=Date)

    def test_literals_of_every_kind(self, run: Run) -> None:
        texts = ["1", "-9223372036854775808", "9223372036854775807", "0.1", "1e-320", "-1.7976931348623157e308", "TRUE"]
        texts += [
            "'it''s \\ 😀 {x} %s ; --'",
            "DATE '0001-01-01'",
            "TIMESTAMP '9999-12-31T23:59:59.999999Z'",
            "3000000000",
        ]
        texts += [
            "TIMESTAMP '2024-01-01T10:00:00.5+02:00'",
            "DATE '2024-02-29' = DATE '2024-02-29'",
            "CAST(NULL AS String)",
        ]
        self.agree(run, texts, [{"a": 1}, {"a": None}], a=Int64)

    def test_decimals_are_exact(self, run: Run) -> None:
        texts = [
            "a + b",
            "a - b",
            "a * b",
            "-a",
            "abs(a)",
            "round(a)",
            "floor(a)",
            "a > 9.99",
            "a = 0.1",
            "a + 0.001",
            "a * 3",
        ]
        texts += [
            "a / b",
            "a BETWEEN -1 AND 2.5",
            "COALESCE(a, b, 1)",
            "a IN (0.5, 1, b)",
            "CASE WHEN a > b THEN a ELSE 1 END",
        ]
        self.agree(run, texts, pairs(DECIMALS, DECIMALS), a=Decimal(12, 2), b=Decimal(12, 2))

    def test_decimals_beyond_38_digits_are_null(self, run: Run) -> None:
        texts = ["a + b", "a - b", "a * b", "a + 1", "-a", "round(a)", "floor(a)", "a < b", "CAST(a AS Decimal(38,20))"]
        texts += ["CAST(a AS Decimal(12,2))", "CAST(a AS Int64)", "CAST(a AS Float64)", "CAST(a AS String)", "a / b"]
        self.agree(run, texts, pairs(HUGE_DECIMALS, HUGE_DECIMALS), a=Decimal(38, 9), b=Decimal(38, 9))

    def test_decimals_with_integers_and_floats(self, run: Run) -> None:
        texts = [
            "a + b",
            "a * b",
            "a = b",
            "a < b",
            "COALESCE(a, b)",
            "NULLIF(b, a)",
            "CASE b WHEN a THEN 1 END",
            "b - a",
        ]
        self.agree(run, texts, pairs(DECIMALS, INTEGERS), a=Decimal(12, 2), b=Int64)
        self.agree(run, texts, pairs(DECIMALS, FLOATS), a=Decimal(12, 2), b=Float64)

    def test_text_is_counted_in_code_points(self, run: Run) -> None:
        texts = [
            "length(a)",
            "lower(a)",
            "upper(a)",
            "substr(a, 2)",
            "substr(a, 1, 1)",
            "substr(a, 0, 2)",
            "substr(a, -1, 3)",
        ]
        texts += ["substr(a, 2, 0)", "substr(a, 2, -1)", "substr(a, -9223372036854775808, 9223372036854775807)"]
        texts += [
            "substr(a, 9223372036854775807, 9223372036854775807)",
            "substr(a, length(a))",
            "substr(a, NULL)",
            "a = lower(a)",
        ]
        self.agree(run, texts, [{"a": a} for a in STRINGS], a=String)

    def test_substr_takes_any_integers(self, run: Run) -> None:
        numbers = (None, -(2**63), -2, -1, 0, 1, 2, 3, 5, 2**31, 2**63 - 1)
        texts = [
            "substr('a😀bc', a, b)",
            "substr('a😀bc', a)",
            "substr('abc', a, 2)",
            "substr('abc', 2, b)",
            "substr('', a, b)",
        ]
        self.agree(run, texts, pairs(numbers, numbers), a=Int64, b=Int64)

    def test_like_knows_two_wildcards_and_no_escape(self, run: Run) -> None:
        patterns = [
            "",
            "%",
            "_",
            "__",
            "a%",
            "%b",
            "a_b",
            "a\\_b",
            "a\\%b",
            "a\\b",
            "%\\%",
            "\\",
            "%a%b%",
            "é",
            "A%",
            "e_",
            "%'%",
        ]
        texts = ["a LIKE b", "a NOT LIKE b", "a LIKE '%\\'", "a LIKE 'a_b'", "a LIKE '%😀%'"]
        self.agree(run, texts, pairs(STRINGS, [None, *patterns]), a=String, b=String)

    def test_case_takes_the_first_branch_that_is_true(self, run: Run) -> None:
        texts = [
            "CASE WHEN a > 1 THEN 'x' WHEN a > 0 THEN 'y' ELSE 'z' END",
            "CASE WHEN a > 1 THEN 1 WHEN b THEN 2.5 END",
        ]
        texts += [
            "CASE a WHEN NULL THEN 1 WHEN 1 THEN 2 ELSE 3 END",
            "CASE WHEN b THEN NULL ELSE a END",
            "CASE a WHEN 0.5 THEN 1 END",
        ]
        texts += [
            "CASE WHEN NULL THEN 1 ELSE 2 END",
            "CASE WHEN a = 0 THEN 1 ELSE 1 % a END",
            "COALESCE(NULLIF(a, 0), 9)",
        ]
        self.agree(run, texts, pairs(INTEGERS, TRUTHS), a=Int64, b=Bool)

    def test_casts_of_numbers_never_bend_a_value(self, run: Run) -> None:
        texts = [
            f"CAST(a AS {target})"
            for target in ("Int32", "Int64", "Float32", "Float64", "Decimal(12,2)", "Decimal(38,9)")
        ]
        self.agree(run, [*texts, "CAST(a AS Decimal(2,2))"], [{"a": a} for a in FLOATS], a=Float64)
        self.agree(run, [*texts, "CAST(a AS Bool)", "CAST(a AS String)"], [{"a": a} for a in INTEGERS], a=Int64)
        texts += ["CAST(a AS Decimal(5,1))", "CAST(a AS String)", "CAST(CAST(a AS Decimal(2,2)) AS String)"]
        self.agree(run, texts, [{"a": a} for a in DECIMALS], a=Decimal(12, 2))
        self.agree(
            run, ["CAST(a AS Int32)", "CAST(a AS Int64)", "CAST(a AS String)"], [{"a": a} for a in TRUTHS], a=Bool
        )

    def test_casts_of_text_read_one_grammar(self, run: Run) -> None:
        targets = (
            "Bool",
            "Int32",
            "Int64",
            "Float32",
            "Float64",
            "Decimal(12,2)",
            "Decimal(38,18)",
            "Date",
            "Timestamp",
        )
        texts = [f"CAST(a AS {target})" for target in targets]
        self.agree(run, texts, [{"a": a} for a in (*NUMERALS, *MOMENTS)], a=String)

    def test_casts_of_times_are_in_utc(self, run: Run) -> None:
        self.agree(
            run,
            ["CAST(a AS Date)", "CAST(a AS String)", "CAST(a AS Timestamp)"],
            [{"a": a} for a in TIMES],
            a=Timestamp,
        )
        self.agree(run, ["CAST(a AS Timestamp)", "CAST(a AS String)"], [{"a": a} for a in DATES], a=Date)

    def test_json_is_text_only_after_a_cast(self, run: Run) -> None:
        rows: Rows = [{"a": None}, {"a": '{"b": 1}'}]
        self.agree(
            run, ["CAST(a AS String)", "a IS NULL", "CAST(a AS String) LIKE '%b%'", "COALESCE(a, a)"], rows, a=Json
        )

    def test_columns_may_have_any_name(self, run: Run) -> None:
        schema = {'we"ird {x}': Int64, "select": Int64, "asof": Int64, "a": Int64}
        rows = [{'we"ird {x}': 1, "select": 2, "asof": 3, "a": 2**63 - 1}]
        texts = ['"we""ird {x}" + "select" * asof', "(a + 1) / asof", '-(a) * "select"', "(asof + 0.5) / (a + 0.5)"]
        self.agree(run, texts, rows, **schema)
