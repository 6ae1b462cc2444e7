"""What a user's SELECT may read in Postgres: the tables that it names, decided on the parsed statement."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection

import sqlglot
from sqlglot import exp

from asof.errors import EntityFrameError
from asof.offline.frame_tables import tables as tables_of

_TABLE_FUNCTIONS = frozenset(
    "generate_series generate_subscripts unnest json_array_elements json_array_elements_text jsonb_array_elements "
    "jsonb_array_elements_text json_each json_each_text jsonb_each jsonb_each_text json_to_record json_to_recordset "
    "jsonb_to_record jsonb_to_recordset json_object_keys jsonb_object_keys regexp_matches regexp_split_to_table "
    "string_to_table".split()
)
"""Those that make rows of their arguments."""
_FUNCTIONS = re.compile(
    r"(pg_|lo_|txid_|inet_(client|server)_|(query|table|schema|database|cursor)_to_xml).*"
    r"|(set_config|current_setting|nextval|setval|currval|lastval|ts_stat|ts_rewrite|has_\w+_privilege)"
)
"""Functions that read or change more than their arguments: settings, sequences, files, other sessions, or a table that
a text names.
"""
_WRITES = (exp.Insert, exp.Update, exp.Delete, exp.Merge, exp.Into, exp.Lock)


def tables_in(sql: str, *, anything: bool, foreign: Callable[[Collection[str]], Collection[str]]) -> set[str]:
    """The tables that a SELECT names, without what it names itself by WITH.

    Args:
        anything: it may also read qualified tables and call any function; such tables are not in the result.
        foreign: of the names of functions, those that are not Postgres's own.

    Raises:
        EntityFrameError: it is not one SELECT, or reads what it may not.
    """
    tree = _parsed(sql)
    if not anything and re.search(r"\\'|[uU]&[\"']", sql):
        # What ends a text or a name there depends on settings of the server.
        raise _refused("has a text or a name with escapes by backslash")
    tables: set[str] = set()
    for table in tables_of(tree, _name, frozenset()):
        inner = table.this
        if isinstance(inner, exp.Identifier) and not table.db:
            tables.add(_name(inner))
        elif isinstance(inner, exp.Identifier):
            if not anything:
                place = ".".join(each for each in (table.catalog, table.db, table.name) if each)
                raise _refused(f"reads {place!r}, which has a schema's name before its own")
        elif not anything and _function(inner) not in _TABLE_FUNCTIONS:
            raise _refused(f"reads {_function(inner) or 'a function'}()")
    if not anything:
        _check_functions(tree, foreign)
    return tables


def _parsed(sql: str) -> exp.Query:
    try:
        statements = sqlglot.parse(sql, read="postgres")
    except sqlglot.errors.ParseError as error:
        problem = error.errors[0]["description"].rstrip(".") if error.errors else str(error)
        raise EntityFrameError(
            f"SQL entity frame: {problem}{_place(error)}", hint="check the names of tables and columns"
        ) from error
    except sqlglot.errors.SqlglotError as error:
        raise EntityFrameError(f"SQL entity frame: {error}", hint="check the SQL") from error
    if len(statements) != 1 or not isinstance(statements[0], exp.Query) or statements[0].find(*_WRITES):
        raise EntityFrameError("the SQL entity frame is not one SELECT", hint="write SELECT … FROM a source")
    return statements[0]


def _check_functions(tree: exp.Query, foreign: Callable[[Collection[str]], Collection[str]]) -> None:
    others = set()
    for each in tree.find_all(exp.Func):
        name = _function(each)
        if _FUNCTIONS.fullmatch(name):
            raise _refused(f"calls {name}()")
        if isinstance(each, exp.Anonymous):
            if isinstance(each.parent, exp.Dot):
                raise _refused(f"calls {each.parent.sql(dialect='postgres')}, which has a schema's name before its own")
            others.add(name)
    for name in sorted(foreign(others)) if others else ():
        raise _refused(f"calls {name}(), which is not one of PostgreSQL's own functions")


def _name(identifier: exp.Identifier) -> str:
    """A name as Postgres takes it: in lower case where it is not quoted."""
    return str(identifier.this) if identifier.args.get("quoted") else str(identifier.this).lower()


def _function(node: object) -> str:
    if isinstance(node, exp.Anonymous):
        return str(node.this).lower()
    if isinstance(node, exp.ExplodingGenerateSeries):
        return "generate_series"
    return node.sql_name().lower() if isinstance(node, exp.Func) else ""


def _refused(problem: str) -> EntityFrameError:
    return EntityFrameError(
        f"the SQL entity frame {problem}, and it may read applied sources only",
        hint="name a source, or let SQL read all that the database's user may by sql_reads: anything of offline_store",
    )


def _place(error: sqlglot.errors.ParseError) -> str:
    if not error.errors:
        return ""
    found = error.errors[0]
    return f" at line {found['line']}, column {found['col']}, near {found['highlight']!r}"


__all__ = ["tables_in"]
