"""The feature store as users hold it: one object over the configured parts."""

from __future__ import annotations

import getpass
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime
from functools import partial
from pathlib import Path
from threading import Event, Lock
from typing import TYPE_CHECKING, Any

from asof.config import StoreConfig, load_config
from asof.defaults import AUDIT_KEYS, DEAD_LETTERS, HISTORY_COMMITS, SAMPLE_ROWS, SEED
from asof.definitions import (
    Definition,
    Entity,
    FeatureService,
    FeatureView,
    LogSource,
    OnDemandFeatureView,
    Project,
    Projection,
    Snapshot,
    Source,
    project_of,
)
from asof.definitions.project import merged
from asof.errors import AsofError, ConfigError, NotFound, RegistryError, RequestError, nearest
from asof.flows.stores import Parts, Progress, silent
from asof.repository import collect
from asof.selection import FeatureReferences, Selection, select
from asof.timing import PATIENCE_S, Clock, Micros, iso, micros, moment
from asof.values.frame_types import EntityFrame, Rows

if TYPE_CHECKING:
    import pyarrow as pa

    from asof.definitions.transforms import MessageTransform
    from asof.flows.admin.audit import AuditReport
    from asof.flows.admin.doctor import Check
    from asof.flows.admin.explain import Explanation
    from asof.flows.admin.feature_log import ServedRows
    from asof.flows.offline.result import HistoricalResult
    from asof.flows.online.read import History, Reader
    from asof.flows.push.pusher import Pusher
    from asof.online_response import OnlineResponse
    from asof.opening.products import OpenedParts
    from asof.planning import Plan
    from asof.registry.protocol import Commit

REFRESH_S = 1.0
"""How long a reader may not have looked whether the registry changed."""

READERS = 1000
"""How many different requests are kept decided."""


def system_clock() -> Micros:
    """The system's now."""
    return time.time_ns() // 1000


