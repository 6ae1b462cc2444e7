"""Whether an expression is made of nothing but values, known names and harmless functions, by its tree in DuckDB.

Each form, each name and each function must be known; what is not is refused. So no spelling, comment, quoting or
nesting gets round it, and no form that a later version of the engine brings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from asof.errors import nearest

_VALUE_KEYWORDS = {
    "current_catalog", "current_date", "current_role", "current_schema", "current_time", "current_timestamp",
    "current_user", "localtime", "localtimestamp", "session_user", "user",
}  # fmt: skip
"""Names that the engine reads as a call where no column has them."""

_CHILDREN: Mapping[str, frozenset[str]] = {
    "BETWEEN": frozenset({"input", "lower", "upper"}),
    "CASE": frozenset({"case_checks", "else_expr"}),
    "CAST": frozenset({"child", "type_expr", "cast_type"}),
    "COLLATE": frozenset({"child"}),
    "COLUMN_REF": frozenset(),
    "COMPARISON": frozenset({"left", "right"}),
    "CONJUNCTION": frozenset({"children"}),
    "CONSTANT": frozenset(),
    "FUNCTION": frozenset({"arguments", "children"}),
    "LAMBDA": frozenset({"lhs", "expr"}),
    "OPERATOR": frozenset({"children"}),
    "TYPE": frozenset({"children"}),
}
"""The forms of an expression that are accepted, and where each keeps the expressions that it is made of."""

_INERT = frozenset({
    "class", "type", "alias", "query_location", "query_location_length", "column_names", "value", "literal",
    "try_cast", "type_name", "collation", "syntax_type", "function_name", "is_operator", "qualified_name", "schema",
    "order_bys",
})  # fmt: skip
"""Other keys that a node may have. Names and functions are checked separately; any further key must be empty."""

_OPERATORS = {
    "ARRAY_CONSTRUCTOR", "ARRAY_EXTRACT", "ARRAY_SLICE", "COMPARE_IN", "COMPARE_NOT_IN", "OPERATOR_COALESCE",
    "OPERATOR_IS_NOT_NULL", "OPERATOR_IS_NULL", "OPERATOR_NOT", "OPERATOR_NULLIF", "OPERATOR_TRY", "STRUCT_EXTRACT",
}  # fmt: skip

MORE = "reads more than one message, or makes several rows of one"
AGAIN = "returns something else when the messages are read again"

Node = dict[str, Any]


class ExpressionCheck:
    """The check of one text's expressions."""

    def __init__(self, sql: str, problem: Callable[[str], str]) -> None:
        self.sql, self._problem = sql, problem

    def refused(self, node: Node | None, text: str) -> ValueError:
        """The error, with its place in the text."""
        return ValueError(f"{text}{place_of(self.sql, (node or {}).get('query_location'))}")

    def check(self, root: Node, names: Mapping[str, str]) -> frozenset[str]:
        """Check that an expression is made of nothing but values, these names and harmless functions.

        Returns:
            Those of `names` that it reads.

        Raises:
            ValueError: it is made of something else.
        """
        read: set[str] = set()
        # A stack of one's own: an expression is as deep as its author likes. With each node go the lambda parameters
        # around it, which hide columns of the same name.
        stack = [(root, frozenset[str]())]
        while stack:
            node, hiding = stack.pop()
            scope = hiding | names.keys()
            kind = node["class"]
            if kind not in _CHILDREN:
                raise self._unknown(node)
            if kind == "COLUMN_REF":
                self._check_name(node, scope, names)
                name = folded(str(node["column_names"][0]))
                if name in names and name not in hiding:
                    read.add(names[name])
            elif kind == "FUNCTION":
                self._check_function(node, scope)
            elif kind == "OPERATOR" and node["type"] not in _OPERATORS:
                raise self.refused(node, f"{spelled(node['type'])} is not allowed in it")
            elif kind == "TYPE" and (node.get("schema") or "main") != "main":
                raise self.refused(node, f"type {node.get('type_name')!r} of schema {node['schema']!r} is not known")
            for key, value in node.items():
                if value and key not in _INERT and key not in _CHILDREN[kind]:
                    raise self.refused(node, f"{key.upper()} of a {spelled(kind)} is not allowed in it")
            if kind == "LAMBDA" and (parameters := self._parameters(node)):
                stack.append((node["expr"], hiding | parameters))
                continue
            children = (node[key] for key in _CHILDREN[kind] if key in node)
            stack += [(child, hiding) for value in children for child in _nodes(value)]
        return frozenset(read)

    def _check_name(self, node: Node, scope: frozenset[str], names: Mapping[str, str]) -> None:
        name = str(node["column_names"][0])
        if folded(name) in scope:
            return
        if folded(name) in _VALUE_KEYWORDS:
            raise self.refused(node, f"{name} {AGAIN}")
        hint = nearest(name, names.values())
        raise self.refused(node, f"{name!r} is not a column of its input{f'; {hint}' if hint else ''}")

    def _check_function(self, node: Node, scope: frozenset[str]) -> None:
        name, schema = str(node["function_name"]), str(node.get("schema") or "")
        # `kind.lower()` is `lower(kind)`; a schema of that name there is not.
        if schema and folded(schema) != "main" and folded(schema) not in scope:
            raise self.refused(node, f"{schema}.{name} is not a function of the engine's main schema")
        if problem := self._problem(name):
            raise self.refused(node, f"{name} {problem}")
        if (node.get("order_bys") or {}).get("orders"):
            raise self.refused(node, f"ORDER BY in {name} {MORE}")

    def _parameters(self, node: Node) -> frozenset[str]:
        """The names on the left side of a lambda or an arrow; none where that is an expression.

        The parser does not tell a lambda's arrow from that of JSON. It need not: of JSON, a name that is no column is
        refused by the engine, but for those that it reads as a call, which are refused here.
        """
        parameters = _folded_names(node["lhs"])
        if bad := parameters & _VALUE_KEYWORDS:
            raise self.refused(node, f"{min(bad)} {AGAIN}")
        return parameters

    def _unknown(self, node: Node) -> ValueError:
        kind = node["class"]
        if kind == "SUBQUERY":
            return self.refused(node, f"a subquery {MORE}")
        if kind == "WINDOW":
            return self.refused(node, f"{node.get('function_name') or 'a window'} OVER {MORE}")
        if kind == "STAR":
            return self.refused(node, "a * inside of an expression is not allowed in it; name the columns")
        if kind == "PARAMETER":
            return self.refused(node, "a parameter has no value here; write the value")
        return self.refused(node, f"a {spelled(kind)} is not allowed in it")


