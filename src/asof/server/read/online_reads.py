"""What a process reads features with: the readers of one snapshot, swapped whole when another one was applied."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Any

from asof.applied import AppliedDefinitions, DecidedRequest, FeatureRequest
from asof.definitions import Snapshot
from asof.errors import AsofError
from asof.flows.online.read import OnlineReader
from asof.online.protocol import NonBlockingReader
from asof.online_response import OnlineResponse
from asof.server.read.functions import FunctionThreads
from asof.server.read.responses import Encoder
from asof.server.telemetry.request_counts import RequestCounts
from asof.server.telemetry.tracing import Tracing
from asof.store import FeatureStore, open_store_of
from asof.values.json import request_reader

ROWS_ON_LOOP = 512
"""Up to so many rows are read and unpacked on the event loop, which is quicker than in another thread, where the store
is in this process or can be asked without blocking."""


class HistoryNeeded(Exception):
    """A row has merged events that are later than the moment asked for: what it was then, history knows."""


class PreparedRequest(DecidedRequest):
    """A request that was decided: who reads it, and who writes its answer.

    Attributes:
        service: the service that was asked for, for metrics; a list of features has no name.
        views: all views that the request touches, on-demand ones too: what has to be allowed.
        odd_types: the fields that JSON has no values of, and their types: they are read before they are checked.
    """

    def __init__(self, request: FeatureRequest, reader: OnlineReader) -> None:
        super().__init__(request, reader.selection, lambda: reader)
        selection = reader.selection
        self.service = request.features if isinstance(request.features, str) else ""
        self.encoder = Encoder(selection)
        self.derivations = selection.derivations
        self.views: Sequence[Any] = [
            *(read.view for read in selection.reads), *(each.view for each in selection.derivations),
        ]  # fmt: skip
        fields = (*selection.keys, *selection.request_fields)
        self.odd_types = {each.name: each.dtype for each in fields if request_reader(each.dtype) is not None}


class OnlineReads:
    """Reads for the routes; never waits on the event loop for more than a store in this process takes.

    Args:
        threads: where waiting is done.

    Attributes:
        applied: what is applied, and the requests decided for it.
        without_blocking: reads the store without blocking, where it has such a way.
    """

    def __init__(
        self,
        store: FeatureStore,
        *,
        threads: ThreadPoolExecutor,
        functions: FunctionThreads,
        counts: RequestCounts,
        tracing: Tracing | None = None,
    ) -> None:
        self.store = store
        self.applied = AppliedDefinitions(
            store.project, lambda: open_store_of(store).parts.registry, self._decide, decide_ahead=True
        )
        self.without_blocking: NonBlockingReader | None = None
        self._threads = threads
        self._functions = functions
        self._counts = counts
        self.tracing = tracing
        self.is_local = open_store_of(store).parts.online.is_local
        self._checking: asyncio.Task[bool] | None = None
        self._next_check: asyncio.Task[bool] | None = None
        self._is_registry_away = False

    # ---- what is applied ----

    @property
    def snapshot(self) -> Snapshot:
        """What is read now."""
        return self.applied.requests().snapshot

    async def load(self) -> None:
        """Read the registry for the first time, and make ready what reads without blocking, where the store has it."""
        self.without_blocking = open_store_of(self.store).parts.online.async_reader()
        await self._in_thread(self.applied.refresh)

    async def close(self) -> None:
        """Let go of what `load` made."""
        if self.without_blocking is not None:
            await self.without_blocking.close()

    async def refresh(self) -> bool:
        """Take over what was applied since; whether anything that is read changed.

        The requests in use are decided again before anybody sees the new snapshot, so that none of them waits.
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
        return PreparedRequest(request, reader)

    async def prepare(self, features: tuple[str, ...] | str, full_names: bool) -> PreparedRequest:
        """The request, decided; the first time in a thread, since its functions may have to be imported.

        Raises:
            NotFound, RequestError: it asks for what is not there.
        """
        request = FeatureRequest(features, full_names)
        prepared = self.applied.requests().get(request.key)
        if prepared is None:
            found: PreparedRequest = await self._in_thread(self.applied.decided, request)
            return found
        prepared.used += 1
        return prepared

    # ---- reading ----

    async def read(self, prepared: PreparedRequest, entities: Any) -> OnlineResponse:
        """The features of these entity rows now.

        Raises:
            EntityFrameError: a column is missing, a key is null, or a value does not fit its type.
            StorageError: the online store cannot be read.
            FunctionTimeout, DerivationError: an on-demand function took too long, or failed.
        """
        if self.tracing is None:
            response, complete = await self._read(prepared, entities)
        else:
            with self.tracing.span("read"):
                response, complete = await self._read(prepared, entities)
        while not complete and (newer := await self._newer(prepared)) is not None:
            response, complete = await self._read(prepared := newer, entities)
        return response

    async def _read(self, prepared: PreparedRequest, entities: Any) -> tuple[OnlineResponse, bool]:
        reader = prepared.reader
        try:
            few = _rows_of(entities) * len(prepared.views) <= ROWS_ON_LOOP
            if few and self.is_local:
                response, complete = _read_and_answer(reader, entities, self._counts)
            elif few and self.without_blocking is not None:
                question = reader.ask(entities)
                began = perf_counter()
                rows = await self.without_blocking.read(question.lookups) if question.lookups else []
                self._counts.store.add(perf_counter() - began)
                response, complete = reader.answer(question, rows, derived=False)
            else:
                response, complete = await self._in_thread(_read_and_answer, reader, entities, self._counts)
        except HistoryNeeded:
            response, complete = await self._in_thread(self._from_history, prepared, entities)
        if prepared.derivations:
            response = await self._functions.run(lambda: reader.derive(response), prepared.derivations)
        return response, complete

    def _from_history(self, prepared: PreparedRequest, entities: Any) -> tuple[OnlineResponse, bool]:
        reader = open_store_of(self.store).open_reader(prepared.reader.snapshot, *prepared.request)
        return _read_and_answer(reader, entities, self._counts)

    async def _newer(self, prepared: PreparedRequest) -> PreparedRequest | None:
        """As `AppliedDefinitions.newer`, on the event loop.

        A look at the registry that began before this one was asked for does not count, and all who wait share the
        next. While the registry is away nothing is decided again: what was applied is served.
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


def _read_and_answer(reader: OnlineReader, entities: Any, counts: RequestCounts) -> tuple[OnlineResponse, bool]:
    question = reader.ask(entities)
    began = perf_counter()
    rows = reader.parts.online.read(question.lookups) if question.lookups else []
    counts.store.add(perf_counter() - began)
    return reader.answer(question, rows, derived=False)


def _rows_of(entities: Any) -> int:
    """About how many entity rows a request has."""
    if type(entities) is dict:
        entities = next(iter(entities.values()), ())
    return len(entities) if type(entities) is list else 0


def _no_history(*_: Any) -> Any:
    raise HistoryNeeded