class FeatureStore:
    """A feature store: plan and apply definitions, read history for training, serve values now.

    Args:
        repo_path: the folder with feature_store.yaml and the Python files; the working directory where not given.
        fs_yaml_file: the configuration file itself, relative to the working directory: it is read in place of
            feature_store.yaml. Its folder is the repository where no `repo_path` is given.
        env: the environment, for `feature_store.<env>.yaml`.
        clock: the store's now: a callable without arguments that answers an aware datetime.
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
    ) -> None:
        if config is not None and fs_yaml_file is not None:
            raise ConfigError("both config and fs_yaml_file", hint="give one of them")
        self.config = config or load_config(repo_path or None, file=fs_yaml_file, env=env or "")
        self.project = self.config.project
        self._clock, self.clock_note = _clock_of(self.config, clock)
        self._parts: OpenedParts | None = None
        self._snapshot: Snapshot | None = None
        self._looked_at = 0.0
        self._readers: dict[Any, Reader] = {}
        self._selections: dict[Any, tuple[Snapshot, Selection]] = {}
        self._pushers: dict[str, Pusher] = {}
        self._functions: dict[str, OnDemandFeatureView] = {}
        self._sources: dict[str, Source] = {}
        self._lock = Lock()

    # ---- parts and definitions ----

    @property
    def parts(self) -> Parts:
        """The opened parts; nothing is opened before it is needed."""
        if self._parts is None:
            from asof.opening.products import OpenedParts

            with self._lock:
                if self._parts is None:
                    self._parts = OpenedParts(self.config, clock=self._clock, who=_who(), functions=self._transform)
        return self._parts

    def now(self) -> datetime:
        """The store's now."""
        return moment(self._clock())

    @property
    def snapshot(self) -> Snapshot:
        """What is applied, read again once it has changed; on-demand functions are those of the repository."""
        now = time.monotonic()
        if self._snapshot is None or now - self._looked_at > REFRESH_S:
            self.refresh_registry()
        assert self._snapshot is not None
        return self._snapshot

    def refresh_registry(self) -> None:
        """Look whether the registry changed, and read it if so."""
        known = self._snapshot
        if known is None or self.parts.registry.version(self.project) != known.version:
            snapshot = self.parts.registry.load(self.project)
            with self._lock:
                self._snapshot = snapshot
                self._readers.clear()
                self._selections.clear()
        self._looked_at = time.monotonic()

    def definitions(self) -> Project:
        """The definitions of the repository's Python files."""
        project = collect(self.config.path)
        self._functions |= dict(project.on_demand_views)
        self._sources |= dict(project.sources)
        return project

    def _transform(self, source: LogSource) -> MessageTransform | None:
        """The transform of a source's messages with its function, as the repository has it."""
        own = _transform_in(self._sources, source.name)
        if own is None or (source.transform is not None and own.fingerprint != source.transform.fingerprint):
            # Perhaps applied by someone else since the files were read.
            self.definitions()
            own = _transform_in(self._sources, source.name)
        return own

    def plan(self, objects: Sequence[Definition] | None = None) -> Plan:
        """What `apply` would change, and all findings of checking the definitions against the real sources.

        Args:
            objects: definitions to apply beside those that are applied; the repository's files where not given.
        """
        from asof.flows.apply.plan import make_plan

        return make_plan(self.parts, self.definitions() if objects is None else self._with_objects(objects))

    def _with_objects(self, objects: Sequence[Definition]) -> Project:
        new = project_of(objects)
        self._functions |= dict(new.on_demand_views)
        self._sources |= dict(new.sources)
        return merged(self.snapshot.project, new)

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
        self._archive_pushes()
        apply_plan(self.parts, plan, progress=progress)
        self.refresh_registry()
        return plan

    def teardown(self, *, purge: bool = False) -> list[str]:
        """Remove this project's registry and online rows; its archives and logs, too, with `purge`.

        Returns:
            What was left where it is because other projects or environments use it, in words.
        """
        from asof.flows.apply.teardown import teardown

        self._close_pushers()
        left = teardown(self.parts, purge=purge)
        self._snapshot = None
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

        self._archive_pushes()
        selection = self._selection(features, full_feature_names)
        cut = known_at if known_at is None or isinstance(known_at, bool) else _moment_given(known_at, "known_at")
        read = read_history(
            self.parts, self.snapshot, selection, entity_df, known_at=cut,
            start=_moment_given(start_date, "start_date"),
            end=_moment_given(end_date, "end_date"),
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
        reader = self._reader(features, full_feature_names)
        response, complete = reader.read(entity_rows)
        while not complete and self._is_behind(reader.snapshot):
            # A row that was not found may stand in a generation that readers have switched to meanwhile.
            self.refresh_registry()
            before, reader = reader.generations, self._reader(features, full_feature_names)
            if reader.generations == before:
                break
            response, complete = reader.read(entity_rows)
        return response

    def _is_behind(self, snapshot: Snapshot) -> bool:
        """Whether something was applied since; while the registry is away, what is known is served."""
        try:
            return self.parts.registry.version(self.project) != snapshot.version
        except RegistryError:
            return False

    def _reader(self, features: Any, full_feature_names: bool) -> Reader:
        snapshot = self.snapshot
        key = (_request_key(features), full_feature_names)
        reader = self._readers.get(key)
        if reader is None or reader.snapshot is not snapshot:
            reader = self.open_reader(snapshot, features, full_feature_names)
            if len(self._readers) >= READERS:
                self._readers.clear()
            self._readers[key] = reader
        return reader

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
        from asof.flows.online.read import Reader

        selection = self._selected(snapshot, features, full_feature_names)
        if history is None:
            history = partial(self._past, snapshot)
        return Reader(self.parts, snapshot, selection, history=history)

    def _past(self, snapshot: Snapshot, read: Any, keys: Any, at: Micros) -> Any:
        # Loaded once a row cannot answer: it brings the engine with it.
        from asof.flows.online.history import history_of

        return history_of(self.parts, snapshot, before=self._flush_pushers)(read, keys, at)

    def _flush_pushers(self) -> None:
        for pusher in list(self._pushers.values()):
            pusher.flush()

    def _selection(self, features: Any, full_feature_names: bool) -> Selection:
        return self._selected(self.snapshot, features, full_feature_names)

    def _selected(self, snapshot: Snapshot, features: Any, full_feature_names: bool) -> Selection:
        """The request, decided for this snapshot; kept with it, since another thread may have read a newer one."""
        key = (_request_key(features), full_feature_names)
        known = self._selections.get(key)
        if known is not None and known[0] is snapshot:
            return known[1]
        selection = self._with_functions(select(snapshot, features, full_feature_names=full_feature_names))
        if len(self._selections) >= READERS:
            self._selections.clear()
        self._selections[key] = (snapshot, selection)
        return selection

    def _with_functions(self, selection: Selection) -> Selection:
        """The selection with the functions of its on-demand views at hand, as they were applied."""
        if not selection.derivations:
            return selection
        from dataclasses import replace

        derivations = []
        for each in selection.derivations:
            own = self._functions.get(each.view.name)
            if own is None or own.fingerprint != each.view.fingerprint:
                # Perhaps applied by someone else since the files were read.
                self.definitions()
                own = self._functions.get(each.view.name)
            if own is None or own.function is None:
                raise NotFound(
                    f"on-demand feature view {each.view.name!r} is applied, but the repository at {self.config.path} "
                    "does not define it any more",
                    hint="run `asof apply`, or bring its file back",
                    where=each.view.where,
                )
            if own.fingerprint != each.view.fingerprint:
                raise RequestError(
                    f"the function of on-demand feature view {each.view.name!r} is not the one that was applied",
                    hint="run `asof apply`",
                    where=own.where,
                )
            derivations.append(replace(each, view=each.view.with_function(own.function)))
        return replace(selection, derivations=tuple(derivations))

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
        return self._pusher(push_source_name).push(df, batch_id=batch_id)

    def _pusher(self, name: str) -> Pusher:
        pusher = self._pushers.get(name)
        if pusher is None:
            from asof.flows.push.pusher import Pusher
            from asof.flows.stores import log_source_named

            source = log_source_named(self.snapshot, name)
            if source.type != "push":
                raise RequestError(
                    f"source {name!r} is fed by topic {source.topic!r}; rows cannot be pushed to it",
                    hint="send them to the topic, or define a PushSource",
                )
            with self._lock:
                pusher = self._pushers.get(name) or Pusher(self.parts, name)
                self._pushers[name] = pusher
        return pusher

    def take_over_pushes(self, push_source_name: str) -> int:
        """Apply and archive what stands in a push log and not in the archive, whoever pushed it; how many rows."""
        return self._pusher(push_source_name).take_over()

    def _archive_pushes(self) -> None:
        """Archive what this process and others have pushed, so that history holds all that is served."""
        for pusher in self._pushers.values():
            pusher.flush()
        for source in self.snapshot.project.sources.values():
            if source.type == "push" and self._has_unarchived(source):
                self._pusher(source.name).take_over()

    def _has_unarchived(self, source: Any) -> bool:
        from asof.log.protocol import UnknownTopic
        from asof.sql.partitions import ArchivePartition

        try:
            bounds = self.parts.log.bounds(source.topic)
        except UnknownTopic:
            return False
        base = ArchivePartition.of(0, epoch=self.snapshot.facts.epoch_of(source.name))
        archived = self.parts.offline.offsets(self.parts.archive_of(source), [base + number for number in bounds])
        return any(after - 1 > archived[base + number] for number, (_, after) in bounds.items())

    def write_to_online_store(self, feature_view_name: str, df: Rows) -> int:
        """Write rows of a view: a pushed one's go through its push log, a batch-fed one's to the online store alone."""
        from asof.flows.batch.write_rows import write_rows
        from asof.flows.stores import view_named

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
            start=_moment_given(start_date, "start_date"),
            end=_moment_given(end_date, "end_date"),
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

    def stream_status(self) -> list[dict[str, object]]:
        """Where each partition of each log stands."""
        from asof.flows.stream.status import stream_status

        return stream_status(self.parts)

    def backfill(self, source: str, *, progress: Progress = silent) -> int:
        """Load a log's batch source into its archive, once."""
        from asof.flows.batch.backfill import backfill

        return backfill(self.parts, source, progress=progress)

    def rebuild(self, views: Sequence[str] | None = None, *, progress: Progress = silent) -> dict[str, int]:
        """Build online rows anew: from the archives for logs, from the sources for batch views; view → rows."""
        from asof.flows.batch.materialize import materialize
        from asof.flows.stores import view_named
        from asof.flows.stream.rebuild import rebuild

        chosen = [view_named(self.snapshot, name) for name in views or self.snapshot.project.views]
        done = {}
        for view in chosen:
            if not view.online:
                continue
            if view.source.is_log:
                done[view.name] = rebuild(self.parts, view, progress=progress)
            else:
                done[view.name] = sum(
                    each.rows for each in materialize(self.parts, views=[view.name], full=True, progress=progress)
                )
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
    ) -> pa.Table:
        """A random sample of a view or service as an Arrow table; the same for the same seed."""
        from asof.flows.admin.sample import sample

        name = name if isinstance(name, str) else name.name
        return sample(
            self.parts, self.snapshot, name, n=n, seed=seed, by=by, online=online, functions=self._with_functions
        )

    def explain(self, reference: str, key: Mapping[str, object], *, at: datetime | str | None = None) -> Explanation:
        """Which rows or events made this value of this key, as of a moment."""
        from asof.flows.admin.explain import explain

        when = _moment_given(at, "at")
        return explain(self.parts, self.snapshot, reference, key, at=when, functions=self._with_functions)

    def audit(self, names: Sequence[str] | None = None, *, keys: int = AUDIT_KEYS, seed: int = SEED) -> AuditReport:
        """Compare what is served with history, over the events that each row has seen."""
        from asof.flows.admin.audit import audit

        for pusher in self._pushers.values():
            pusher.flush()
        return audit(self.parts, self.snapshot, names, keys=keys, seed=seed)

    def doctor(self) -> list[Check]:
        """One line on each part: whether it works, and what to do if not."""
        from asof.flows.admin.doctor import doctor

        return doctor(self.parts, clock_note=self.clock_note)

    def forget(self, entity: str, key: object) -> dict[str, object]:
        """Remove a key from archives, logs, online store and dead letters; name the training sets that hold it."""
        from asof.flows.admin.forget import forget

        for pusher in self._pushers.values():
            pusher.flush()
        return forget(self.parts, self.snapshot, entity, key)

    def dead_letters(self, source: str | None = None, limit: int = DEAD_LETTERS) -> pa.Table:
        """The newest dead letters, as an Arrow table."""
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

    def training_sets(self) -> list[dict[str, object]]:
        """The saved training sets, with how each was made."""
        from asof.flows.offline.training_sets.manifest import list_training_sets

        return list_training_sets(self.parts)

    def training_set(self, name: str) -> dict[str, object]:
        """One training set's manifest."""
        from asof.flows.offline.training_sets.manifest import training_set

        return training_set(self.parts, name)

    def read_training_set(self, name: str) -> pa.Table:
        """One training set's rows, as an Arrow table."""
        from asof.flows.offline.training_sets.manifest import read_training_set

        return read_training_set(self.parts, name)

    def rebuild_training_set(self, name: str) -> dict[str, object]:
        """Make a training set again, and say whether it is the same."""
        from asof.flows.offline.training_sets.rebuild import rebuild_training_set

        return rebuild_training_set(self.parts, name, functions=self._with_functions)

    def served_rows(self, partition: int) -> ServedRows:
        """What a server writes the features with that it keeps.

        Args:
            partition: tells the rows of one process from those of others.
        """
        from asof.flows.admin.feature_log import ServedRows

        return ServedRows(self.parts, partition)

    def served_features(self, service: str) -> pa.Table:
        """What a server has kept of a service's answers, as an Arrow table: see `server.feature_log_share`."""
        from asof.flows.admin.feature_log import served_features

        return served_features(self.parts, service)

    def history(self, limit: int = HISTORY_COMMITS) -> list[Commit]:
        """Who applied what when, newest first; without the commits that a worker or a run made of its own progress."""
        return self.parts.registry.history(self.project, limit, facts=False)

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
        return self._named("entity", "entities", name)

    def get_source(self, name: str) -> Source:
        return self._named("source", "sources", name)

    get_data_source = get_source

    def get_feature_view(self, name: str) -> FeatureView:
        return self._named("feature view", "views", name)

    def get_on_demand_feature_view(self, name: str) -> OnDemandFeatureView:
        return self._named("on-demand feature view", "on_demand_views", name)

    def get_feature_service(self, name: str) -> FeatureService:
        return self._named("feature service", "services", name)

    def _named(self, kind: str, group: str, name: str) -> Any:
        known = getattr(self.snapshot.project, group)
        if name not in known:
            raise NotFound(
                f"no {kind} {name!r} is applied",
                hint=nearest(name, known) or (f"there are {sorted(known)}" if known else "run `asof apply` first"),
            )
        return known[name]

    # ---- ending ----

    def _close_pushers(self) -> None:
        for name in list(self._pushers):
            self._pushers.pop(name).close()

    def close(self) -> None:
        """Archive what was pushed, and give back files and connections."""
        try:
            self._close_pushers()
        finally:
            if self._parts is not None:
                self._parts.close()
                self._parts = None

    def __enter__(self) -> FeatureStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<FeatureStore {self.project!r} at {self.config.path}>"


