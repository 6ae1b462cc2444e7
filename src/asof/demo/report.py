"""The demo's report: one dict, written as `report.json` and as a self-contained page, `report.html`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any, TypedDict

from asof.demo.histograms import Panel, caption
from asof.demo.pictures import NARROW, WIDE, draw_histogram, draw_state_machine
from asof.display import counted

Row = Mapping[str, Any]
"""Column → value, as `pyarrow.Table.to_pylist` gives it."""

_MOST_SHOWN = 12


class StoryStep(TypedDict):
    """One step of the story: what was done, how long it took, and how many rows it gave (None: no rows)."""

    name: str
    text: str
    seconds: float
    rows: int | None


class TrainingSetReport(TypedDict):
    """The training set's size and columns, and its first rows."""

    rows: int
    columns: list[str]
    preview: Sequence[Row]


class OnlineReport(TypedDict):
    """What was served for the same keys before and after the extra events, and at which moments.

    `key` names the column by which a row before belongs to a row after; `events` counts the events in between.
    """

    key: str
    events: int
    before_at: str
    after_at: str
    before: Sequence[Row]
    after: Sequence[Row]


class AuditSummary(TypedDict):
    """How many served values were compared with history, how many were equal, and those that were not.

    `active_keys` counts keys with a non-zero window or an open session.
    """

    keys: int
    active_keys: int
    values: int
    equal: int
    differences: Sequence[Row]


class NextCommand(TypedDict):
    """A command to try next, and what it shows."""

    command: str
    text: str


class Report(TypedDict):
    """All that `asof demo` found out; what `report.json` holds."""

    project: str
    clock: str
    seed: int
    sizes: dict[str, int]
    steps: list[StoryStep]
    training_set: TrainingSetReport
    histograms: dict[str, Panel]
    online: OnlineReport
    audit: AuditSummary
    servers: dict[str, str]
    next_commands: list[NextCommand]


def write_json(report: Report, path: Path | str) -> None:
    """Write the report as JSON; times become ISO 8601 text, NaN and infinities become null."""
    text = json.dumps(_plain(report), indent=2, ensure_ascii=False, allow_nan=False)
    Path(path).write_text(text + "\n", encoding="utf-8")


def write_report(report: Report, path: Path | str) -> None:
    """Write the report as one HTML page that needs nothing else: no script, no font, no picture from elsewhere."""
    style = files("asof.demo").joinpath("report.css").read_text(encoding="utf-8")
    sections = (
        _header(report),
        _steps(report["steps"]),
        _state_machine(),
        _histograms(report["histograms"]),
        _training_set(report["training_set"]),
        _online(report["online"]),
        _audit(report["audit"]),
        _next_commands(report["next_commands"]),
    )
    page = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Asof demo: {escape(report['project'])}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        + "\n".join(sections)
        + "\n</body>\n</html>\n"
    )
    Path(path).write_text(page, encoding="utf-8")


def _header(report: Report) -> str:
    sizes = [(name.replace("_", " "), f"{size:,}", "") for name, size in report["sizes"].items()]
    sizes += [("project", report["project"], ""), ("seed", str(report["seed"]), "")]
    sizes += [("the store's clock", report["clock"], ' class="long"')]
    tiles = "".join(
        f"<div{style}><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value, style in sizes
    )
    positions = "; ".join(f"{name} at {place}" for name, place in report["servers"].items())
    return (
        "<header>\n<h1>What Asof did with the shop</h1>\n"
        "<p>A simulated shop wrote down its users and orders, and streamed its website traffic. From these, one set of"
        " definitions gave a training set as of each order, and the same features online while events came in."
        + (f" On servers: {escape(positions)}." if positions else "")
        + "</p>\n"
        f'<dl class="sizes">{tiles}</dl>\n</header>'
    )


def _steps(steps: list[StoryStep]) -> str:
    longest = max((step["seconds"] for step in steps), default=0.0) or 1.0
    items = []
    for step in steps:
        rows = f'<br><span class="muted">{counted(step["rows"], "row")}</span>' if step["rows"] is not None else ""
        share = max(step["seconds"] / longest * 100, 0.5)
        items.append(
            f'<li><div><strong>{escape(step["name"])}</strong><span class="muted">{escape(step["text"])}</span></div>'
            f'<div class="took">{step["seconds"]:.2f} s{rows}</div>'
            f'<div class="bar" style="width:{share:.1f}%"></div></li>'
        )
    total = sum(step["seconds"] for step in steps)
    return _section(
        "The story, step by step",
        f"{counted(len(steps), 'step')} in {total:.1f} seconds. The bars compare how long each took.",
        f'<ol class="steps">{"".join(items)}</ol>',
    )


def _state_machine() -> str:
    return _section(
        "The shop",
        "Each minute every user moves along one arrow with the chance written on it, or stays. Entering a page is a"
        " traffic event; entering the order page is also an order.",
        draw_state_machine(WIDE) + draw_state_machine(NARROW),
    )


