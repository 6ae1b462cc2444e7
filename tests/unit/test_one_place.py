"""What has one meaning is written in one place: bounds, epochs, defaults of options, and what frames look like."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from asof import defaults
from asof.cli.app import command_named
from asof.client import AsyncClient, Client
from asof.client.calls import entities_of
from asof.config.sections import ServerSection
from asof.demo.shop import simulate
from asof.demo.story import run
from asof.dtypes import INT_BOUNDS, DType, Int64, String
from asof.flows.admin.audit import audit
from asof.flows.admin.sample import sample
from asof.flows.offline.result import HistoricalResult
from asof.flows.runs import list_runs
from asof.flows.stream.dead_letters import list_dead_letters
from asof.offline.protocol import Archives, QueryResult
from asof.online.protocol import OnlineStore
from asof.registry.protocol import Registry
from asof.registry.sqlite import SqliteRegistry
from asof.store import FeatureStore
from asof.values.frames import arrow_column, entity_table, table_columns, uneven
from tests.unit.architecture.tree import parsed

SOURCE = Path(__file__).parents[2] / "src" / "asof"
HOMES = ("dtypes.py", "timing.py")
APART = ("testing/", "sql/", "expressions/dialects.py", "derive/generated.py")
"""Where such numbers are cases of tests, made-up values, or text of SQL."""

BOUNDS = {bound for bounds in INT_BOUNDS.values() for bound in bounds}


ARITHMETIC = (ast.BinOp, ast.UnaryOp, ast.Constant, ast.operator, ast.unaryop)


def is_whole(node: ast.AST) -> bool:
    return isinstance(node, ARITHMETIC) and (not isinstance(node, ast.Constant) or type(node.value) is int)


def numbers(tree: ast.AST) -> Iterator[tuple[int, int]]:
    """The values of arithmetic on whole numbers that are written out, the outermost alone, and their lines."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.BinOp | ast.UnaryOp | ast.Constant) and all(map(is_whole, ast.walk(node))):
            value = node.value if isinstance(node, ast.Constant) else eval(ast.unparse(node))
            yield value, node.lineno
        else:
            yield from numbers(node)


def bounds_in(code: str, tree: ast.Module | None = None) -> list[int]:
    """The lines that write a bound of an integer type, or the epoch."""
    found = [line for value, line in numbers(tree or ast.parse(code)) if value in BOUNDS]
    epochs = [n for n, text in enumerate(code.split("\n"), 1) if re.search(r"\bdate(time)?\(1970, 1, 1", text)]
    return [*found, *epochs]


def test_bounds_and_the_epoch_are_written_once() -> None:
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        name = path.relative_to(SOURCE).as_posix()
        if name in HOMES or name.startswith(APART):
            continue
        text = path.read_text(encoding="utf-8")
        found += [f"{name}:{line}" for line in bounds_in(text, parsed(path))]

    assert found == []


@pytest.mark.parametrize(
    "code", ["x = 2**63 - 1", "x = -(2**63)", "x = -(2**31) <= y", "9223372036854775807", "f(datetime(1970, 1, 1))"]
)
def test_the_scan_sees_bounds(code: str) -> None:
    assert bounds_in(code) == [1]


def default(function: Callable[..., Any], parameter: str) -> Any:
    return inspect.signature(function).parameters[parameter].default


def option(command: str, name: str) -> Any:
    """The default of a command's option; of a subcommand, as `group subcommand`."""
    first, *rest = command.split()
    found = command_named(first)
    for each in rest:
        assert isinstance(found, click.Group)
        found = found.commands[each]
    return next(each.default for each in found.params if each.name == name)


@pytest.mark.parametrize(
    ("known", "found"),
    [
        ("HISTORY_COMMITS", [
            option("history", "limit"), *(default(each.history, "limit") for each in (FeatureStore, Registry, SqliteRegistry)),
        ]),
        ("RUNS", [option("runs", "limit"), default(FeatureStore.runs, "limit"), default(list_runs, "limit")]),
        ("DEAD_LETTERS", [
            option("dead-letters list", "limit"), default(FeatureStore.dead_letters, "limit"),
            default(list_dead_letters, "limit"),
        ]),
        ("SAMPLE_ROWS", [option("sample", "limit"), default(FeatureStore.sample, "n"), default(sample, "n")]),
        ("AUDIT_KEYS", [option("audit", "keys"), default(FeatureStore.audit, "keys"), default(audit, "keys")]),
        ("SEED", [
            *(option(each, "seed") for each in ("sample", "audit")),
            *(default(each, "seed") for each in (FeatureStore.sample, FeatureStore.audit, sample, audit)),
        ]),
        ("BATCH_ROWS", [default(QueryResult.reader, "batch_rows"), default(HistoricalResult.to_batches, "batch_rows")]),
        ("KEEP_HOURS", [default(Archives.compact, "keep_hours")]),
        ("SCAN_ROWS", [default(OnlineStore.scan, "limit")]),
        ("DEMO_USERS", [option("demo", "users"), default(run, "users"), default(simulate, "users")]),
    ],
)  # fmt: skip
def test_an_option_has_one_default_wherever_it_is_taken(known: str, found: list[Any]) -> None:
    assert found == [getattr(defaults, known)] * len(found)


