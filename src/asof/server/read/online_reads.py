"""Feature reads of a process: the readers of one snapshot, replaced together when a new one is applied."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from time import perf_counter
from typing import Any

from asof.applied import AppliedDefinitions, DecidedRequest, FeatureRequest
from asof.defaults import HISTORY_READS
from asof.definitions import FeatureView, Snapshot
from asof.errors import AsofError, OnlineRowsLost
from asof.flows.generations.markers import lost_views
from asof.flows.online.read import OnlineReader, are_whole
from asof.online.protocol import MarkedRows, NonBlockingReader
from asof.online_response import OnlineResponse
from asof.server.read.bounded import read_bounded, refuse_large
from asof.server.read.functions import FunctionThreads
from asof.server.read.responses import Encoder
from asof.server.telemetry.request_counts import RequestCounts
from asof.server.telemetry.tracing import Tracing
from asof.server.telemetry.use_counts import RequestUse, UseCounts
from asof.store import FeatureStore, open_store_of
from asof.values.json import request_reader

ROWS_ON_LOOP = 512
"""Up to this number, rows are read and unpacked on the event loop, which is faster than in a thread; only if the store
is in this process or has a non-blocking reader."""


BYTES_ON_LOOP, CELLS_ON_LOOP = 1 << 20, 20_000
"""Rows with more bytes, and responses with more values, are unpacked and encoded in a thread."""


class HistoryNeeded(Exception):
    """A row has merged events after the time of the read; its value at that time must come from history."""


class PreparedRequest(DecidedRequest):
    """A planned request, with its reader and its response encoder.

    Attributes:
        service: name of the requested service, for metrics; empty for a list of features.
        use: how often it was served.
        views: all views of the request, on-demand ones included: the caller needs the role for each.
        odd_types: fields whose types have no JSON value, with these types: their values are parsed first.
    """

    def __init__(self, request: FeatureRequest, reader: OnlineReader) -> None:
        super().__init__(request, reader.selection, lambda: reader)
        selection = reader.selection
        self.service = request.features if isinstance(request.features, str) else ""
        self.use = RequestUse(selection.features_used)
        self.encoder = Encoder(selection)
        self.derivations = selection.derivations
        self.views: Sequence[Any] = [
            *(read.view for read in selection.reads), *(each.view for each in selection.derivations),
        ]  # fmt: skip
        fields = (*selection.keys, *selection.request_fields)
        self.odd_types = {each.name: each.dtype for each in fields if request_reader(each.dtype) is not None}


class OnlineReads:
    """Reads for the routes. On the event loop it waits at most for a store in this process.

    Args:
        threads: executor for all that waits.
        most_bytes: limit of the stored rows that a request may read, as `server.max_response_bytes`.

    Attributes:
        applied: the snapshot in use, and the requests planned for it.
        use: how often each feature was served.
        most_bytes: as given.
        without_blocking: the store's non-blocking reader, if it has one.
        lost: the views whose rows the online store has lost.
    """

    def __init__(
        self,
        store: FeatureStore,
        *,
        threads: ThreadPoolExecutor,
        functions: FunctionThreads,
        counts: RequestCounts,
        tracing: Tracing | None = None,
        most_bytes: int = sys.maxsize,
    ) -> None:
        self.store = store
        self.most_bytes = most_bytes
        self.applied = AppliedDefinitions(
            store.project, lambda: open_store_of(store).stores.registry, self._decide,
            load=lambda: open_store_of(store).stores.applied(), decide_ahead=True,
        )  # fmt: skip
        self.without_blocking: NonBlockingReader | None = None
        self._threads = threads
        # So many take a thread; the others wait without one, and hold up no read that needs none of history.
        self._history_reads = asyncio.Semaphore(HISTORY_READS)
        self._functions = functions
        self._counts = counts
        self.use = UseCounts(store)
        self.tracing = tracing
        self.is_local = open_store_of(store).stores.online.is_local
        self._checking: asyncio.Task[bool] | None = None
        self._next_check: asyncio.Task[bool] | None = None
        self._is_registry_away = False
        self.lost: Sequence[FeatureView] = ()

    # ---- what is applied ----

    @property
    def snapshot(self) -> Snapshot:
        """The snapshot in use."""
        return self.applied.requests().snapshot

    async def load(self) -> None:
        """Load the registry, and open the store's non-blocking reader if it has one."""
        self.without_blocking = open_store_of(self.store).stores.online.async_reader()
        await self._in_thread(self.applied.refresh)

    async def look_at_rows(self) -> None:
        """Find out which views' rows the online store has lost; until the next look they are named in `lost`.

        Raises:
            StorageError, RegistryError: a store cannot be read, so nothing was found out.
        """
        self.lost = await self._in_thread(lost_views, open_store_of(self.store).stores, self.snapshot)

    async def close(self) -> None:
        """Close what `load` opened."""
        if self.without_blocking is not None:
            await self.without_blocking.close()

    async def refresh(self) -> bool:
        """Switch to a newer snapshot, if there is one; returns whether anything that is read changed.

        The requests in use are planned for it before it is visible, so that none of them waits.
        """
        try:
            changed: bool = await self._in_thread(self.applied.refresh)
        except AsofError:
            self._is_registry_away = True
            raise
        self._is_registry_away = False
        return changed

    def _decide(self, snapshot: Snapshot, request: FeatureRequest) -> PreparedRequest:
        reader = open_store_of(self.store).open_reader(
            snapshot, request.features, request.full_feature_names, history=_no_history
        )
        prepared = PreparedRequest(request, reader)
        self.use.watch(prepared)
        return prepared

    def planned(self, features: tuple[str, ...] | str, full_names: bool) -> PreparedRequest | None:
        """The request if it is planned already."""
        return self.applied.requests().get(FeatureRequest(features, full_names).key)

    async def prepare(self, features: tuple[str, ...] | str, full_names: bool) -> PreparedRequest:
        """The planned request. It is planned in a thread the first time, because functions may have to be imported.

        Raises:
            NotFound, RequestError: the request names something that is not applied.
        """
        request = FeatureRequest(features, full_names)
        prepared = self.applied.requests().get(request.key)
        if prepared is None:
            found: PreparedRequest = await self._in_thread(self.applied.decided, request)
            return found
        prepared.used += 1
        return prepared

    async def look_again(self) -> bool:
        """Check the registry for what is not applied here; see `AppliedDefinitions.look_again`."""
        changed: bool = await self._in_thread(self.applied.look_again)
        return changed

    # ---- reading ----

    async def read(self, prepared: PreparedRequest, entities: Any) -> tuple[OnlineResponse, bool]:
        """Current features of these entity rows; and whether they are so many that they hold up the event loop.

        Raises:
            EntityFrameError: a column is missing, a key is null, or a value does not fit its type.
            StorageError: the online store cannot be read.
            OnlineRowsLost: it has lost rows that readers should find.
            HttpError: the rows have too many bytes.
            FunctionTimeout, DerivationError: an on-demand function took too long, or failed.
        """
        if self.tracing is None:
            return await self._read_newest(prepared, entities)
        with self.tracing.span("read"):
            return await self._read_newest(prepared, entities)

    async def _read_newest(self, prepared: PreparedRequest, entities: Any) -> tuple[OnlineResponse, bool]:
        """From another generation where readers have switched to one; see `OpenStore.online`."""
        while True:
            try:
                response, complete, size = await self._read(prepared, entities)
            except OnlineRowsLost:
                newer = await self._newer(prepared)
                if newer is None:
                    if not self.lost:
                        # So that `/ready` says it at once; where that fails, the next look says it.
                        with suppress(AsofError):
                            await self.look_at_rows()
                    raise
            else:
                newer = None if complete else await self._newer(prepared)
                if newer is None:
                    is_large = size > BYTES_ON_LOOP or len(response) * len(prepared.encoder.names) > CELLS_ON_LOOP
                    return response, is_large
            prepared = newer

    async def _read(self, prepared: PreparedRequest, entities: Any) -> tuple[OnlineResponse, bool, int]:
        """The response, whether every row was found, and the bytes of the rows, 0 where they are unknown."""
        size = 0
        reader = prepared.reader
        try:
            few = _rows_of(entities) * len(prepared.views) <= ROWS_ON_LOOP
            if few and (self.is_local or self.without_blocking is not None):
                question = reader.ask(entities)
                began = perf_counter()
                rows: list[MarkedRows] = []
                if question.lookups and self.is_local:
                    rows = reader.stores.online.read_marked(question.lookups)
                elif question.lookups and self.without_blocking is not None:
                    rows = await self.without_blocking.read(question.lookups)
                self._counts.store.add(perf_counter() - began)
                whole = rows if are_whole(rows) else await self._in_thread(reader.whole, question)
                size = refuse_large(whole, self.most_bytes)
                if size <= BYTES_ON_LOOP:
                    response, complete = reader.answer(question, whole, derived=False)
                else:
                    response, complete = await self._in_thread(partial(reader.answer, question, whole, derived=False))
            else:
                response, complete = await self._in_thread(self._read_and_answer, reader, entities)
        except HistoryNeeded:
            async with self._history_reads:
                response, complete = await self._in_thread(self._from_history, prepared, entities)
        if prepared.derivations:
            response = await self._functions.run(lambda: reader.derive(response), prepared.derivations)
        return response, complete, size

    def _from_history(self, prepared: PreparedRequest, entities: Any) -> tuple[OnlineResponse, bool]:
        reader = open_store_of(self.store).open_reader(prepared.reader.snapshot, *prepared.request)
        return self._read_and_answer(reader, entities)

    def _read_and_answer(self, reader: OnlineReader, entities: Any) -> tuple[OnlineResponse, bool]:
        question = reader.ask(entities)
        began = perf_counter()
        rows = read_bounded(reader.stores.online, question.lookups, self.most_bytes) if question.lookups else []
        self._counts.store.add(perf_counter() - began)
        return reader.answer(question, rows if are_whole(rows) else reader.whole(question), derived=False)

    async def _newer(self, prepared: PreparedRequest) -> PreparedRequest | None:
        """As `AppliedDefinitions.newer`, on the event loop.

        A check of the registry that began before this call does not count; all waiting calls share the next one.
        While the registry is unreachable, the snapshot in use is served.
        """
        if self._is_registry_away:
            return None
        try:
            await self._look()
        except AsofError:
            return None
        if self.applied.is_current(prepared):
            return None
        newer: PreparedRequest | None = await self._in_thread(self.applied.superseding, prepared)
        return newer

    async def _look(self) -> None:
        if self._checking is not None and not self._checking.done():
            if self._next_check is None:
                self._next_check = asyncio.create_task(self._check_after(self._checking))
            await asyncio.shield(self._next_check)
        else:
            self._checking = asyncio.create_task(self.refresh())
            await asyncio.shield(self._checking)

    async def _check_after(self, running: asyncio.Task[bool]) -> bool:
        await asyncio.wait([running])
        self._checking, self._next_check = self._next_check, None
        return await self.refresh()

    async def _in_thread(self, work: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)


def _rows_of(entities: Any) -> int:
    """Approximate number of entity rows of a request."""
    if type(entities) is dict:
        entities = next(iter(entities.values()), ())
    return len(entities) if type(entities) is list else 0


def _no_history(*_: Any, **__: Any) -> Any:
    raise HistoryNeeded