def _nodes(value: Any) -> Iterator[Node]:
    """The expressions in what a node keeps under a key: itself, a list, or records of several."""
    if isinstance(value, list):
        for each in value:
            yield from _nodes(each)
    elif isinstance(value, dict):
        if "class" in value:
            yield value
        else:
            for each in value.values():
                yield from _nodes(each)


def _folded_names(node: Node) -> frozenset[str]:
    """The names of a lambda's left side: `x`, or `(x, i)`; none where it is anything else."""
    nodes = [node] if node["class"] == "COLUMN_REF" else []
    if node["class"] == "FUNCTION" and node["function_name"] == "row":
        nodes = list(_nodes(node.get("arguments") or node.get("children") or []))
    if any(each["class"] != "COLUMN_REF" or len(each["column_names"]) != 1 for each in nodes):
        return frozenset()
    return frozenset(folded(each["column_names"][0]) for each in nodes)


def folded(name: str) -> str:
    """A name as the engine compares it: ignoring the case of ASCII characters."""
    return "".join(each.lower() if each.isascii() else each for each in name)


def spelled(name: str) -> str:
    return name.lower().replace("_", " ")


def place_of(sql: str, offset: Any) -> str:
    """Line and column of a byte in the text; empty where there is none."""
    encoded = sql.encode()
    if not isinstance(offset, int) or not 0 <= offset < len(encoded):
        return ""
    before = encoded[:offset].decode(errors="ignore").split("\n")
    return f" (line {len(before)}, column {len(before[-1]) + 1} of the SQL)"


__all__ = ["AGAIN", "MORE", "ExpressionCheck", "Node", "folded", "place_of", "spelled"]
