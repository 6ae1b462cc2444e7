"""Dead letters: list and show messages that could not be used, and replay those that fit now."""

from __future__ import annotations

import time
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa

from asof.decoding import decode_messages
from asof.defaults import DEAD_LETTERS
from asof.definitions import LogSource, Snapshot
from asof.definitions.facts import Facts
from asof.errors import LogError, NotFound
from asof.flows.facts import change_facts
from asof.flows.rows.archive import DEAD_LETTERS_SCHEMA, unpacked_headers
from asof.flows.rows.arrival import Place, origin, origin_header
from asof.flows.runs import kind_of_reason
from asof.flows.stores import Stores, log_source_named, log_sources, raw_keys
from asof.flows.stream.suspects import FATAL, still_fatal
from asof.flows.stream.transforms import transform_of
from asof.log.protocol import Messages, UnknownTopic
from asof.results import Record, Records
from asof.sql import archive as statements
from asof.timing import micros

TURN_S = 10.0
"""Longest time for one replay; another replay of the same source takes over after that."""


_STORED = pa.schema([field for field in DEAD_LETTERS_SCHEMA if field.name != "ingest_date"])
"""The date is the Delta table's partition column, so it is not in the data files."""


@dataclass(frozen=True)
class DeadLetter(Record):
    """A message that could not be used.

    Args:
        topic, partition, offset: its position in the log.
        at: the time of the message.
        size: bytes of its value.
        replayed: whether it was sent to the replay topic.
    """

    id: str
    source: str
    topic: str
    partition: int
    offset: int
    at: datetime
    size: int
    reason: str
    replayed: bool

    @property
    def reason_kind(self) -> str:
        """The reason without the values in it, so that equal reasons can be counted."""
        return kind_of_reason(self.reason)


@dataclass(frozen=True)
class DeadLetterMessage(DeadLetter):
    """A dead letter with its message.

    Args:
        key, value, headers: the raw message.
        text: the value as text; what is not UTF-8 is escaped.
        refused_now: why the current schema refuses the message; None: it fits now.
    """

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
    text: str | None
    refused_now: str | None


@dataclass(frozen=True)
class ReplayResult(Record):
    """What a replay of dead letters did.

    Args:
        sent: number of messages sent to the replay topic.
        already: number of messages that an earlier replay had sent.
        still_unfit: ID → why the message still does not fit.
    """

    sent: int
    already: int
    still_unfit: Mapping[str, str]


def list_dead_letters(stores: Stores, source: str | None = None, limit: int = DEAD_LETTERS) -> Records[DeadLetter]:
    """The newest dead letters of one or all sources."""
    snapshot = stores.applied()
    found: list[DeadLetter] = []
    for each in log_sources(snapshot, source):
        rows = _dead_letters(stores, each, statements.newest_dead_letters(int(limit)))
        sent = replayed_positions(stores, each) if rows.num_rows else set()
        for row in rows.to_pylist():
            found.append(DeadLetter(**_columns(each, row, sent)))
    found.sort(key=lambda dead_letter: dead_letter.at, reverse=True)
    return Records(DeadLetter, found[:limit])


def show_dead_letter(stores: Stores, id: str) -> DeadLetterMessage:  # the name that users know
    """One dead letter with its message.

    Raises:
        NotFound: there is no dead letter with this ID.
    """
    source, place = _of_id(stores, id)
    rows = _dead_letters(stores, source, statements.dead_letters([place]))
    if not rows.num_rows:
        raise NotFound(f"no dead letter {id!r}", hint="run `asof dead-letters list` to see them")
    dead_letter = rows.to_pylist()[0]
    refused = _refused(stores, stores.applied(), source, [dead_letter])
    return DeadLetterMessage(
        **_columns(source, dead_letter, replayed_positions(stores, source)),
        key=dead_letter["key"], value=dead_letter["value"], headers=unpacked_headers(dead_letter["headers"]),
        text=_text(dead_letter["value"]), refused_now=refused.get(0),
    )  # fmt: skip


