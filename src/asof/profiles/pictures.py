"""Bar charts of features as a picture, by matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from pathlib import Path

from asof.errors import MissingExtra
from asof.profiles.charts import Chart

_ACROSS = 3
"""How many charts stand in a row."""
_MOST_TICKS = 14


def draw_charts(
    charts: Sequence[Chart],
    path: Path | str,
    *,
    title: str,
    caption: str = "",
    of: str = "rows",
    axis: str = "",
    extra: str = "plots",
) -> None:
    """Draw charts into a PNG at `path`.

    Args:
        caption: what stands below them.
        of: what the shares are of.
        axis: what the bars are of.
        extra: the extra to be named where matplotlib is missing.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
        from matplotlib.ticker import MaxNLocator, PercentFormatter
    except ImportError as error:
        raise MissingExtra("the histogram picture", extra) from error

    ink, muted, rule = "#1f2933", "#5f6b7a", "#e3e8ee"
    paper = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}  # keeps the marks' lines out of the figures
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1)
    across = min(len(charts), _ACROSS)
    down = ceil(len(charts) / across)
    # Charts that stand in one row share their axis, so that they can be compared by eye.
    together = down == 1 and axis != ""
    figure = Figure(figsize=(4.5 * across if across > 1 else 8.0, 5 * down), dpi=150, facecolor="white", layout=layout)
    FigureCanvasAgg(figure)  # draws without a display and without pyplot's global state
    panels = figure.subplots(down, across, sharey=together, squeeze=False).flatten()
    for panel in panels[len(charts) :]:
        panel.set_visible(False)
    tops = [max((bar.share for bar in chart.bars), default=0.0) or 1.0 for chart in charts]
    for place, (panel, chart) in enumerate(zip(panels, charts, strict=False)):
        bars, indexes = chart.bars, range(len(chart.bars))
        top = max(tops) if together else tops[place]
        panel.bar(indexes, [bar.share for bar in bars], width=0.82, color=chart.color, zorder=2)
        for at, bar in zip(indexes, bars, strict=True):
            if bar.share >= 0.01 or (bar.count and bar.is_tail):
                text = f"{bar.share:.0%}" if bar.share >= 0.01 else "<1%"
                height = bar.share + top * 0.022
                panel.text(at, height, text, ha="center", va="bottom", fontsize=8.5, color=muted, bbox=paper)
        for mark in chart.marks:
            dashes = "-" if mark.word == "mean" else (0, (2, 2))
            panel.axvline(mark.position, color=ink, linewidth=1.4, linestyle=dashes, zorder=1, label=mark.text)
        panel.set_title(chart.title, loc="left", fontsize=13, fontweight="bold", color=ink, pad=10)
        panel.set_xlabel(axis or chart.figures, color=muted, fontsize=10 if axis else 8)
        longest = max((len(bar.label) for bar in bars), default=0)
        turned = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if longest > 5 else {}
        step = ceil(len(bars) / _MOST_TICKS)
        panel.set_xticks(list(indexes)[::step], [bar.label for bar in bars][::step], **turned)
        # Where several charts have one axis, the legend has room between the bars.
        panel.set_ylim(0, top * (1.12 if axis or not chart.marks else 1.36))
        panel.yaxis.set_major_locator(MaxNLocator(steps=[1, 2, 5, 10]))
        panel.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))
        panel.tick_params(length=0, labelsize=9, colors=muted)
        panel.grid(axis="y", color=rule, zorder=0)
        panel.set_axisbelow(True)
        panel.spines[["top", "right", "left"]].set_visible(False)
        panel.spines["bottom"].set_color(muted)
        if chart.marks:
            panel.legend(
                fontsize=10, loc="upper right", labelcolor=ink, facecolor="white", edgecolor="none", framealpha=1
            )
    panels[0].set_ylabel(f"share of {of}", color=muted, fontsize=10)
    figure.suptitle(title, x=0.012, ha="left", fontsize=16, fontweight="bold", color=ink)
    if caption:
        figure.supxlabel(caption, x=0.012, ha="left", fontsize=9.5, color=muted)
    figure.savefig(path, format="png")


__all__ = ["draw_charts"]
