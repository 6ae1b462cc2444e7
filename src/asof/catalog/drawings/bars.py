"""Distributions as bars: a histogram, and the most frequent values."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from asof.catalog.drawings.markup import Markup, drawing, element, label, shortened
from asof.display import cells_of

_CHARACTER = 6.6
"""Pixels of a character of a label, on average."""

_WIDTH, _LEFT, _RIGHT, _TOP, _PLOT, _BOTTOM = 560, 46, 10, 22, 150, 30
"""A histogram: its width, the margins around the plot, and the plot's height."""

_ROW, _NAME, _BAR, _FIGURES = 26, 190, 230, 140
"""A list of bars: the height of a row, the width of names, of the longest bar, of the figures."""

_NAME_CELLS = 23


def number_text(number: float) -> str:
    """A number of an axis."""
    return f"{number:,.0f}" if 1e4 <= abs(number) < 1e15 else f"{number:.4g}"


def share_text(share: float) -> str:
    """A share as percentage, with `<` where it would be rounded to nothing."""
    if 0 < share < 0.001:
        return "< 0.1 %"
    return f"{share:.1%}".replace(".0%", "%").replace("%", " %")


def histogram_svg(
    bins: Sequence[tuple[float, float, int]],
    *,
    title: str,
    shown: Callable[[float], str] = number_text,
    baseline: Sequence[int] | None = None,
    baseline_name: str = "baseline",
    whole: bool = False,
) -> Markup:
    """How many values lie in each bin, as shares of all.

    Args:
        bins: (low, high, count), ascending; drawn with equal widths, whatever they span.
        title: what a screen reader says of it.
        shown: an edge as text.
        baseline: counts of other values over the same bins, drawn as a line over the bars.
        whole: the values are whole numbers: a bin is named by those that it holds, not by its edges.
    """
    total = sum(count for _, _, count in bins)
    shares = [count / total if total else 0.0 for _, _, count in bins]
    all_others = sum(baseline or ()) or 1
    others = [count / all_others for count in baseline or ()]
    top, step = _scale(max([*shares, *others], default=0.0))
    wide = (_WIDTH - _LEFT - _RIGHT) / max(len(bins), 1)
    lefts = [_LEFT + place * wide for place in range(len(bins))]
    floor = _TOP + _PLOT

    def y(share: float) -> float:
        return floor - share / top * _PLOT

    rules = [
        element(
            "g", element("line", x1=_LEFT, y1=y(at), x2=_WIDTH - _RIGHT, y2=y(at), class_="rule"),
            label(share_text(at), _LEFT - 6, y(at) + 4, class_="axis", anchor="end"),
        )
        for at in (step * number for number in range(round(top / step) + 1 if bins else 0))
    ]  # fmt: skip
    named = [
        _whole_numbers(low, high, is_first=not place, shown=shown) if whole else f"{shown(low)} to {shown(high)}"
        for place, (low, high, _) in enumerate(bins)
    ]
    bars = [
        element(
            "g", element("title", f"{name}: {count:,} ({share_text(share)})"),
            element("rect", x=x, y=_TOP, width=wide, height=_PLOT, class_="space"),
            element("rect", x=x + 1, y=y(share), width=max(wide - 2, 1), height=floor - y(share), class_="bar"),
        )
        for x, (_, _, count), share, name in zip(lefts, bins, shares, named, strict=True)
    ]  # fmt: skip
    names = _names(named, wide, floor) if whole and bins else _edges(bins, wide, floor, shown)
    return drawing(
        "histogram", title,
        element("g", *rules, aria_hidden="true"), *bars, *_steps(others, wide, y),
        element("g", *names, aria_hidden="true"), *_key(others, baseline_name),
        width=_WIDTH, height=floor + _BOTTOM,
    )  # fmt: skip


