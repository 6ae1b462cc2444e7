"""The feature store as users hold it: one object over the configured stores, a verb per method.

What the verbs do is in `open_store` and `store_admin`; their docstrings are those of the reference. The verbs that
report on what is there are in `store_reports`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from asof.config import StoreConfig, load_config
from asof.defaults import AUDIT_KEYS, DEAD_LETTERS, HISTORY_COMMITS, SAMPLE_ROWS, SEED
from asof.definitions import Definition, FeatureService, FeatureView
from asof.errors import AsofError, ConfigError
from asof.flows.stores import Progress, silent
from asof.open_store import OpenStore
from asof.results import Records, TableResult
from asof.selection import FeatureReferences
from asof.store_admin import StoreAdmin
from asof.store_backups import StoreBackups
from asof.timing import PATIENCE_S, moment
from asof.values.frame_types import EntityFrame, Rows

if TYPE_CHECKING:
    from asof.definitions.facts import TrainingSet
    from asof.flows.admin.audit import AuditReport
    from asof.flows.admin.compact import CompactResult
    from asof.flows.admin.doctor import Check
    from asof.flows.admin.explain import Explanation
    from asof.flows.admin.forget import ForgetResult
    from asof.flows.admin.history import AppliedVersion
    from asof.flows.batch.materialize import MaterializeResult
    from asof.flows.offline.result import HistoricalResult
    from asof.flows.offline.training_sets.rebuild import RebuildResult
    from asof.flows.stream.dead_letters import DeadLetter, DeadLetterMessage, ReplayResult
    from asof.flows.stream.status import PartitionStatus
    from asof.online_response import OnlineResponse
    from asof.planning import Plan


class FeatureStore(StoreBackups):
    """A feature store: plan and apply definitions, read history for training, serve values now.

    Args:
        repo_path: the folder with feature_store.yaml and the Python files; the working directory where not given.
        fs_yaml_file: the configuration file itself; its folder is the repository where no `repo_path` is given.
        env: the environment, for `feature_store.<env>.yaml`.
        clock, system_clock: callables that return an aware datetime: the store's now; the system's, to stamp pushes.
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
        self._open = OpenStore(self.config, clock, system_clock)
        self._admin = StoreAdmin(self._open)
        super().__init__(self._open)

    # ---- definitions ----

    def now(self) -> datetime:
        """The store's now."""
        return moment(self._open.clock())

    def refresh_registry(self) -> None:
        """Look whether the registry changed, and read it if so."""
        self._open.refresh()

    def plan(self, objects: Sequence[Definition] | None = None) -> Plan:
        """What `apply` would change, and all findings of checking the definitions against the real sources.

        Args:
            objects: definitions to apply in addition to those that are applied; the repository's files where not given.
        """
        return self._open.plan(objects)

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
        return self._open.apply(plan, progress)

    def teardown(self, *, purge: bool = False) -> list[str]:
        """Remove this project's registry and online rows; its archives and logs, too, with `purge`.

        Returns:
            What was left where it is because other projects or environments use it, as text.
        """
        return self._open.teardown(purge=purge)

    # ---- reading ----

    def get_historical_features(
        self,
        entity_df: EntityFrame | None = None,
        features: FeatureReferences = (),
        full_feature_names: bool = False,
        *,
        known_at: bool | datetime | str | None = None,
        start_date: datetime | str | None = None,
        end_date: datetime | str | None = None,
    ) -> HistoricalResult:
        """Each feature as of the moment of every row of the entity frame.

        It writes, too: rows that were pushed and are not in the archive yet are archived first, so that history holds
        all that is served.

        Args:
            entity_df: a pandas, Polars or Arrow table, the path of a Parquet or CSV file, or a SELECT over the sources
                by name, with the join keys and one time per row; None reads all rows of a time range.
            features: references `view:feature`, views or parts of them (`view[["a"]]`), or a service or its name.
            full_feature_names: name columns `view__feature`.
            known_at: True: only what had been written down by each row's time; a moment: by then.
            start_date, end_date: without an entity frame, the event times to read, `[start, end)`.

        Returns:
            A lazy result: `.to_df() .to_polars() .to_arrow() .to_batches() .to_sql() .write(path) .save(name)`.
        """
        return self._open.historical(
            entity_df, features, full_feature_names, known_at=known_at, start_date=start_date, end_date=end_date
        )

    def get_online_features(
        self,
        features: FeatureReferences,
        entity_rows: Rows,
        full_feature_names: bool = False,
    ) -> OnlineResponse:
        """Each feature's value now, for each entity row.

        Args:
            features: references `view:feature`, views or parts of them (`view[["a"]]`), or a service or its name.
            entity_rows: dicts, a dict of columns, or a pandas, Polars or Arrow table: the join keys, and the
                request's values. What else they hold is passed over.

        Returns:
            One value per feature and row, features in the order asked for:
            `.to_dict() .to_df() .to_arrow() .to_numpy()`, and `.statuses` and `.event_times`.

        Raises:
            EntityFrameError: a column is missing, a join key is null, or a value does not fit its type.
        """
        return self._open.online(features, entity_rows, full_feature_names)

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
        return self._open.pushers.of(push_source_name).push(df, batch_id=batch_id)

    def send(
        self, source: str, messages: Sequence[bytes], *, keys: Sequence[bytes] | None = None
    ) -> list[tuple[int, int]]:
        """Send n messages to the topic of a source, as any producer does; they are durable when this returns.

        Args:
            keys: n keys; events of one key go to one partition. Without keys, all n go to one.

        Returns: each message's partition and offset.
        """
        return self._open.send(source, messages, keys=keys)

    def write_to_online_store(self, feature_view_name: str, df: Rows) -> int:
        """Write rows of a view: a pushed one's go through its push log, a batch-fed one's to the online store alone."""
        return self._open.write_online(feature_view_name, df)

    def materialize(
        self,
        start_date: datetime | str | None = None,
        end_date: datetime | str | None = None,
        feature_views: Sequence[str] | None = None,
        *,
        full: bool = False,
        progress: Progress = silent,
    ) -> Records[MaterializeResult]:
        """Bring the online store up to date from batch sources.

        Args:
            start_date, end_date: event times `[start, end)`; without a start, what is new since the last run.
            full: read everything again, and remove keys that the source no longer has.

        Returns:
            Per view: rows written, and until when it is up to date.
        """
        return self._open.materialize(start_date, end_date, feature_views, full=full, progress=progress)

    def materialize_incremental(
        self,
        end_date: datetime | str | None = None,
        feature_views: Sequence[str] | None = None,
        *,
        progress: Progress = silent,
    ) -> Records[MaterializeResult]:
        """Materialize what is new since the last run."""
        return self._open.materialize(None, end_date, feature_views, full=False, progress=progress)

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
            patience_s: how long to wait for a server that went away; one that was never reachable is not waited for.
            waiting: called once each time the worker starts to wait for a server.
        """
        return self._open.stream_run(
            sources, until_caught_up=until_caught_up, accept_gap=accept_gap, progress=progress, stop=stop,
            patience_s=patience_s, waiting=waiting,
        )  # fmt: skip

    def stream_status(self, source: str | None = None) -> Records[PartitionStatus]:
        """Where each partition of each log stands; of one log only, if a source is given."""
        return self._admin.stream_status(source)

    def backfill(self, source: str, *, progress: Progress = silent) -> int:
        """Load what a log's archive lacks of its batch source, each row once; returns the number of rows."""
        return self._open.backfill(source, progress)

    def rebuild(self, views: Sequence[str] | None = None, *, progress: Progress = silent) -> dict[str, int]:
        """Build online rows again: from the archives for logs, from the sources for batch views; view → rows."""
        return self._open.rebuild(views, progress)

    def compact(self, *, progress: Progress = silent) -> CompactResult:
        """Sort and join the files of the archives, and remove what no one can ask for any more."""
        return self._admin.compact(progress)

    def run_schedule(
        self, *, once: bool = False, stop: Event | None = None, progress: Progress = silent
    ) -> dict[str, int]:
        """Work through the configuration's schedule until stopped, or what is due `once`; outcome → number of runs."""
        return self._admin.run_schedule(once=once, stop=stop, progress=progress)

    # ---- looking ----

    def sample(
        self,
        name: str | FeatureView | FeatureService,
        *,
        n: int = SAMPLE_ROWS,
        seed: int = SEED,
        by: str = "rows",
        online: bool = False,
        progress: Progress = silent,
    ) -> TableResult:
        """A random sample of a view or service; the same for the same seed."""
        return self._admin.sample(name, n=n, seed=seed, by=by, online=online, progress=progress)

    def online_keys(self, view: str, limit: int = SAMPLE_ROWS) -> TableResult:
        """Some of the keys that are served of a feature view: the first that its online store has, in no known order.

        A view that is not online, or of which nothing is served yet, has none. Keys that are tagged `pii` are null.
        `sample` returns random ones.
        """
        return self._admin.online_keys(view, limit)

    def explain(self, reference: str, key: Mapping[str, object], *, at: datetime | str | None = None) -> Explanation:
        """Which rows or events made this value of this key, as of a moment."""
        return self._admin.explain(reference, key, at)

    def audit(
        self,
        names: Sequence[str] | None = None,
        *,
        keys: int = AUDIT_KEYS,
        seed: int = SEED,
        progress: Progress = silent,
    ) -> AuditReport:
        """Compare what is served with history, over the events that each row has seen.

        It writes, too: rows that this process pushed are archived first.
        """
        return self._admin.audit(names, keys=keys, seed=seed, progress=progress)

    def doctor(self, *, rows: bool = True) -> Records[Check]:
        """One line on each part: whether it works, and what to do if not.

        Args:
            rows: count the rows of batch sources, for which text files are read as a whole.
        """
        return self._admin.doctor(rows)

    def forget(self, entity: str, key: object) -> ForgetResult:
        """Remove a key from archives, logs, online store and dead letters; name the training sets that hold it."""
        return self._admin.forget(entity, key)

    def dead_letters(self, source: str | None = None, limit: int = DEAD_LETTERS) -> Records[DeadLetter]:
        """The newest dead letters."""
        return self._admin.dead_letters(source, limit)

    def dead_letter(self, id: str) -> DeadLetterMessage:
        """One dead letter with its raw bytes."""
        return self._admin.dead_letter(id)

    def replay_dead_letters(self, source: str, ids: Sequence[str] | None = None) -> ReplayResult:
        """Send dead letters that fit by now back through the log, each once."""
        return self._admin.replay_dead_letters(source, ids)

    def training_sets(self) -> Records[TrainingSet]:
        """The saved training sets, with how each was made."""
        return self._admin.training_sets()

    def training_set(self, name: str) -> TrainingSet:
        """One training set's manifest."""
        return self._admin.training_set(name)

    def read_training_set(self, name: str) -> TableResult:
        """One training set's rows."""
        return self._admin.read_training_set(name)

    def rebuild_training_set(self, name: str, *, progress: Progress = silent) -> RebuildResult:
        """Make a training set again, and say whether it is the same."""
        return self._admin.rebuild_training_set(name, progress)

    def served_features(self, service: str) -> TableResult:
        """What a server has kept of a service's responses: see `server.feature_log_share`."""
        return self._admin.served_features(service)

    def history(self, limit: int = HISTORY_COMMITS) -> Records[AppliedVersion]:
        """Who applied what when, newest first; without the commits that a worker or a run made of its own progress."""
        return self._admin.history(limit)

    # ---- ending ----

    def close(self) -> None:
        """Archive what was pushed, and give back files and connections."""
        self._open.close()

    def __enter__(self) -> FeatureStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<FeatureStore {self.project!r} at {self.config.path}>"


def open_store_of(store: FeatureStore) -> OpenStore:
    """What is behind a store, for Asof's own servers, demo and tests; no part of the public face."""
    return store._open


__all__ = ["FeatureStore", "open_store_of"]
