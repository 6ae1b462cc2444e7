"""The pages of runs: what was applied, materialized, streamed and so on; and what one version changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from asof.catalog.live import LiveValue
from asof.catalog.pages.page import Link, Page, PageRequest
from asof.catalog.urls import page_url, url_of
from asof.display import cell, counted
from asof.errors import NotFound, RequestError, some
from asof.registry.records import RUN_KINDS

if TYPE_CHECKING:
    from asof.flows.admin.history import AppliedVersion, VersionChanges
    from asof.flows.admin.schedule import ScheduledJobStatus
    from asof.flows.runs import Run

APPLY = "apply"
KINDS = (APPLY, *RUN_KINDS)
OUTCOMES = ("done", "failed", "stopped", "running")

_COUNTED = {"rows": "row", "messages": "message"}
"""Numbers of a source that are said as in prose."""

_SHOWN = 50
_MOST = 500
_BUDGET_S = 0.07
_VERSIONS_AGE_S = 3_600.0
"""A version never changes: what it changed is kept longer than other values."""


@dataclass(frozen=True)
class RunRow:
    """One run.

    Args:
        started, seconds: a version was made at its time, and has no duration; nor has a run that is running.
        views, sources: links to those that it wrote, and the rows of each as text.
        training_set: the one that it saved.
        details: what else is to be said of it.
        dead_letters: kind of reason → number.
        url: the page of a version; empty for others.
    """

    kind: str
    outcome: str
    started: datetime
    seconds: float | None
    who: str
    rows: int | None
    views: Sequence[tuple[Link, int]]
    sources: Sequence[tuple[Link, str]]
    training_set: Link | None
    details: Sequence[tuple[str, str]]
    dead_letters: Mapping[str, int]
    error: str
    summary: str
    url: str


@dataclass(frozen=True, kw_only=True)
class RunsPage(Page):
    """The page.

    Args:
        kind, outcome: the filters; empty for all.
        is_whole: whether the viewer sees the runs of all views; others see those of their own views, and no versions.
        schedule: how the jobs of the schedule stand; None to others, and where there is none.
        more_url: the address of the same with more of them; empty if these are all.
    """

    kinds: Sequence[str]
    outcomes: Sequence[str]
    kind: str
    outcome: str
    is_whole: bool
    runs: LiveValue[Sequence[RunRow]]
    schedule: LiveValue[Sequence[ScheduledJobStatus]] | None
    more_url: str


@dataclass(frozen=True)
class ChangeLine:
    """One line of a plan: `added`, `changed` or `removed`; else it says more of the line before."""

    text: str
    state: str
    is_object: bool


@dataclass(frozen=True)
class AppliedChanges:
    """What one version changed."""

    who: str
    when: datetime
    lines: Sequence[ChangeLine]
    before: Link | None
    after: Link | None


@dataclass(frozen=True, kw_only=True)
class VersionPage(Page):
    """The page of one applied version."""

    version: int
    content: LiveValue[AppliedChanges]


def runs_page(request: PageRequest) -> RunsPage:
    kind, outcome = _filter(request, "kind", KINDS), _filter(request, "outcome", OUTCOMES)
    shown = request.number("limit", _SHOWN, most=_MOST)
    found = runs_of(request, kind, limit=_MOST if outcome else shown + 1)
    rows = [each for each in found.value or () if not outcome or each.outcome == outcome]
    is_all = len(rows) <= shown or shown == _MOST
    query = {"kind": kind, "outcome": outcome, "limit": min(shown * 4, _MOST)}
    is_whole = request.viewer.may("read")
    return RunsPage(
        title="Runs", above=[Link("Home", page_url())], kinds=KINDS, outcomes=OUTCOMES, kind=kind, outcome=outcome,
        is_whole=is_whole, schedule=_schedule(request) if is_whole else None,
        runs=LiveValue(
            rows[:shown] if found.value is not None else None, found.age_s, found.is_late, found.error, found.hint
        ),
        more_url="" if is_all else page_url("runs", query=query),
    )  # fmt: skip


def _schedule(request: PageRequest) -> LiveValue[Sequence[ScheduledJobStatus]] | None:
    def fetched() -> Sequence[ScheduledJobStatus]:
        return list(request.store.schedule_status())

    found = request.live.get("schedule", fetched, budget_s=_BUDGET_S)
    return None if found.value is not None and not found.value else found


def runs_of(
    request: PageRequest, kind: str = "", *, limit: int, budget_s: float = _BUDGET_S
) -> LiveValue[Sequence[RunRow]]:
    """The newest runs that the viewer may see, newest first."""
    is_whole = request.viewer.may("read")

    def fetched() -> tuple[Sequence[AppliedVersion], Sequence[Run]]:
        versions = list(request.store.history(limit)) if kind in ("", APPLY) else []
        return versions, [] if kind == APPLY else list(request.store.runs(kind or None, limit))

    live = request.live.get(("runs", kind, limit), fetched, budget_s=budget_s)
    if live.value is None:
        return LiveValue(None, live.age_s, live.is_late, live.error, live.hint)
    versions, runs = live.value
    # The summary of a version names objects that a viewer of some views may not know.
    rows = [_row_of_version(each) for each in versions] if is_whole else []
    rows += [row for each in runs if (row := _row_of_run(request, each, is_whole=is_whole)) is not None]
    # Of one moment, as a clock that stands still makes it, the version was there before its runs.
    rows.sort(key=lambda each: (each.started, each.kind != APPLY), reverse=True)
    return LiveValue(rows[:limit], live.age_s, live.is_late)


def version_page(request: PageRequest) -> VersionPage:
    (text,) = request.names
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
    if number < 1 or not request.viewer.may("read"):
        raise NotFound(f"there is no version {text[:20]!r} to see", hint="open the runs")
    live = request.live.get(
        ("version", number),
        lambda: request.store.version_changes(number),
        budget_s=_BUDGET_S,
        max_age_s=_VERSIONS_AGE_S,
    )
    content = None if live.value is None else _content_of(request, live.value)
    return VersionPage(
        title=f"Version {number}",
        above=[Link("Home", page_url()), Link("Runs", page_url("runs", query={"kind": APPLY}))], version=number,
        content=LiveValue(content, None if content is None else 0.0, live.is_late, live.error, live.hint),
    )  # fmt: skip


def _filter(request: PageRequest, name: str, known: Sequence[str]) -> str:
    text = request.text(name) or ""
    if text and text not in known:
        raise RequestError(f"?{name}={text[:40]}: there is no such {name} of runs", hint=f"choose one of {some(known)}")
    return text


def _row_of_version(each: AppliedVersion) -> RunRow:
    return RunRow(
        kind=APPLY, outcome="done", started=each.when, seconds=None, who=each.who, rows=None, views=(), sources=(),
        training_set=None, details=(), dead_letters={}, error="", summary=each.summary,
        url=page_url("runs", APPLY, str(each.version)),
    )  # fmt: skip


def _row_of_run(request: PageRequest, run: Run, *, is_whole: bool) -> RunRow | None:
    """A run as the viewer may see it; None where they may see none of its views and sources."""
    index, viewer = request.index, request.viewer
    views = {
        name: rows for name, rows in run.views.items()
        if is_whole or ((view := index.view(name)) is not None and index.shows_view(viewer, view))
    }  # fmt: skip
    sources = {name: said for name, said in run.sources.items() if is_whole or index.shows_source(viewer, name)}
    if not is_whole and not (views or sources):
        return None
    dead_letters: dict[str, int] = {}
    for said in sources.values():
        found = said.get("dead_letters")
        for reason, count in found.items() if isinstance(found, Mapping) else ():
            dead_letters[reason] = dead_letters.get(reason, 0) + int(count)
    # An error and the details may name what is not theirs.
    details = dict(run.details) if is_whole else {}
    saved = details.pop("training_set", None)
    return RunRow(
        kind=run.kind, outcome=run.outcome, started=run.started, seconds=run.seconds, who=run.who,
        rows=run.rows if is_whole else sum(views.values()) or None,
        views=[(Link(name, _url(request, "view", name)), rows) for name, rows in views.items()],
        sources=[(Link(name, _url(request, "source", name)), _numbers(said)) for name, said in sources.items()],
        training_set=Link(saved, page_url("training-set", saved)) if isinstance(saved, str) else None,
        details=list(_details(details)), dead_letters=dead_letters, error=(run.error or "") if is_whole else "",
        summary="", url="",
    )  # fmt: skip


def _url(request: PageRequest, kind: str, name: str) -> str:
    known = request.index.view(name) if kind == "view" else request.index.source(name)
    return url_of(kind, name) if known is not None else ""


def _details(details: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """What else is to be said of a run, by name; of counts those that are not 0."""
    for name, value in details.items():
        if isinstance(value, Mapping):
            yield from ((_name(inner), _text(each)) for inner, each in value.items() if each)
        else:
            yield _name(name), _text(value)


def _numbers(said: Mapping[str, object]) -> str:
    """The numbers of one source."""
    parts = []
    for name, value in said.items():
        if name in _COUNTED and isinstance(value, int):
            parts.append(counted(value, _COUNTED[name]))
        elif not isinstance(value, Mapping) and value is not None and value != 0:
            parts.append(f"{_name(name)} {_text(value)}")
    return ", ".join(parts)


def _name(name: str) -> str:
    return name.replace("_", " ")


def _text(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else cell(value)


def _content_of(request: PageRequest, found: VersionChanges) -> AppliedChanges:
    def link(version: int | None) -> Link | None:
        return Link(f"version {version}", page_url("runs", APPLY, str(version))) if version else None

    return AppliedChanges(
        found.who, found.when, [_line(each) for each in found.lines], link(found.before), link(found.after)
    )


def _line(text: str) -> ChangeLine:
    states = {"+": "added", "~": "changed", "-": "removed"}
    return ChangeLine(text, states.get(text.lstrip()[:1], ""), not text.startswith(" "))
