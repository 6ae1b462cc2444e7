"""Reads a SELECT over single rows with DuckDB's own parser, and refuses all that is not known to be harmless.

A statement is accepted by what it is, and never for the lack of what it is not (`expression_check`). Three things are
decided for a function by what the engine's catalogue says of it: it is scalar (an aggregate looks at several rows, a
table function at something else), it is stable (what is read again becomes the same rows), and it is not listed below.

What will run is not the user's text but what the engine prints of the tree, and that is read and checked once more:
a printer that wrote something else than it was given would be found out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from asof.connections.duckdb.expression_check import AGAIN, MORE, ExpressionCheck, Node, folded, place_of, spelled
from asof.errors import nearest
from asof.sql.row_select import RowSelect

Ask = Callable[[str, str], str]
"""Runs a statement with one parameter and returns its only value."""

FUNCTIONS = """
SELECT function_name, function_type, stability, parameters, macro_definition
FROM duckdb_functions() WHERE internal
"""
"""Everything that a FUNCTION node may mean; on a connection that loads no extension, all of it is the engine's own."""

_MOMENTARY = {
    "age", "current_localtime", "current_localtimestamp", "current_setting", "getvariable", "vector_type", "version",
}  # fmt: skip
"""Functions that depend on the clock or the process, though some engine's catalogue calls them consistent."""

_INNER = {"combine", "finalize", "index_key", "json_serialize_plan", "to_aggregate_state", "variant_bytes_to_variant"}
"""Functions that read their text as a query, or their bytes as the engine's own memory; all of `__…` are as well."""

_STEADY = {"error"}
"""Functions that the catalogue calls volatile, and that return the same for the same: `error` makes a dead letter."""

_SEVERAL_ROWS = {"unnest", "generate_subscripts"}

_CLAUSES = {
    "group_expressions": "GROUP BY", "group_sets": "GROUP BY", "having": "HAVING", "qualify": "QUALIFY",
    "sample": "USING SAMPLE",
}  # fmt: skip
_MODIFIERS = {"DISTINCT_MODIFIER": "DISTINCT", "LIMIT_MODIFIER": "LIMIT", "LIMIT_PERCENT_MODIFIER": "LIMIT"}
_SELECT_INERT = {"type", "select_list", "from_table", "where_clause", "modifiers", "cte_map", "aggregate_handling"}
_TABLE_INERT = {"type", "query_location", "query_location_length", "table_name", "qualified_name"}

_STAR = {"class", "type", "relation_name", "query_location", "query_location_length"}
"""What a plain `*` says."""

_EMPTY_SELECT: Mapping[str, Any] = {
    "type": "SELECT_NODE", "modifiers": [], "cte_map": {"map": []}, "select_list": [],
    "from_table": {"type": "EMPTY", "alias": "", "sample": None}, "where_clause": None, "group_expressions": [],
    "group_sets": [], "aggregate_handling": "STANDARD_HANDLING", "having": None, "sample": None, "qualify": None,
}  # fmt: skip


class Function(NamedTuple):
    """One row of the engine's catalogue of functions."""

    name: str
    type: str
    stability: str | None
    parameters: Sequence[str] | None
    macro: str | None


