"""A neighbourhood as nested lists: what the node is made of, and what is made of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from asof.lineage.neighbourhood import LineageGroup, LineageItem, Neighbourhood


@dataclass(frozen=True)
class LineageBranch:
    """An item of a list, with the list below it.

    Args:
        item: a node or a group.
        reasons: what it has to do with the item above it, as in `value of`.
        branches: the next step in the same direction.
        is_repeated: its branches are in the list already, below the same item elsewhere.
    """

    item: LineageItem
    reasons: tuple[str, ...]
    branches: tuple[LineageBranch, ...]
    is_repeated: bool

    def content(self) -> dict[str, object]:
        """The branch and all below it, ready for JSON; a group as its members."""
        item = self.item
        named = (
            {"members": [each.name for each in item.members]} if isinstance(item, LineageGroup) else {"name": item.name}
        )
        below = {"next": [each.content() for each in self.branches]} if self.branches else {}
        return {"kind": item.kind, "is": list(self.reasons), **named, **below}


@dataclass(frozen=True)
class LineageBranches:
    """The lists of a neighbourhood, upstream and downstream."""

    upstream: tuple[LineageBranch, ...]
    downstream: tuple[LineageBranch, ...]


def branches_of(found: Neighbourhood) -> LineageBranches:
    """The neighbourhood as two nested lists; items that are reached on several ways have their branches once."""
    items = {item.id: item for item in found.items}
    before: dict[str, dict[str, tuple[str, ...]]] = {}
    after: dict[str, dict[str, tuple[str, ...]]] = {}
    for edge in found.edges:
        before.setdefault(edge.after, {})[edge.before] = edge.reasons
        after.setdefault(edge.before, {})[edge.after] = edge.reasons
    return LineageBranches(
        upstream=_branches(found.focus.id, items, before), downstream=_branches(found.focus.id, items, after)
    )


def _branches(
    focus: str, items: Mapping[str, LineageItem], edges: Mapping[str, Mapping[str, tuple[str, ...]]]
) -> tuple[LineageBranch, ...]:
    seen = {focus}

    def below(id: str) -> tuple[LineageBranch, ...]:
        near = edges.get(id, {})
        # Of an item that is near and, on another way, far, the near one has the branches.
        fresh = [each for each in near if each not in seen]
        seen.update(fresh)
        return tuple(
            LineageBranch(items[each], why, below(each), is_repeated=False)
            if each in fresh
            else LineageBranch(items[each], why, (), is_repeated=bool(edges.get(each)))
            for each, why in near.items()
        )

    return below(focus)


def tree_lines(branches: Iterable[LineageBranch]) -> list[str]:
    """The list as lines of text with branches drawn by characters."""
    lines: list[str] = []
    found = list(branches)
    for number, branch in enumerate(found, 1):
        is_last = number == len(found)
        why = f"  ({', '.join(each.removesuffix(' of').removesuffix(' in') for each in branch.reasons)})"
        more = "  …" if branch.is_repeated else ""
        lines.append(f"{'└─ ' if is_last else '├─ '}{branch.item.title}{why}{more}")
        lines += [f"{'   ' if is_last else '│  '}{line}" for line in tree_lines(branch.branches)]
    return lines


__all__ = ["LineageBranch", "LineageBranches", "branches_of", "tree_lines"]
