"""The SQL over archives as text, in each dialect. `ASOF_WRITE_GOLDEN=1` writes the files anew."""

from __future__ import annotations

import ast
import inspect
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from asof.definitions import Field
from asof.dtypes import Bool, Bytes, Date, Decimal, Int32, Int64, String, Timestamp
from asof.sql import archive
from asof.sql.dialect import Dialect
from asof.sql.duckdb.dialect import DUCKDB
from asof.sql.postgres.dialect import POSTGRES
from asof.testing import archive as suite
from asof.timing import moment

GOLDEN = Path(__file__).parent / "golden"
MOMENT = 1_706_745_600_123_456
FIELDS = [
    Field("text", String), Field("raw", Bytes), Field("small", Int32), Field("big", Int64), Field("flag", Bool),
    Field("day", Date), Field("moment", Timestamp), Field("price", Decimal(12, 2)),
]  # fmt: skip
COLUMNS = ["text", "raw", "small", 'b"ig', "flag", "day", "moment", "price"]
KEYS = [
    ["O'Brien \\", b"\x00\xff", -(2**31), -(2**63), True, -1, -1, "-1.50"],
    ["", b"", 0, 2**63 - 1, False, 20_000, MOMENT, "0.00"],
]  # fmt: skip
CASES: dict[str, Callable[[Dialect], str]] = {
    "count_rows": lambda dialect: archive.count_rows(),
    "count_between": lambda dialect: archive.count_between(3, after=10, through=20),
    "rows_between": lambda dialect: archive.rows_between(3, after=10, through=20),
    "history_rows": lambda dialect: archive.history_rows(["text", 'b"ig'], -1),
    "rows_to_fold": lambda dialect: archive.rows_to_fold(['b"ig', "at"], {-1: 4, 0: 10, 1: -1}),
    "rows_to_fold_sorted": lambda dialect: archive.rows_to_fold(['b"ig'], {0: 10}, order=['b"ig', "at"]),
    "rows_to_fold_up_to_no_offset": lambda dialect: archive.rows_to_fold(["at"], {0: -1}),
    "sorted_rows": lambda dialect: archive.sorted_rows(['b"ig', "at", "offset"], ['b"ig', "at"]),
    "sorted_rows_in_ranges": lambda dialect: archive.sorted_rows(
        ["big", "moment"], ["big", "moment"], time="moment",
        cuts=[dialect.literal(moment(MOMENT + each), Timestamp) for each in (0, 1)],
    ),
    "values_of": lambda dialect: archive.values_of('b"ig'),
    "newest_rows": lambda dialect: archive.newest_rows([1, 0], count=1000, time='happ"ened'),
    "counts_by_partition": lambda dialect: archive.counts_by_partition("dead_letters"),
    "counts_since": lambda dialect: archive.counts_since(MOMENT, dialect=dialect),
    "rows_through": lambda dialect: archive.rows_through(['b"ig', "partition", "offset"], {500_000: 4, -1: 9}),
    "every_column": lambda dialect: archive.every_column(),
    "last_offsets": lambda dialect: archive.last_offsets(),
    "event_ids_since": lambda dialect: archive.event_ids_since('i"d', MOMENT, dialect=dialect),
    "event_ids": lambda dialect: archive.event_ids('i"d'),
    "rows_of_keys": lambda dialect: archive.rows_of_keys(COLUMNS, FIELDS, KEYS, dialect=dialect),
    "rows_of_the_empty_key": lambda dialect: archive.rows_of_keys([], [], [[]], dialect=dialect, relation="source"),
    "rows_of_no_key": lambda dialect: archive.rows_of_keys(COLUMNS, FIELDS, [], dialect=dialect),
    "rows_among": lambda dialect: archive.rows_among(COLUMNS[:4], ["text", "raw", "small", "big"], dialect=dialect),
    "rows_among_one_column": lambda dialect: archive.rows_among(["text"], ["name"], dialect=dialect),
    "rows_among_no_column": lambda dialect: archive.rows_among([], [], dialect=dialect),
    "distinct_keys": lambda dialect: archive.distinct_keys(["text", 'b"ig']),
    "sampled_keys": lambda dialect: archive.sampled_keys(["text", 'b"ig'], one_in=7, place=3, most=200),
    "columns_of_rows": lambda dialect: archive.columns_of_rows({"key": 'b"ig', "at": "at"}, positions=True),
    "columns_of_rows_all": lambda dialect: archive.columns_of_rows(None),
    "count_nulls": lambda dialect: archive.count_nulls(["text", 'b"ig']),
    "dead_letters": lambda dialect: archive.dead_letters(),
    "dead_letters_of_places": lambda dialect: archive.dead_letters([(1, 7), (0, 9)]),
    "dead_letters_of_no_place": lambda dialect: archive.dead_letters([]),
    "newest_dead_letters": lambda dialect: archive.newest_dead_letters(100),
    "dead_letter_values": lambda dialect: archive.dead_letter_values(),
    "dead_letter_reasons": lambda dialect: archive.dead_letter_reasons(2, after=5),
    "served_rows": lambda dialect: archive.served_rows("served_at"),
    "served_rows_described": lambda dialect: archive.served_rows("served_at", describe_only=True),
}  # fmt: skip


@pytest.mark.parametrize("dialect", [DUCKDB, POSTGRES], ids=lambda dialect: dialect.name)
@pytest.mark.parametrize("name", CASES)
def test_the_text_of_each_statement(name: str, dialect: Dialect) -> None:
    text = CASES[name](dialect) + "\n"
    path = GOLDEN / dialect.name / f"archive_{name}.sql"
    if os.environ.get("ASOF_WRITE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def statements() -> set[str]:
    """The names of all statements over archives."""
    own = [each for each in vars(archive).values() if getattr(each, "__module__", "") == archive.__name__]
    return {each.__name__ for each in own if not each.__name__.startswith("_")}


def test_every_statement_has_a_golden_text() -> None:
    assert {name for name in statements() if not any(case.startswith(name) for case in CASES)} == set() != statements()


def test_every_statement_runs_on_every_engine_that_passes_the_suite_of_archives() -> None:
    tree = ast.parse(inspect.getsource(suite))
    called = {
        each.func.attr for each in ast.walk(tree) if isinstance(each, ast.Call) and isinstance(each.func, ast.Attribute)
    }

    assert statements() - called == set() != statements()


def test_a_text_with_a_nul_character_is_never_in_postgres() -> None:
    assert "false" in archive.rows_of_keys(["text"], FIELDS[:1], [["a\0b"]], dialect=POSTGRES)