def replay_dead_letters(stores: Stores, source: str, ids: Sequence[str] | None = None) -> ReplayResult:
    """Send the dead letters that fit now to the source's replay topic, which workers read.

    Each counts at its own event time, and is sent only once, however often it is replayed.
    """
    snapshot = stores.registry.load(stores.project)
    wanted = log_source_named(snapshot, source)
    chosen: set[Place] | None = None
    if ids is not None:
        found = [_of_id(stores, each) for each in ids]
        foreign = [each for each, (owner, _) in zip(ids, found, strict=True) if owner.name != source]
        if foreign:
            raise NotFound(
                f"dead letter {foreign[0]!r} is not of source {source!r}", hint="replay it with its own source"
            )
        chosen = {place for _, place in found}
    rows = _dead_letters(stores, wanted, statements.dead_letters(chosen)).to_pylist()
    by_place = {(row["partition"], row["offset"]): row for row in rows}
    for place in sorted((chosen or set()) - by_place.keys()):
        raise NotFound(
            f"no dead letter {dead_letter_id(source, place)!r}", hint="run `asof dead-letters list` to see them"
        )
    topic = wanted.replay_topic
    if by_place:
        stores.log.create(topic, 1)
    token = _take_turn(stores, source)
    try:
        already = replayed_positions(stores, wanted) & by_place.keys()
        news = [(place, row) for place, row in sorted(by_place.items()) if place not in already]
        refused = _refused(stores, snapshot, wanted, [row for _, row in news])
        fit = [each for i, each in enumerate(news) if i not in refused]
        if fit and _turn_of(stores, source) != token:
            raise LogError(
                f"another replay of source {source!r} took over; nothing was sent", hint="run the replay again"
            )
        if fit:
            stores.log.send(
                topic, [row["value"] for _, row in fit], keys=[row["key"] for _, row in fit], partition=0,
                timestamps_us=[micros(row["at"]) for _, row in fit],
                headers=[(*unpacked_headers(row["headers"]), origin_header(place)) for place, row in fit],
                durable=True,
            )  # fmt: skip
    finally:
        _give_turn_back(stores, source, token)
    still = {dead_letter_id(source, news[i][0]): reason for i, reason in sorted(refused.items())}
    return ReplayResult(len(fit), len(already), still)


def replayed_positions(stores: Stores, source: LogSource) -> set[Place]:
    """The dead letters that are in the replay topic already."""
    topic = source.replay_topic
    try:
        bounds = stores.log.bounds(topic)
    except UnknownTopic:
        return set()
    positions: set[Place] = set()
    for number, (first, after) in bounds.items():
        start = first
        while start < after:
            messages = stores.log.read(topic, number, start, stop=after)
            if not len(messages):
                break
            positions.update(place for headers in messages.headers or () if (place := origin(headers)) is not None)
            start = int(messages.offsets[-1]) + 1
    return positions


def _columns(source: LogSource, row: Mapping[str, Any], sent: Collection[Place]) -> dict[str, Any]:
    """The columns of a `DeadLetter`, from a stored row."""
    place = row["partition"], row["offset"]
    return {
        "id": dead_letter_id(source.name, place), "source": source.name, "topic": row["topic"],
        "partition": row["topic_partition"], "offset": row["topic_offset"], "at": row["at"],
        "size": len(row["value"] or b""), "reason": row["reason"], "replayed": place in sent,
    }  # fmt: skip


def dead_letter_id(source: str, place: Place) -> str:
    """ID of a dead letter: source, partition and offset, in the archive's numbering."""
    return f"{source}/{place[0]}/{place[1]}"


class _TurnTaken(LogError):
    """Another process took the lock first."""


def _take_turn(stores: Stores, source: str) -> str:
    """Lock a source's replay across processes; returns the lock's token.

    The lock is a fact in the registry, taken by compare-and-set. The lock of a dead process expires.
    """
    token = uuid.uuid4().hex
    while True:
        other = _wait_for_turn(stores, source)

        def taken(facts: Facts, other: str | None = other) -> Facts:
            if facts.replaying.get(source) not in (None, other):
                raise _TurnTaken(
                    f"another replay of source {source!r} is running", hint="run the replay again once it has ended"
                )
            return facts.with_replay(source, token)

        try:
            change_facts(stores, taken, note=f"replaying dead letters of {source}")
            return token
        except _TurnTaken:
            continue


