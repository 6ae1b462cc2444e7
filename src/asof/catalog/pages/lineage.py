"""The page of lineage: what is made of what, around one object, as a drawing, as a list and as Mermaid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from asof.catalog.drawings.lineage import lineage_mermaid
from asof.catalog.live import LiveValue
from asof.catalog.pages.page import Link, Page, PageRequest, missing
from asof.catalog.pages.sections.impact import lineage_of, lineage_url, node_url, shows_node
from asof.catalog.urls import page_url
from asof.lineage import LineageGraph, LineageGroup, LineageItem, LineageNode, Neighbourhood
from asof.lineage.nodes import KINDS, noun

_MOST_STEPS = 6

_NODES, _MORE = 30, 90
"""How many nodes are drawn at most, so that a drawing is seen without much scrolling; and how many more for each group
that is expanded."""

_MOST_EXPANDED = 5
"""So many groups may be expanded at once; of more the last."""


@dataclass(frozen=True)
class LineageEntry:
    """One neighbour in the list.

    Args:
        reasons: what it is to the object, or the object to it, as in `value of`.
        url: its page; of a group the page with the group expanded.
    """

    kind: str
    name: str
    reasons: Sequence[str]
    url: str
    lineage_url: str


@dataclass(frozen=True)
class DrawnLineage:
    """A neighbourhood as it is shown.

    Args:
        found: what is drawn.
        urls: item → where it leads: of a node its lineage, of a group this page with the group expanded.
        upstream, downstream: the neighbours one step away.
        hidden: how many neighbours the viewer may not see.
    """

    found: Neighbourhood
    urls: Mapping[str, str]
    upstream: Sequence[LineageEntry]
    downstream: Sequence[LineageEntry]
    hidden: int
    mermaid: str


@dataclass(frozen=True, kw_only=True)
class LineagePage(Page):
    """The page.

    Args:
        steps: how many steps are shown each way.
        wider_url, narrower_url: with a step more and a step less; empty where there is none.
    """

    kind: str
    noun: str
    name: str
    url: str
    steps: int
    expanded: Sequence[str]
    wider_url: str
    narrower_url: str
    lineage: LiveValue[DrawnLineage]


def lineage_page(request: PageRequest) -> LineagePage:
    kind, name = request.names
    node = LineageNode(kind, name)
    if kind not in KINDS:
        raise missing("kind of lineage", kind, KINDS)
    found = lineage_of(request)
    graph = found.value
    if graph is not None and (graph.node(kind, name) is None or not shows_node(request, node)):
        raise missing(
            noun(kind), name, [each.name for each in graph.nodes if each.kind == kind and shows_node(request, each)]
        )
    steps = request.number("steps", 1, most=_MOST_STEPS)
    expanded = (request.text("expand") or "").split()[-_MOST_EXPANDED:]
    return LineagePage(
        title=f"Lineage of {name}", above=[Link("Home", page_url()), Link(name, node_url(node))], kind=kind,
        noun=noun(kind), name=name, url=node_url(node), steps=steps, expanded=expanded,
        wider_url=_url(node, steps + 1, expanded) if steps < _MOST_STEPS else "",
        narrower_url=_url(node, steps - 1, expanded) if steps > 1 else "",
        lineage=LiveValue(None, found.age_s, found.is_late, found.error, found.hint)
        if graph is None
        else LiveValue(drawn_lineage(request, graph, node, steps=steps, expanded=expanded), found.age_s),
    )  # fmt: skip


def near_lineage(request: PageRequest, node: LineageNode) -> LiveValue[DrawnLineage]:
    """What is one step away from a node, to be shown on its page."""
    found = lineage_of(request)
    if found.value is None or found.value.node(*node) is None:
        return LiveValue(None, found.age_s, found.is_late, found.error, found.hint)
    return LiveValue(drawn_lineage(request, found.value, node), found.age_s)


def drawn_lineage(
    request: PageRequest, graph: LineageGraph, node: LineageNode, *, steps: int = 1, expanded: Sequence[str] = ()
) -> DrawnLineage:
    """The neighbourhood of a node, as far as the viewer may see it.

    Args:
        expanded: IDs of groups; one that is there twice has twice as many more of its members shown.
    """
    limit = _NODES + _MORE * len(expanded)
    whole = graph.neighbourhood(node, upstream=steps, downstream=steps, limit=limit, expanded=expanded)
    found, hidden = _visible(request, whole)
    urls = {
        item.id: lineage_url(item) if isinstance(item, LineageNode) else _url(node, steps, [*expanded, item.id])
        for item in found.items
    }
    items = {item.id: item for item in found.items}
    before = [(items[edge.before], edge.reasons) for edge in found.edges if edge.after == node.id]
    after = [(items[edge.after], edge.reasons) for edge in found.edges if edge.before == node.id]
    return DrawnLineage(
        found, urls, [_entry(item, reasons, urls) for item, reasons in before],
        [_entry(item, reasons, urls) for item, reasons in after], hidden,
        lineage_mermaid(found, lambda item: urls.get(item.id)),
    )  # fmt: skip


def _entry(item: LineageItem, reasons: Sequence[str], urls: Mapping[str, str]) -> LineageEntry:
    if isinstance(item, LineageGroup):
        return LineageEntry(item.kind, item.title, reasons, urls[item.id], "")
    return LineageEntry(item.kind, item.name, reasons, node_url(item), lineage_url(item))


def _visible(request: PageRequest, found: Neighbourhood) -> tuple[Neighbourhood, int]:
    """What the viewer may see of a neighbourhood, and how many nodes are left out."""
    if request.viewer.may("read"):
        return found, 0
    items: list[LineageItem] = []
    hidden = 0
    for item in found.items:
        nodes = item.members if isinstance(item, LineageGroup) else (item,)
        shown = tuple(node for node in nodes if shows_node(request, node))
        hidden += len(nodes) - len(shown)
        if shown:
            items.append(replace(item, members=shown) if isinstance(item, LineageGroup) else item)
    ids = {item.id for item in items}
    edges = tuple(edge for edge in found.edges if edge.before in ids and edge.after in ids)
    return Neighbourhood(found.focus, tuple(items), edges), hidden


def _url(node: LineageNode, steps: int, expanded: Sequence[str]) -> str:
    query = {"steps": steps if steps > 1 else None, "expand": " ".join(expanded)}
    return page_url("lineage", node.kind, node.name, query=query)