def _transform_in(sources: Mapping[str, Source], name: str) -> MessageTransform | None:
    source = sources.get(name)
    return source.transform if isinstance(source, LogSource) else None


def _moment_given(value: datetime | str | None, name: str) -> Micros | None:
    """A parameter that is a moment; an integer would be one of unknown unit."""
    if value is None:
        return None
    try:
        if isinstance(value, date | str):
            return micros(value)
    except ValueError:
        pass
    raise RequestError(
        f"{name}={value!r} is not a time",
        hint="give a datetime, or ISO 8601 text like '2026-11-23T12:00:00Z'",
    )


def _request_key(features: Any) -> Any:
    """What tells one request from another: references by their text, definitions by what is asked of them."""
    if isinstance(features, str):
        return features
    if isinstance(features, FeatureService):
        return ("service", features.name)
    try:
        parts = tuple(features)
    except TypeError as error:
        raise RequestError(
            f"features is {features!r}", hint="give references like 'view:feature', or a service"
        ) from error
    return parts if set(map(type, parts)) <= {str} else tuple(map(_part_key, parts))


def _part_key(part: Any) -> Any:
    if isinstance(part, Projection):
        features = None if part.features is None else tuple(part.features)
        return (part.view.name, features, part.alias, tuple(sorted(part.join_key_map.items())))
    return ("view", part.name) if isinstance(part, Definition) else part


def _clock_of(config: StoreConfig, given: Callable[[], datetime] | None) -> tuple[Clock, str]:
    """The store's clock, and what to say of it where it is not the system's."""
    if given is not None:
        if not isinstance(given(), datetime):
            raise ConfigError(f"clock= answers {given()!r}", hint="give a callable that answers an aware datetime")
        return (lambda: micros(given())), f"clock: {iso(micros(given()))} (given)"
    if config.clock:
        try:
            start = micros(config.clock)
        except ValueError as error:
            raise ConfigError(
                f"clock: {config.clock!r} is not a time", hint="write ISO 8601, for example 2026-11-23T12:00:00Z"
            ) from error
        return (lambda: start), f"clock: {iso(start)} (feature_store.yaml)"
    return system_clock, ""


def _who() -> str:
    with suppress(KeyError, OSError):
        return f"{getpass.getuser()}@{os.uname().nodename}"
    return "unknown"


__all__ = ["FeatureStore", "system_clock"]
