"""The page of a source: what it is, its schema now, how far its log is read, and its dead letters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from asof.catalog.live import LiveValue
from asof.catalog.pages.page import Link, Page, PageRequest, Redirect, missing
from asof.catalog.urls import page_url, url_of
from asof.definitions import LogSource, RequestSource, Source
from asof.display import cell
from asof.errors import NotAllowed
from asof.lineage import hides_column, hides_rows
from asof.timing import iso, span_text

if TYPE_CHECKING:
    from asof.flows.admin.source_schema import SchemaColumn
    from asof.flows.stream.dead_letters import DeadLetter
    from asof.flows.stream.status import PartitionStatus

MOST_LETTERS = 500
"""Of more dead letters the newest are counted and shown."""

_LETTERS_SHOWN = 50
_EXAMPLE = 200
_BUDGET_S = 0.5
_MOST_TEXT = 5_000
_DURATIONS = ("allowed_lateness", "max_future", "event_id_horizon")
_LEFT_OUT = ("name", "type", "description", "owner", "tags", "schema", "timestamp_field", "created_timestamp_column",
             "lag", "message_schema", "batch_source")  # fmt: skip
"""What the page shows elsewhere of a definition."""


@dataclass(frozen=True)
class DeclaredColumn:
    """One column of the definition."""

    name: str
    type: str
    description: str
    is_pii: bool


@dataclass(frozen=True)
class LetterRow:
    """One dead letter.

    Args:
        reason: with the values in it only for those who may see messages.
    """

    id: str
    url: str
    at: datetime
    topic: str
    partition: int
    offset: int
    size: int
    reason: str
    replayed: bool


@dataclass(frozen=True)
class LetterKind:
    """The dead letters with one kind of reason.

    Args:
        reason: without the values in it.
        waiting: how many were not replayed.
        newest: the time of the newest one's message.
        example: the newest one's message, shortened; None where it is hidden, or has no value.
        url: the page of the newest one.
    """

    reason: str
    count: int
    waiting: int
    newest: datetime
    example: str | None
    url: str


@dataclass(frozen=True)
class DeadLetters:
    """The dead letters of a source.

    Args:
        is_all: whether these are all, or the newest `MOST_LETTERS`.
        kinds: the most frequent first.
        newest: newest first.
    """

    count: int
    waiting: int
    is_all: bool
    kinds: Sequence[LetterKind]
    newest: Sequence[LetterRow]


@dataclass(frozen=True)
class Replay:
    """What a replay did, as the address says it."""

    sent: int
    already: int
    unfit: int


@dataclass(frozen=True, kw_only=True)
class SourcePage(Page):
    """The page.

    Args:
        definition: what else its definition says, by name.
        declared: the columns of its definition.
        columns: of a batch source, those that it has now; None for others.
        partitions, letters: of a log; None for others.
        gaps: descriptions of messages that were lost before they were read.
        history: the batch source of a log with the history of its events.
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
    declared: Sequence[DeclaredColumn]
    columns: LiveValue[Sequence[SchemaColumn]] | None
    views: Sequence[Link]
    on_demand: Sequence[Link]
    history: Link | None
    logs: Sequence[Link]
    partitions: LiveValue[Sequence[PartitionStatus]] | None
    letters: LiveValue[DeadLetters] | None
    gaps: Sequence[str]
    hidden_because: str
    may_replay: bool
    replay: Replay | None


def source_page(request: PageRequest) -> SourcePage | Redirect:
    index = request.index
    source = source_shown(request, request.names[0])
    views = [each for each in index.views_of_source(source.name) if index.shows_view(request.viewer, each)]
    derived = [
        each for each in index.project.on_demand_views.values()
        if isinstance(source, RequestSource) and any(read is source for read in each.sources)
        and index.shows_view(request.viewer, each)
    ]  # fmt: skip
    logs = [
        each for each in index.project.sources_with_history()
        if each.batch_source is not None and each.batch_source.name == source.name
        and index.shows_source(request.viewer, each.name)
    ]  # fmt: skip
    log = source if isinstance(source, LogSource) else None
    history = log.batch_source if log is not None else None
    batch = source if isinstance(source, Source) and log is None else None
    hidden = hidden_because(request, log) if log is not None else ""
    return SourcePage(
        title=source.name, above=[Link("Home", page_url()), Link("Sources", page_url("search", query={"kind": "source"}))],
        name=source.name, type=source.type if isinstance(source, Source) else "request", description=source.description, owner=source.owner, tags=sorted(source.tags.items()),
        defined_at=source.where, is_log=log is not None,
        event_time=source.timestamp_field if isinstance(source, Source) else "",
        created_time=source.created_timestamp_column if isinstance(source, Source) else "",
        lag_us=source.lag if isinstance(source, Source) else 0, definition=_definition(source), declared=_declared(source),
        columns=None if batch is None else request.live.get(
            ("source schema", source.name), lambda: list(request.store.source_schema(source.name)), budget_s=_BUDGET_S
        ),
        views=[Link(each.name, url_of("view", each.name)) for each in views],
        on_demand=[Link(each.name, url_of("on-demand-view", each.name)) for each in derived],
        history=Link(history.name, url_of("source", history.name))
        if history is not None and index.shows_source(request.viewer, history.name) else None,
        logs=[Link(each.name, url_of("source", each.name)) for each in logs],
        partitions=None if log is None else request.live.get(
            _status_key(log), lambda: list(request.store.stream_status(log.name)), budget_s=_BUDGET_S
        ),
        letters=None if log is None else _letters(request, log, is_hidden=bool(hidden)),
        gaps=index.snapshot.facts.gaps.get(source.name, ()), hidden_because=hidden,
        may_replay=log is not None and may_replay(request, log), replay=replay_of(request),
    )  # fmt: skip


