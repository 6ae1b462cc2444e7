"""What a process reads features with: the readers of one snapshot, swapped whole when another one was applied."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Any

import msgspec

from asof.definitions import Snapshot
from asof.errors import AsofError
from asof.flows.online.read import Reader
from asof.online_response import OnlineResponse
from asof.server.fast_path.one_row import OneRow
from asof.server.read.functions import FunctionThreads
from asof.server.read.responses import Encoder
from asof.server.telemetry.request_counts import Counts
from asof.server.telemetry.tracing import Tracing
from asof.store import FeatureStore
from asof.values.json import request_reader

READERS, OUTPUTS = 1000, 50_000
"""How many different requests are kept decided, and with how many features together."""
ROWS_ON_LOOP = 512
"""Up to so many rows are read and unpacked on the event loop, which is quicker than in another thread, where the store
is in this process or can be asked without blocking."""
_REFERENCES = msgspec.json.Decoder(list[str])


class HistoryNeeded(Exception):
    """A row has merged events that are later than the moment asked for: what it was then, history knows."""


class Prepared:
    """A request that was decided: who reads it, and who writes its answer.

    Args:
        features: as they were asked for: references, or a service's name.
    """

    __slots__ = (
        "ask", "derivations", "encoder", "features", "full_names", "odd_types", "one_row", "outputs", "reader",
        "service", "used", "views",
    )  # fmt: skip

    def __init__(self, reader: Reader, features: tuple[str, ...] | str, full_names: bool) -> None:
        self.reader = reader
        self.features = features
        self.full_names = full_names
        # For metrics; a list of features has no name.
        self.service = features if isinstance(features, str) else ""
        self.encoder = Encoder(reader.selection)
        self.one_row = OneRow.of(reader, self.encoder.metadata)
        # Asks the store for one row; made when it is first needed.
        self.ask: Callable[[Sequence[bytes], Any], bool] | None = None
        self.derivations = reader.selection.derivations
        self.outputs = len(reader.selection.outputs)
        self.views = _views_of(reader)
        fields = (*reader.selection.keys, *reader.selection.request_fields)
        # What JSON has no values of: it is read before it is checked.
        self.odd_types = {each.name: each.dtype for each in fields if request_reader(each.dtype) is not None}
        self.used = 0


class Applied:
    """One snapshot, and the requests that were decided for it."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.prepared: dict[Any, Prepared] = {}
        # Some of the same, by what the request's JSON said.
        self.in_json: dict[tuple[bytes, str | None, bool], Prepared] = {}
        self._outputs = 0

    def keep(self, key: Any, prepared: Prepared) -> None:
        """Keep a request, and let go of the first ones where they are too many, or have too many features together."""
        before = self.prepared.pop(key, None)
        self._outputs += prepared.outputs - (before.outputs if before is not None else 0)
        self.prepared[key] = prepared
        while len(self.prepared) > READERS or (self._outputs > OUTPUTS and len(self.prepared) > 1):
            first = next(iter(self.prepared))
            self._outputs -= self.prepared.pop(first).outputs
            self.in_json.clear()


