"""The report's inline pictures as SVG text: the shop's state machine and the histograms, drawn from the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from math import hypot

from asof.demo.histograms import PANELS, Panel, place_of
from asof.demo.shop import TRANSITIONS

_COLORS = {
    "listing_page": PANELS["session_listing_page_views"][1],
    "product_page": PANELS["session_product_page_views"][1],
    "photo_page": PANELS["session_photo_page_views"][1],
    "order_page": "#8e5bb5",
}
"""A page has one colour in the state machine and in the histograms; states without events have none."""


@dataclass(frozen=True)
class DiagramLayout:
    """Where the states stand. `bends` pushes an arrow's middle to its left, in pixels; 0 is straight."""

    name: str
    width: int
    height: int
    centers: Mapping[str, tuple[int, int]]
    bends: Mapping[tuple[str, str], int]


_PAIRS = (("offline", "listing_page"), ("listing_page", "product_page"), ("product_page", "photo_page"))


def _bends(*sizes: int) -> dict[tuple[str, str], int]:
    """Each pair of opposite arrows bends to opposite sides: both to their own left, by the pair's size."""
    return {way: size for pair, size in zip(_PAIRS, sizes, strict=True) for way in (pair, pair[::-1])}


WIDE = DiagramLayout(
    name="wide",
    width=900,
    height=300,
    centers={
        "register": (80, 60),
        "offline": (310, 60),
        "order_page": (680, 60),
        "listing_page": (310, 235),
        "product_page": (570, 235),
        "photo_page": (815, 235),
    },
    bends=_bends(48, 26, 26),
)
NARROW = DiagramLayout(
    name="narrow",
    width=380,
    height=500,
    centers={
        "register": (80, 35),
        "offline": (80, 150),
        "order_page": (80, 375),
        "listing_page": (300, 150),
        "product_page": (300, 300),
        "photo_page": (300, 455),
    },
    bends=_bends(24, 48, 48) | {("order_page", "listing_page"): 18},
)
_NODE_WIDTH, _NODE_HEIGHT = 132, 42


def draw_state_machine(layout: DiagramLayout) -> str:
    """`TRANSITIONS` as an SVG: a box per state, an arrow with its probability per transition."""
    arrows = "".join(
        _arrow(layout, origin, target, chance)
        for origin, nexts in TRANSITIONS.items()
        for target, chance in nexts.items()
    )
    nodes = "".join(_node(state, *layout.centers[state]) for state in TRANSITIONS)
    description = "; ".join(
        f"{_state_name(origin)} to {_state_name(target)} {percent(chance)}"
        for origin, nexts in TRANSITIONS.items()
        for target, chance in nexts.items()
    )
    tip = f"tip-{layout.name}"
    return (
        f'<svg class="machine {layout.name}" viewBox="0 0 {layout.width} {layout.height}" role="img"'
        f' aria-labelledby="machine-{layout.name}-title machine-{layout.name}-text">'
        f'<title id="machine-{layout.name}-title">The shop as a state machine</title>'
        f'<desc id="machine-{layout.name}-text">Chance per one-minute tick: {escape(description)}.</desc>'
        f'<defs><marker id="{tip}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7"'
        f' orient="auto-start-reverse"><path class="tip" d="M0 1 L10 5 L0 9 z"></path></marker></defs>'
        f"{arrows}{nodes}</svg>"
    )


def draw_histogram(column: str, histogram: Panel, *, top_share: float) -> str:
    """One histogram as an SVG of 360 by 250; `top_share` is the share at the top of the axis, equal for all panels."""
    left, right, top, bottom = 40.0, 352.0, 34.0, 206.0
    bars = histogram["bins"]
    step = (right - left) / len(bars)
    scale = (bottom - top - 16) / (top_share or 1.0)
    parts = [_share_lines(top_share, left=left, right=right, bottom=bottom, scale=scale)]
    for word, value in (("mean", histogram["mean"]), ("median", histogram["median"])):
        if value is not None:
            x = left + step * (place_of(value, bars) + 0.5)
            parts.append(f'<line class="mark {word}" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}"></line>')
    for place, bar in enumerate(bars):
        x, height = left + step * place, bar["share"] * scale
        hover = f"{bar['label']} views: {bar['count']:,} orders ({bar['share']:.1%})"
        parts.append(
            f'<rect x="{x + step * 0.08:.1f}" y="{bottom - height:.1f}" width="{step * 0.84:.1f}"'
            f' height="{height:.1f}" fill="{escape(histogram["color"])}"><title>{escape(hover)}</title></rect>'
        )
        middle = f"{x + step / 2:.1f}"
        if bar["share"] >= 0.01:
            text = f"{bar['share'] * 100:.0f}"
            parts.append(f'<text class="figure" x="{middle}" y="{bottom - height - 4:.1f}">{text}</text>')
        parts.append(f'<text class="tick" x="{middle}" y="{bottom + 15}">{escape(bar["label"])}</text>')
    parts.append(f'<line class="axis" x1="{left}" x2="{right}" y1="{bottom}" y2="{bottom}"></line>')
    parts.append(f'<text class="axis-text" x="{(left + right) / 2}" y="{bottom + 34}">page views in the session</text>')
    if histogram["mean"] is not None:
        parts.append(_mark_legend(histogram, right=right, y=20.0))
    description = f"{histogram['rows']:,} orders; " + "; ".join(f"{b['label']}: {b['count']:,}" for b in bars)
    name = f"histogram-{escape(column)}"
    return (
        f'<svg class="histogram" viewBox="0 0 360 250" role="img" aria-labelledby="{name}-title {name}-text">'
        f'<title id="{name}-title">{escape(histogram["title"])} seen before an order</title>'
        f'<desc id="{name}-text">{escape(description)}</desc>'
        f'<text class="panel" x="4" y="20">{escape(histogram["title"])}</text>{"".join(parts)}</svg>'
    )