def _scale(highest: float) -> tuple[float, float]:
    """The top of the axis and the step of its rules, so that three to six rules suffice."""
    for step in (0.01, 0.02, 0.05, 0.1, 0.2, 0.25):
        if highest <= 5 * step:
            return max(step * -(-round(highest * 1e9) // round(step * 1e9)), step), step
    return 1.0, 0.25


def _steps(shares: Sequence[float], wide: float, y: Callable[[float], float]) -> list[Markup]:
    """The baseline as a line of steps."""
    if not shares:
        return []
    path = "".join(
        f"{'M' if not place else 'L'}{_LEFT + place * wide:.1f} {y(share):.1f}H{_LEFT + (place + 1) * wide:.1f}"
        for place, share in enumerate(shares)
    )
    return [element("path", d=path, class_="baseline")]


def _whole_numbers(low: float, high: float, *, is_first: bool, shown: Callable[[float], str]) -> str:
    """The whole numbers of a bin as text: all but the first bin begin after their low edge."""
    first = low if is_first else low + 1
    return shown(high) if first >= high else f"{shown(first)}\N{EN DASH}{shown(high)}"


def _names(named: Sequence[str], wide: float, floor: float) -> list[Markup]:
    """The names of bins below their middle, as many as have room."""
    widest = max(cells_of(each) for each in named) * _CHARACTER + 8
    every = max(int(-(-widest // wide)), 1)
    return [
        label(each, min(_LEFT + (place + 0.5) * wide, _WIDTH - widest / 2), floor + 18, class_="axis", anchor="middle")
        for place, each in enumerate(named)
        if place % every == 0
    ]


def _edges(
    bins: Sequence[tuple[float, float, int]], wide: float, floor: float, shown: Callable[[float], str]
) -> list[Markup]:
    """The edges of the bins below them, as many as have room."""
    if not bins:
        return [label("no values", _WIDTH / 2, floor - _PLOT / 2, class_="axis", anchor="middle")]
    if len(bins) == 1 and bins[0][0] == bins[0][1]:
        return [label(shown(bins[0][0]), _LEFT + wide / 2, floor + 18, class_="axis", anchor="middle")]
    texts = [shown(low) for low, _, _ in bins] + [shown(bins[-1][1])]
    last = len(texts) - 1
    labels = [_edge_label(texts, index, wide) for index in range(len(texts))]
    every = max(int(-(-max(right - left + 8 for _, _, left, right in labels) // wide)), 1)
    # The last edge, the greatest value, goes before those that it would touch.
    chosen, free = [last], labels[last][2]
    taken = 0.0
    for index in range(0, last, every):
        _, _, left, right = labels[index]
        if left >= taken and right + 8 <= free:
            chosen.append(index)
            taken = right + 8
    found = []
    for index in sorted(chosen):
        at, anchor, _, _ = labels[index]
        x = _LEFT + index * wide
        found.append(element("line", x1=x, y1=floor, x2=x, y2=floor + 4, class_="tick"))
        found.append(label(texts[index], at, floor + 18, class_="axis", anchor=anchor))
    return found


def _edge_label(texts: Sequence[str], index: int, wide: float) -> tuple[float, str, float, float]:
    """Where an edge's label is anchored, how, and its left and right end; those at the ends stay inside."""
    x, size = _LEFT + index * wide, cells_of(texts[index]) * _CHARACTER
    if index == len(texts) - 1:
        return x + _RIGHT, "end", x + _RIGHT - size, x + _RIGHT
    if x - size / 2 < 0:
        return x, "start", x, x + size
    return x, "middle", x - size / 2, x + size / 2


def _key(others: Sequence[float], name: str) -> list[Markup]:
    if not others:
        return []
    text = shortened(name, 40)
    x = _WIDTH - _RIGHT - cells_of(text) * _CHARACTER - 24
    return [element("path", d=f"M{x:.1f} 9H{x + 18:.1f}", class_="baseline"), label(text, x + 24, 13, class_="axis")]


def top_values_svg(values: Sequence[tuple[str, int]], *, total: int, title: str) -> Markup:
    """The most frequent values as bars, and all others as the last one.

    Args:
        values: value as text, and how many rows have it.
        total: how many rows have a value.
    """
    rest = total - sum(count for _, count in values)
    rows = [(text, count, "bar") for text, count in values] + ([("all others", rest, "bar rest")] if rest > 0 else [])
    most = max((count for _, count, _ in rows), default=0) or 1
    drawn = [_row(place, *row, most=most, total=total or 1) for place, row in enumerate(rows)]
    if not rows:
        drawn = [label("no values", 0, 17, class_="axis")]
    return drawing("values", title, *drawn, width=_NAME + _BAR + _FIGURES, height=max(len(rows), 1) * _ROW)


def _row(place: int, text: str, count: int, class_: str, *, most: int, total: int) -> Markup:
    y = place * _ROW
    figures = f"{count:,} · {share_text(count / total)}"
    is_value = class_ == "bar"
    name = f"‘{text}’" if is_value and not text.strip() else text
    length = count / most * _BAR
    kind = "value" if is_value else "value rest"
    value = label(shortened(name, _NAME_CELLS), _NAME - 10, y + 17, class_=kind, anchor="end")
    return element(
        "g", element("title", f"{text}: {figures}"), value,
        element("rect", x=_NAME, y=y + 5, width=max(length, 1), height=_ROW - 10, rx=2, class_=class_),
        label(figures, _NAME + length + 8, y + 17, class_="axis"),
    )  # fmt: skip


__all__ = ["histogram_svg", "number_text", "share_text", "top_values_svg"]
