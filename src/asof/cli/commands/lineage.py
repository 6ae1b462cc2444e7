"""`asof lineage`: what a thing is made of, and what is made of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from asof.cli.context import CliContext, pass_context
from asof.cli.options import Command
from asof.errors import NotFound, nearest

if TYPE_CHECKING:
    from asof.lineage import LineageGraph, LineageNode, Neighbourhood

KINDS = (
    "source", "column", "entity", "view", "request-source", "feature", "on-demand-view", "service", "training-set"
)  # fmt: skip


@click.command(cls=Command)
@click.argument("name")
@click.option(
    "--kind", type=click.Choice(KINDS), metavar="KIND", help="What NAME is, if several things have that name."
)
@click.option(
    "--upstream", type=click.IntRange(min=0), default=1, show_default=True, help="So many steps to what it is made of."
)
@click.option(
    "--downstream",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="So many steps to what is made of it.",
)
@click.option(
    "--limit",
    "-n",
    type=click.IntRange(min=30),
    default=60,
    show_default=True,
    help="Show so many, and count the others.",
)
@click.option("--impact", is_flag=True, help="List all that may change when it does, however many steps away.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["tree", "mermaid", "svg", "json"]),
    default="tree",
    show_default=True,
    help="How it is written.",
)
@pass_context
def lineage(
    context: CliContext,
    name: str,
    kind: str | None,
    upstream: int,
    downstream: int,
    limit: int,
    impact: bool,
    form: str,
) -> None:
    """Show what a thing is made of, and what is made of it.

    NAME is a feature (VIEW:FEATURE), a source's column (SOURCE:COLUMN), or a source, entity, view, service or training
    set.

    \b
    asof lineage user_traffic:views_1d
    asof lineage traffic:page --impact
    asof lineage user_traffic --downstream 2 --format svg > user_traffic.svg
    """
    if form == "json":
        context.write_as("json")
    graph = context.store.lineage()
    node = _node(graph, name, kind)
    if impact:
        _show_impact(context, graph, node)
        return
    found = graph.neighbourhood(node, upstream=upstream, downstream=downstream, limit=limit)
    if form == "svg":
        from asof.catalog.drawings import standalone
        from asof.catalog.drawings.lineage import lineage_svg

        svg = standalone(lineage_svg(found))
        context.output.lines("svg", [svg], svg)
    elif form == "mermaid":
        from asof.catalog.drawings.lineage import lineage_mermaid

        text = lineage_mermaid(found)
        context.output.lines("mermaid", text.splitlines(), text)
    else:
        _show_tree(context, found)


def _node(graph: LineageGraph, name: str, kind: str | None) -> LineageNode:
    """The node that is meant.

    Raises:
        NotFound: there is none, or several are.
    """
    from asof.lineage.nodes import noun

    named = [each for each in graph.named(name) if kind in (None, each.kind)]
    if not named:
        raise NotFound(
            f"no {noun(kind)} {name!r} is applied" if kind else f"nothing with the name {name!r} is applied",
            hint=nearest(name, graph.names) or "`asof search` finds what is applied",
        )
    if len(named) > 1:
        kinds = [each.kind for each in named]
        raise NotFound(
            f"{name!r} is the name of several things: {', '.join(kinds)}", hint=f"add --kind {kinds[-1]}, for example"
        )
    return named[0]


def _show_impact(context: CliContext, graph: LineageGraph, node: LineageNode) -> None:
    found = {kind: [each.name for each in nodes] for kind, nodes in graph.impact(node).items()}
    if context.output.form == "json":
        context.output.noted(name=node.name, kind=node.kind, impact=found)
        return
    if not found:
        context.output.said(f"Nothing depends on {node.title}.")
        return
    title = f"What may change with {node.title}"
    context.output.details("", {kind.replace("-", "_"): names for kind, names in found.items()}, title=title)


def _show_tree(context: CliContext, found: Neighbourhood) -> None:
    from asof.lineage.branches import branches_of, tree_lines

    lists = branches_of(found)
    lines = [found.focus.title]
    for title, branches, none in (
        ("Made of:", lists.upstream, "nothing that is shown"),
        ("Used by:", lists.downstream, "nothing that is shown"),
    ):
        lines += ["", title, *([f"  {line}" for line in tree_lines(branches)] or [f"  {none}"])]
    content = {
        "name": found.focus.name, "kind": found.focus.kind,
        "upstream": [each.content() for each in lists.upstream],
        "downstream": [each.content() for each in lists.downstream],
        "items": len(found.items), "is_complete": found.is_complete,
    }  # fmt: skip
    if context.output.form == "json":
        context.output.noted(**content)
    else:
        context.output.lines("lineage", lines, content)