def percent(chance: float) -> str:
    """A probability as people write it: 0.0001 → `0.01%`."""
    return f"{chance * 100:.4f}".rstrip("0").rstrip(".") + "%"


def _state_name(state: str) -> str:
    return state.removesuffix("_page")


def _node(state: str, x: int, y: int) -> str:
    color = _COLORS.get(state)
    paint = f' style="stroke:{color};fill:{color}22"' if color else ""
    return (
        f'<rect class="state" x="{x - _NODE_WIDTH // 2}" y="{y - _NODE_HEIGHT // 2}" width="{_NODE_WIDTH}"'
        f' height="{_NODE_HEIGHT}" rx="9"{paint}></rect><text class="state" x="{x}" y="{y + 5}">{escape(state)}</text>'
    )


def _arrow(layout: DiagramLayout, origin: str, target: str, chance: float) -> str:
    """A quadratic curve from edge to edge of the two boxes, its probability next to its middle."""
    (x0, y0), (x1, y1) = layout.centers[origin], layout.centers[target]
    length = hypot(x1 - x0, y1 - y0)
    # The unit vector to the left of the way there; a pair of opposite arrows so bends to opposite sides.
    left_x, left_y = (y1 - y0) / length, (x0 - x1) / length
    bend = layout.bends.get((origin, target), 0)
    start_x, start_y = _border(x0, y0, x1 + left_x * bend * 2, y1 + left_y * bend * 2, gap=2)
    end_x, end_y = _border(x1, y1, x0 + left_x * bend * 2, y0 + left_y * bend * 2, gap=3)
    middle_x, middle_y = (start_x + end_x) / 2 + left_x * bend, (start_y + end_y) / 2 + left_y * bend
    label_x = (start_x + 2 * middle_x + end_x) / 4
    label_y = (start_y + 2 * middle_y + end_y) / 4
    return (
        f'<path class="arrow" d="M{start_x:.1f} {start_y:.1f} Q{middle_x:.1f} {middle_y:.1f} {end_x:.1f} {end_y:.1f}"'
        f' marker-end="url(#tip-{layout.name})"></path>'
        f'<text class="chance" x="{label_x:.1f}" y="{label_y + 4:.1f}">{percent(chance)}</text>'
    )


def _border(x: float, y: float, to_x: float, to_y: float, *, gap: float) -> tuple[float, float]:
    """Where the line from a box's centre (x, y) towards another point leaves the box, and `gap` beyond."""
    dx, dy = to_x - x, to_y - y
    reach = min(
        (_NODE_WIDTH / 2 + gap) / abs(dx) if dx else float("inf"),
        (_NODE_HEIGHT / 2 + gap) / abs(dy) if dy else float("inf"),
    )
    return x + dx * reach, y + dy * reach


def _share_lines(top_share: float, *, left: float, right: float, bottom: float, scale: float) -> str:
    """Horizontal lines at round shares, at most five of them."""
    step = next(step for step in (0.05, 0.1, 0.2, 0.25) if top_share / step < 6)
    lines = []
    for place in range(1, int(top_share / step + 1e-9) + 1):
        y = bottom - place * step * scale
        lines.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"></line>')
        lines.append(f'<text class="share" x="{left - 5}" y="{y + 4:.1f}">{place * step * 100:.0f}%</text>')
    return "".join(lines)


def _mark_legend(histogram: Panel, *, right: float, y: float) -> str:
    return (
        f'<line class="mark mean" x1="{right - 150}" x2="{right - 132}" y1="{y - 4}" y2="{y - 4}"></line>'
        f'<text class="legend" x="{right - 128}" y="{y}">mean {histogram["mean"]:.1f}</text>'
        f'<line class="mark median" x1="{right - 70}" x2="{right - 52}" y1="{y - 4}" y2="{y - 4}"></line>'
        f'<text class="legend" x="{right - 48}" y="{y}">median {histogram["median"]:g}</text>'
    )