class Reading:
    """Reads for the routes; never waits on the event loop for more than a store in this process takes.

    Args:
        threads: where waiting is done.
    """

    def __init__(
        self,
        store: FeatureStore,
        *,
        threads: ThreadPoolExecutor,
        functions: FunctionThreads,
        counts: Counts,
        tracing: Tracing | None = None,
    ) -> None:
        self.store = store
        self.applied: Applied | None = None
        self.on_swap: Callable[[Snapshot], None] = lambda snapshot: None
        self._threads = threads
        self._functions = functions
        self._counts = counts
        self.tracing = tracing
        self.aio: Any = None
        self.is_local = bool(getattr(store.parts.online, "is_local", False))
        self._checking: asyncio.Task[bool] | None = None
        self._next_check: asyncio.Task[bool] | None = None
        self._is_registry_away = False

    # ---- what is applied ----

    @property
    def snapshot(self) -> Snapshot:
        """What is read now."""
        assert self.applied is not None
        return self.applied.snapshot

    async def load(self) -> None:
        """Read the registry for the first time, and make ready what reads without blocking, where the store has it."""
        made = getattr(self.store.parts.online, "async_reader", None)
        self.aio = made() if made is not None else None
        snapshot = await self._in_thread(self.store.parts.registry.load, self.store.project)
        self.applied = Applied(snapshot)
        self.on_swap(snapshot)

    async def close(self) -> None:
        """Let go of what `load` made."""
        if self.aio is not None:
            await self.aio.close()

    async def refresh(self) -> bool:
        """Take over what was applied since; whether anything that is read changed.

        The requests in use are decided anew before anybody sees the new snapshot, so that none of them waits.
        """
        before = self.applied
        assert before is not None
        try:
            version = await self._in_thread(self.store.parts.registry.version, self.store.project)
            changed = version != before.snapshot.version and await self._in_thread(self._swap, before)
        except AsofError:
            self._is_registry_away = True
            raise
        self._is_registry_away = False
        return changed

    def _swap(self, before: Applied) -> bool:
        snapshot = self.store.parts.registry.load(self.store.project)
        old = before.snapshot
        if snapshot.project == old.project and _generations(snapshot) == _generations(old):
            # Most versions only say how far a worker or a run is.
            before.snapshot = snapshot
            self.on_swap(snapshot)
            return False
        after = Applied(snapshot)
        for key, prepared in list(before.prepared.items()):
            if prepared.used:
                try:
                    after.keep(key, self._decide(snapshot, *key))
                except AsofError:
                    pass  # whoever asks for it is told
        self.applied = after
        self.on_swap(snapshot)
        return True

    def _decide(self, snapshot: Snapshot, features: Any, full_names: bool) -> Prepared:
        reader = self.store.open_reader(snapshot, features, full_names, history=_no_history)
        return Prepared(reader, features, full_names)

    async def prepare(self, features: tuple[str, ...] | str, full_names: bool) -> Prepared:
        """The request, decided; the first time in a thread, since its functions may have to be imported.

        Raises:
            NotFound, RequestError: it asks for what is not there.
        """
        applied = self.applied
        assert applied is not None
        key = (features, full_names)
        prepared = applied.prepared.get(key)
        if prepared is None:
            prepared = await self._in_thread(self._decide, applied.snapshot, features, full_names)
            applied.keep(key, prepared)
        prepared.used += 1
        return prepared

    # ---- reading ----

    def decided(self, features: bytes, service: str | None, full_names: bool) -> Prepared | None:
        """The request if it was decided before, and is for what one row can be answered of shortly; None otherwise.

        Args:
            features: the references as JSON; empty where there is a service.
        """
        applied = self.applied
        if applied is None:
            return None
        key = (features, service, full_names)
        known = applied.in_json.get(key)
        if known is None:
            if bool(features) == (service is not None):
                return None
            asked = service if service is not None else tuple(_REFERENCES.decode(features))
            known = applied.prepared.get((asked, full_names))
            if known is None or known.one_row is None or self.aio is None:
                return None
            if known.ask is None:
                known.ask = self.aio.asker(known.one_row.tables)
            if len(applied.in_json) >= READERS:
                applied.in_json.clear()
            applied.in_json[key] = known
        return known

    def answer_one(
        self, prepared: Prepared, entities: Any, values: Sequence[bytes | None], *, since: float
    ) -> bytes | None:
        """The answer to one entity row in Feast's shape; None where it takes the general way to tell.

        Args:
            values: what the store replied; `since`: when it was asked.
        """
        self._counts.store.add(perf_counter() - since)
        one_row = prepared.one_row
        assert one_row is not None
        answer = one_row.answer(entities, self.aio.packed(values), at=self.store.parts.clock())
        if answer is None:
            return None
        body, times = answer
        self._counts.answered_one(one_row.names, times)
        return body

    async def read(self, prepared: Prepared, entities: Any) -> OnlineResponse:
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
        while not complete and await self._is_stale(prepared):
            # A row that was not found may stand in a generation that readers have switched to meanwhile.
            before, prepared = prepared, await self._again(prepared)
            if prepared.reader.generations == before.reader.generations:
                break
            response, complete = await self._read(prepared, entities)
        return response

    async def _read(self, prepared: Prepared, entities: Any) -> tuple[OnlineResponse, bool]:
        reader = prepared.reader
        try:
            few = _rows_of(entities) * len(prepared.views) <= ROWS_ON_LOOP
            if few and self.is_local:
                response, complete = _read_and_answer(reader, entities, self._counts)
            elif few and self.aio is not None:
                question = reader.ask(entities)
                began = perf_counter()
                rows = await self.aio.read(question.lookups) if question.lookups else []
                self._counts.store.add(perf_counter() - began)
                response, complete = reader.answer(question, rows, derived=False)
            else:
                response, complete = await self._in_thread(_read_and_answer, reader, entities, self._counts)
        except HistoryNeeded:
            response, complete = await self._in_thread(self._from_history, prepared, entities)
        if prepared.derivations:
            response = await self._functions.run(lambda: reader.derive(response), prepared.derivations)
        return response, complete

    def _from_history(self, prepared: Prepared, entities: Any) -> tuple[OnlineResponse, bool]:
        reader = self.store.open_reader(prepared.reader.snapshot, prepared.features, prepared.full_names)
        return _read_and_answer(reader, entities, self._counts)

    async def _again(self, prepared: Prepared) -> Prepared:
        return await self.prepare(prepared.features, prepared.full_names)

    async def _is_stale(self, prepared: Prepared) -> bool:
        """Look at the registry now; whether the request would be read in another way since.

        A look that began before this one was asked for does not count, and all who wait share the next. While the
        registry is away nothing is decided anew: what was applied is served.
        """
        if self._is_registry_away:
            return False
        try:
            await self._look()
        except AsofError:
            return False
        assert self.applied is not None
        return self.applied.prepared.get((prepared.features, prepared.full_names)) is not prepared

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


def _read_and_answer(reader: Reader, entities: Any, counts: Counts) -> tuple[OnlineResponse, bool]:
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


def _generations(snapshot: Snapshot) -> dict[str, Any]:
    return {view: each.current for view, each in snapshot.facts.generations.items()}


def _views_of(reader: Reader) -> Sequence[Any]:
    """All views that the request touches, on-demand ones too: what has to be allowed."""
    selection = reader.selection
    return [*(read.view for read in selection.reads), *(each.view for each in selection.derivations)]
