"""Lineage as a picture: boxes in columns from sources to services, each a link; and the same as Mermaid text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from asof.catalog.drawings.layout import Layout, layered
from asof.catalog.drawings.markup import Markup, drawing, element, label, shortened
from asof.display import counted
from asof.lineage import LineageGroup, LineageItem, LineageNode, Neighbourhood
from asof.lineage.nodes import noun

Href = Callable[[LineageItem], str | None]
"""The address that an item leads to: of a node its page, of a group the same drawing with the group expanded."""


def no_href(item: LineageItem) -> None:
    """For a drawing without links."""


_RANKS = {
    "source": 1, "column": 2, "entity": 2, "view": 3, "request-source": 4, "feature": 4, "on-demand-view": 5,
    "service": 7, "training-set": 7,
}  # fmt: skip
"""Kind → its column; the features of on-demand views are in the one after these views, 6."""

# Pixels. A fixed-width character takes about 0.602 of its font's size: `static/drawings.css` has the sizes.
_WIDTH, _HEIGHT, _GAP, _PITCH = 216, 44, 68, 56
_TOP, _EDGE, _INSET = 34, 4, 14
_NAME_CELLS, _NOTE_CELLS = 25, 28


def lineage_svg(found: Neighbourhood, href: Href = no_href, *, expands: str = "") -> Markup:
    """A neighbourhood as SVG with links; the focus is highlighted.

    Args:
        href: where each item leads; None where it has no page.
        expands: selects the element that htmx replaces by the same one of the page with a group expanded; empty: the
            group is a link and no more.
    """
    items = {item.id: item for item in found.items}
    lines = [(edge.before, edge.after) for edge in found.edges]
    layout = layered(_ranks(found), lines)
    notes = _notes(found)
    width = layout.columns * (_WIDTH + _GAP) - _GAP + 2 * _EDGE
    rows = [*layout.row.values(), *(row for bends in layout.bends.values() for row in bends)]
    height = _TOP + max(rows) * _PITCH + _HEIGHT
    title = f"Lineage of {found.focus.title}: {counted(len(items) - 1, 'item')} near it"
    order = sorted(items.values(), key=lambda item: (layout.column[item.id], layout.row[item.id]))
    near = {(edge.before, edge.after) for edge in found.edges if found.focus.id in (edge.before, edge.after)}
    paths = [
        _path(layout, edge.before, edge.after, title=", ".join(edge.reasons), near=(edge.before, edge.after) in near)
        for edge in found.edges
    ]
    return drawing(
        "lineage", title,
        element("g", *_heads(order, layout), class_="heads", aria_hidden="true"),
        element("g", *paths, class_="lines", aria_hidden="true"),
        *(
            _box(item, layout, notes.get(item.id, ()), href(item), is_focus=item == found.focus, expands=expands)
            for item in order
        ),
        width=width, height=height + _EDGE, is_image=False,
    )  # fmt: skip


def _ranks(found: Neighbourhood) -> dict[str, int]:
    made = {edge.after for edge in found.edges if edge.before.startswith("on-demand-view/")}
    ranks = {item.id: 6 if item.kind == "feature" and item.id in made else _RANKS[item.kind] for item in found.items}
    for edge in found.edges:
        if edge.before.startswith("source/") and edge.after.startswith("source/"):
            ranks[edge.before] = 0
    return ranks


def _notes(found: Neighbourhood) -> dict[str, tuple[str, ...]]:
    """What the focus's neighbours have to do with it."""
    focus = found.focus.id
    return {
        edge.before if edge.after == focus else edge.after: edge.reasons
        for edge in found.edges if focus in (edge.before, edge.after)
    }  # fmt: skip


def _heads(order: Iterable[LineageItem], layout: Layout) -> list[Markup]:
    kinds: dict[int, dict[str, None]] = {}
    for item in order:
        kinds.setdefault(layout.column[item.id], {})[noun(item.kind, 2)] = None
    return [
        label(", ".join(found).capitalize(), _left(column) + 2, 16, class_="head") for column, found in kinds.items()
    ]


def _left(column: int) -> float:
    return _EDGE + column * (_WIDTH + _GAP)


def _middle(row: float) -> float:
    return _TOP + row * _PITCH + _HEIGHT / 2


