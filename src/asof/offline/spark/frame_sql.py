"""What a user's SELECT may read on Spark: the tables that it names, decided on the parsed statement."""

from __future__ import annotations

import re

import sqlglot
from sqlglot import exp

from asof.errors import EntityFrameError
from asof.offline.frame_tables import tables as tables_of
from asof.offline.spark.names import with_backquotes

_TABLE_FUNCTIONS = frozenset(
    "range explode explode_outer posexplode posexplode_outer inline inline_outer stack json_tuple variant_explode "
    "variant_explode_outer".split()
)
"""Those that make rows of their arguments."""
_FUNCTIONS = re.compile(
    r"(read|ai|input_file)_.*|java_method|(try_)?reflect|(from|to)_protobuf|(try_)?secret|http_request|remote_query"
)
"""Functions that run code, fetch, or read files and secrets of the server."""
_WRITES = (exp.Insert, exp.Update, exp.Delete, exp.Merge, exp.Into)


def tables_in(sql: str) -> set[str]:
    """The tables that a SELECT names, without what it names itself by WITH.

    Raises:
        EntityFrameError: it is not one SELECT, or reads or runs what it may not.
    """
    tree = _parsed(with_backquotes(sql))
    if tree.find(exp.QueryTransform):
        raise _refused("runs a command by TRANSFORM")
    found: set[str] = set()
    for table in tables_of(tree, _folded, frozenset()):
        inner = table.this
        if isinstance(inner, exp.Identifier) and not table.db:
            found.add(str(inner.this))
        elif isinstance(inner, exp.Identifier):
            place = ".".join(each for each in (table.catalog, table.db, table.name) if each)
            raise _refused(f"reads {place!r}, which has a schema's name or a format before its own")
        elif _function(inner) not in _TABLE_FUNCTIONS:
            raise _refused(f"reads {_function(inner) or 'a function'}()")
    for each in tree.find_all(exp.Func):
        name = _function(each)
        if isinstance(each, exp.Anonymous) and isinstance(each.parent, exp.Dot):
            raise _refused(f"calls {each.parent.sql(dialect='spark')}, which has a schema's name before its own")
        if _FUNCTIONS.fullmatch(name):
            raise _refused(f"calls {name}()")
    return found


def _parsed(sql: str) -> exp.Query:
    try:
        statements = sqlglot.parse(sql, read="spark")
    except sqlglot.errors.SqlglotError as error:
        problem = str(error).splitlines()[0].rstrip(".")
        raise EntityFrameError(f"SQL entity frame: {problem}", hint="check the names of tables and columns") from error
    if len(statements) != 1 or not isinstance(statements[0], exp.Query) or statements[0].find(*_WRITES):
        raise EntityFrameError("the SQL entity frame is not one SELECT", hint="write SELECT … FROM a source")
    return statements[0]


def _folded(identifier: exp.Identifier) -> str:
    """A name as Spark compares it: without its case, in quotes too."""
    return str(identifier.this).casefold()


def _function(node: object) -> str:
    if isinstance(node, exp.Anonymous):
        return (node.this.name if isinstance(node.this, exp.Identifier) else str(node.this)).lower()
    return node.sql_name().lower() if isinstance(node, exp.Func) else ""


def _refused(problem: str) -> EntityFrameError:
    return EntityFrameError(
        f"the SQL entity frame {problem}, and it may read applied sources only", hint="name a source"
    )


__all__ = ["tables_in"]
