"""Flows and faces hold no SQL and name no product, but for what is listed here."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.architecture.tree import ROOT, describe, modules, nodes, parsed, strings

SQL_FREE = ("asof.flows", "asof.cli", "asof.server", "asof.catalog", "asof.demo")
"""Where neither SQL nor a product's name belongs: flows and faces."""

STATEMENT = re.compile(
    r"""\s*\(*\s*(?:
        (?:SELECT|INSERT|UPDATE|DELETE|CREATE|DROP|ALTER|COPY|DESCRIBE|SET|WITH|MERGE|TRUNCATE|PRAGMA|ATTACH|EXPLAIN
        |VALUES|BEGIN|COMMIT|ROLLBACK|GRANT|VACUUM|ANALYZE|FROM|WHERE|HAVING|JOIN|LIMIT|(?:GROUP|ORDER)\ BY)[\s(]
        |select\s.+\sfrom\s|insert\s+into\s|update\s+\S+\s+set\s|delete\s+from\s
        |(?:create|drop|alter)\s+(?:table|schema|view|index)\s|set\s+\w+\s+=\s|with\s+\w+\s+as\s*\(
    )""",
    re.VERBOSE | re.DOTALL,
)
"""A string that begins as a statement or one of its clauses does. In capitals one word is enough; else it may be prose."""

CLAUSE = re.compile(
    r"\s(?:WHERE|(?:GROUP|ORDER) BY)\s|\bIS (?:NOT )?NULL\b|\bCAST\(|\bcount\(\*\)|\bPRIMARY KEY\b"
    r'|"offset" [<>=]|^\s*(?:AND|OR)\s*$'
)
"""What no string has in it but a piece of a statement, or a hint that spells one out."""

PRODUCT = re.compile(
    r"(?i:duckdb|postgres|psycopg|redis(?!t)|redshift|valkey|kafka|confluent|sqlite|deltalake|pyspark|snowflake"
    r"|bigquery|mysql|dynamodb)"
    r"|(?<![A-Za-z])(?i:adbc|delta|spark)(?![a-z])|(?<=[a-z])(?:Adbc|Delta|Spark)(?![a-z])"
)
"""A product's name, also inside of a longer name (`KafkaSource`, `redis_url`)."""

SQL_LEFT: dict[str, tuple[int, str]] = {
    "asof.demo.postgres": (11, "makes and fills the shop's own database, which is no store of Asof's"),
    "asof.demo.repository": (1, "the query of a source, as a user would define it"),
}
"""Module of a flow or a face → how many of its strings are SQL, and what they do. It must only get shorter."""

PRODUCTS_LEFT: dict[str, tuple[tuple[str, ...], str]] = {
    "asof.cli.commands.demo": (
        ("duckdb", "kafka", "postgres", "redis", "spark"),
        "options say which servers the demo runs on",
    ),
    "asof.demo.postgres": (("postgres", "psycopg"), "makes the shop's own database"),
    "asof.demo.repository": (("duckdb", "postgres", "spark"), "writes the configuration that a user would write"),
    "asof.demo.stage": (("duckdb", "kafka", "postgres", "redis"), "starts the shop on these servers"),
}
"""Module of a flow or a face → the products that it names, and why. It must only get shorter."""