class SelectReader:
    """Reads SELECTs with one engine's parser and catalogue.

    Args:
        ask: the engine.
        functions: the rows of `FUNCTIONS`.
    """

    def __init__(self, ask: Ask, functions: Iterable[Sequence[Any]]) -> None:
        self._ask = ask
        self._functions: dict[str, list[Function]] = {}
        for row in functions:
            self._functions.setdefault(row[0], []).append(Function(*row))
        self._problems: dict[str, str] = {}

    def read(self, sql: str, *, table: str, columns: Sequence[str]) -> RowSelect:
        """Take a SELECT apart.

        Args:
            table: the one that it selects from.
            columns: the table's, for `*` and for the names in expressions.

        Raises:
            ValueError: it is more than expressions over one row; with what is in the way, and where.
        """
        try:
            return self._read(sql, folded(table), columns)
        except RecursionError:
            raise ValueError("it is nested too deeply") from None

    def _read(self, sql: str, table: str, columns: Sequence[str]) -> RowSelect:
        node, check = self._parsed(sql), ExpressionCheck(sql, self.problem)
        _check_clauses(node, table, check)
        known = {folded(name): name for name in columns}
        made: dict[str, str] = {}
        reads: dict[str, tuple[str, ...]] = {}
        for name, item in self._items(node, table, columns, check):
            if name in made:
                raise check.refused(item, f"column {name!r} is selected twice")
            # A later column may use an earlier one by its name, as the engine lets it.
            earlier = {folded(each): each for each in made}
            made[name], names = self._checked(item, table, {**earlier, **known}, check)
            inputs = {column for each in names for column in ([each] if folded(each) in known else reads[each])}
            reads[name] = tuple(column for column in columns if column in inputs)
        if not node["where_clause"]:
            return RowSelect(made, "", reads)
        where, names = self._checked(node["where_clause"], table, known, check)
        return RowSelect(made, where, reads, tuple(column for column in columns if column in names))

    def _items(
        self, node: Node, table: str, columns: Sequence[str], check: ExpressionCheck
    ) -> Iterator[tuple[str, Node]]:
        """The columns that a SELECT makes: names and expressions."""
        for item in node["select_list"]:
            if item["class"] == "STAR":
                if folded(item["relation_name"]) not in ("", table) or any(item[key] for key in item.keys() - _STAR):
                    raise check.refused(item, "* with more to it is not allowed in it; name the columns")
                yield from ((name, _column(name)) for name in columns)
            elif item["alias"]:
                yield item["alias"], item
            elif item["class"] == "COLUMN_REF":
                yield item["column_names"][-1], item
            else:
                text = self._printed(item)
                raise check.refused(item, f"{text!r} has no name: write AS and the column's name behind it")

    def problem(self, name: str) -> str:
        """What speaks against a function, as the end of a sentence; empty where nothing does."""
        key = folded(name)
        if key not in self._problems:
            self._problems[key] = ""  # where a macro comes to itself
            self._problems[key] = self._problem(key)
        return self._problems[key]

    def _problem(self, name: str) -> str:
        if name in _SEVERAL_ROWS:
            return MORE
        found = self._functions.get(name)
        if found is None:
            hint = nearest(
                name, [each for each, rows in self._functions.items() if rows[0].type in ("scalar", "macro")]
            )
            return f"is not a function of the engine{f'; {hint}' if hint else ''}"
        types = {each.type for each in found}
        if types & {"aggregate", "window"}:
            return MORE
        if not types & {"scalar", "macro"}:
            return "is not a function of single values"
        if name.startswith("__") or name in _INNER:
            return "is for the engine's own use"
        if name in _MOMENTARY or any(each.stability not in ("CONSISTENT", None) for each in found):
            return AGAIN if name not in _STEADY else ""
        for each in found:
            if each.macro is not None:
                check = ExpressionCheck("", self.problem)
                try:
                    item = self._parsed(f"SELECT {each.macro}")["select_list"][0]
                    check.check(item, {folded(parameter): parameter for parameter in each.parameters or ()})
                except ValueError as error:
                    return f"is a macro, in which {error}"
        return ""

    def _parsed(self, sql: str) -> Node:
        """The tree of one SELECT."""
        answer = json.loads(self._ask("SELECT json_serialize_sql(?::VARCHAR)", sql))
        if answer["error"]:
            problem = str(answer["error_message"]).splitlines()[0]
            if answer["error_type"] == "not implemented":
                raise ValueError("it is not a SELECT")
            place = int(answer["position"]) if answer.get("position") else None
            quotes = "; names that are keywords of SQL (order, at, …) are written in double quotes"
            raise ValueError(f"the engine cannot parse it: {problem}{place_of(sql, place)}{quotes}")
        if len(answer["statements"]) != 1:
            raise ValueError(f"it is not one SELECT: it has {len(answer['statements'])} statements")
        statement = answer["statements"][0]
        if statement["node"]["type"] != "SELECT_NODE":
            # UNION, a recursive WITH, and whatever else is made of several.
            raise ValueError(f"it is not one SELECT from one table, but a {spelled(statement['node']['type'])}")
        node: Node = statement["node"]
        return node

    def _checked(
        self, item: Node, table: str, names: Mapping[str, str], check: ExpressionCheck
    ) -> tuple[str, frozenset[str]]:
        """The text of an expression that passes the check, and as text passes it again; and the names that it reads."""
        item = _unqualified(item, table, names)
        read = check.check(item, names)
        text = self._printed(item)
        again = self._parsed(f"SELECT {text}")
        if len(again["select_list"]) != 1 or again["from_table"]["type"] != "EMPTY" or again["where_clause"]:
            raise check.refused(item, f"the engine reads {text!r} otherwise than it wrote it")
        ExpressionCheck("", self.problem).check(again["select_list"][0], names)
        return text, read

    def _printed(self, item: Node) -> str:
        """An expression as the engine writes it, without its name."""
        alone = {**_EMPTY_SELECT, "select_list": [{**item, "alias": ""}]}
        text = self._ask("SELECT json_deserialize_sql(?::JSON)", json.dumps({"statements": [{"node": alone}]}))
        return text.removeprefix("SELECT ")


