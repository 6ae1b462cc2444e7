"""What depends on an object, and what it depends on: the lineage, as far as the viewer may see it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from asof.catalog.live import LiveValue
from asof.catalog.pages.page import Link, PageRequest
from asof.catalog.urls import page_url, url_of
from asof.lineage import LineageGraph, LineageNode
from asof.lineage.nodes import KINDS, noun

_MOST = 100
"""Of more nodes of one kind the first are named."""


@dataclass(frozen=True)
class NodesOfKind:
    """Nodes of one kind.

    Args:
        noun: the kind in prose, for their number.
        count: how many there are; `links` are the first of them.
    """

    kind: str
    noun: str
    count: int
    links: Sequence[Link]


@dataclass(frozen=True)
class Impact:
    """What an object is made of, and what may change when it does; by kind.

    Args:
        hidden: how many more depend on it that the viewer may not see.
    """

    upstream: Sequence[NodesOfKind]
    downstream: Sequence[NodesOfKind]
    hidden: int
    lineage_url: str


def impact_of(request: PageRequest, node: LineageNode) -> LiveValue[Impact]:
    """The upstream and the downstream of an object."""

    found = lineage_of(request)
    if found.value is None:
        return LiveValue(None, found.age_s, found.is_late, found.error, found.hint)
    graph = found.value
    if graph.node(*node) is None:
        return LiveValue(Impact((), (), 0, lineage_url(node)))
    upstream, _ = _kinds(request, graph.origins(node))
    downstream, hidden = _kinds(request, graph.impact(node))
    return LiveValue(Impact(upstream, downstream, hidden, lineage_url(node)))


def lineage_of(request: PageRequest) -> LiveValue[LineageGraph]:
    """The lineage of what is applied; made again for another version."""
    snapshot = request.index.snapshot
    return request.live.get(("lineage", snapshot.version), request.store.lineage, max_age_s=3600.0)


def lineage_url(node: LineageNode) -> str:
    """The address of the lineage of a node."""
    return page_url("lineage", node.kind, node.name)


def node_url(node: LineageNode) -> str:
    """The address of the page of a node; of a column that of its source."""
    if node.kind == "column":
        return url_of("source", node.parent)
    if node.kind == "request-source":
        return url_of("source", node.name)
    return url_of(node.kind, node.name)


def shows_node(request: PageRequest, node: LineageNode) -> bool:
    """Whether the viewer may see a node."""
    index, viewer = request.index, request.viewer
    if viewer.may("read"):
        return True
    if node.kind in ("view", "on-demand-view", "feature"):
        view = index.view(node.parent or node.name)
        return view is not None and index.shows_view(viewer, view)
    if node.kind in ("source", "column", "request-source"):
        return index.shows_source(viewer, node.parent or node.name)
    if node.kind == "entity":
        return index.shows_entity(viewer, node.name)
    if node.kind == "service":
        service = index.project.services.get(node.name)
        return service is not None and index.shows_service(viewer, service)
    return False


def _kinds(request: PageRequest, found: Mapping[str, Sequence[LineageNode]]) -> tuple[Sequence[NodesOfKind], int]:
    shown = {kind: [node for node in nodes if shows_node(request, node)] for kind, nodes in found.items()}
    hidden = sum(map(len, found.values())) - sum(map(len, shown.values()))
    kinds = [
        NodesOfKind(kind, noun(kind, len(nodes)), len(nodes), _links(nodes[:_MOST]))
        for kind in KINDS
        if (nodes := shown.get(kind))
    ]
    return kinds, hidden


def _links(nodes: Iterable[LineageNode]) -> list[Link]:
    return [Link(node.name, node_url(node)) for node in nodes]


__all__ = ["Impact", "NodesOfKind", "impact_of", "lineage_of", "lineage_url", "node_url", "shows_node"]
