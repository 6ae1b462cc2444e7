"""The feature store as users hold it: one object over the configured stores, a verb per method.

Over 400 lines: more than half are the docstrings of its verbs, of which the reference is made.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from threading import Event, Lock
from typing import TYPE_CHECKING, TypeVar

from asof.applied import Applied, Decided, Request
from asof.config import StoreConfig, load_config
from asof.defaults import AUDIT_KEYS, DEAD_LETTERS, HISTORY_COMMITS, SAMPLE_ROWS, SEED
from asof.definitions import (
    Definition,
    Entity,
    FeatureService,
    FeatureView,
    OnDemandFeatureView,
    Project,
    Snapshot,
    Source,
    project_of,
)
from asof.definitions.project import merged
from asof.errors import AsofError, ConfigError, NotFound, nearest
from asof.flows.push.pushers import Pushers
from asof.flows.stores import Parts, Progress, silent, view_named
from asof.opening.clock import clock_of, system_clock, system_clock_of, user_and_host
from asof.repository import Repository
from asof.results import Records, TableResult
from asof.selection import FeatureReferences, select
from asof.timing import PATIENCE_S, moment, moment_given
from asof.values.frame_types import EntityFrame, Rows

if TYPE_CHECKING:
    from asof.definitions.facts import TrainingSet
    from asof.flows.admin.audit import AuditReport
    from asof.flows.admin.doctor import Check
    from asof.flows.admin.explain import Explanation
    from asof.flows.admin.history import AppliedVersion
    from asof.flows.offline.result import HistoricalResult
    from asof.flows.online.read import History, Past, Reader
    from asof.flows.stream.dead_letters import DeadLetter
    from asof.flows.stream.status import PartitionStatus
    from asof.online_response import Columns, OnlineResponse
    from asof.planning import Plan
    from asof.selection import ViewRead
    from asof.timing import Micros

T = TypeVar("T", bound=Definition)

REFRESH_S = 1.0
"""How long a reader may not have looked whether the registry changed."""


class FeatureStore:
    """A feature store: plan and apply definitions, read history for training, serve values now.

    Args:
        repo_path: the folder with feature_store.yaml and the Python files; the working directory where not given.
        fs_yaml_file: the configuration file itself, relative to the working directory: it is read in place of
            feature_store.yaml. Its folder is the repository where no `repo_path` is given.
        env: the environment, for `feature_store.<env>.yaml`.
        clock: the store's now: a callable without arguments that answers an aware datetime.
        system_clock: the system's now in the same form, for tests: pushes are stamped by it, whatever `clock` says.
        config: a configuration made in code, in place of a file.

    Raises:
        ConfigError: the configuration is missing or not well formed.
    """

    def __init__(
        self,
        repo_path: str | Path | None = None,
        *,
        config: StoreConfig | None = None,
        fs_yaml_file: str | Path | None = None,
        env: str | None = None,
        clock: Callable[[], datetime] | None = None,
        system_clock: Callable[[], datetime] | None = None,
    ) -> None:
        if config is not None and fs_yaml_file is not None:
            raise ConfigError("both config and fs_yaml_file", hint="give one of them")
        self.config = config or load_config(repo_path or None, file=fs_yaml_file, env=env or "")
        self.project = self.config.project
        self._clock, self.clock_note = clock_of(self.config, clock)
        self._system_clock = system_clock_of(system_clock)
        self._repository = Repository(self.config.path)
        self._applied = Applied(self.project, lambda: self.parts.registry, self._decide)
        self._looked_at = 0.0
        self._pushers = Pushers(lambda: self.parts, lambda: self.snapshot)
        self._parts: Parts | None = None
        self._lock = Lock()

    # ---- parts and definitions ----

    @property
    def parts(self) -> Parts:
        """The opened parts; nothing is opened before it is needed."""
        if self._parts is None:
            from asof.opening.stores import open_stores

            with self._lock:
                if self._parts is None:
                    self._parts = open_stores(
                        self.config, clock=self._clock, system_clock=self._system_clock, who=user_and_host(),
                        functions=self._repository.transform_of,
                    )  # fmt: skip
        return self._parts

    def now(self) -> datetime:
        """The store's now."""
        return moment(self._clock())

    @property
    def snapshot(self) -> Snapshot:
        """What is applied, read again once it has changed; on-demand functions are those of the repository."""
        self._look()
        return self._applied.requests.snapshot

    def _look(self) -> None:
        if not self._applied.is_known or time.monotonic() - self._looked_at > REFRESH_S:
            self.refresh_registry()

    def refresh_registry(self) -> None:
        """Look whether the registry changed, and read it if so."""
        self._applied.refresh()
        self._looked_at = time.monotonic()

    def definitions(self) -> Project:
        """The definitions of the repository's Python files."""
        return self._repository.definitions()

    def plan(self, objects: Sequence[Definition] | None = None) -> Plan:
        """What `apply` would change, and all findings of checking the definitions against the real sources.

        Args:
            objects: definitions to apply beside those that are applied; the repository's files where not given.
        """
        from asof.flows.apply.plan import make_plan

        if objects is None:
            return make_plan(self.parts, self.definitions())
        new = self._repository.remember(project_of(objects))
        return make_plan(self.parts, merged(self.snapshot.project, new))

    def apply(
        self, plan: Plan | Sequence[Definition] | Definition | None = None, *, progress: Progress = silent
    ) -> Plan:
        """Make the registry and the online store match the definitions.

        Args:
            plan: of `plan()`; or definitions; a new plan of the repository's files where not given.

        Returns:
            The plan that was carried out.

        Raises:
            CheckFailed: it has errors; nothing was changed.
            RegistryConflict: someone else applied since; nothing was changed.
        """
        from asof.flows.apply.apply import apply_plan

        if isinstance(plan, Definition):
            plan = [plan]
        if plan is None or isinstance(plan, Sequence):
            plan = self.plan(plan)
        self._pushers.archive_all()
        apply_plan(self.parts, plan, progress=progress)
        self.refresh_registry()
        return plan

    def teardown(self, *, purge: bool = False) -> list[str]:
        """Remove this project's registry and online rows; its archives and logs, too, with `purge`.

        Returns:
            What was left where it is because other projects or environments use it, in words.
        """
        from asof.flows.apply.teardown import teardown

        self._pushers.close()
        left = teardown(self.parts, purge=purge)
        self._applied.forget()
        return left

    # ---- reading ----

    def get_historical_features(
        self,
        entity_df: EntityFrame | None = None,
        features: Sequence[str] | str | FeatureService = (),
        full_feature_names: bool = False,
        *,
        known_at: bool | datetime | str | None = None,
        start_date: datetime | str | None = None,
        end_date: datetime | str | None = None,
    ) -> HistoricalResult:
        """Each feature as of the moment of every row of the entity frame.

        Args:
            entity_df: a pandas, Polars or Arrow table, the path of a Parquet or CSV file, or a SELECT over the sources
                by name, with the join keys and one time per row; None reads all rows of a time range.
            features: references `view:feature`, or a feature service or its name.
            full_feature_names: name columns `view__feature`.
            known_at: True: only what had been written down by each row's time; a moment: by then.
            start_date, end_date: without an entity frame, the event times to read, `[start, end)`.

        Returns:
            A lazy result: `.to_df() .to_polars() .to_arrow() .to_batches() .to_sql() .write(path) .save(name)`.
        """
        from asof.flows.offline.read import read_history
        from asof.flows.offline.result import HistoricalResult

        self._pushers.archive_all()
        decided = self._decided(features, full_feature_names)
        read = read_history(
            self.parts, self.snapshot, decided.selection, entity_df,
            known_at=known_at if known_at is None or isinstance(known_at, bool) else moment_given(known_at, "known_at"),
            start=moment_given(start_date, "start_date"),
            end=moment_given(end_date, "end_date"),
        )  # fmt: skip
        return HistoricalResult(read)

    def get_online_features(
        self,
        features: Sequence[str] | str | FeatureService,
        entity_rows: Rows,
        full_feature_names: bool = False,
    ) -> OnlineResponse:
        """Each feature's value now, for each entity row.

        Args:
            features: references `view:feature`, or a feature service or its name.
            entity_rows: dicts, a dict of columns, or a pandas, Polars or Arrow table: the join keys, and the
                request's values. What else they hold is passed over.

        Returns:
            One value per feature and row, features in the order asked for:
            `.to_dict() .to_df() .to_arrow() .to_numpy()`, and `.statuses` and `.event_times`.

        Raises:
            EntityFrameError: a column is missing, a join key is null, or a value does not fit its type.
        """
        decided = self._decided(features, full_feature_names)
        response, complete = decided.reader.read(entity_rows)
        while not complete and (newer := self._applied.newer(decided)) is not None:
            response, complete = (decided := newer).reader.read(entity_rows)
        return response

    def open_reader(
        self,
        snapshot: Snapshot,
        features: FeatureReferences,
        full_feature_names: bool = False,
        *,
        history: History | None = None,
    ) -> Reader:
        """A reader of one request over one snapshot, for who reads more than once and looks after the registry himself.

        Args:
            history: answers what online rows cannot; by default the sources and archives do.
        """
        return self._decide(snapshot, Request(features, full_feature_names), history).reader

    def _decided(self, features: FeatureReferences, full_feature_names: bool) -> Decided:
        self._look()
        return self._applied.decided(Request(features, full_feature_names))

    def _decide(self, snapshot: Snapshot, request: Request, history: History | None = None) -> Decided:
        selection = select(snapshot, request.features, full_feature_names=request.full_feature_names)
        selection = self._repository.with_functions(selection)

        def reader() -> Reader:
            from asof.flows.online.read import Reader

            return Reader(self.parts, snapshot, selection, history=history or partial(self._past, snapshot))

        return Decided(request, selection, reader)

    def _past(self, snapshot: Snapshot, read: ViewRead, keys: Columns, at: Micros) -> Past:
        # Loaded once a row cannot answer: it brings the engine with it.
        from asof.flows.online.history import history_of

        return history_of(self.parts, snapshot, before=self._pushers.flush)(read, keys, at)

    # ---- writing ----

    def push(self, push_source_name: str, df: Rows, *, batch_id: str | None = None, to: object = None) -> int:
        """Push rows: durable in the push log, and served, when this returns.

        Args:
            df: dicts, a dict of columns, or a pandas, Polars or Arrow table, with exactly the source's columns.
            batch_id: a name for these rows; a second push under it is no push.
            to: accepted for Feast's sake; rows always go to both stores, so that both agree.

        Returns:
            How many rows were pushed.

        Raises:
            RowsRefused: something does not fit; nothing was written.
        """
        return self._pushers.of(push_source_name).push(df, batch_id=batch_id)

    def take_over_pushes(self, push_source_name: str) -> int:
        """Apply and archive what stands in a push log and not in the archive, whoever pushed it; how many rows."""
        return self._pushers.of(push_source_name).take_over()

    def write_to_online_store(self, feature_view_name: str, df: Rows) -> int:
        """Write rows of a view: a pushed one's go through its push log, a batch-fed one's to the online store alone."""
        from asof.flows.batch.write_rows import write_rows

        view = view_named(self.snapshot, feature_view_name)
        if view.source.type == "push":
            return self.push(view.source.name, df)
        return write_rows(self.parts, feature_view_name, df)

    def materialize(
        self,
        start_date: datetime | str | None = None,
        end_date: datetime | str | None = None,
        feature_views: Sequence[str] | None = None,
        *,
        full: bool = False,
        progress: Progress = silent,
    ) -> list[dict[str, object]]:
        """Bring the online store up to date from batch sources.

        Args:
            start_date, end_date: event times `[start, end)`; without a start, what is new since the last run.
            full: read everything again, and remove keys that the source no longer has.

        Returns:
            Per view: rows written, and until when it is up to date.
        """
        from asof.flows.batch.materialize import materialize

        done = materialize(
            self.parts, views=feature_views, full=full, progress=progress,
            start=moment_given(start_date, "start_date"),
            end=moment_given(end_date, "end_date"),
        )  # fmt: skip
        return [each.to_dict() for each in done]

    def materialize_incremental(
        self,
        end_date: datetime | str | None = None,
        feature_views: Sequence[str] | None = None,
        *,
        progress: Progress = silent,
    ) -> list[dict[str, object]]:
        """Materialize what is new since the last run."""
        return self.materialize(None, end_date, feature_views, progress=progress)

    def stream_run(
        self,
        sources: Sequence[str] | None = None,
        *,
        until_caught_up: bool = False,
        accept_gap: bool = False,
        progress: Progress = silent,
        stop: Event | None = None,
        patience_s: float = PATIENCE_S,
        waiting: Callable[[AsofError], None] | None = None,
    ) -> dict[str, int]:
        """Work on the logs until stopped: apply their events online at once, archive them every few seconds.

        Args:
            patience_s: how long a server that went away is waited for; one that never answered is not.
            waiting: told once for each time that a server is waited for.
        """
        from asof.flows.stream.run import run_stream

        return run_stream(
            self.parts, sources, until_caught_up=until_caught_up, accept_gap=accept_gap, progress=progress, stop=stop,
            patience_s=patience_s, waiting=waiting,
        )  # fmt: skip

    def stream_status(self) -> Records[PartitionStatus]:
        """Where each partition of each log stands."""
        from asof.flows.stream.status import stream_status

        return stream_status(self.parts)

    def backfill(self, source: str, *, progress: Progress = silent) -> int:
        """Load a log's batch source into its archive, once."""
        from asof.flows.batch.backfill import backfill

        return backfill(self.parts, source, progress=progress)

    def rebuild(self, views: Sequence[str] | None = None, *, progress: Progress = silent) -> dict[str, int]:
        """Build online rows anew: from the archives for logs, from the sources for batch views; view → rows."""
        from asof.flows.batch.rebuild import rebuild_views

        done = rebuild_views(self.parts, self.snapshot, views, progress=progress)
        self.refresh_registry()
        return done

    def compact(self) -> dict[str, object]:
        """Join small files of the archives, and remove what no one can ask for any more."""
        from asof.flows.admin.compact import compact

        return compact(self.parts, self.snapshot)

    # ---- looking ----

    def sample(
        self,
        name: str | FeatureView | FeatureService,
        *,
        n: int = SAMPLE_ROWS,
        seed: int = SEED,
        by: str = "rows",
        online: bool = False,
    ) -> TableResult:
        """A random sample of a view or service; the same for the same seed."""
        from asof.flows.admin.sample import sample

        name = name if isinstance(name, str) else name.name
        rows = sample(
            self.parts, self.snapshot, name, n=n, seed=seed, by=by, online=online,
            functions=self._repository.with_functions,
        )  # fmt: skip
        return TableResult(rows, f"Sample of {name!r}")

    def explain(self, reference: str, key: Mapping[str, object], *, at: datetime | str | None = None) -> Explanation:
        """Which rows or events made this value of this key, as of a moment."""
        from asof.flows.admin.explain import explain

        when = moment_given(at, "at")
        return explain(self.parts, self.snapshot, reference, key, at=when, functions=self._repository.with_functions)

    def audit(self, names: Sequence[str] | None = None, *, keys: int = AUDIT_KEYS, seed: int = SEED) -> AuditReport:
        """Compare what is served with history, over the events that each row has seen."""
        from asof.flows.admin.audit import audit

        self._pushers.flush()
        return audit(self.parts, self.snapshot, names, keys=keys, seed=seed)

    def doctor(self) -> Records[Check]:
        """One line on each part: whether it works, and what to do if not."""
        from asof.flows.admin.doctor import doctor

        return doctor(self.parts, clock_note=self.clock_note)

    def forget(self, entity: str, key: object) -> dict[str, object]:
        """Remove a key from archives, logs, online store and dead letters; name the training sets that hold it."""
        from asof.flows.admin.forget import forget

        self._pushers.flush()
        return forget(self.parts, self.snapshot, entity, key)

    def dead_letters(self, source: str | None = None, limit: int = DEAD_LETTERS) -> Records[DeadLetter]:
        """The newest dead letters."""
        from asof.flows.stream.dead_letters import list_letters

        return list_letters(self.parts, source, limit)

    def dead_letter(self, id: str) -> dict[str, object]:
        """One dead letter with its raw bytes."""
        from asof.flows.stream.dead_letters import show_letter

        return show_letter(self.parts, id)

    def replay_dead_letters(self, source: str, ids: Sequence[str] | None = None) -> dict[str, object]:
        """Send dead letters that fit by now back through the log, each once."""
        from asof.flows.stream.dead_letters import replay_letters

        return replay_letters(self.parts, source, ids)

    def training_sets(self) -> Records[TrainingSet]:
        """The saved training sets, with how each was made."""
        from asof.flows.offline.training_sets.manifest import list_training_sets

        return list_training_sets(self.parts)

    def training_set(self, name: str) -> dict[str, object]:
        """One training set's manifest."""
        from asof.flows.offline.training_sets.manifest import training_set

        return training_set(self.parts, name)

    def read_training_set(self, name: str) -> TableResult:
        """One training set's rows."""
        from asof.flows.offline.training_sets.manifest import read_training_set

        return TableResult(read_training_set(self.parts, name), f"Training set {name!r}")

    def rebuild_training_set(self, name: str) -> dict[str, object]:
        """Make a training set again, and say whether it is the same."""
        from asof.flows.offline.training_sets.rebuild import rebuild_training_set

        return rebuild_training_set(self.parts, name, functions=self._repository.with_functions)

    def served_features(self, service: str) -> TableResult:
        """What a server has kept of a service's answers: see `server.feature_log_share`."""
        from asof.flows.admin.feature_log import served_features

        return TableResult(served_features(self.parts, service), f"Served features of {service!r}")

    def history(self, limit: int = HISTORY_COMMITS) -> Records[AppliedVersion]:
        """Who applied what when, newest first; without the commits that a worker or a run made of its own progress."""
        from asof.flows.admin.history import applied_versions

        return applied_versions(self.parts, limit)

    # ---- listing ----

    def list_entities(self) -> list[Entity]:
        return list(self.snapshot.project.entities.values())

    def list_sources(self) -> list[Source]:
        return list(self.snapshot.project.sources.values())

    list_data_sources = list_sources

    def list_feature_views(self) -> list[FeatureView]:
        return list(self.snapshot.project.views.values())

    def list_on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        return list(self.snapshot.project.on_demand_views.values())

    def list_feature_services(self) -> list[FeatureService]:
        return list(self.snapshot.project.services.values())

    def get_entity(self, name: str) -> Entity:
        return _named("entity", self.snapshot.project.entities, name)

    def get_source(self, name: str) -> Source:
        return _named("source", self.snapshot.project.sources, name)

    get_data_source = get_source

    def get_feature_view(self, name: str) -> FeatureView:
        return _named("feature view", self.snapshot.project.views, name)

    def get_on_demand_feature_view(self, name: str) -> OnDemandFeatureView:
        return _named("on-demand feature view", self.snapshot.project.on_demand_views, name)

    def get_feature_service(self, name: str) -> FeatureService:
        return _named("feature service", self.snapshot.project.services, name)

    # ---- ending ----

    def close(self) -> None:
        """Archive what was pushed, and give back files and connections."""
        try:
            self._pushers.close()
        finally:
            if self._parts is not None:
                self._parts.close()

    def __enter__(self) -> FeatureStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<FeatureStore {self.project!r} at {self.config.path}>"


def _named(kind: str, known: Mapping[str, T], name: str) -> T:
    if name not in known:
        raise NotFound(
            f"no {kind} {name!r} is applied",
            hint=nearest(name, known) or (f"there are {sorted(known)}" if known else "run `asof apply` first"),
        )
    return known[name]


__all__ = ["FeatureStore", "system_clock"]