def _histograms(histograms: dict[str, Panel]) -> str:
    panels = list(histograms.values())
    top = max((bar["share"] for panel in panels for bar in panel["bins"]), default=0.0)
    pictures = "".join(draw_histogram(column, panel, top_share=top) for column, panel in histograms.items())
    header = "".join(f'<th scope="col" class="number">{escape(panel["title"])}</th>' for panel in panels)
    body = "".join(
        f'<tr><th scope="row">{escape(bars[0]["label"])}</th>'
        + "".join(f'<td class="number">{bar["count"]:,} ({bar["share"]:.1%})</td>' for bar in bars)
        + "</tr>"
        for bars in zip(*(panel["bins"] for panel in panels), strict=True)
    )
    return _section(
        "Pages seen in the session before an order",
        caption(panels) + " The figures on the bars are percent of orders." if panels else "",
        f'<div class="histograms">{pictures}</div>\n<details><summary>The same as numbers</summary>'
        + _scrolling(f'<th scope="col">views</th>{header}', body)
        + "</details>",
    )


def _training_set(training_set: TrainingSetReport) -> str:
    preview = training_set["preview"]
    return _section(
        "The training set",
        f"{counted(training_set['rows'], 'row')} and {counted(len(training_set['columns']), 'column')}, one row per"
        f" order, every value as it was known at the order's time. The first {len(preview)}:",
        _table(training_set["columns"], preview),
    )


def _online(online: OnlineReport) -> str:
    key = online["key"]
    before = {row[key]: row for row in online["before"]}
    shown = list(online["after"])[:_MOST_SHOWN]
    changed = sum(before.get(row[key], {}).get(name) != row[name] for row in online["after"] for name in row)
    cards = "".join(_before_and_after(key, before.get(row[key], {}), row) for row in shown)
    hidden = len(online["after"]) - len(shown)
    more = f'<p class="muted">{counted(hidden, "more row")} in report.json.</p>' if hidden else ""
    return _section(
        "Served online, before and after more events",
        f"The same request at {online['before_at']} and at {online['after_at']}, with"
        f" {counted(online['events'], 'event')} in between: {counted(changed, 'value')} changed, marked below.",
        f'<div class="cards">{cards}</div>{more}',
    )


def _before_and_after(key: str, before: Row, after: Row) -> str:
    rows = []
    for name, value in after.items():
        if name != key:
            style = ' class="changed"' if before.get(name) != value else ""
            cells = f"<td>{_text(before.get(name))}</td><td>{_text(value)}</td>"
            rows.append(f'<tr{style}><th scope="row">{escape(name)}</th>{cells}</tr>')
    header = '<th scope="col">feature</th><th scope="col">before</th><th scope="col">after</th>'
    title = f"<h3>{escape(key)} {_text(after[key])}</h3>"
    return f'<div class="card">{title}{_scrolling(header, "".join(rows))}</div>'


def _audit(audit: AuditSummary) -> str:
    unequal = audit["values"] - audit["equal"]
    if unequal:
        verdict = f'<p class="verdict bad">{unequal:,} of {counted(audit["values"], "value")} differ.</p>'
    else:
        verdict = f'<p class="verdict good">✓ All {counted(audit["values"], "value")} are equal.</p>'
    differences = list(audit["differences"])
    columns = list(dict.fromkeys(name for row in differences for name in row))
    return _section(
        "Audit: does serving equal training?",
        f"{counted(audit['keys'], 'key')} were read online and computed again from history as of the same moment,"
        f" {audit['active_keys']:,} of them with a non-zero window or an open session.",
        verdict + (_table(columns, differences) if differences else ""),
    )


def _next_commands(commands: list[NextCommand]) -> str:
    items = "".join(
        f"<dt>{escape(entry['text'])}</dt><dd><pre><code>{escape(entry['command'])}</code></pre></dd>"
        for entry in commands
    )
    return _section("Try next", "", f'<dl class="next">{items}</dl>')


def _section(title: str, text: str, body: str) -> str:
    """A section of escaped `title` and `text`; `body` is HTML already."""
    prose = f"<p>{escape(text)}</p>\n" if text else ""
    return f"<section>\n<h2>{escape(title)}</h2>\n{prose}{body}\n</section>"


def _table(columns: Iterable[str], rows: Iterable[Row]) -> str:
    columns, rows = list(columns), list(rows)
    numbers = {name for name in columns if any(_is_number(row.get(name)) for row in rows)}
    header = "".join(
        f'<th scope="col"{" class=number" if name in numbers else ""}>{escape(name)}</th>' for name in columns
    )
    body = "".join(f"<tr>{''.join(_cell(row.get(name)) for name in columns)}</tr>" for row in rows)
    return _scrolling(header, body)


def _scrolling(header: str, body: str) -> str:
    """A table that scrolls by itself where the window is narrower; by keyboard too, so it takes the focus."""
    table = f"<table><thead><tr>{header}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="wide-table" tabindex="0">{table}</div>'


def _cell(value: Any) -> str:
    style = ' class="number"' if _is_number(value) else ""
    return f"<td{style}>{_text(value)}</td>"


def _text(value: Any) -> str:
    """A value as escaped HTML: null named as such, floats with four decimals, times to the millisecond."""
    if value is None:
        return '<span class="null">null</span>'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and math.isfinite(value) and abs(value) < 1e15:
        return f"{value:.4f}".rstrip("0").removesuffix(".") if abs(value) >= 5e-5 or value == 0 else f"{value:.4g}"
    if isinstance(value, datetime):
        return escape(value.isoformat(sep=" ", timespec="milliseconds").replace("+00:00", "Z"))
    return escape(str(value))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _plain(value: Any) -> Any:
    """The same value out of what JSON has."""
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    return value if value is None or isinstance(value, bool | int | str) else str(value)
