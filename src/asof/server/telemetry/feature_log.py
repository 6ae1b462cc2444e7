"""Keeps a share of the answers: noted in microseconds, written by a thread, bounded, and never waited for."""

from __future__ import annotations

import logging
import random
import secrets
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from asof.errors import AsofError
from asof.online_response import OnlineResponse
from asof.server.telemetry.request_counts import RequestCounts
from asof.store import FeatureStore, open_store_of

if TYPE_CHECKING:
    from asof.flows.admin.feature_log import ServedRows

log = logging.getLogger("asof.server")


class ServedLog:
    """Answers of services that wait to be kept.

    Args:
        share: of the answers, up to 1.
        services: only those of these; of all where empty.
        most_rows: what comes on top of so many rows is dropped, and counted.
    """

    def __init__(
        self, store: FeatureStore, counts: RequestCounts, *, share: float, services: Sequence[str], most_rows: int
    ) -> None:
        self._store = store
        self._counts = counts
        self._share = share
        self._services = frozenset(services)
        self._most_rows = most_rows
        self._waiting: deque[tuple[str, OnlineResponse]] = deque()
        self._rows = 0
        self._partition = secrets.randbelow(2**31)
        self._writer: ServedRows | None = None

    def note(self, service: str, response: OnlineResponse) -> None:
        """Keep this answer, if it is chosen. A list of features has no name that it could be kept under."""
        if not service or (self._services and service not in self._services):
            return
        if self._share < 1 and random.random() >= self._share:
            return
        n = len(response)
        if self._rows + n > self._most_rows:
            self._counts.other("dropped", n)
            return
        self._rows += n
        self._waiting.append((service, response))

    def flush(self) -> None:
        """Write what waits. What cannot be written is dropped, and counted: serving goes on."""
        batches: dict[str, list[OnlineResponse]] = {}
        while self._waiting:
            service, response = self._waiting.popleft()
            n = len(response)
            # Without a call between: another thread adds to it.
            self._rows -= n
            batches.setdefault(service, []).append(response)
        for service, responses in batches.items():
            if self._writer is None:
                from asof.flows.admin.feature_log import ServedRows

                self._writer = ServedRows(open_store_of(self._store).parts, self._partition)
            try:
                self._counts.other("kept", self._writer.append(service, responses))
            except AsofError as error:
                log.warning("served features of %s are not kept: %s", service, error.message)
                self._counts.other("dropped", sum(map(len, responses)))
                # A new partition, so that no number is used twice whatever became of this write.
                self._partition = secrets.randbelow(2**31)
                self._writer = None
