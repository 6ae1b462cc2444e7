"""Pages as HTML: the templates, and what they call."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from hashlib import blake2b
from importlib.resources import files
from typing import Any

from asof.catalog.drawings.bars import histogram_svg, share_text, top_values_svg
from asof.catalog.drawings.lineage import lineage_svg
from asof.catalog.drawings.series import series_svg, sparkline_svg
from asof.catalog.pages.sections.series import SHARE, Series
from asof.catalog.urls import STATIC, page_url, url_of
from asof.display import cell, counted
from asof.errors import MissingExtra
from asof.lineage import Neighbourhood
from asof.profiles.summary import FeatureProfile
from asof.timing import SECOND, moment, span_text

TYPES = {
    "css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
}  # fmt: skip
"""Endings of static files → their media types."""


def _lineage(found: Neighbourhood, urls: Mapping[str, str], *, expands: str = "") -> str:
    return lineage_svg(found, lambda item: urls.get(item.id), expands=expands)


def _histogram(own: FeatureProfile) -> str:
    """The distribution of a feature: bars of numbers and times, else its most frequent values."""
    title = f"Distribution of {own.feature}"
    if own.top_values and (own.histogram is None or own.measured == "length"):
        values = [(cell(each.value), each.count) for each in own.top_values[:8]]
        return top_values_svg(values, total=own.rows - own.nulls, title=title)
    if own.histogram is None:
        return ""
    whole = own.histogram.whole and own.measured != "time"
    return histogram_svg(own.histogram.bins, title=title, shown=own.shown, whole=whole)


def _series(own: Series) -> str:
    """A series for readers without JavaScript, and until it is there."""
    main, *around = own.lines.values()
    points = list(zip(own.times, main, strict=True))
    if own.unit == SHARE:
        return series_svg(points, title=own.title, shown=share_text, low=0.0, around=around)
    return series_svg(points, title=own.title, low=0.0 if own.whole_days else None, around=around)


def _series_json(own: Series) -> str:
    """A series for the script that draws it."""
    times = [time / SECOND for time in own.times]
    return json.dumps({"times": times, "lines": own.lines, "unit": own.unit, "days": own.whole_days})


def _sparkline(values: Sequence[float | None], title: str) -> str:
    return sparkline_svg(values, title=title)


def _drawn(svg: str) -> str:
    return svg


DRAWINGS: Mapping[str, Callable[..., str]] = {
    "lineage_svg": _lineage, "distribution_svg": _histogram, "series_svg": _series, "sparkline_svg": _sparkline,
    "drawn": _drawn,
}  # fmt: skip
"""What templates draw with, by name."""

_BREAKS = re.compile(r"(?<=[_:.(])(?=[^_:.(])|(?<=[a-z0-9])(?=[A-Z])")

_AGES = ((86400 * 2, 86400, "day"), (3600 * 2, 3600, "hour"), (60 * 2, 60, "minute"), (0, 1, "second"))


@cache
def static_file(name: str) -> tuple[bytes, str] | None:
    """A static file and its media type; None if there is none of that name."""
    ending = name.rpartition(".")[2]
    if "/" in name or "\\" in name or name.startswith(".") or ending not in TYPES:
        return None
    found = files("asof.catalog") / "static" / name
    return (found.read_bytes(), TYPES[ending]) if found.is_file() else None


@cache
def static_url(name: str) -> str:
    """The address of a static file; it changes with its content, so that browsers may keep it forever."""
    found = static_file(name)
    assert found is not None, f"there is no static file {name}"
    return f"{STATIC}/{name}?v={blake2b(found[0], digest_size=6).hexdigest()}"


@cache
def _environment() -> Any:
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError as error:
        raise MissingExtra("the catalog's pages", "catalog") from error

    environment = Environment(
        loader=PackageLoader("asof.catalog"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, auto_reload=False,
    )  # fmt: skip
    environment.globals.update(page_url=page_url, url_of=url_of, static_url=static_url, counted=counted)
    environment.filters.update(
        value=cell,
        span=span_text,
        when=when,
        age=age,
        seconds=seconds,
        number=number,
        share=share,
        duration=duration,
        prose=prose,
        moment=moment,
        breaks=breaks,
        series_json=_series_json,
    )
    environment.globals.update({name: _markup(function) for name, function in DRAWINGS.items()})
    return environment


def _markup(function: Callable[..., str]) -> Callable[..., str]:
    """A function whose text is markup, and is not escaped again."""
    from markupsafe import Markup

    return lambda *args, **named: Markup(function(*args, **named))


def prose(text: str) -> str:
    """A sentence whose names are in backticks, as HTML."""
    from markupsafe import Markup, escape

    parts = text.split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(breaks(part)) if odd % 2 else escape(part) for odd, part in enumerate(parts)
    )


def breaks(name: str) -> str:
    """A name as HTML that a line may break between its terms: after `_`, `:`, `.`, `(`, and where a hump begins."""
    from markupsafe import Markup, escape

    return Markup("<wbr>").join(escape(part) for part in _BREAKS.split(name))


def render(name: str, content: Mapping[str, Any]) -> bytes:
    """A template's HTML.

    Raises:
        MissingExtra: Jinja is not installed.
    """
    text: str = _environment().get_template(f"{name}.html").render(content)
    return text.encode()


def when(moment: datetime | None) -> str:
    """A moment in UTC, to the second."""
    return "" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def age(moment: datetime | None, now: datetime) -> str:
    """How long before `now` a moment was: `3 minutes ago`."""
    if moment is None:
        return ""
    passed = (now - moment).total_seconds()
    if passed < 0:
        return f"in {seconds(-passed)}"
    return "just now" if passed < 1 else f"{seconds(passed)} ago"


def seconds(passed: float | None) -> str:
    """A duration in its largest unit: `3 minutes`."""
    if passed is None:
        return ""
    for least, unit, name in _AGES:
        if passed >= least:
            return counted(int(passed / unit), name)
    return counted(0, "second")


def share(value: float) -> str:
    """A share as a percentage; one that is not 0 is never shown as 0, nor one that is not all as 100."""
    if 0 < value < 0.001:
        return "< 0.1 %"
    return "> 99.9 %" if 0.999 < value < 1 else f"{value * 100:.1f} %".replace(".0 %", " %")


def duration(passed: float | None) -> str:
    """How long something took, with a digit where it is short: `12 ms`, `3.4 s`, `5 minutes`; `-` for none."""
    if passed is None:
        return "-"
    if passed < 1:
        return f"{passed * 1000:.0f} ms"
    return f"{passed:.1f} s" if passed < 120 else seconds(passed)


def number(value: float | None) -> str:
    """A number with thousands' separators, at most six digits after the point; `-` for none."""
    if value is None:
        return "-"
    if isinstance(value, int) or float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.6g}" if abs(value) < 1e6 else f"{value:.6g}"
