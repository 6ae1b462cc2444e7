"""Requests that the fast path takes; what is planned for them must equal what the general path has planned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

import msgspec

from asof.applied import REQUESTS, DecidedRequests, FeatureRequest
from asof.online.protocol import NonBlockingReader, Reply
from asof.server.fast_path.one_row import OneRow
from asof.server.read.online_reads import OnlineReads, PreparedRequest
from asof.server.telemetry.request_counts import RequestCounts
from asof.store import open_store_of

_REFERENCES = msgspec.json.Decoder(list[str])


class ShortRequest:
    """A planned request for one entity row of plain views.

    Attributes:
        ask: reads one row of each view by its key; see `NonBlockingReader.asker`.
    """

    __slots__ = ("_reader", "ask", "one_row", "prepared")

    def __init__(self, prepared: PreparedRequest, one_row: OneRow, reader: NonBlockingReader) -> None:
        self.prepared = prepared
        self.one_row = one_row
        self.ask: Callable[[Sequence[bytes], Reply], bool] = reader.asker(one_row.tables)
        self._reader = reader

    def answer(
        self, entities: Any, values: Sequence[bytes | None], *, reads: OnlineReads, counts: RequestCounts, since: float
    ) -> bytes | None:
        """The response for one entity row in Feast's format; None if the general path must be taken.

        Args:
            values: the store's reply; `since`: the time of the read.
        """
        counts.store.add(perf_counter() - since)
        rows = self._reader.packed(self.one_row.tables, values)
        answer = self.one_row.answer(entities, rows, at=open_store_of(reads.store).stores.clock())
        if answer is None:
            return None
        body, times = answer
        counts.answered_one(self.one_row.names, times)
        return body


class ShortRequests:
    """Finds the planned request of a body, without decoding a list of features that was decoded before."""

    def __init__(self, reads: OnlineReads) -> None:
        self._reads = reads
        self._of: dict[tuple[bytes, str | None, bool], ShortRequest] = {}
        # One for all ways to write its features.
        self._by_request: dict[PreparedRequest, ShortRequest] = {}
        # The cache of planned requests, and its number of evictions: if either changed, all entries here are dropped.
        self._among: DecidedRequests[PreparedRequest] | None = None
        self._dropped = 0

    def get(self, features: bytes, service: str | None, full_names: bool) -> ShortRequest | None:
        """The request if it is planned and the fast path supports it, else None.

        Args:
            features: the references as JSON; empty if a service is given.
        """
        if not self._reads.applied.is_known:
            return None
        among = self._reads.applied.requests()
        if among is not self._among or among.dropped != self._dropped:
            self._of.clear()
            self._by_request.clear()
            self._among, self._dropped = among, among.dropped
        key = (features, service, full_names)
        known = self._of.get(key)
        if known is None:
            known = self._find(among, *key)
            if known is not None:
                if len(self._of) >= REQUESTS:
                    self._of.clear()
                self._of[key] = known
        return known

    def _find(
        self, among: DecidedRequests[PreparedRequest], features: bytes, service: str | None, full_names: bool
    ) -> ShortRequest | None:
        reader = self._reads.without_blocking
        if reader is None or bool(features) == (service is not None):
            return None
        requested = service if service is not None else tuple(_REFERENCES.decode(features))
        prepared = among.get(FeatureRequest(requested, full_names).key)
        if prepared is None or prepared in self._by_request:
            return None if prepared is None else self._by_request[prepared]
        one_row = OneRow.of(prepared.reader, prepared.encoder.metadata, most_bytes=self._reads.most_bytes)
        if one_row is None:
            return None
        known = self._by_request[prepared] = ShortRequest(prepared, one_row, reader)
        return known