def replay_letters(request: PageRequest) -> Redirect:
    """Replay the source's dead letters, all that fit by now."""
    source = source_shown(request, request.names[0])
    return Redirect(page_url("source", source.name, query=replay(request, source)))


def replay(request: PageRequest, source: Source | RequestSource, ids: Sequence[str] | None = None) -> Mapping[str, int]:
    """Replay dead letters of a source; returns what was done, as the parameters of an address.

    Raises:
        NotAllowed: the viewer may not write to all views that the source's events change.
    """
    if not isinstance(source, LogSource):
        raise missing("log", source.name, [])
    if not may_replay(request, source):
        raise NotAllowed(
            f"a replay of dead letters of source {source.name!r} needs the write role for all views that it changes",
            hint="sign in with a key that has it",
        )
    done = request.store.replay_dead_letters(source.name, ids)
    request.live.forget(_status_key(source), _letters_key(source), *(("dead letter", each) for each in ids or ()))
    return {"sent": done.sent, "already": done.already, "unfit": len(done.still_unfit)}


def source_shown(request: PageRequest, name: str) -> Source | RequestSource:
    """The source of a page.

    Raises:
        NotFound: it is not applied, or the viewer may not know of it.
    """
    index = request.index
    source = index.source(name)
    if source is None or not index.shows_source(request.viewer, name):
        known = [*index.project.sources, *index.project.request_sources]
        raise missing("source", name, [each for each in known if index.shows_source(request.viewer, each)])
    return source


def hidden_because(request: PageRequest, source: LogSource) -> str:
    """Why the viewer sees no message of the source; empty where they do."""
    if hides_rows(source, request.index.project.views_changed_by(source)):
        return "the source, its views or one of their columns is tagged pii"
    return "" if may_replay(request, source) else "they may hold anything, and need the write role"


def may_replay(request: PageRequest, source: LogSource) -> bool:
    """Whether the viewer may write to all views that the source's events change."""
    return request.viewer.may("write", request.index.project.views_changed_by(source))


def _status_key(source: LogSource) -> tuple[str, str]:
    return ("stream status", source.name)


def _letters_key(source: LogSource) -> tuple[str, str]:
    return ("dead letters", source.name)


def _letters(request: PageRequest, source: LogSource, *, is_hidden: bool) -> LiveValue[DeadLetters]:
    """The dead letters as the viewer may see them: what is asked of the store is the same for all viewers."""
    found = request.live.get(_letters_key(source), lambda: _asked(request, source), budget_s=_BUDGET_S)
    if found.value is None:
        return LiveValue(None, found.age_s, found.is_late, found.error, found.hint)
    letters, examples = found.value
    made = _summary(letters, {} if is_hidden else examples, is_hidden=is_hidden)
    return LiveValue(made, found.age_s, found.is_late)


def _asked(request: PageRequest, source: LogSource) -> tuple[Sequence[DeadLetter], Mapping[str, str]]:
    """The newest dead letters, and the message of the newest of each kind by its ID."""
    letters = list(request.store.dead_letters(source.name, MOST_LETTERS + 1))
    newest = {each.reason_kind: each for each in reversed(letters)}
    examples = {}
    for each in newest.values():
        text = request.store.dead_letter(each.id).text
        if text is not None:
            examples[each.id] = text if len(text) <= _EXAMPLE else f"{text[:_EXAMPLE]}…"
    return letters, examples


def _summary(letters: Sequence[DeadLetter], examples: Mapping[str, str], *, is_hidden: bool) -> DeadLetters:
    counted = letters[:MOST_LETTERS]
    kinds: dict[str, list[DeadLetter]] = {}
    for each in counted:
        kinds.setdefault(each.reason_kind, []).append(each)
    return DeadLetters(
        count=len(counted), waiting=sum(not each.replayed for each in counted), is_all=len(letters) == len(counted),
        kinds=[
            LetterKind(
                reason, len(alike), sum(not each.replayed for each in alike), alike[0].at, examples.get(alike[0].id),
                letter_url(alike[0].id),
            )
            for reason, alike in sorted(kinds.items(), key=lambda each: -len(each[1]))
        ],
        newest=[
            LetterRow(
                each.id, letter_url(each.id), each.at, each.topic, each.partition, each.offset, each.size,
                each.reason_kind if is_hidden else each.reason, each.replayed,
            )
            for each in counted[:_LETTERS_SHOWN]
        ],
    )  # fmt: skip


def letter_url(id: str) -> str:
    """The address of a dead letter's page."""
    return page_url("dead-letter", *id.rsplit("/", 2))


def replay_of(request: PageRequest) -> Replay | None:
    """What the replay did that led to a page; None where none did."""
    numbers = [request.query.get(name, "") for name in ("sent", "already", "unfit")]
    if not all(each.isascii() and each.isdigit() and len(each) < 10 for each in numbers):
        return None
    return Replay(*map(int, numbers))


def _declared(source: Source | RequestSource) -> Sequence[DeclaredColumn]:
    return [
        DeclaredColumn(each.name, str(each.dtype), each.description, hides_column(source, each.name))
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
