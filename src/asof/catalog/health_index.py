"""The health of views and sources, read from the live store: for pages within a budget, for commands at once.

An input that is late is shown as it was before, and is named in `late`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from asof.catalog.health import NONE, Health, HealthInputs, ViewAudit, health_of, span_of
from asof.catalog.live import LiveValue, Values
from asof.defaults import USE_DAYS
from asof.definitions import Snapshot
from asof.errors import AsofError
from asof.store import FeatureStore, open_store_of
from asof.timing import moment

if TYPE_CHECKING:
    from asof.flows.runs import Run
    from asof.flows.stream.status import PartitionStatus
    from asof.flows.use import UseSums

P = TypeVar("P")

BUDGET_S = 0.1
"""How long a page waits for each of the four inputs, within its budget for all of its values."""

MAX_AGE_S = 30.0
"""How long an input is used before it is asked for again."""

RUNS = 300
"""So many of the newest runs are looked at."""

MOST_VIEWS = 10_000
"""The newest audits of so many views are looked at."""


def runs_of(store: FeatureStore) -> Sequence[Run]:
    """The newest runs, newest first."""
    return list(store.runs(limit=RUNS))


def audits_of(store: FeatureStore) -> Mapping[str, ViewAudit]:
    """View → its last audit."""
    stores = open_store_of(store).stores
    found = stores.registry.records(stores.project, "audit", per_subject=1, limit=MOST_VIEWS)
    return {each.subject: _audit_of(moment(each.when), each.body) for each in found}


def _audit_of(when: datetime, body: Mapping[str, Any]) -> ViewAudit:
    return ViewAudit(when, body.get("keys", 0), body.get("differences", 0), body.get("causes", {}))


def use_of(store: FeatureStore) -> Mapping[str, UseSums]:
    """Feature → its use."""
    from asof.flows.use import summed_use

    return summed_use(open_store_of(store).stores, USE_DAYS)


def streams_of(store: FeatureStore) -> Mapping[str, Sequence[PartitionStatus]]:
    """Log source → its partitions."""
    found: dict[str, list[PartitionStatus]] = defaultdict(list)
    for each in store.stream_status():
        found[each.source].append(each)
    return found


def read_health(store: FeatureStore, snapshot: Snapshot, *, with_streams: bool = True) -> Health:
    """The health, read without a budget; what cannot be read is named in `late`. For who looks once, as a command does.

    Args:
        with_streams: ask for the status of streams, too, which takes longest.
    """
    late: list[str] = []

    def read(what: str, ask: Callable[[FeatureStore], P], without: P) -> P:
        try:
            return ask(store)
        except AsofError as error:
            late.append(_unreadable(what, error.message))
            return without

    inputs = _inputs(read, with_streams=with_streams)
    return health_of(snapshot, inputs, at=store.now(), late=late)


class _HealthReader(Protocol):
    """Reads an input: its name, what asks the store, and the value where there is none."""

    def __call__(self, what: str, ask: Callable[[FeatureStore], P], without: P, /) -> P: ...


def _inputs(read: _HealthReader, *, with_streams: bool) -> HealthInputs:
    return HealthInputs(
        read("the list of runs", runs_of, NONE.runs),
        read("the list of audits", audits_of, NONE.audits),
        read("the use of features", use_of, NONE.use),
        read("the status of streams", streams_of, NONE.streams) if with_streams else NONE.streams,
    )


def _unreadable(what: str, why: str) -> str:
    return f"{what} cannot be read: {why}"


class HealthIndex:
    """The health that pages show, put together again when one of its inputs is asked for again."""

    def __init__(self, store: FeatureStore) -> None:
        self._store = store
        self._lock = Lock()
        self._known: dict[bool, tuple[tuple[Any, ...], Health]] = {}

    def of(
        self, snapshot: Snapshot, live: Values, *, with_streams: bool = True, budget_s: float = BUDGET_S
    ) -> Health:  # fmt: skip
        """The health as of now, for the applied snapshot. It raises no error of a store: what fails is in `late`.

        Args:
            live: asks for the inputs.
            with_streams: ask for the status of streams, too, which takes longest.
            budget_s: how long to wait for each input; with 0 for none, and those of before are returned.
        """
        late: list[str] = []

        def read(what: str, ask: Callable[[FeatureStore], P], without: P) -> P:
            return self._part(live, what, ask, without, late, budget_s)

        inputs = _inputs(read, with_streams=with_streams)
        made_of = (snapshot, inputs.runs, inputs.audits, inputs.use, inputs.streams)
        with self._lock:
            known = self._known.get(with_streams)
            # By identity: to compare the use of ten thousand features would take longer than the page.
            if known is None or not all(a is b for a, b in zip(known[0], made_of, strict=True)):
                known = self._known[with_streams] = made_of, health_of(snapshot, inputs, at=self._store.now())
            return replace(known[1], late=tuple(late)) if late else known[1]

    def _part(
        self, live: Values, what: str, ask: Callable[[FeatureStore], P], without: P, late: list[str], budget_s: float
    ) -> P:  # fmt: skip
        found: LiveValue[P] = live.get(
            ("health", what), lambda: ask(self._store), budget_s=budget_s, max_age_s=MAX_AGE_S
        )
        if found.error:
            late.append(_unreadable(what, found.error))
        elif found.is_late:
            shown = "" if found.age_s is None else f"; it is shown as it was {span_of(found.age_s)} ago"
            late.append(f"{what} takes longer than this page waits{shown}")
        return without if found.value is None else found.value


__all__ = ["HealthIndex", "read_health"]
