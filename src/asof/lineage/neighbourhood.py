"""What is near a node: few enough nodes to be looked at, the others counted in groups."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from asof.lineage.nodes import LineageNode, noun

Edges = Mapping[LineageNode, Mapping[LineageNode, Iterable[str]]]
"""Node → neighbour in one direction → reasons."""

_KEPT_SHARE = 4
"""A ring leaves to the rings behind it together at most one part in so many of the limit, beyond one node per kind."""


@dataclass(frozen=True)
class LineageGroup:
    """Nodes that are not shown one by one.

    Args:
        id: names the group in `expanded=`, and does not change when other groups are expanded.
        kind: of all members.
        parent: the view or the source of all members; empty if they have several or none.
        others: whether some of the same are shown, so that these are the others.
    """

    id: str
    kind: str
    parent: str
    members: tuple[LineageNode, ...]
    others: bool

    @property
    def label(self) -> str:
        """`and 37 features`, or `12 views` where none is shown."""
        count = f"{len(self.members):,} {noun(self.kind, len(self.members))}"
        return f"and {count}" if self.others else count

    @property
    def title(self) -> str:
        """The label, and whose they are."""
        return f"{self.label} of {self.parent}" if self.parent else self.label


LineageItem = LineageNode | LineageGroup


@dataclass(frozen=True)
class LineageEdge:
    """From one item to another.

    Args:
        before, after: ids of items.
        reasons: what the first is to the second, as in `value of`.
        count: how many edges between nodes it stands for.
    """

    before: str
    after: str
    reasons: tuple[str, ...]
    count: int


@dataclass(frozen=True)
class Neighbourhood:
    """The items near a node, and the edges between them.

    Args:
        focus: the node itself; the first of the items.
        items: nodes and groups, nearest first.
        is_complete: whether nothing is in groups.
    """

    focus: LineageNode
    items: tuple[LineageItem, ...]
    edges: tuple[LineageEdge, ...]

    @property
    def is_complete(self) -> bool:
        return not any(isinstance(each, LineageGroup) for each in self.items)


def neighbourhood_of(
    before: Edges,
    after: Edges,
    focus: LineageNode,
    *,
    upstream: int = 1,
    downstream: int = 1,
    limit: int = 60,
    expanded: Collection[str] = (),
) -> Neighbourhood:
    """What is up to so many steps before and after a node.

    Where that is more than the limit, features of one view (columns of one source, views, …) at one distance are
    collapsed into a group, the largest first; where even the groups are too many, those of one kind. Nearer nodes come
    first.

    Args:
        upstream, downstream: how many steps each way.
        limit: the most items, groups included. At least one item for each kind at each distance is shown.
        expanded: ids of groups whose members are shown first, as far as the limit allows.

    Raises:
        KeyError: there is no such node.
    """
    rings = _rings(focus, before, after, upstream, downstream)
    item_of: dict[LineageNode, LineageItem] = {focus: focus}
    left = limit - 1
    for number, (side, nodes) in enumerate(rings):
        later = sum(_least(ring, limit // _KEPT_SHARE // len(rings)) for _, ring in rings[number + 1 :])
        room = max(left - later, _kinds(nodes))
        shown = _fitted(side, nodes, room, expanded)
        item_of |= shown
        left -= len(set(map(_id, shown.values())))
    items = {_id(item): item for item in item_of.values()}
    return Neighbourhood(focus, tuple(items.values()), _edges(item_of, after))


def _rings(
    focus: LineageNode, before: Edges, after: Edges, upstream: int, downstream: int
) -> list[tuple[str, list[LineageNode]]]:
    """The nodes by their distance, nearest first, upstream before downstream; each node once."""
    seen = {focus}
    fronts = {"up": list(before[focus]), "down": list(after[focus])}
    rings = []
    for step in range(max(upstream, downstream)):
        for side, edges, steps in (("up", before, upstream), ("down", after, downstream)):
            if step >= steps:
                continue
            ring = [node for node in dict.fromkeys(fronts[side]) if node not in seen]
            seen.update(ring)
            fronts[side] = [each for node in ring for each in edges[node]]
            if ring:
                rings.append((f"{side}{step + 1}", ring))
    return rings


def _kinds(nodes: Iterable[LineageNode]) -> int:
    return len({node.kind for node in nodes})


def _least(nodes: list[LineageNode], share: int) -> int:
    """How many items a ring is left at least."""
    return min(len(nodes), max(share, _kinds(nodes)))


def _fitted(
    side: str, nodes: list[LineageNode], room: int, expanded: Collection[str]
) -> dict[LineageNode, LineageItem]:
    """The nodes as at most `room` items, but at least one for each kind."""
    groups: dict[tuple[str, str], list[LineageNode]] = {}
    for node in nodes:
        groups.setdefault((node.kind, node.parent), []).append(node)
    if len(groups) > room:
        kinds: dict[tuple[str, str], list[LineageNode]] = {}
        for (kind, _), members in groups.items():
            kinds.setdefault((kind, ""), []).extend(members)
        groups = kinds
    ids = {group: "-".join((side, *filter(None, group))) for group in groups}
    # Expanded groups are served first, then each gets the same, small ones no more than they need.
    order = sorted(groups, key=lambda group: (ids[group] not in expanded, len(groups[group])))
    items: dict[LineageNode, LineageItem] = {}
    for number, group in enumerate(order):
        members, behind = groups[group], len(order) - number - 1
        share = room - behind if ids[group] in expanded else room // (behind + 1)
        room -= _show(items, ids[group], group, members, max(share, 1))
    return {node: items[node] for node in nodes}


def _show(
    items: dict[LineageNode, LineageItem], id: str, group: tuple[str, str], members: list[LineageNode], share: int
) -> int:
    """Make items of the members, at most `share`; returns how many."""
    if len(members) <= share:
        items |= {node: node for node in members}
        return len(members)
    shown, hidden = members[: share - 1], tuple(members[share - 1 :])
    items |= {node: node for node in shown}
    items |= dict.fromkeys(hidden, LineageGroup(id, *group, hidden, others=bool(shown)))
    return share


def _id(item: LineageItem) -> str:
    return item.id


def _edges(item_of: Mapping[LineageNode, LineageItem], after: Edges) -> tuple[LineageEdge, ...]:
    reasons: dict[tuple[str, str], dict[str, None]] = {}
    counts: dict[tuple[str, str], int] = {}
    for node, item in item_of.items():
        for other, why in after[node].items():
            if other in item_of and item_of[other].id != item.id:
                ends = item.id, item_of[other].id
                reasons.setdefault(ends, {}).update(dict.fromkeys(why))
                counts[ends] = counts.get(ends, 0) + 1
    return tuple(LineageEdge(*ends, tuple(why), counts[ends]) for ends, why in reasons.items())


__all__ = ["LineageEdge", "LineageGroup", "LineageItem", "Neighbourhood", "neighbourhood_of"]