def test_the_help_of_serve_names_the_defaults_of_the_configuration() -> None:
    texts = {each.name: each.help for each in command_named("serve").params if isinstance(each, click.Option)}

    assert f"else {ServerSection().host}]" in (texts["host"] or "")
    assert f"[default: {ServerSection().port}]" in (texts["port"] or "")
    assert f"[default: {ServerSection().workers}]" in (texts["workers"] or "")


def test_both_clients_take_the_same_options() -> None:
    assert inspect.signature(Client) == inspect.signature(AsyncClient)
    assert repr(AsyncClient("http://localhost:1")) == "<AsyncClient of http://localhost:1>"


def test_values_as_json_and_the_looks_of_frames_load_neither_numpy_nor_arrow() -> None:
    code = """
import sys
import asof.values.json, asof.values.frame_types, asof.online_response, asof.defaults
from asof.client import AsyncClient, Client
from asof.client.calls import columns_of, encoded, entities_of
encoded(entities_of([{"a": 1}])); encoded(columns_of({"a": [float("nan"), b"x"]}))
print(sorted({"numpy", "pyarrow", "pandas", "polars", "duckdb"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(SOURCE.parent)}, capture_output=True, text=True
    )

    assert (done.stdout, done.stderr) == ("[]\n", "")


ROWS: dict[str, list[Any]] = {"user": [1, 2, None], "text": ["a", None, "é"]}
TABLE = pa.table(ROWS)


class Stream:
    """Something that gives itself as an Arrow stream, and is no table of a library that we know."""

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return TABLE.__arrow_c_stream__(requested_schema)


FRAMES: dict[str, Any] = {
    "arrow": TABLE, "batch": TABLE.to_batches()[0], "stream": Stream(), "polars": pl.DataFrame(ROWS),
    "pandas": pd.DataFrame({"user": pd.array(ROWS["user"], "Int64"), "text": pd.array(ROWS["text"], "string")}),
    "pandas objects": pd.DataFrame(ROWS, dtype=object), "pandas of arrow": TABLE.to_pandas(types_mapper=pd.ArrowDtype),
}  # fmt: skip


@pytest.mark.parametrize("kind", FRAMES)
def test_every_kind_of_frame_has_the_same_columns(kind: str) -> None:
    columns = table_columns(FRAMES[kind])
    table = entity_table(FRAMES[kind])

    assert columns is not None and table is not None
    assert {name: column.to_pylist() for name, column in columns.items()} == ROWS
    assert table.to_pydict() == ROWS


def test_a_dict_and_a_lazy_frame_are_entity_frames() -> None:
    for frame in (ROWS, pl.DataFrame(ROWS).lazy()):
        table = entity_table(frame)
        assert table is not None and table.to_pydict() == ROWS


@pytest.mark.parametrize("kind", ["arrow", "batch", "polars", "pandas of arrow"])
def test_a_client_sends_the_columns_that_the_store_takes(kind: str) -> None:
    sent = entities_of(FRAMES[kind])

    assert {name: [None if value is pd.NA else value for value in column] for name, column in sent.items()} == ROWS


@pytest.mark.parametrize("rows", [[{"a": 1}], "text", 7, None, pd.Series([1]), pl.Series([1])])
def test_what_is_no_table_has_no_columns(rows: Any) -> None:
    assert table_columns(rows) is None and entity_table(rows) is None


@pytest.mark.parametrize(
    ("column", "dtype"),
    [
        (pa.array([1, None]), Int64), (pa.chunked_array([[1], [None]]), Int64), (pl.Series([1, None]), Int64),
        (pd.Series([1, None], dtype="Int64"), Int64), (pl.Series(["x", None]), String), (["x", None], String),
    ],
)  # fmt: skip
def test_a_column_of_any_library_is_arrows_or_a_list(column: Any, dtype: DType) -> None:
    found = arrow_column(column)

    assert list(found if isinstance(found, list) else found.to_pylist()) == [1 if dtype == Int64 else "x", None]


def test_columns_of_other_lengths_are_named_but_not_endlessly() -> None:
    assert uneven({}) == uneven({"a": [1], "b": [2]}) == ""
    assert uneven({"a": [1], "b": []}) == "{'a': 1, 'b': 0}"
    assert uneven({str(n): [0] * (n % 2) for n in range(25)}).endswith(" and 5 more")
