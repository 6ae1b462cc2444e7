"""What a user's SELECT may read in DuckDB: the tables that it names, decided on the parsed statement."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import duckdb

from asof.errors import EntityFrameError

_TABLE_FUNCTIONS = frozenset({"generate_series", "json_each", "json_tree", "range", "repeat", "repeat_row", "unnest"})
"""Those that make rows of their arguments; the others read files, the database itself, or change it."""
_FUNCTIONS = frozenset(
    "current_query current_setting currval getenv getvariable nextval query setseed setval sleep_ms stats "
    "write_log".split()
)
"""Functions that read or change more than their arguments."""
_CHANGES = frozenset(
    "checkpoint force_checkpoint create_external_resource deregister_external_resource destroy_external_resource "
    "register_external_resource register_external_resource_type disable_logging enable_logging disable_profiling "
    "enable_profiling truncate_duckdb_logs setseed setval nextval write_log".split()
)
"""Functions that change what outlives the read; refused even where SQL may read anything."""


def tables_in(cursor: duckdb.DuckDBPyConnection, sql: str, *, anything: bool) -> set[str]:
    """The tables that a SELECT names, without what it names itself by WITH.

    Args:
        anything: it may also read files, qualified tables and the database itself; these are not in the result.

    Raises:
        EntityFrameError: it reads or changes what it may not.
        duckdb.Error: it cannot be parsed, or read.
    """
    tree = json.loads(cursor.execute("SELECT json_serialize_sql(?)", [sql.strip().rstrip(";")]).fetchall()[0][0])
    if not tree or tree.get("error"):
        # Its parser's own error, with the place.
        found = set(cursor.get_table_names(sql))
        if anything:
            return found
        raise _refused("has a form that cannot be checked", anything=anything)
    tables: set[str] = set()
    for kind, name, path in _parts(tree, frozenset()):
        if kind == "table" and len(path) > 1:
            if not anything:
                raise _refused(f"reads {'.'.join(path)!r}, which has a schema's name before its own", anything=anything)
        elif kind == "table":
            tables.add(name)
        elif name.lower() in _CHANGES or (not anything and _is_refused(kind, name)):
            raise _refused(f"calls {name}()", anything=anything)
    return tables


def _is_refused(kind: str, name: str) -> bool:
    return name.lower() not in _TABLE_FUNCTIONS if kind == "table function" else name.lower() in _FUNCTIONS


def _refused(problem: str, *, anything: bool) -> EntityFrameError:
    return EntityFrameError(
        f"the SQL entity frame {problem}, and it may read applied sources only"
        if not anything
        else f"the SQL entity frame {problem}, which would outlast the read",
        hint="name a source, or let SQL read files and all else by sql_reads: anything of offline_store"
        if not anything
        else "leave it out",
    )


def _parts(node: Any, own: frozenset[str]) -> Iterator[tuple[str, str, list[str]]]:
    """The tables and functions of a part of a parsed SELECT: kind, name, and the name with its qualifiers.

    Args:
        own: the names, in lower case, that a WITH around it defines.
    """
    if isinstance(node, list):
        for each in node:
            yield from _parts(each, own)
    if not isinstance(node, dict):
        return
    for each in (node.get("cte_map") or {}).get("map", []):
        inner = each["value"]["query_node"]
        alias = frozenset({each["key"].lower()})
        yield from _parts(inner, own | alias if "RECURSIVE" in str(inner.get("type")) else own)
        own |= alias
    kind = node.get("type")
    if kind == "BASE_TABLE":
        name = str(node.get("table_name", ""))
        path = [each for each in (node.get("catalog_name"), node.get("schema_name"), name) if each]
        if len(path) > 1 or name.lower() not in own:
            yield "table", name, path
    elif kind == "TABLE_FUNCTION":
        yield "table function", str(node["function"].get("function_name", "")), []
        yield from _parts(node["function"].get("arguments"), own)
        return
    elif kind == "SHOW_REF":
        yield "table function", "describe", []
    elif node.get("class") == "FUNCTION":
        yield "function", str(node.get("function_name", "")), []
    yield from _parts([value for key, value in node.items() if key != "cte_map"], own)


__all__ = ["tables_in"]
