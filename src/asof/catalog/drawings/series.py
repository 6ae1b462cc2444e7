"""Numbers over time as a line: with axes, or as a sparkline in a sentence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite

from asof.catalog.drawings.bars import number_text
from asof.catalog.drawings.markup import Markup, drawing, element, label
from asof.display import cells_of
from asof.timing import DAY, Micros, moment

_WIDTH, _RIGHT, _TOP, _PLOT, _BOTTOM = 560, 12, 12, 120, 28
_CHARACTER = 6.6
_SPARK = (110.0, 26.0)


def series_svg(
    points: Sequence[tuple[Micros, float | None]],
    *,
    title: str,
    shown: Callable[[float], str] = number_text,
    low: float | None = None,
    high: float | None = None,
    around: Sequence[Sequence[float | None]] = (),
) -> Markup:
    """Values at moments, joined by a line; where a value is missing or not finite, the line is interrupted.

    Args:
        points: (moment, value), by time.
        around: other values at the same moments, as paler lines.
        title: what a screen reader says of it.
        shown: a value as text.
        low, high: the least range of the axis, such as 0 and 1 for shares.
    """
    points = [(time, _finite(value)) for time, value in points]
    around = [[_finite(value) for value in line] for line in around]
    values = [value for line in ([value for _, value in points], *around) for value in line if value is not None]
    if not values:
        return drawing(
            "series", title, label("no values", _WIDTH / 2, _TOP + _PLOT / 2, class_="axis", anchor="middle"),
            width=_WIDTH, height=_TOP + _PLOT + _BOTTOM,
        )  # fmt: skip
    least, most = min([*values, *([] if low is None else [low])]), max([*values, *([] if high is None else [high])])
    if least == most:
        margin = abs(least) / 10 or 1.0
        least, most = least - margin if low is None else least, most + margin
    ticks = [least, least / 2 + most / 2, most]
    left = max(cells_of(shown(tick)) for tick in ticks) * _CHARACTER + 12
    begin, end = points[0][0], points[-1][0]
    floor = _TOP + _PLOT

    def x(time: Micros) -> float:
        if begin == end:
            return (left + _WIDTH - _RIGHT) / 2
        return left + (time - begin) / (end - begin) * (_WIDTH - _RIGHT - left)

    def y(value: float) -> float:
        return floor - _share(value, least, most) * _PLOT

    rules = [
        element(
            "g", element("line", x1=left, y1=y(tick), x2=_WIDTH - _RIGHT, y2=y(tick), class_="rule"),
            label(shown(tick), left - 6, y(tick) + 4, class_="axis", anchor="end"),
        )
        for tick in ticks
    ]  # fmt: skip
    dots = [
        element("circle", element("title", f"{_day(at)}: {shown(value)}"), cx=x(at), cy=y(value), r=3.5, class_="dot")
        for at, value in points if value is not None
    ]  # fmt: skip
    day = _day if end - begin < 2 * DAY else _date
    is_one = begin == end
    ends = [label(day(begin), x(begin), floor + 20, class_="axis", anchor="middle" if is_one else "start")]
    if not is_one:
        ends.append(label(day(end), x(end), floor + 20, class_="axis", anchor="end"))

    def path(values: Sequence[float | None], class_: str) -> Markup:
        positions = [(x(time), None if value is None else y(value)) for (time, _), value in zip(points, values)]
        return element("path", d=_line(positions) or "M0 0", class_=class_)

    return drawing(
        "series", title,
        element("g", *rules, *ends, aria_hidden="true"), *(path(line, "trend pale") for line in around),
        path([value for _, value in points], "trend"), *dots,
        width=_WIDTH, height=floor + _BOTTOM,
    )  # fmt: skip


def sparkline_svg(values: Sequence[float | None], *, title: str) -> Markup:
    """Values in their order as a small line with a dot at its end, without axes."""
    values = [_finite(value) for value in values]
    there = [value for value in values if value is not None]
    width, height = _SPARK
    least, most = (min(there), max(there)) if there else (0.0, 1.0)
    wide = (width - 8) / max(len(values) - 1, 1)

    def y(value: float) -> float:
        return height / 2 if least == most else height - 4 - _share(value, least, most) * (height - 8)

    positions = [(4 + place * wide, None if value is None else y(value)) for place, value in enumerate(values)]
    last = next(((x, at) for x, at in reversed(positions) if at is not None), None)
    dots = [] if last is None else [element("circle", cx=last[0], cy=last[1], r=3, class_="dot")]
    line = element("path", d=_line(positions) or "M0 0", class_="trend")
    return drawing("sparkline", title, line, *dots, width=width, height=height)


def _finite(value: float | None) -> float | None:
    return None if value is None or not isfinite(value) else value


def _share(value: float, least: float, most: float) -> float:
    """How far a value is from the least to the most, from 0 to 1."""
    if isfinite(most - least):
        return (value - least) / (most - least)
    return (value / 4 - least / 4) / (most / 4 - least / 4)


def _line(positions: Sequence[tuple[float, float | None]]) -> str:
    steps, is_open = [], False
    for x, y in positions:
        if y is not None:
            steps.append(f"{'L' if is_open else 'M'}{x:.1f} {y:.1f}")
        is_open = y is not None
    return "".join(steps)


def _day(time: Micros) -> str:
    return f"{moment(time):%Y-%m-%d %H:%M}"


def _date(time: Micros) -> str:
    return f"{moment(time):%Y-%m-%d}"


__all__ = ["series_svg", "sparkline_svg"]
