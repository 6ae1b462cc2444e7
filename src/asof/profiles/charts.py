"""Bar charts of features: as text for a terminal, and what a picture of one has to show."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from asof.display import counted
from asof.profiles.summary import FeatureProfile, Histogram

COLOR = "#4472c4"

_EIGHTHS = " ▏▎▍▌▋▊▉"
_GUTTER = 3
_SIDE_BY_SIDE = 110
"""From so many columns on several charts stand side by side."""
_LONGEST_LABEL = 24


@dataclass(frozen=True)
class Bar:
    """One bar: what it is of, how many rows it has, and their share.

    Args:
        is_tail: it has no end, so that it is marked however small it is.
    """

    label: str
    count: int
    share: float
    is_tail: bool = False


class Mark(NamedTuple):
    """A line across a chart, at a position where bar k is at k."""

    word: str
    text: str
    position: float


@dataclass(frozen=True)
class Chart:
    """One chart.

    Args:
        figures: one line on what the bars say.
        marks: where the mean and the median are.
    """

    title: str
    bars: list[Bar]
    figures: str
    color: str = COLOR
    marks: list[Mark] = field(default_factory=list)


def chart_of(profile: FeatureProfile) -> Chart | None:
    """The chart of a feature: its frequent values for text and booleans, else its histogram; None where it has none."""
    values = profile.rows - profile.nulls
    if not values or profile.is_hidden:
        return None
    if profile.dtype in ("String", "Bool", "Json") and profile.top_values:
        bars = [Bar(_label(each.value), each.count, each.count / values) for each in profile.top_values]
        rest = values - sum(bar.count for bar in bars)
        bars += [Bar("all others", rest, rest / values)] if rest else []
        return Chart(profile.reference, bars, _figures(profile))
    histogram = profile.histogram
    if histogram is None:
        return None
    finite = sum(histogram.counts)
    labels = _bin_labels(profile, histogram)
    bars = [Bar(label, count, count / finite) for label, count in zip(labels, histogram.counts, strict=True)]
    marks = []
    for word, number in (("mean", profile.mean), ("median", profile.quantiles.get("0.5"))):
        if number is not None:
            shown = profile.shown(number) if profile.measured == "time" else f"{number:.4g}"
            marks.append(Mark(word, f"{word} {shown}", _position(number, histogram)))
    return Chart(profile.reference, bars, _figures(profile), marks=marks)


def chart_lines(chart: Chart, width: int) -> list[str]:
    """A chart as lines of at most `width` characters: title, figures, a line per bar."""
    bars = chart.bars
    labels = max(len(bar.label) for bar in bars)
    counts = max(len(f"{bar.count:,}") for bar in bars)
    room = max(width - labels - counts - len("  │  100.0 %"), 4)
    top = max(bar.count for bar in bars) or 1
    figures = chart.figures if len(chart.figures) <= width else chart.figures[: width - 1] + "…"
    lines = [chart.title, figures]
    for bar in bars:
        drawn = _block_bar(bar.count / top, room).ljust(room)
        lines.append(f" {bar.label:>{labels}} │{drawn} {bar.count:>{counts},} {bar.share:>7.1%}")
    return lines


def charts_text(charts: list[Chart], width: int) -> str:
    """Charts as text, at most `width` columns wide: side by side where their figures fit, else one below the other."""
    each_width = (width - _GUTTER * (len(charts) - 1)) // max(len(charts), 1)
    drawn = [chart_lines(chart, each_width) for chart in charts]
    fits = all(len(line) <= each_width for lines in drawn for line in lines) and len({*map(len, drawn)}) == 1
    fits = fits and all(len(chart.figures) <= each_width for chart in charts)
    if len(charts) > 1 and width >= _SIDE_BY_SIDE and fits:
        gutter = " " * _GUTTER
        rows = [gutter.join(line.ljust(each_width) for line in lines).rstrip() for lines in zip(*drawn, strict=True)]
    else:
        rows = [line for chart in charts for line in ("", *chart_lines(chart, width))][1:]
    return "\n".join(rows)


def _figures(profile: FeatureProfile) -> str:
    parts = [counted(profile.rows, "row")]
    if profile.nulls:
        parts.append(f"{profile.null_share:.1%} null")
    if profile.not_finite:
        parts.append(f"{profile.not_finite:,} not finite")
    if profile.distinct is not None:
        about = "about " if profile.distinct_is_approximate else ""
        parts.append(f"{about}{profile.distinct:,} distinct")
    if profile.measured == "length":
        parts.append("" if profile.top_values else "the bars are lengths")
    if profile.measured == "value" and profile.mean is not None:
        median = profile.quantiles.get("0.5")
        parts += [f"mean {profile.mean:.4g}", f"median {median:.4g}" if median is not None else ""]
    if profile.measured in ("value", "time") and profile.min is not None:
        ends = [f"{each:.6g}" if isinstance(each, float) else str(each) for each in (profile.min, profile.max)]
        parts.append(" to ".join(ends))
    return " · ".join(part for part in parts if part)


def _bin_labels(profile: FeatureProfile, histogram: Histogram) -> list[str]:
    """A label per bin: of integers its first and last value, else its two ends; the outermost bins may be longer."""
    bins = histogram.bins
    labels = []
    for place, (low, high, _) in enumerate(bins):
        if histogram.whole and profile.measured != "time":
            first = low if place == 0 else low + 1
            labels.append(_number(first) if first == high else f"{_number(first)}-{_number(high)}")
        elif profile.measured == "time":
            labels.append(profile.shown(low).removesuffix("Z").replace("T", " "))
        else:
            labels.append(f"{_number(low)} – {_number(high)}")
    return labels


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) and abs(value) < 1e9 else f"{value:.5g}"


def _label(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    text = "".join(each if each.isprintable() else "�" for each in text) or "(empty)"
    return text if len(text) <= _LONGEST_LABEL else text[: _LONGEST_LABEL - 1] + "…"


def _position(number: float, histogram: Histogram) -> float:
    """Where a number lies on an axis that has bin k from k - ½ to k + ½."""
    for place, (low, high, _) in enumerate(histogram.bins):
        if number <= high or place == len(histogram.counts) - 1:
            span = high - low
            return place - 0.5 + (min(max((number - low) / span, 0.0), 1.0) if span > 0 else 0.5)
    return 0.0


def _block_bar(part: float, room: int) -> str:
    """A bar of `part` of the room in eighths of a character; anything above zero is at least one eighth."""
    eighths = max(round(part * room * 8), 1 if part > 0 else 0)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


__all__ = ["COLOR", "Bar", "Chart", "Mark", "chart_lines", "chart_of", "charts_text"]