def statements(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every string that is SQL, or a piece of it, and its line."""
    for text, line in strings(tree):
        if STATEMENT.match(text) or CLAUSE.search(text):
            yield text, line


def products_named(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every product that a string or an import names, in small letters, and its line."""
    named = [*strings(tree)]
    for node in nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            home = (node.module or "") if isinstance(node, ast.ImportFrom) else ""
            named += [(f"{home}.{alias.name}", node.lineno) for alias in node.names]
    for text, line in named:
        for product in PRODUCT.findall(text):
            yield product.lower(), line


def in_sql_free() -> dict[str, Path]:
    return {
        module: path
        for module, path in modules().items()
        if f"{module}.".startswith(tuple(f"{each}." for each in SQL_FREE))
    }


def test_flows_and_faces_hold_no_sql_but_what_is_listed() -> None:
    offences = []
    for module, path in in_sql_free().items():
        found = list(statements(parsed(path)))
        allowed, reason = SQL_LEFT.get(module, (0, ""))
        if len(found) > allowed:
            offences.append(
                f"{path.relative_to(ROOT)}: {len(found)} strings are SQL, allowed are {allowed}; state it in asof.sql"
            )
            offences += [f"    line {line}: {' '.join(text.split())[:90]}" for text, line in found]
        elif len(found) < allowed or (module in SQL_LEFT and not (allowed and reason)):
            offences.append(
                f"SQL_LEFT[{module!r}] says {allowed}, but {len(found)} are left: lower it, or drop the line"
            )
    offences += [f"SQL_LEFT[{module!r}]: there is no such module" for module in SQL_LEFT.keys() - in_sql_free().keys()]

    assert not offences, describe(offences)


def test_flows_and_faces_name_no_product_but_what_is_listed() -> None:
    offences = []
    for module, path in in_sql_free().items():
        found = dict(reversed(list(products_named(parsed(path)))))
        allowed, reason = PRODUCTS_LEFT.get(module, ((), ""))
        offences += [
            f"{path.relative_to(ROOT)}:{line}: {product}; leave it to the product's own package"
            for product, line in found.items()
            if product not in allowed
        ]
        offences += [
            f"PRODUCTS_LEFT[{module!r}] has {product!r}, which the module names no more: drop it"
            for product in allowed
            if product not in found or not reason
        ]
    offences += [
        f"PRODUCTS_LEFT[{module!r}]: there is no such module" for module in PRODUCTS_LEFT.keys() - in_sql_free().keys()
    ]

    assert not offences, describe(offences)


@pytest.mark.parametrize(
    "code",
    [
        "'SELECT 1'",
        "'  (SELECT * FROM t)'",
        "f'SELECT {columns} FROM {table}'",
        "f'{head} WHERE x = 1'",
        "'select a from b'",
        "'WITH a AS (SELECT 1) SELECT 2'",
        "'INSERT INTO t VALUES (1)'",
        "'UPDATE t SET a = 1'",
        "'DELETE FROM t'",
        "'delete from t'",
        "'CREATE TABLE t (a int)'",
        "'create schema t'",
        "'DROP TABLE t'",
        "'COPY t FROM STDIN'",
        "'DESCRIBE t'",
        "'SET TimeZone = 1'",
        "'set timezone = 1'",
        "'ORDER BY a'",
        "' OR '.join(terms)",
        "f'{a} IS NOT NULL'",
        "f'(partition = {a} AND \"offset\" <= {b})'",
        "'SELECT ' + columns",
        "'''\n    SELECT a\n    FROM b'''",
    ],
)  # fmt: skip
def test_the_scan_sees_sql(code: str) -> None:
    assert len(list(statements(ast.parse(f"x = {code}")))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "SELECT", "give a table, a path, or a SELECT", "Select the features from a list", "Update the row", "set it to stop",
        "Create a topic", "copy it there", "delete it", "with its key", "WITHOUT a key", ", AND ALL ARCHIVES", "SETTINGS",
    ],
)  # fmt: skip
def test_the_scan_takes_no_prose_for_sql(text: str) -> None:
    assert list(statements(ast.parse(f"x = {text!r}"))) == []


def test_the_scan_takes_no_documentation_for_sql_or_products() -> None:
    tree = ast.parse(
        "'''SELECT 1 in DuckDB.'''\nx = 1\n'''SELECT 2 in Kafka.'''\ndef f():\n    '''SELECT 3'''\n    # redis\n"
    )

    assert list(statements(tree)) == list(products_named(tree)) == []


@pytest.mark.parametrize(
    ("code", "named"),
    [
        ("import duckdb", ["duckdb"]),
        ("def f():\n    from asof.sql.postgres.dialect import x", ["postgres"]),
        ("from asof.definitions import KafkaSource", ["kafka"]),
        ("from asof.online import redis_keys as keys", ["redis"]),
        ("x = 'sqlite:///a'", ["sqlite"]),
        ("x = f'Kafka at {y}'", ["kafka"]),
        ("x = 'PostgreSQL'", ["postgres"]),
        ("x = 'DeltaFormat', 'toDelta'", ["delta", "delta"]),
        ("import deltalake", ["deltalake"]),
        ("x = 'a Delta table'", ["delta"]),
        ("x = 'spark'", ["spark"]),
        ("import pyspark", ["pyspark"]),
        ("x = 'Spark SQL'", ["spark"]),
        ("from datetime import timedelta", []),
        ("x = 'deltas'", []),
        ("x = 'sparkline', 'sparks', 'sparse', 'redistribute', 'modelled'", []),
    ],
)
def test_the_scan_sees_products(code: str, named: list[str]) -> None:
    assert [product for product, _ in products_named(ast.parse(code))] == named