def _check_clauses(node: Node, table: str, check: ExpressionCheck) -> None:
    """Check that a SELECT has only its list, FROM the table, and WHERE.

    Raises:
        ValueError: it has more.
    """
    if node["cte_map"]["map"]:
        raise ValueError("WITH is not allowed in it: it selects from the messages alone")
    for modifier in node["modifiers"]:
        if modifier["type"] == "ORDER_MODIFIER":
            raise ValueError("ORDER BY has no meaning: rows stay in the order of messages")
        raise ValueError(f"{_MODIFIERS.get(modifier['type'], spelled(modifier['type']))} {MORE}")
    for key, clause in _CLAUSES.items():
        if node[key]:
            raise ValueError(f"{clause} {MORE}")
    if node["aggregate_handling"] != "STANDARD_HANDLING":
        raise ValueError(f"GROUP BY {MORE}")
    for key, value in node.items():
        if value and key not in _SELECT_INERT:
            raise ValueError(f"{key.upper()} is not allowed in it")
    source = node["from_table"]
    if source["type"] in ("JOIN", "CROSS_PRODUCT"):
        raise check.refused(source, f"a second table is not allowed after FROM {table}; only WHERE is")
    if source["type"] != "BASE_TABLE" or folded(source["table_name"]) != table:
        raise check.refused(source, f"it does not select FROM {table}")
    for key, value in source.items():
        if value and key not in _TABLE_INERT:
            said = repr(value) if isinstance(value, str) else spelled(key)
            raise check.refused(source, f"{said} is not allowed at FROM {table}; only WHERE may follow it")


def _column(name: str) -> Node:
    return {"class": "COLUMN_REF", "type": "COLUMN_REF", "alias": "", "query_location": 0, "column_names": [name]}


def _unqualified(node: Any, table: str, names: Mapping[str, str]) -> Any:
    """The tree with `column` for each `table.column`: what runs it has another table."""
    if isinstance(node, list):
        return [_unqualified(each, table, names) for each in node]
    if not isinstance(node, dict):
        return node
    if node.get("class") == "COLUMN_REF":
        path = node["column_names"]
        is_qualified = len(path) > 1 and folded(path[0]) == table and table not in names and folded(path[1]) in names
        return {**node, "column_names": path[1:]} if is_qualified else node
    return {key: _unqualified(value, table, names) for key, value in node.items()}


__all__ = ["FUNCTIONS", "SelectReader"]
