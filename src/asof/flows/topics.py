"""The topic under a log source: made where there is none, and never silently another one than the archive knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from asof.definitions import LogSource
from asof.errors import LogError
from asof.flows.archiving import EPOCH, archive_schema
from asof.flows.facts import change_facts
from asof.flows.ingest import record_gap
from asof.flows.parts import Parts


def shortened(topic: str, number: int, *, archived: int, after: int) -> LogError:
    """The error for a log that ends before what was archived out of it."""
    return LogError(
        f"partition {number} of topic {topic!r} ends before offset {after}, but offsets up to {archived} are archived: "
        "the log lost its end, or was restored from a backup",
        hint="accept that its offsets begin anew with `asof stream run --accept-gap`, which records it",
    )


def check_topic(parts: Parts, source: LogSource, *, accept_gap: bool = False) -> None:
    """Make the source's topic where there is none, and notice one that was made again, or lost its end.

    Raises:
        LogError: its offsets start anew, so what the old one held and no one archived is lost.
    """
    parts.log.create(source.topic, int(parts.options.get("partitions", 1)))
    found = parts.log.topic_id(source.topic)
    facts = parts.registry.load(parts.project).facts
    known = facts.get("topics", {}).get(source.name)
    epoch = int(facts.get("epochs", {}).get(source.name, 0))
    short: dict[int, int] = {}
    if known == found:
        bounds = parts.log.bounds(source.topic)
        archived = parts.offline.offsets(parts.archive_of(source), [epoch * EPOCH + number for number in bounds])
        short = {n: after for n, (_, after) in bounds.items() if archived[epoch * EPOCH + n] >= after}
        if not short:
            return
    if known is not None and not accept_gap:
        if short:
            number, after = min(short.items())
            raise shortened(source.topic, number, archived=archived[epoch * EPOCH + number], after=after)
        raise LogError(
            f"topic {source.topic!r} of source {source.name!r} was deleted and made again, or is another one now (its "
            f"id was {known}, now it is {found}); what the old one held beyond the archive is lost",
            hint="accept the loss with `asof stream run --accept-gap`, which records it",
            where=source.where,
        )
    if short:
        # What is there was archived under the old numbering; only what comes from now on is new.
        through = {(epoch + 1) * EPOCH + number: after - 1 for number, (_, after) in bounds.items()}
        none = archive_schema(source).empty_table()
        parts.offline.append(parts.archive_of(source), none, through)

    def with_topic(facts: Mapping[str, Any]) -> dict[str, Any]:
        topics = {**facts.get("topics", {}), source.name: found}
        if known is None:
            return {"topics": topics}
        return {"topics": topics, "epochs": {**facts.get("epochs", {}), source.name: epoch + 1}}

    change_facts(parts, with_topic, note=f"topic {source.topic}: id {found}")
    if known is not None:
        what = "lost its end" if short else "made again"
        record_gap(parts, source.name, f"topic {source.topic!r} {what};")
