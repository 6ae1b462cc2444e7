"""Histograms of the page views before an order: counted once, shown in the terminal and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict

import numpy as np
import pyarrow as pa

from asof.errors import MissingExtra

PANELS: dict[str, tuple[str, str]] = {
    "session_listing_page_views": ("Listing pages", "#4472c4"),
    "session_product_page_views": ("Product pages", "#d97f30"),
    "session_photo_page_views": ("Photo pages", "#2e9d78"),
}
"""Column of the training set → its panel's title and colour."""

_MOST_BINS = 13
_TAIL_SHARE = 0.03
_EIGHTHS = " ▏▎▍▌▋▊▉"
_GUTTER = 3


class Bin(TypedDict):
    """One bar: the values `low` to `high` (None: no upper end), how many rows have them, and which share."""

    label: str
    low: int
    high: int | None
    count: int
    share: float


class Panel(TypedDict):
    """The bars of one column, and what a picture should say about it. All of it is JSON-ready."""

    title: str
    color: str
    bins: list[Bin]
    rows: int
    missing: int
    mean: float | None
    median: float | None
    largest: int | None


def count_views(table: pa.Table) -> dict[str, Panel]:
    """Count each column of `PANELS` in the training set; column → its histogram.

    All columns share their bins, so that the panels can be compared by eye. The last bin is open (`≥ 12`): it holds
    at most about 3 % of the longest column, so that a long tail does not squeeze the rest. Nulls are left out and
    counted as `missing`.

    Raises:
        KeyError: the table lacks one of the columns.
    """
    columns = {name: table[name].combine_chunks() for name in PANELS}
    values = {name: column.drop_null().to_numpy(zero_copy_only=False) for name, column in columns.items()}
    width, bins = _shared_bins(list(values.values()))
    return {
        name: Panel(
            title=title,
            color=color,
            bins=_bars(values[name], width=width, bins=bins),
            rows=len(values[name]),
            missing=columns[name].null_count,
            mean=float(values[name].mean()) if len(values[name]) else None,
            median=float(np.median(values[name])) if len(values[name]) else None,
            largest=int(values[name].max()) if len(values[name]) else None,
        )
        for name, (title, color) in PANELS.items()
    }


def terminal_histograms(table: pa.Table, width: int = 80) -> str:
    """The histograms as text of block characters, at most `width` columns wide.

    From 110 columns on the three stand side by side where their figures fit, else one under the other.
    """
    histograms = list(count_views(table).values())
    panel_width = (width - _GUTTER * (len(histograms) - 1)) // len(histograms)
    panels = [_panel_lines(histogram, panel_width) for histogram in histograms]
    if width >= 110 and all(len(line) <= panel_width for lines in panels for line in lines):
        gutter = " " * _GUTTER
        rows = [gutter.join(line.ljust(panel_width) for line in lines).rstrip() for lines in zip(*panels, strict=True)]
    else:
        rows = [line for histogram in histograms for line in ("", *_panel_lines(histogram, width))][1:]
    return "\n".join([f"Pages seen in the session before an order (N = {histograms[0]['rows']:,} orders)", "", *rows])


