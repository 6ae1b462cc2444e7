"""SVG as text: elements whose texts and attributes are escaped here and nowhere else.

Colours and fonts come from `static/drawings.css` by classes; a strict Content-Security-Policy allows no other styles.
"""

from __future__ import annotations

import re
from html import escape

from asof.display import cells_of, clipped

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What no XML document may contain: control characters, unpaired surrogates, two non-characters."""

_DIRECTIONS = re.compile("[\u202a-\u202e\u2066-\u2069]")
"""Controls that turn the text around them; names keep their letters, but cannot turn a drawing's own text."""


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()

    def __html__(self) -> str:
        """The markup itself: templates that escape text leave it alone."""
        return str(self)


def element(name: str, *children: str, **attributes: object) -> Markup:
    """An element; children that are no `Markup` are text.

    Args:
        attributes: `class_` is `class`, an underscore is a hyphen; None is left out, numbers are rounded.
    """
    said = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_value(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    inner = "".join(each if isinstance(each, Markup) else text_of(each) for each in children)
    return Markup(f"<{name}{said}>{inner}</{name}>" if inner else f"<{name}{said}/>")


def text_of(text: str) -> Markup:
    """Any text as XML: escaped, without what XML cannot hold or what would turn other text around."""
    return Markup(escape(_DIRECTIONS.sub("", _NOT_XML.sub("\ufffd", text))))


def drawing(kind: str, title: str, *children: str, width: float, height: float, is_image: bool = True) -> Markup:
    """The root element of a drawing.

    Args:
        kind: its class, next to `drawing`.
        title: what it shows, as a screen reader says it.
        is_image: it is one image for a screen reader; where not, its links are read one by one.
    """
    return element(
        "svg", *children, xmlns="http://www.w3.org/2000/svg", class_=f"drawing {kind}",
        viewBox=f"0 0 {_number(width)} {_number(height)}", width=width, height=height,
        role="img" if is_image else "group", aria_label=title,
    )  # fmt: skip


def label(text: str, x: float, y: float, *, class_: str | None = None, anchor: str | None = None) -> Markup:
    """One line of text whose baseline is at (x, y)."""
    return element("text", text, x=x, y=y, class_=class_, text_anchor=anchor)


def shortened(text: str, cells: int) -> str:
    """The text in at most so many cells of a fixed-width font, its middle left out where it is longer.

    The beginning and the end of long names differ more often than their middles.
    """
    if cells_of(text) <= cells:
        return text
    head = clipped(text, cells - cells // 3)
    tail = text[::-1]
    while cells_of(tail) > cells - cells_of(head):
        tail = tail[:-1]
    return head + tail[::-1]


def _value(value: object) -> str:
    return _number(value) if isinstance(value, int | float) else text_of(str(value))


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


__all__ = ["Markup", "drawing", "element", "label", "shortened", "text_of"]
