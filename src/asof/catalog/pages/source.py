"""The page of a source: what it is, its schema now, how far its log is read, its dead letters, and its lineage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from asof.catalog.live import LiveValue
from asof.catalog.pages.dead_letters import (
    DeadLetters,
    Replay,
    dead_letters_of,
    hidden_because,
    may_replay,
    replay,
    replay_of,
    source_shown,
    status_key,
)
from asof.catalog.pages.lineage import DrawnLineage, near_lineage
from asof.catalog.pages.page import Link, Page, PageRequest, Redirect
from asof.catalog.pages.sections.impact import Impact, impact_of
from asof.catalog.urls import page_url, url_of
from asof.definitions import LogSource, OnDemandFeatureView, RequestSource, Source
from asof.display import cell
from asof.lineage import LineageNode, hides_column
from asof.timing import iso, span_text

if TYPE_CHECKING:
    from asof.flows.admin.source_schema import SchemaColumn
    from asof.flows.stream.status import PartitionStatus

_BUDGET_S = 0.04
_MOST_TEXT = 5_000
_DURATIONS = ("allowed_lateness", "max_future", "event_id_horizon")
_LEFT_OUT = ("name", "type", "description", "owner", "tags", "schema", "timestamp_field", "created_timestamp_column",
             "lag", "message_schema", "batch_source")  # fmt: skip
"""What the page shows elsewhere of a definition."""


@dataclass(frozen=True)
class SourceField:
    """One column of the definition."""

    name: str
    type: str
    description: str
    is_pii: bool


@dataclass(frozen=True, kw_only=True)
class SourcePage(Page):
    """The page.

    Args:
        definition: what else its definition says, by name.
        declared: the columns of its definition.
        columns: of a batch source, those that it has now; None for others.
        partitions, dead_letters: of a log; None for others.
        gaps: descriptions of messages that were lost before they were read.
        history: the batch source of a log that has the history of its events, if any.
        logs: the logs whose history it is.
        hidden_because: why messages are not shown; empty where they are.
        may_replay: whether the viewer may replay dead letters.
        replay: what the replay did that led here.
    """

    name: str
    type: str
    description: str
    owner: str
    tags: Sequence[tuple[str, str]]
    defined_at: str
    is_log: bool
    event_time: str
    created_time: str
    lag_us: int
    definition: Sequence[tuple[str, str]]
    declared: Sequence[SourceField]
    columns: LiveValue[Sequence[SchemaColumn]] | None
    views: Sequence[Link]
    on_demand: Sequence[Link]
    history: Sequence[Link]
    logs: Sequence[Link]
    partitions: LiveValue[Sequence[PartitionStatus]] | None
    dead_letters: LiveValue[DeadLetters] | None
    gaps: Sequence[str]
    hidden_because: str
    may_replay: bool
    replay: Replay | None
    impact: LiveValue[Impact]
    lineage: LiveValue[DrawnLineage]


def source_page(request: PageRequest) -> SourcePage:
    index, viewer = request.index, request.viewer
    source = source_shown(request, request.names[0])
    views = [each for each in index.views_of_source(source.name) if index.shows_view(viewer, each)]
    derived = [each for each in _reading(request, source) if index.shows_view(viewer, each)]
    log = source if isinstance(source, LogSource) else None
    batch = source if isinstance(source, Source) and log is None else None
    hidden = hidden_because(request, log) if log is not None else ""
    node = LineageNode("source" if isinstance(source, Source) else "request-source", source.name)
    times = (source.timestamp_field, source.created_timestamp_column) if isinstance(source, Source) else ("", "")
    return SourcePage(
        title=source.name,
        above=[Link("Home", page_url()), Link("Sources", page_url("search", query={"kind": "source"}))],
        name=source.name, type=source.type if isinstance(source, Source) else "request",
        description=source.description, owner=source.owner, tags=sorted(source.tags.items()), defined_at=source.where,
        is_log=log is not None, event_time=times[0], created_time=times[1],
        lag_us=source.lag if isinstance(source, Source) else 0, definition=_definition(source),
        declared=_declared(source), columns=None if batch is None else _columns(request, batch),
        views=[Link(each.name, url_of("view", each.name)) for each in views],
        on_demand=[Link(each.name, url_of("on-demand-view", each.name)) for each in derived],
        history=_links(request, [] if log is None or log.batch_source is None else [log.batch_source]),
        logs=_links(request, [each for each in index.project.sources_with_history() if each.batch_source is source]),
        partitions=None if log is None else _partitions(request, log),
        dead_letters=None if log is None else dead_letters_of(request, log, is_hidden=bool(hidden)),
        gaps=index.snapshot.facts.gaps.get(source.name, ()), hidden_because=hidden,
        may_replay=log is not None and may_replay(request, log), replay=replay_of(request),
        impact=impact_of(request, node), lineage=near_lineage(request, node),
    )  # fmt: skip


def replay_all(request: PageRequest) -> Redirect:
    """Replay the source's dead letters, all that fit by now."""
    source = source_shown(request, request.names[0])
    return Redirect(page_url("source", source.name), replay(request, source))


def _columns(request: PageRequest, source: Source) -> LiveValue[Sequence[SchemaColumn]]:
    return request.live.get(
        ("source schema", source.name), lambda: list(request.store.source_schema(source.name)), budget_s=_BUDGET_S
    )


def _partitions(request: PageRequest, source: LogSource) -> LiveValue[Sequence[PartitionStatus]]:
    return request.live.get(
        status_key(source), lambda: list(request.store.stream_status(source.name)), budget_s=_BUDGET_S
    )


def _reading(request: PageRequest, source: Source | RequestSource) -> Sequence[OnDemandFeatureView]:
    """The on-demand views that take a request source's values."""
    if not isinstance(source, RequestSource):
        return ()
    derived = request.index.project.on_demand_views.values()
    return [each for each in derived if any(read is source for read in each.sources)]


def _links(request: PageRequest, sources: Sequence[Source]) -> Sequence[Link]:
    shown = [each for each in sources if request.index.shows_source(request.viewer, each.name)]
    return [Link(each.name, url_of("source", each.name)) for each in shown]


def _declared(source: Source | RequestSource) -> Sequence[SourceField]:
    return [
        SourceField(each.name, str(each.dtype), each.description, hides_column(source, each.name))
        for each in source.schema
    ]


def _definition(source: Source | RequestSource) -> Sequence[tuple[str, str]]:
    """What its definition says otherwise; what is nested in it has a name for each level."""
    found: list[tuple[str, str]] = []
    for name, value in source.content().items():
        if name in _LEFT_OUT:
            continue
        if name in _DURATIONS and isinstance(value, int):
            value = span_text(value)
        elif name == "stream_from" and isinstance(value, int):
            value = iso(value)
        inner = value if isinstance(value, Mapping) else {"": value}
        for key, each in inner.items():
            text = each if isinstance(each, str) else cell(each)
            found.append((f"{name} {key}".strip().replace("_", " "), text[:_MOST_TEXT]))
    return found
