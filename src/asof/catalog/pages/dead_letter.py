"""The page of one dead letter: its message, why it was refused, and whether it fits now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from asof.catalog.live import LiveValue
from asof.catalog.pages.dead_letters import Replay, hidden_because, may_replay, replay, replay_of, source_shown
from asof.catalog.pages.page import Link, Page, PageRequest, Redirect, missing
from asof.catalog.urls import page_url, url_of
from asof.definitions import LogSource
from asof.errors import NotFound

_MOST_TEXT = 20_000
_BUDGET_S = 1.0


@dataclass(frozen=True)
class DeadLetterContent:
    """A dead letter with its message.

    Args:
        key, text: as text; what is not UTF-8 is escaped.
        is_cut: whether `text` is only its beginning.
        refused_now: why the current schema refuses the message; None: it fits now.
    """

    topic: str
    partition: int
    offset: int
    at: datetime
    size: int
    reason: str
    replayed: bool
    key: str | None
    text: str | None
    is_cut: bool
    headers: Sequence[tuple[str, str | None]]
    refused_now: str | None


@dataclass(frozen=True, kw_only=True)
class DeadLetterPage(Page):
    """The page.

    Args:
        dead_letter: None where the viewer may not see messages.
    """

    id: str
    source: Link
    dead_letter: LiveValue[DeadLetterContent | None] | None
    hidden_because: str
    may_replay: bool
    replay: Replay | None


def dead_letter_page(request: PageRequest) -> DeadLetterPage:
    source, id = _shown(request)
    hidden = hidden_because(request, source)
    found = None if hidden else request.live.get(("dead letter", id), lambda: _fetched(request, id), budget_s=_BUDGET_S)
    if found is not None and found.value is None and found.age_s is not None:
        raise NotFound(f"no dead letter {id!r}", hint="see those of its source")
    link = Link(source.name, url_of("source", source.name))
    sources = Link("Sources", page_url("search", query={"kind": "source"}))
    return DeadLetterPage(
        title=id, above=[Link("Home", page_url()), sources, link], id=id, source=link, dead_letter=found,
        hidden_because=hidden, may_replay=may_replay(request, source), replay=replay_of(request),
    )  # fmt: skip


def replay_one(request: PageRequest) -> Redirect:
    """Replay the page's dead letter."""
    source, id = _shown(request)
    return Redirect(page_url("dead-letter", *request.names), replay(request, source, [id]))


def _shown(request: PageRequest) -> tuple[LogSource, str]:
    name, *place = request.names
    source = source_shown(request, name)
    if not isinstance(source, LogSource):
        raise missing("log", name, [])
    return source, "/".join([name, *place])


def _fetched(request: PageRequest, id: str) -> DeadLetterContent | None:
    """The dead letter; None if there is none: that is no failure of the store's."""
    try:
        found = request.store.dead_letter(id)
    except NotFound:
        return None
    return DeadLetterContent(
        found.topic, found.partition, found.offset, found.at, found.size, found.reason, found.replayed,
        _text(found.key), None if found.text is None else found.text[:_MOST_TEXT],
        found.text is not None and len(found.text) > _MOST_TEXT,
        [(name, _text(value)) for name, value in found.headers], found.refused_now,
    )  # fmt: skip


def _text(value: bytes | None) -> str | None:
    return None if value is None else value[:_MOST_TEXT].decode("utf-8", "backslashreplace")
