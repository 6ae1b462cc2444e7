"""A feature's window on a timeline: which events count for a moment.

The times of the drawing are an example; which of its events count is computed from them by the rule of the window. The
axis is not to scale: what is short next to the window has room of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from asof.catalog.drawings.markup import Markup, drawing, element, label
from asof.definitions import FeatureView, Session, Sliding
from asof.display import span_prose
from asof.timing import HOUR, MINUTE, Micros, floor_to, micros, moment

_EXAMPLE = micros("2026-03-14T15:09:26Z")
"""The moment of the drawings, moved a little where it would be on a hop."""

_WIDTH, _AXIS, _RADIUS = 760, 82, 6
_LEFT, _START, _EXACT, _INSIDE, _END, _RIGHT = 24, 150, 262, 300, 600, 736
"""Pixels from the left: the axis, the window's start and the length's, events inside, the window's end."""


@dataclass(frozen=True)
class Timeline:
    """Times on an axis.

    Args:
        scale: (time, pixel) of some times, ascending; the others are between them.
        events: times of events.
        counts: whether an event counts.
    """

    scale: Sequence[tuple[Micros, float]]
    events: Sequence[Micros]
    counts: Callable[[Micros], bool]

    def x(self, time: Micros) -> float:
        """The pixel of a time."""
        pairs = list(zip(self.scale, self.scale[1:], strict=False))
        (t0, x0), (t1, x1) = next((pair for pair in pairs if time <= pair[1][0]), pairs[-1])
        return x0 + (time - t0) * (x1 - x0) / (t1 - t0)


def window_svg(view: FeatureView, name: str) -> Markup:
    """Which events count for a feature of a view as of a moment.

    Raises:
        KeyError: the view has no feature with this name.
    """
    if name not in view.feature_names:
        raise KeyError(f"feature view {view.name!r} has no feature {name!r}")
    aggregation = next((each for each in view.aggregations if each.name == name), None)
    if aggregation is None:
        return _latest(view.ttl, view.delay)
    if isinstance(aggregation.window, Sliding):
        return _sliding(aggregation.window, view.boundary, view.delay)
    if isinstance(aggregation.window, Session):
        return _session(aggregation.window.gap, view.boundary, view.delay)
    return _everything(view.boundary, view.delay)


# ---- the kinds of windows ----


