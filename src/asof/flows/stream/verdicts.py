"""The verdict on each message of a log: accepted, dead letter, or duplicate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pyarrow as pa

from asof.decoding import DecodedMessages, Schemas, UnusableMessage, decode_messages
from asof.definitions import LogSource, Snapshot
from asof.flows.rows.archive import dead_letters_after
from asof.flows.stores import Stores, raw_keys
from asof.flows.stream.background_schemas import BackgroundSchema
from asof.flows.stream.event_ids import EventIdClaims
from asof.flows.stream.suspects import FATAL
from asof.flows.stream.transforms import transform_of
from asof.log.protocol import Messages
from asof.timing import Micros
from asof.values.fit import nul_in_text


class Verdicts:
    """Decodes the messages of one source, and decides which are accepted.

    Args:
        counts: gets the number of dropped duplicates.
    """

    def __init__(self, stores: Stores, source: LogSource, *, counts: Counter[str]) -> None:
        self.stores = stores
        self.counts = counts
        self._known: dict[int, dict[int, str]] = {}
        self._claims = EventIdClaims(stores, source) if source.event_id else None
        self._schemas: tuple[Schemas, BackgroundSchema] | None = None

    @property
    def depend_on_others(self) -> bool:
        """Whether messages may be duplicates (the source has an event ID)."""
        return self._claims is not None

    def begin(self, source: LogSource, partition: int, *, archived: int) -> None:
        """Load the verdicts on messages of a partition that were decided but not archived with their batch."""
        self._known[partition] = dead_letters_after(self.stores, source, partition, after=archived)

    def release(self, partition: int) -> None:
        """Stop deciding on this partition."""
        self._known.pop(partition, None)

    def follow(self, source: LogSource) -> None:
        """Switch to the source's current definition, and restore event IDs that the online store has lost."""
        if not source.event_id:
            self._claims = None
            return
        if self._claims is None or self._claims.source is not source:
            self._claims = EventIdClaims(self.stores, source)
        self._claims.restore()

    def fatal(self, messages: Messages, *, base: int) -> dict[int, str]:
        """The messages that were found before to end the process which decodes them: index → reason."""
        known = {
            (partition - base, offset): reason
            for partition, reasons in self._known.items()
            for offset, reason in reasons.items()
            if reason.startswith(FATAL)
        }
        if not known:
            return {}
        positions = zip(messages.partitions.tolist(), messages.offsets.tolist(), strict=True)
        return {i: known[place] for i, place in enumerate(positions) if place in known}

    def decode(
        self,
        source: LogSource,
        snapshot: Snapshot,
        messages: Messages,
        *,
        base: int,
        now: Micros,
        fatal: Mapping[int, str] = MappingProxyType({}),
    ) -> DecodedMessages:
        """The rows of the accepted messages, and the dead letters.

        Args:
            base: offset of the archive's partition numbers from the messages' ones.
            fatal: messages that must not be decoded, by index: they are dead letters for these reasons.
        """
        if fatal:
            others = np.array([i for i in range(len(messages)) if i not in fatal], dtype=np.int64)
            decoded = self.decode(source, snapshot, messages.select(others), base=base, now=now)
            dead_letters = [replace(each, index=int(others[each.index])) for each in decoded.dead_letters]
            dead_letters += [UnusableMessage(i, reason) for i, reason in fatal.items()]
            return replace(
                decoded,
                index=others[decoded.index],
                dead_letters=sorted(dead_letters, key=lambda dead_letter: dead_letter.index),
            )
        decoded = decode_messages(
            source, messages, keys=raw_keys(source, snapshot.project.views_of(source.name)), clock=now,
            schemas=self._schemas_of(source), transform=transform_of(self.stores, source),
            bounds=self.stores.bounds_of(source),
        )  # fmt: skip
        decoded = self._without_unkept(decoded)
        decoded = self._as_judged_before(decoded, messages, base)
        return self._without_duplicates(decoded, messages, base, now)

    def _schemas_of(self, source: LogSource) -> Schemas | None:
        schemas = self.stores.schemas_of(source)
        if schemas is None:
            return None
        if self._schemas is None or self._schemas[0] is not schemas:
            self._schemas = schemas, BackgroundSchema(schemas, source.name)
        return self._schemas[1]

    def _without_unkept(self, decoded: DecodedMessages) -> DecodedMessages:
        """Turn rows that the archive cannot store into dead letters: one would block all others permanently."""
        if self.stores.offline.keeps_nul:
            return decoded
        return _with_dead_letters(decoded, nul_in_text(decoded.rows))

    def _as_judged_before(self, decoded: DecodedMessages, messages: Messages, base: int) -> DecodedMessages:
        """Keep earlier verdicts: a dead letter stays one on replay, although its time may be acceptable by now."""
        if not any(self._known.values()):
            return decoded
        reasons = {}
        for place, i in enumerate(decoded.index.tolist()):
            known = self._known.get(int(messages.partitions[i]) + base, {})
            if (reason := known.get(int(messages.offsets[i]))) is not None:
                reasons[place] = reason
        return _with_dead_letters(decoded, reasons)

    def _without_duplicates(
        self, decoded: DecodedMessages, messages: Messages, base: int, now: Micros
    ) -> DecodedMessages:
        """Drop messages whose event ID another message has claimed."""
        if self._claims is None or not len(decoded.index):
            return decoded
        firsts = self._claims.first(
            decoded.rows, partition=(messages.partitions[decoded.index] + base).astype(np.int32),
            offset=messages.offsets[decoded.index], now=now,
        )  # fmt: skip
        if firsts.all():
            return decoded
        self.counts["duplicates dropped"] += int((~firsts).sum())
        return replace(
            decoded, rows=decoded.rows.filter(pa.array(firsts)), index=decoded.index[firsts],
            event_time=decoded.event_time[firsts],
        )  # fmt: skip


def _with_dead_letters(decoded: DecodedMessages, reasons: Mapping[int, str]) -> DecodedMessages:
    """Turn the rows at these indexes into dead letters, with these reasons."""
    if not reasons:
        return decoded
    stays = np.ones(len(decoded.index), dtype=bool)
    stays[list(reasons)] = False
    more = [UnusableMessage(int(decoded.index[place]), reason) for place, reason in reasons.items()]
    return replace(
        decoded, rows=decoded.rows.filter(pa.array(stays)), index=decoded.index[stays],
        event_time=decoded.event_time[stays],
        dead_letters=sorted([*decoded.dead_letters, *more], key=lambda dead_letter: dead_letter.index),
    )  # fmt: skip
