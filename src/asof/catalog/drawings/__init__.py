"""Drawings of the catalog as SVG text: pure functions of plain data, without styles or scripts of their own."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from asof.catalog.drawings.markup import Markup, element


@cache
def stylesheet() -> str:
    """The stylesheet of all drawings."""
    return files("asof.catalog").joinpath("static", "drawings.css").read_text(encoding="utf-8")


def standalone(svg: Markup) -> Markup:
    """A drawing with its stylesheet in it, for a file of its own; pages load the stylesheet once instead."""
    head, end, rest = svg.partition(">")
    style = element("style", f"{stylesheet()}.drawing {{ background: var(--drawing-card); }}")
    return Markup(f"{head}{end}{style}{rest}")


__all__ = ["standalone", "stylesheet"]
