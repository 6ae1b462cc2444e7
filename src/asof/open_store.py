"""A feature store in use: its opened stores, what is applied, and what each verb of `FeatureStore` does.

Verbs load what they need when they are called, so that a process that only reads online loads no engine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from threading import BoundedSemaphore, Lock
from typing import TYPE_CHECKING, Any, TypeVar

from asof.applied import AppliedDefinitions, DecidedRequest, FeatureRequest
from asof.config import StoreConfig
from asof.defaults import HISTORY_READS
from asof.definitions import Definition, Project, Snapshot, project_of
from asof.definitions.project import merged
from asof.errors import NotFound, OnlineRowsLost, SourceError, nearest, some
from asof.flows.push.pushers import Pushers
from asof.flows.rows.history import LoadedHistories
from asof.flows.stores import Progress, Stores, view_named
from asof.forks import ForkListener, leave_to_parent, listen_to_forks
from asof.opening.clock import clock_of, system_clock_of, user_and_host
from asof.repository import Repository
from asof.results import Records
from asof.selection import FeatureReferences, ViewRead, select
from asof.timing import moment_given
from asof.values.frame_types import EntityFrame, Rows

if TYPE_CHECKING:
    from asof.flows.batch.materialize import MaterializeResult
    from asof.flows.offline.result import HistoricalResult
    from asof.flows.online.history import History, Past
    from asof.flows.online.read import OnlineReader
    from asof.online_response import Columns, OnlineResponse
    from asof.planning import Plan
    from asof.timing import Micros

D = TypeVar("D", bound=Definition)

REFRESH_S = 1.0
"""How long a reader may not have looked whether the registry changed."""


class OpenStore(ForkListener):
    """A configured store.

    Attributes:
        clock_note: what is to be said about the clock, where it is not the system's.
        repository: the Python files, for definitions and functions.
        pushers: of this process.
    """

    def __init__(
        self,
        config: StoreConfig,
        clock: Callable[[], datetime] | None,
        system_clock: Callable[[], datetime] | None = None,
    ) -> None:
        self.config = config
        self.project = config.project
        self._given_clock = clock
        self.clock, self.clock_note = clock_of(config, clock)
        self._system_clock = system_clock_of(system_clock)
        self.repository = Repository(config.path)
        self._stores: Stores | None = None
        self._begin()
        listen_to_forks(self)

    def _begin(self) -> None:
        self._applied = AppliedDefinitions(
            self.project, lambda: self.stores.registry, self._decide, load=lambda: self.stores.applied()
        )
        self.pushers = Pushers(lambda: self.stores, self.snapshot, self._applied.look_again)
        self._looked_at = 0.0
        self.histories = LoadedHistories(lambda: self.stores, self.snapshot)
        self._lock = Lock()
        self._history_reads = BoundedSemaphore(HISTORY_READS)

    def after_fork_in_child(self) -> None:
        """See `ForkListener`: what the parent pushed, the parent archives."""
        leave_to_parent(self.pushers)
        self._begin()

    def __reduce__(self) -> tuple[object, ...]:
        """It pickles to its configuration and clock; the copy opens its own stores on first use."""
        return OpenStore, (self.config, self._given_clock)

    # ---- what is open, and what is applied ----

    @property
    def stores(self) -> Stores:
        """The open stores; each is opened on first use."""
        if self._stores is None:
            from asof.opening.stores import open_stores

            with self._lock:
                if self._stores is None:
                    self._stores = open_stores(
                        self.config, clock=self.clock, system_clock=self._system_clock, who=user_and_host(),
                        functions=self.repository.transform_of,
                    )  # fmt: skip
        return self._stores

    def snapshot(self) -> Snapshot:
        """What is applied, read again once it has changed."""
        self._look()
        return self._applied.requests().snapshot

    def _look(self) -> None:
        if not self._applied.is_known or time.monotonic() - self._looked_at > REFRESH_S:
            self.refresh()

    def refresh(self) -> None:
        """Look whether the registry changed, and read it if so."""
        self._applied.refresh()
        self._looked_at = time.monotonic()

    def forget(self) -> None:
        """Take nothing that is known of the registry for given: all of it may be another one."""
        self._applied.forget()

    def close(self) -> None:
        """Archive what was pushed, and give back files and connections."""
        try:
            self.pushers.close()
        finally:
            if self._stores is not None:
                self._stores.close()

    # ---- definitions ----

    def definitions(self) -> Project:
        """The definitions of the repository's Python files."""
        return self.repository.definitions()

    def plan(self, objects: Sequence[Definition] | None) -> Plan:
        from asof.flows.apply.plan import make_plan

        if objects is None:
            return make_plan(self.stores, self.definitions())
        new = self.repository.remember_given(project_of(objects))
        return make_plan(self.stores, merged(self.snapshot().project, new))

    def apply(self, plan: Plan | Sequence[Definition] | Definition | None, progress: Progress) -> Plan:
        from asof.flows.apply.apply import apply_plan

        if isinstance(plan, Definition):
            plan = [plan]
        if plan is None or isinstance(plan, Sequence):
            plan = self.plan(plan)
        self.pushers.archive_all()
        apply_plan(self.stores, plan, progress=progress)
        self.refresh()
        return plan

    def teardown(self, *, purge: bool) -> list[str]:
        from asof.flows.apply.teardown import teardown

        self.pushers.close()
        left = teardown(self.stores, purge=purge)
        self._applied.forget()
        return left

    def named(self, kind: str, known: Mapping[str, D], name: str) -> D:
        """One definition of those that are applied.

        Raises:
            NotFound: none has this name.
        """
        if name not in known:
            raise NotFound(
                f"no {kind} {name!r} is applied",
                hint=nearest(name, known) or (f"applied: {some(sorted(known))}" if known else "run `asof apply` first"),
            )
        return known[name]

    # ---- reading ----

    def historical(
        self,
        entity_df: EntityFrame | None,
        features: FeatureReferences,
        full_feature_names: bool,
        *,
        known_at: bool | datetime | str | None,
        start_date: datetime | str | None,
        end_date: datetime | str | None,
    ) -> HistoricalResult:
        from asof.flows.offline.read import read_history
        from asof.flows.offline.result import HistoricalResult

        self.pushers.archive_all()
        decided = self._decided(features, full_feature_names)
        self.histories.warn(decided.logs_with_history)
        read = read_history(
            self.stores, self.snapshot(), decided.selection, entity_df,
            known_at=known_at if known_at is None or isinstance(known_at, bool) else moment_given(known_at, "known_at"),
            start=moment_given(start_date, "start_date"), end=moment_given(end_date, "end_date"),
        )  # fmt: skip
        return HistoricalResult(read)

    def online(self, features: FeatureReferences, entity_rows: Rows, full_feature_names: bool) -> OnlineResponse:
        decided = self._decided(features, full_feature_names)
        self.histories.warn(decided.logs_with_history)
        while True:
            try:
                response, complete = decided.reader.read(entity_rows)
            except OnlineRowsLost:
                # They may be those of a generation that readers have left.
                newer = self._applied.newer(decided)
                if newer is None:
                    raise
            else:
                newer = None if complete else self._applied.newer(decided)
                if newer is None:
                    return response
            decided = newer

    def open_reader(
        self,
        snapshot: Snapshot,
        features: FeatureReferences,
        full_feature_names: bool = False,
        *,
        history: History | None = None,
    ) -> OnlineReader:
        """A reader of one request over one snapshot, for who reads more than once and refreshes the registry itself.

        `history` computes what online rows cannot.
        """
        return self._decide(snapshot, FeatureRequest(features, full_feature_names), history).reader

    def _decided(self, features: FeatureReferences, full_feature_names: bool) -> DecidedRequest:
        self._look()
        decided = self._applied.decided(FeatureRequest(features, full_feature_names))
        if decided.selection.derivations:
            self.repository.check_given(decided.selection)
        return decided

    def _decide(self, snapshot: Snapshot, request: FeatureRequest, history: History | None = None) -> DecidedRequest:
        selection = select(snapshot, request.features, full_feature_names=request.full_feature_names)
        selection = self.repository.with_functions(selection)

        def reader() -> OnlineReader:
            from asof.flows.online.read import OnlineReader

            return OnlineReader(self.stores, snapshot, selection, history=history or partial(self._past, snapshot))

        return DecidedRequest(request, selection, reader)

    def _past(self, snapshot: Snapshot, read: ViewRead, keys: Columns, at: Micros, **needs: Any) -> Past:
        # Loaded when an online row is not enough: it brings the engine with it.
        from asof.flows.online.history import history_of

        with self._history_reads:
            return history_of(self.stores, snapshot, before=self.pushers.flush)(read, keys, at, **needs)

    # ---- writing ----

    def send(self, name: str, messages: Sequence[bytes], *, keys: Sequence[bytes] | None) -> list[tuple[int, int]]:
        from asof.flows.stores import log_source_named

        source = log_source_named(self.snapshot(), name)
        if source.type == "push":
            raise SourceError(
                f"source {name!r} takes rows, not messages", hint=f"call push({name!r}, rows)", where=source.where
            )
        return self.stores.log_of(source).send(source.topic, messages, keys=keys, durable=True)

    def write_online(self, feature_view_name: str, df: Rows) -> int:
        from asof.flows.batch.write_rows import write_rows

        view = view_named(self.snapshot(), feature_view_name)
        if view.source.type == "push":
            return self.pushers.of(view.source.name).push(df)
        return write_rows(self.stores, feature_view_name, df)

    def materialize(
        self,
        start_date: datetime | str | None,
        end_date: datetime | str | None,
        feature_views: Sequence[str] | None,
        *,
        full: bool,
        progress: Progress,
    ) -> Records[MaterializeResult]:
        from asof.flows.batch.materialize import MaterializeResult, materialize
        from asof.flows.runs import MATERIALIZE, recorded_run

        with recorded_run(self.stores, MATERIALIZE) as notes:
            notes.add_views(dict.fromkeys(self._materialized(feature_views), 0))
            done = materialize(
                self.stores, views=feature_views, full=full, progress=progress,
                start=moment_given(start_date, "start_date"), end=moment_given(end_date, "end_date"),
            )  # fmt: skip
            notes.add_views({each.view: each.rows for each in done})
            views = self.snapshot().project.views
            notes.sources |= {views[each.view].source.name: {"rows": each.loaded} for each in done if each.loaded}
        return Records(MaterializeResult, done)

    def stream_run(self, sources: Sequence[str] | None, **options: Any) -> dict[str, int]:
        from asof.flows.stream.run import run_stream

        return run_stream(self.stores, sources, **options)

    def backfill(self, source: str, progress: Progress) -> int:
        from asof.flows.batch.backfill import backfill
        from asof.flows.runs import BACKFILL, recorded_run

        with recorded_run(self.stores, BACKFILL) as notes:
            notes.add_source(source, 0)
            rows = backfill(self.stores, source, progress=progress)
            notes.add_source(source, rows)
        return rows

    def _materialized(self, names: Sequence[str] | None) -> Sequence[str]:
        """The views that a run is about, so far as it is known before the run."""
        if names is not None:
            return [names] if isinstance(names, str) else names
        views = self.snapshot().project.views.values()
        return [view.name for view in views if view.online and not view.source.is_log]

    def rebuild(self, views: Sequence[str] | None, progress: Progress) -> dict[str, int]:
        from asof.flows.batch.rebuild import rebuild_views
        from asof.flows.runs import REBUILD, recorded_run

        with recorded_run(self.stores, REBUILD) as notes:
            done = rebuild_views(self.stores, self.snapshot(), views, progress=progress)
            notes.add_views(done)
        self.refresh()
        return done


__all__ = ["OpenStore"]