def _path(layout: Layout, start: str, end: str, *, title: str, near: bool) -> Markup:
    """A line that leaves a box to the right and enters another one from the left, level in the columns between."""
    first, last = layout.column[start], layout.column[end]
    x, y = _left(first) + _WIDTH, _middle(layout.row[start])
    steps = [f"M{x:.1f} {y:.1f}"]
    for column, row in enumerate((*layout.bends.get((start, end), ()), layout.row[end]), first + 1):
        to_x, to_y = _left(column), _middle(row)
        half = (x + to_x) / 2
        steps.append(f"C{half:.1f} {y:.1f} {half:.1f} {to_y:.1f} {to_x:.1f} {to_y:.1f}")
        x, y = to_x, to_y
        if column != last:
            x += _WIDTH
            steps.append(f"H{x:.1f}")
    return element("path", element("title", title), d="".join(steps), class_="line near" if near else "line")


def _box(
    item: LineageItem, layout: Layout, reasons: Iterable[str], href: str | None, *, is_focus: bool, expands: str
) -> Markup:
    left, middle = _left(layout.column[item.id]), _middle(layout.row[item.id])
    is_group = isinstance(item, LineageGroup)
    name = item.label if isinstance(item, LineageGroup) else shortened(item.label, _NAME_CELLS)
    classes = " ".join(["item", item.kind, *(["focus"] if is_focus else []), *(["group"] if is_group else [])])
    why = ", ".join(reasons)
    said = item.title + (f", {why} the item in focus" if why.endswith((" of", " in")) else "")
    inside = [
        element("title", item.title + (f" ({why.removesuffix(' of').removesuffix(' in')})" if why else "")),
        element("rect", x=left, y=middle - _HEIGHT / 2, width=_WIDTH, height=_HEIGHT, rx=7, class_="box"),
        element("rect", x=left + 5, y=middle - _HEIGHT / 2 + 7, width=3, height=_HEIGHT - 14, rx=1.5, class_="mark"),
        label(name, left + _INSET, middle - 2, class_="name"),
        label(_note(item, reasons), left + _INSET, middle + 14, class_="note"),
    ]
    if href is None:
        return element("g", *inside, class_=classes)
    current = "true" if is_focus else None
    expanding = _expanding(href, expands) if is_group and expands else {}
    return element("a", *inside, href=href, class_=classes, aria_label=said, aria_current=current, **expanding)


def _expanding(href: str, target: str) -> dict[str, str]:
    """What has htmx show a page's element in place of the one there; the address follows, so that Back works."""
    return {
        "data_hx_get": href,
        "data_hx_target": target,
        "data_hx_select": target,
        "data_hx_swap": "outerMorph",
        "data_hx_push_url": "true",
    }


def _note(item: LineageItem, reasons: Iterable[str]) -> str:
    """The small line: whose the item is, or its kind; of a column first what the focus takes from it."""
    whose = item.parent or noun(item.kind)
    if isinstance(item, LineageGroup):
        several = {"feature": "of several views", "column": "of several sources"}.get(item.kind, "not shown")
        return shortened(f"of {item.parent}" if item.parent else several, _NOTE_CELLS)
    why = [each.removesuffix(" of").removesuffix(" in") for each in reasons]
    if item.kind == "column" and why != ["column"] and why:
        return shortened(f"{', '.join(why)} · {whose}", _NOTE_CELLS)
    return shortened(whose, _NOTE_CELLS)


def lineage_mermaid(found: Neighbourhood, href: Href = no_href) -> str:
    """A neighbourhood as a Mermaid flowchart."""
    numbers = {item.id: f"n{number}" for number, item in enumerate(found.items)}
    lines = ["flowchart LR"]
    lines += [f"    {numbers[item.id]}{_shape(item)}" for item in found.items]
    lines += [f"    {numbers[edge.before]} --> {numbers[edge.after]}" for edge in found.edges]
    for item in found.items:
        if (address := href(item)) is not None:
            lines.append(f'    click {numbers[item.id]} "{_quoted(address)}"')
    lines.append("    classDef focus stroke-width:3px")
    lines.append(f"    class {numbers[found.focus.id]} focus")
    return "\n".join(lines) + "\n"


_SHAPES: Mapping[str, tuple[str, str]] = {
    "source": ("[(", ")]"), "request-source": ("[/", "/]"), "entity": ("([", "])"), "service": ("[[", "]]"),
    "training-set": ("[[", "]]"),
}  # fmt: skip


def _shape(item: LineageItem) -> str:
    start, end = _SHAPES.get(item.kind, ("[", "]")) if isinstance(item, LineageNode) else ("[", "]")
    return f'{start}"{_quoted(item.title)}"{end}'


def _quoted(text: str) -> str:
    """Text in Mermaid's quotes: what could end them, or is markup to it, by number."""
    return "".join(each if each.isalnum() or each in " _:/.,-?=&%" else f"#{ord(each)};" for each in text)


__all__ = ["Href", "lineage_mermaid", "lineage_svg", "no_href"]
