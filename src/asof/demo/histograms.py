"""Histograms of the page views before an order: counted once, shown in the terminal and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict

import numpy as np
import pyarrow as pa

from asof.profiles.charts import Bar, Chart, Mark, charts_text
from asof.profiles.pictures import draw_charts

PANELS: dict[str, tuple[str, str]] = {
    "session_listing_page_views": ("Listing pages", "#4472c4"),
    "session_product_page_views": ("Product pages", "#d97f30"),
    "session_photo_page_views": ("Photo pages", "#2e9d78"),
}
"""Column of the training set → its panel's title and colour."""

_MOST_BINS = 13
_TAIL_SHARE = 0.03


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
    panels = list(count_views(table).values())
    drawn = charts_text([_chart(panel) for panel in panels], width)
    return f"Pages seen in the session before an order (N = {panels[0]['rows']:,} orders)\n\n{drawn}"


def draw_histograms(table: pa.Table, path: Path | str) -> None:
    """Draw the histograms as three panels into a PNG at `path`.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    panels = list(count_views(table).values())
    draw_charts(
        [_chart(panel) for panel in panels], path, title="Pages seen in the session before an order",
        caption=caption(panels), of="orders", axis="page views in the session", extra="demo",
    )  # fmt: skip


def _chart(panel: Panel) -> Chart:
    bars = [Bar(each["label"], each["count"], each["share"], each["high"] is None) for each in panel["bins"]]
    marks = []
    for word, value in (("mean", panel["mean"]), ("median", panel["median"])):
        if value is not None:
            text = f"{word} {value:.1f}" if word == "mean" else f"{word} {value:g}"
            marks.append(Mark(word, text, place_of(value, panel["bins"])))
    return Chart(panel["title"], bars, _figures(panel), panel["color"], marks)


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


def _figures(histogram: Panel) -> str:
    if not histogram["rows"]:
        return "no orders"
    return f"mean {histogram['mean']:.1f} · median {histogram['median']:g} · max {histogram['largest']:,}"
