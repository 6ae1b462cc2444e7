"""The feature log: keeps a sample of served rows. A request only appends to a bounded buffer; a thread writes it."""

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


class FeatureLog:
    """Buffer of served rows that are to be written.

    Args:
        share: fraction of responses to keep, up to 1.
        services: feature services to log; all if empty.
        most_rows: size of the buffer; rows beyond it are dropped and counted.
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
        """Keep this response if it is sampled. Only feature services are logged: a list of features has no name."""
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
        """Write the buffered rows. Rows that cannot be written are dropped and counted, and serving continues."""
        batches: dict[str, list[OnlineResponse]] = {}
        while self._waiting:
            service, response = self._waiting.popleft()
            n = len(response)
            # One statement: another thread appends to it.
            self._rows -= n
            batches.setdefault(service, []).append(response)
        for service, responses in batches.items():
            if self._writer is None:
                from asof.flows.admin.feature_log import ServedRows

                self._writer = ServedRows(open_store_of(self._store).stores, self._partition)
            try:
                self._counts.other("kept", self._writer.append(service, responses))
            except AsofError as error:
                log.warning("feature log: served rows of %s were dropped: %s", service, error.message)
                self._counts.other("dropped", sum(map(len, responses)))
                # A new partition: this write may have succeeded, and no offset may be used twice.
                self._partition = secrets.randbelow(2**31)
                self._writer = None