def sliding_timeline(window: Sliding, boundary: str) -> tuple[Timeline, Micros, Micros]:
    """Events around a sliding window; the window's first moment, and its end."""
    # Not on a hop, so that the part of a hop can be seen.
    end = floor_to(_EXAMPLE - window.length, window.hop) + window.length + max(2 * window.hop // 5, 1)
    first, exact = floor_to(end - window.length, window.hop), end - window.length
    length, hop = window.length, exact - first
    scale = [(first - length, _LEFT), (first, _START), (exact, _EXACT), (end, _END), (end + length, _RIGHT)]
    inside = [exact + length * share // 100 for share in (14, 30, 52, 60, 85)]
    events = [first - 7 * length // 10, first - length // 5, first, first + hop // 2, *inside, end, end + length // 2]
    return Timeline(scale, events, lambda time: first <= time and _is_past(time, end, boundary)), first, end


def _sliding(window: Sliding, boundary: str, delay: Micros) -> Markup:
    line, first, end = sliding_timeline(window, boundary)
    exact = end - window.length
    length, hop = span_prose(window.length), span_prose(window.hop)
    bands = [_band(line.x(first), line.x(exact), "band part"), _band(line.x(exact), line.x(end), "band")]
    spans = [
        _span(line.x(exact), line.x(end), length), _span(line.x(first), line.x(exact), f"part of {hop}"),
    ]  # fmt: skip
    title = f"A window of {length} whose start moves in steps of {hop}"
    return _picture(title, line, bands, spans, [first, exact], end, delay, boundary)


def session_timeline(gap: Micros, boundary: str) -> tuple[Timeline, Micros]:
    """Events of an earlier session and of an open one; the moment."""
    end = _EXAMPLE
    opened = end - 2 * gap
    open_events = [opened, opened + 6 * gap // 10, opened + gap, opened + 17 * gap // 10, end]
    last = open_events[-1] if boundary == "inclusive" else open_events[-2]
    closed = [opened - 3 * gap, opened - 24 * gap // 10, opened - 15 * gap // 10]
    scale = [(closed[0] - gap // 2, _LEFT), (opened, 290), (end, 590), (last + gap + gap // 3, _RIGHT)]
    events = [*closed, *open_events, end + gap // 2]
    return Timeline(scale, events, lambda time: opened <= time and _is_past(time, end, boundary)), end


def _session(gap: Micros, boundary: str, delay: Micros) -> Markup:
    line, end = session_timeline(gap, boundary)
    counted = [time for time in line.events if line.counts(time)]
    before = max(time for time in line.events if time < counted[0])
    text = span_prose(gap)
    bands = [
        _band(line.x(counted[0]), line.x(counted[-1]), "band"),
        _band(line.x(counted[-1]), line.x(counted[-1] + gap), "band part"),
    ]
    spans = [
        _span(line.x(before), line.x(counted[0]), f"more than {text}"),
        _span(line.x(counted[0]), line.x(counted[-1]), "the open session"),
        _span(line.x(counted[-1]), line.x(counted[-1] + gap), f"open for {text}"),
    ]  # fmt: skip
    title = f"A session: events at most {text} apart. It stays open for {text} after its last event"
    return _picture(title, line, bands, spans, [counted[0]], end, delay, boundary)


def everything_timeline(boundary: str) -> tuple[Timeline, Micros]:
    """Events around a moment, of which all earlier ones count."""
    end, unit = _EXAMPLE, HOUR
    events = [end - hours * unit for hours in (10, 8, 7, 5, 2, 0)] + [end + unit]
    scale = [(end - 12 * unit, _LEFT), (end, _END), (end + 2 * unit, _RIGHT)]
    return Timeline(scale, events, lambda time: _is_past(time, end, boundary)), end


def _everything(boundary: str, delay: Micros) -> Markup:
    line, end = everything_timeline(boundary)
    bands = [_band(_LEFT, line.x(end), "band")]
    spans = [_span(_LEFT, line.x(end), "all events ever", is_open=True)]
    return _picture("All events up to the moment", line, bands, spans, [], end, delay, boundary)


def latest_timeline(ttl: Micros) -> tuple[Timeline, Micros]:
    """Rows around a moment, of which the latest one that is young enough counts."""
    end, unit = _EXAMPLE, ttl or HOUR
    scale = [(end - 2 * unit, _LEFT), (end - unit, _START), (end, _END), (end + unit, _RIGHT)]
    events = [end - 16 * unit // 10, end - 7 * unit // 10, end - 3 * unit // 10, end + 5 * unit // 10]
    latest = max(time for time in events if time <= end)
    return Timeline(scale, events, lambda time: time == latest), end


def _latest(ttl: Micros, delay: Micros) -> Markup:
    line, end = latest_timeline(ttl)
    first = end - ttl if ttl else None
    left = _LEFT if first is None else line.x(first)
    text = f"at most {span_prose(ttl)} old" if ttl else "of any age"
    bands, spans = [_band(left, line.x(end), "band")], [_span(left, line.x(end), text, is_open=first is None)]
    title = "The latest row up to the moment, " + text
    return _picture(title, line, bands, spans, [] if first is None else [first], end, delay, "inclusive", noun="row")


def _is_past(time: Micros, end: Micros, boundary: str) -> bool:
    return time < end if boundary == "exclusive" else time <= end


# ---- drawing ----


def _picture(
    title: str,
    line: Timeline,
    bands: Iterable[Markup],
    spans: Iterable[Markup],
    marks: Sequence[Micros],
    end: Micros,
    delay: Micros,
    boundary: str,
    *,
    noun: str = "event",
) -> Markup:
    """The axis with its events, the marked times below it, and what the circles mean."""
    is_dated = len({moment(time).date() for time in (*marks, end)}) > 1
    x, height = line.x(end), _AXIS + (86 if is_dated else 72)
    at = _RIGHT - 26 if delay else x
    moments = [element("line", x1=x, y1=_AXIS - 58, x2=x, y2=_AXIS + 16, class_="moment")]
    if delay:
        moments.append(element("line", x1=at, y1=_AXIS - 58, x2=at, y2=_AXIS + 16, class_="moment later"))
        moments.append(_span(x, at, f"delay {span_prose(delay)}", raised=22))
    until = "before" if boundary == "exclusive" else "up to"
    rule = f"counts: {until} the moment" + (" less the delay" if delay else "")
    return drawing(
        "window", title, *bands, *moments, *spans, label("the moment", at, 14, class_="moment-name", anchor="middle"),
        element("line", x1=_LEFT, y1=_AXIS, x2=_RIGHT, y2=_AXIS, class_="axis-line"),
        element("path", d=f"M{_RIGHT - 7} {_AXIS - 4}L{_RIGHT} {_AXIS}L{_RIGHT - 7} {_AXIS + 4}", class_="axis-line"),
        *(_event(line, time, noun) for time in line.events),
        *(_time(line.x(time), time, is_dated=is_dated) for time in (*marks, end)),
        _legend("the value" if noun == "row" else rule, "not" if noun == "row" else "does not", height - 12),
        width=_WIDTH, height=height,
    )  # fmt: skip


def _event(line: Timeline, time: Micros, noun: str) -> Markup:
    counts = line.counts(time)
    yes, no = ("is the value", "is not the value") if noun == "row" else ("counts", "does not count")
    said = yes if counts else no
    return element(
        "circle", element("title", f"{noun} at {clock_text(time)}: {said}"), cx=line.x(time), cy=_AXIS, r=_RADIUS,
        class_="event counts" if counts else "event",
    )  # fmt: skip


def _band(left: float, right: float, class_: str) -> Markup:
    return element("rect", x=left, y=_AXIS - 16, width=right - left, height=32, class_=class_)


def _span(left: float, right: float, text: str, *, is_open: bool = False, raised: float = 0) -> Markup:
    """A bracket over a stretch of time, with its name."""
    y = _AXIS - 24 - raised
    start = f"M{left:.1f} {y}" if is_open else f"M{left:.1f} {y + 5}V{y}"
    return element(
        "g", element("path", d=f"{start}H{right:.1f}V{y + 5}", class_="bracket"),
        label(text, (left + right) / 2, y - 6, class_="span", anchor="middle"),
    )  # fmt: skip


def _time(x: float, time: Micros, *, is_dated: bool) -> Markup:
    day = [label(f"{moment(time):%-d %b %Y}", x, _AXIS + 45, class_="axis", anchor="middle")] if is_dated else []
    return element("g", label(clock_text(time), x, _AXIS + 31, class_="axis time", anchor="middle"), *day)


def _legend(counts: str, other: str, y: float) -> Markup:
    first, second = _LEFT + _RADIUS, _LEFT + 60 + 6.5 * len(counts)
    circles = [
        element("circle", cx=first, cy=y - 4, r=_RADIUS - 1, class_="event counts"),
        element("circle", cx=second, cy=y - 4, r=_RADIUS - 1, class_="event"),
    ]
    texts = [label(counts, first + 12, y, class_="axis"), label(other, second + 12, y, class_="axis")]
    return element("g", *circles, *texts, aria_hidden="true")


def clock_text(time: Micros) -> str:
    """The time of the day, as exact as it is: `15:09:26`, `15:09:26.4`."""
    text = f"{moment(time):%H:%M:%S.%f}".rstrip("0").rstrip(".")
    return text if time % MINUTE else f"{moment(time):%H:%M:%S}"


__all__ = ["Timeline", "window_svg"]
