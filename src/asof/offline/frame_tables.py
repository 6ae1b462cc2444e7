"""The tables that a parsed SELECT reads, for engines whose SQL sqlglot parses."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sqlglot import exp


def tables(node: exp.Expr, name_of: Callable[[exp.Identifier], str], own: frozenset[str]) -> Iterator[exp.Table]:
    """The tables of a part of a parsed SELECT, without those that a WITH around them defines.

    Args:
        name_of: a name as the engine compares it.
        own: the names that a WITH around it defines.
    """
    with_ = node.args.get("with_") or node.args.get("with")
    if isinstance(with_, exp.With):
        if with_.recursive:
            own |= frozenset(name_of(each.args["alias"].this) for each in with_.expressions)
        for each in with_.expressions:
            yield from tables(each.this, name_of, own)
            own |= frozenset({name_of(each.args["alias"].this)})
    if isinstance(node, exp.Table) and (
        node.db or not isinstance(node.this, exp.Identifier) or name_of(node.this) not in own
    ):
        yield node
    for child in node.iter_expressions():
        if child is not with_:
            yield from tables(child, name_of, own)


__all__ = ["tables"]