def _wait_for_turn(stores: Stores, source: str) -> str | None:
    """Wait until the lock is free (None) or has expired (its token)."""
    other, until = _turn_of(stores, source), time.monotonic() + TURN_S
    while other is not None and time.monotonic() < until:
        time.sleep(0.02)
        now = _turn_of(stores, source)
        if now != other:
            other, until = now, time.monotonic() + TURN_S
    return other


def _turn_of(stores: Stores, source: str) -> str | None:
    return stores.registry.load(stores.project).facts.replaying.get(source)


def _give_turn_back(stores: Stores, source: str, token: str) -> None:
    note = f"replayed dead letters of {source}"
    change_facts(stores, lambda facts: facts.without_replay(source, token), note=note)


def _refused(
    stores: Stores, snapshot: Snapshot, source: LogSource, dead_letters: Sequence[Mapping[str, Any]]
) -> dict[int, str]:
    """Index → reason, for dead letters that do not fit the current schema at the current time.

    Those that ended processes are tried by a child first.
    """
    now = stores.clock()
    fatal = [i for i, row in enumerate(dead_letters) if row["reason"].startswith(FATAL)]
    deaths = still_fatal(stores, source, _messages([dead_letters[i] for i in fatal]), now=now) if fatal else {}
    refused = {fatal[i]: reason for i, reason in deaths.items()}
    others = [i for i in range(len(dead_letters)) if i not in refused]
    messages = _messages([dead_letters[i] for i in others])
    keys = raw_keys(source, snapshot.project.views_of(source.name))
    decoded = decode_messages(
        source, messages, keys=keys, clock=now, schemas=stores.schemas_of(source),
        transform=transform_of(stores, source),
            bounds=stores.bounds_of(source),
    )  # fmt: skip
    return refused | {others[dead_letter.index]: dead_letter.reason for dead_letter in decoded.dead_letters}


def _messages(dead_letters: Sequence[Mapping[str, Any]]) -> Messages:
    return Messages(
        np.array([row["topic_partition"] for row in dead_letters], np.int32),
        np.array([row["topic_offset"] for row in dead_letters], np.int64),
        np.array([micros(row["at"]) for row in dead_letters], np.int64),
        [row["key"] for row in dead_letters], [row["value"] for row in dead_letters],
        [unpacked_headers(row["headers"]) for row in dead_letters],
    )  # fmt: skip


def _dead_letters(stores: Stores, source: LogSource, text: str) -> pa.Table:
    rows = stores.offline.rows(stores.dead_letters_of(source))
    if rows is None:
        return _STORED.empty_table()
    found = stores.offline.sql(text, {"dead_letters": rows}).reader().read_all()
    for name in set(_STORED.names) - set(found.column_names):
        # Tables of an earlier version have no headers column.
        found = found.append_column(name, pa.nulls(found.num_rows, _STORED.field(name).type))
    return found.select(_STORED.names).cast(_STORED)


def _of_id(stores: Stores, id: str) -> tuple[LogSource, Place]:
    name, *rest = id.rsplit("/", 2)
    if len(rest) != 2 or not all(each.lstrip("-").isdigit() for each in rest):
        raise NotFound(
            f"{id!r} is not a dead letter's ID", hint="write source/partition/offset, as in `asof dead-letters list`"
        )
    return log_source_named(stores.applied(), name), (int(rest[0]), int(rest[1]))


def _text(value: bytes | None) -> str | None:
    """Raw bytes as text; what is not UTF-8 is escaped."""
    return None if value is None else value.decode("utf-8", "backslashreplace")


__all__ = [
    "DeadLetter", "DeadLetterMessage", "ReplayResult", "dead_letter_id", "list_dead_letters", "replay_dead_letters",
    "replayed_positions", "show_dead_letter",
]  # fmt: skip
