"""What a stream worker says of its work, by `logging`: each kind of line once. No line has a value of a row."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from asof.decoding import UnusableMessage
from asof.display import counted
from asof.errors import AsofError
from asof.flows.runs import kind_of_reason
from asof.flows.stream.sums import MOST_REASONS, SourceSums
from asof.log.protocol import Messages
from asof.process_log import facts, one_line

FLUSH_LINE_EVERY_S = 5.0
"""Flushes of a source that are more frequent share a line."""

LAG_EVERY_S = 60.0
"""Interval of lines on the lag."""

log = logging.getLogger("asof.stream")


class WorkerLog:
    """The log of one worker process; it remembers which kinds of dead letters it has named."""

    def __init__(self) -> None:
        self._kinds: dict[str, set[str]] = {}
        self._flushes: dict[str, Counter[str]] = {}
        self._flush_said_at: dict[str, float] = {}
        self._waits_since: float | None = None

    def begins(self, project: str, sources: Sequence[str] | None, *, until_caught_up: bool) -> None:
        what = ", ".join(sources) if sources else "all logs"
        until = "until it has caught up" if until_caught_up else "until it is stopped"
        log.info(
            "reads %s of project %s, %s", what, project, until,
            extra=facts("start", project=project, sources=list(sources or ())),
        )  # fmt: skip

    def joins(self, source: str, topic: str) -> None:
        log.info("joins the group of source %s on topic %s", source, topic,
                 extra=facts("join", source=source, topic=topic))  # fmt: skip

    def leaves(self, source: str) -> None:
        log.info("leaves the groups of source %s", source, extra=facts("leave", source=source))

    def assigned(self, topic: str, positions: Mapping[int, int], lags: Mapping[int, int]) -> None:
        """Partitions were assigned, each to be read from its position."""
        text = ", ".join(f"{number} from offset {position}" for number, position in sorted(positions.items()))
        log.info(
            "assigned partitions of topic %s: %s; %s behind", topic, text or "none",
            counted(sum(lags.values()), "message"),
            extra=facts("assigned", topic=topic, positions=dict(positions), lag=sum(lags.values())),
        )  # fmt: skip

    def revoked(self, topic: str, numbers: Collection[int]) -> None:
        if numbers:
            log.info("gave back partitions %s of topic %s, flushed", _listed(numbers), topic,
                     extra=facts("revoked", topic=topic, partitions=sorted(numbers)))  # fmt: skip

    def lost(self, topic: str, numbers: Collection[int]) -> None:
        if numbers:
            log.warning("lost partitions %s of topic %s: another worker reads again what is not archived",
                        _listed(numbers), topic,
                        extra=facts("lost", topic=topic, partitions=sorted(numbers)))  # fmt: skip

    def gap(self, source: str, gap: str) -> None:
        log.warning("source %s: %s were lost before they were archived; the gap is recorded", source, gap,
                    extra=facts("gap", source=source, gap=gap))  # fmt: skip

    def flushed(self, source: str, messages: int, seconds: float) -> None:
        """Messages were archived, with their progress."""
        unsaid = self._flushes.setdefault(source, Counter())
        unsaid.update(flushes=1, messages=messages, us=round(seconds * 1e6))
        now = time.monotonic()
        if not unsaid["messages"] or now - self._flush_said_at.get(source, -FLUSH_LINE_EVERY_S) < FLUSH_LINE_EVERY_S:
            return
        self._flush_said_at[source] = now
        took = unsaid["us"] / 1e6
        log.info("flushed %s of source %s in %.3f s (%s)", counted(unsaid["messages"], "message"), source, took,
                 f"{unsaid['flushes']} at once" if unsaid["flushes"] > 1 else "one commit",
                 extra=facts("flush", source=source, messages=unsaid["messages"], flushes=unsaid["flushes"],
                             seconds=round(took, 3)))  # fmt: skip
        unsaid.clear()

    def dead_letters(self, source: str, topic: str, messages: Messages, unusable: Sequence[UnusableMessage]) -> None:
        """Name the first dead letter of each kind of reason."""
        known = self._kinds.setdefault(source, set())
        for each in unusable:
            if len(known) >= MOST_REASONS:
                return
            kind = kind_of_reason(each.reason)
            if kind in known:
                continue
            known.add(kind)
            number, offset = int(messages.partitions[each.index]), int(messages.offsets[each.index])
            log.warning(
                "source %s: first dead letter of its kind, offset %d of partition %d of topic %s: %s; next: see those "
                "like it with `asof dead-letters list --source %s`, fix the producer or the schema, and replay them",
                source, offset, number, topic, kind, source,
                extra=facts("dead letter", source=source, topic=topic, partition=number, offset=offset, reason=kind),
            )  # fmt: skip

    def pauses(self, topic: str, error: AsofError) -> None:
        log.warning("topic %s pauses: %s", topic, one_line(error), extra=facts("pause", topic=topic))

    def resumes(self, topic: str, paused_s: float) -> None:
        log.info("topic %s goes on after %.0f s", topic, paused_s, extra=facts("resume", topic=topic))

    def waits(self, error: AsofError, *, patience_s: float) -> None:
        """A server is unreachable, and the worker waits for it."""
        self._waits_since = time.monotonic()
        log.warning("waits up to %g s for a server: %s", patience_s, one_line(error),
                    extra=facts("wait", error=type(error).__name__, patience_s=patience_s))  # fmt: skip

    def works(self) -> None:
        """A step succeeded."""
        if self._waits_since is not None:
            waited_s, self._waits_since = time.monotonic() - self._waits_since, None
            log.info("goes on after it waited %.0f s", waited_s, extra=facts("go on", waited_s=round(waited_s, 3)))

    def rebuild_begins(self, view: str) -> None:
        log.warning("feature view %s: its online rows are missing; builds them again from the archive", view,
                    extra=facts("rebuild", view=view))  # fmt: skip

    def rebuild_ends(self, view: str, rows: int, seconds: float) -> None:
        log.info("feature view %s: built %s in %.1f s", view, counted(rows, "online row"), seconds,
                 extra=facts("rebuilt", view=view, rows=rows, seconds=round(seconds, 3)))  # fmt: skip

    def rebuild_is_put_off(self, view: str, error: BaseException) -> None:
        log.warning("feature view %s: the build gave way, and is tried again where needed: %s", view, one_line(error),
                    extra=facts("rebuild put off", view=view))  # fmt: skip

    def lag(self, lags: Mapping[str, int], messages: int) -> None:
        """How far each source is behind, and what was taken so far."""
        if log.isEnabledFor(logging.INFO):
            text = ", ".join(f"{source} {lag:,}" for source, lag in sorted(lags.items()))
            log.info("messages behind: %s; %s so far", text or "none", counted(messages, "message"),
                     extra=facts("lag", lag=dict(lags), messages=messages))  # fmt: skip

    def ends(self, sums: Mapping[str, SourceSums], seconds: float, error: BaseException | None = None) -> None:
        """The run is over: what it did, and what it could not use."""
        for source, each in sums.items():
            refused = each.dead_letters.total()
            if refused and not each.rows:
                log.warning(
                    "source %s: every message became a dead letter, %s; next: see one with `asof dead-letters list "
                    "--source %s`, and compare it with the source's format and schema",
                    source, reasons_text(each.dead_letters), source,
                    extra=facts("all dead letters", source=source, dead_letters=dict(each.dead_letters)),
                )  # fmt: skip
        numbers = {
            source: {"messages": each.messages, "rows": each.rows, "dead_letters": dict(each.dead_letters)}
            for source, each in sums.items()
        }
        text = "; ".join(
            f"{source}: {counted(each.messages, 'message')}, {counted(each.rows, 'row')}, "
            f"{counted(each.dead_letters.total(), 'dead letter')}"
            for source, each in sums.items()
        )
        log.log(
            logging.INFO if error is None or not isinstance(error, Exception) else logging.ERROR,
            "%s after %.1f s (%s)%s", "stopped" if error is None else "ended", seconds, text or "nothing was read",
            f": {one_line(error)}" if isinstance(error, Exception) else "",
            extra=facts("end", sources=numbers, seconds=round(seconds, 3),
                        error=type(error).__name__ if isinstance(error, Exception) else None),
        )  # fmt: skip


def reasons_text(reasons: Mapping[str, int], *, most: int = 3) -> str:
    """The most frequent kinds of reasons: `'body is no JSON' (12), 'no key' (3)`."""
    first = sorted(reasons.items(), key=lambda each: -each[1])[:most]
    rest = len(reasons) - len(first)
    text = ", ".join(f"{kind} ({number:,})" for kind, number in first)
    return f"{text} and {counted(rest, 'more kind')}" if rest else text


def _listed(numbers: Collection[int]) -> str:
    return ", ".join(map(str, sorted(numbers)))


__all__ = ["LAG_EVERY_S", "WorkerLog", "reasons_text"]
