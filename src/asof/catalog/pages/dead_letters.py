"""The dead letters of a source on its pages: counted by reason, hidden where they have to be, and replayed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from asof.catalog.live import LiveValue
from asof.catalog.pages.page import PageRequest, missing
from asof.catalog.urls import page_url
from asof.definitions import LogSource, RequestSource, Source
from asof.errors import NotAllowed
from asof.lineage import hides_rows

if TYPE_CHECKING:
    from asof.flows.stream.dead_letters import DeadLetter

MOST_DEAD_LETTERS = 500
"""Of more dead letters the newest are counted and shown."""

_NOTICE = re.compile(r"replay\.([0-9]{1,9})\.([0-9]{1,9})\.([0-9]{1,9})")
_SHOWN = 50
_EXAMPLE = 200
_BUDGET_S = 0.04


@dataclass(frozen=True)
class DeadLetterRow:
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
class DeadLetterKind:
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
        is_all: whether these are all, or the newest `MOST_DEAD_LETTERS`.
        kinds: the most frequent first.
        newest: newest first.
    """

    count: int
    waiting: int
    is_all: bool
    kinds: Sequence[DeadLetterKind]
    newest: Sequence[DeadLetterRow]


@dataclass(frozen=True)
class Replay:
    """What a replay did."""

    sent: int
    already: int
    unfit: int


def replay(request: PageRequest, source: Source | RequestSource, ids: Sequence[str] | None = None) -> str:
    """Replay dead letters of a source; returns what was done, as a notice that `replay_of` reads.

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
    request.live.forget(status_key(source), _dead_letters_key(source), *(("dead letter", each) for each in ids or ()))
    return f"replay.{done.sent}.{done.already}.{len(done.still_unfit)}"


def hidden_because(request: PageRequest, source: LogSource) -> str:
    """Why the viewer sees no message of the source; empty where they do."""
    if hides_rows(source, request.index.project.views_changed_by(source)):
        return "the source, its views or one of their columns is tagged pii"
    return "" if may_replay(request, source) else "they may hold anything, and need the write role"


def may_replay(request: PageRequest, source: LogSource) -> bool:
    """Whether the viewer may write to all views that the source's events change."""
    return request.viewer.may("write", request.index.project.views_changed_by(source))


def status_key(source: LogSource) -> tuple[str, str]:
    """The key of the live value that says how far a log is read."""
    return ("stream status", source.name)


def _dead_letters_key(source: LogSource) -> tuple[str, str]:
    return ("dead letters", source.name)


def dead_letters_of(request: PageRequest, source: LogSource, *, is_hidden: bool) -> LiveValue[DeadLetters]:
    """The dead letters as the viewer may see them: what is asked of the store is the same for all viewers."""
    live = request.live.get(_dead_letters_key(source), lambda: _fetched(request, source), budget_s=_BUDGET_S)
    if live.value is None:
        return LiveValue(None, live.age_s, live.is_late, live.error, live.hint)
    found, examples = live.value
    made = _summary(found, {} if is_hidden else examples, is_hidden=is_hidden)
    return LiveValue(made, live.age_s, live.is_late)


def _fetched(request: PageRequest, source: LogSource) -> tuple[Sequence[DeadLetter], Mapping[str, str]]:
    """The newest dead letters, and the message of the newest of each kind by its ID."""
    found = list(request.store.dead_letters(source.name, MOST_DEAD_LETTERS + 1))
    newest = {each.reason_kind: each for each in reversed(found)}
    examples = {}
    for each in newest.values():
        text = request.store.dead_letter(each.id).text
        if text is not None:
            examples[each.id] = text if len(text) <= _EXAMPLE else f"{text[:_EXAMPLE]}…"
    return found, examples


def _summary(found: Sequence[DeadLetter], examples: Mapping[str, str], *, is_hidden: bool) -> DeadLetters:
    counted = found[:MOST_DEAD_LETTERS]
    kinds: dict[str, list[DeadLetter]] = {}
    for each in counted:
        kinds.setdefault(each.reason_kind, []).append(each)
    return DeadLetters(
        count=len(counted), waiting=sum(not each.replayed for each in counted), is_all=len(found) == len(counted),
        kinds=[
            DeadLetterKind(
                reason, len(alike), sum(not each.replayed for each in alike), alike[0].at, examples.get(alike[0].id),
                dead_letter_url(alike[0].id),
            )
            for reason, alike in sorted(kinds.items(), key=lambda each: -len(each[1]))
        ],
        newest=[
            DeadLetterRow(
                each.id, dead_letter_url(each.id), each.at, each.topic, each.partition, each.offset, each.size,
                each.reason_kind if is_hidden else each.reason, each.replayed,
            )
            for each in counted[:_SHOWN]
        ],
    )  # fmt: skip


def dead_letter_url(id: str) -> str:
    """The address of a dead letter's page."""
    return page_url("dead-letter", *id.rsplit("/", 2))


def replay_of(request: PageRequest) -> Replay | None:
    """What the replay did that led to a page; None where none did."""
    found = _NOTICE.fullmatch(request.notice)
    return None if found is None else Replay(*map(int, found.groups()))


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