def draw_histograms(table: pa.Table, path: Path | str) -> None:
    """Draw the histograms as three panels into a PNG at `path`.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
        from matplotlib.ticker import PercentFormatter
    except ImportError as error:
        raise MissingExtra("the histogram picture", "demo") from error

    histograms = list(count_views(table).values())
    ink, muted, rule = "#1f2933", "#5f6b7a", "#e3e8ee"
    paper = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}  # keeps the marks' lines out of the figures
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1)
    figure = Figure(figsize=(13.5, 5), dpi=150, facecolor="white", layout=layout)
    FigureCanvasAgg(figure)  # draws without a display and without pyplot's global state
    panels = figure.subplots(1, len(histograms), sharey=True)
    top = max((bar["share"] for histogram in histograms for bar in histogram["bins"]), default=0.0) or 1.0
    for panel, histogram in zip(panels, histograms, strict=True):
        bars, positions = histogram["bins"], range(len(histogram["bins"]))
        panel.bar(positions, [bar["share"] for bar in bars], width=0.82, color=histogram["color"], zorder=2)
        for place, bar in zip(positions, bars, strict=True):
            if bar["share"] >= 0.01 or (bar["count"] and bar["high"] is None):
                text = f"{bar['share']:.0%}" if bar["share"] >= 0.01 else "<1%"
                height = bar["share"] + top * 0.022
                panel.text(place, height, text, ha="center", va="bottom", fontsize=8.5, color=muted, bbox=paper)
        marks = (("mean", histogram["mean"], "-"), ("median", histogram["median"], (0, (2, 2))))
        for word, value, dashes in marks:
            if value is not None:
                label = f"{word} {value:.1f}" if word == "mean" else f"{word} {value:g}"
                panel.axvline(place_of(value, bars), color=ink, linewidth=1.4, linestyle=dashes, zorder=1, label=label)
        panel.set_title(histogram["title"], loc="left", fontsize=13, fontweight="bold", color=ink, pad=10)
        panel.set_xlabel("page views in the session", color=muted, fontsize=10)
        panel.set_xticks(positions, [bar["label"] for bar in bars])
        panel.set_ylim(0, top * 1.12)
        panel.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))
        panel.tick_params(length=0, labelsize=9, colors=muted)
        panel.grid(axis="y", color=rule, zorder=0)
        panel.set_axisbelow(True)
        panel.spines[["top", "right", "left"]].set_visible(False)
        panel.spines["bottom"].set_color(muted)
        if histogram["rows"]:
            panel.legend(
                fontsize=10, loc="upper right", labelcolor=ink, facecolor="white", edgecolor="none", framealpha=1
            )
    panels[0].set_ylabel("share of orders", color=muted, fontsize=10)
    figure.suptitle(
        "Pages seen in the session before an order", x=0.012, ha="left", fontsize=16, fontweight="bold", color=ink
    )
    figure.supxlabel(caption(histograms), x=0.012, ha="left", fontsize=9.5, color=muted)
    figure.savefig(path, format="png")


def caption(histograms: list[Panel]) -> str:
    """What the bars count, in one sentence with the number of orders."""
    rows, missing = histograms[0]["rows"], histograms[0]["missing"]
    without = f" {missing:,} more have no value." if missing else ""
    return f"N = {rows:,} orders. A session ends when a user visits no page for an hour.{without}"


def place_of(value: float, bins: list[Bin]) -> float:
    """Where `value` stands on an axis that has bar k at k; a value in the open last bin stands at that bar."""
    width = bins[1]["low"] - bins[0]["low"] if len(bins) > 1 else 1
    return min((value - (width - 1) / 2) / width, float(len(bins) - 1))


def _shared_bins(columns: list[np.ndarray]) -> tuple[int, int]:
    """(values per bin, number of bins, the open one included) that suit all columns."""
    filled = [column for column in columns if len(column)]
    if not filled:
        return 1, 2
    largest = max(int(column.max()) for column in filled)
    reach = max(int(np.quantile(column, 1 - _TAIL_SHARE, method="higher")) for column in filled)
    width = next(
        size * scale for scale in 10 ** np.arange(19) for size in (1, 2, 5) if reach < size * scale * (_MOST_BINS - 1)
    )
    return int(width), min(_MOST_BINS, max(int(largest // width) + 1, 2))


def _bars(values: np.ndarray, *, width: int, bins: int) -> list[Bin]:
    counts = np.bincount(np.minimum(values // width, bins - 1).astype(np.int64), minlength=bins).tolist()
    bars = []
    for place, count in enumerate(counts):
        low, last = place * width, place == bins - 1
        high = None if last and bins == _MOST_BINS else low + width - 1
        label = f"≥ {low}" if high is None else str(low) if width == 1 else f"{low}-{high}"
        share = count / len(values) if len(values) else 0.0
        bars.append(Bin(label=label, low=low, high=high, count=count, share=share))
    return bars


def _panel_lines(histogram: Panel, width: int) -> list[str]:
    """One histogram as lines of at most `width` characters: title, figures, a line per bar."""
    bars = histogram["bins"]
    labels = max(len(bar["label"]) for bar in bars)
    counts = max(len(f"{bar['count']:,}") for bar in bars)
    room = max(width - labels - counts - len("  │  100.0 %"), 4)
    top = max(bar["count"] for bar in bars) or 1
    lines = [histogram["title"], _figures(histogram)]
    for bar in bars:
        drawn = _block_bar(bar["count"] / top, room).ljust(room)
        lines.append(f" {bar['label']:>{labels}} │{drawn} {bar['count']:>{counts},} {bar['share']:>7.1%}")
    return lines


def _figures(histogram: Panel) -> str:
    if not histogram["rows"]:
        return "no orders"
    return f"mean {histogram['mean']:.1f} · median {histogram['median']:g} · max {histogram['largest']:,}"


def _block_bar(part: float, room: int) -> str:
    """A bar of `part` of the room in eighths of a character; anything above zero is at least one eighth."""
    eighths = max(round(part * room * 8), 1 if part > 0 else 0)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()
