"""What the verbs of `FeatureStore` do that look into a store, or tidy it.

Like `open_store`, they load what they need when they are called.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from threading import Event
from typing import TYPE_CHECKING

from asof.defaults import AUDIT_KEYS, PROFILE_ROWS, SEED
from asof.definitions import FeatureService, FeatureView, Project, Snapshot
from asof.display import counted
from asof.errors import ConfigError, RequestError
from asof.flows.stores import Progress
from asof.open_store import OpenStore
from asof.repository import FunctionMismatch
from asof.results import Records, TableResult
from asof.timing import SECOND, moment_given

if TYPE_CHECKING:
    from asof.definitions.facts import TrainingSet
    from asof.flows.admin.audit import AuditReport
    from asof.flows.admin.compact import CompactResult
    from asof.flows.admin.doctor import Check
    from asof.flows.admin.explain import Explanation
    from asof.flows.admin.forget import ForgetResult
    from asof.flows.admin.history import AppliedVersion, VersionChanges
    from asof.flows.admin.schedule import ScheduledJobStatus
    from asof.flows.admin.source_schema import SchemaColumn
    from asof.flows.offline.training_sets.rebuild import RebuildResult
    from asof.flows.runs import Run
    from asof.flows.stream.dead_letters import DeadLetter, DeadLetterMessage, ReplayResult
    from asof.flows.stream.status import PartitionStatus
    from asof.flows.use import FeatureUse
    from asof.lineage import LineageGraph


class StoreAdmin:
    """The verbs that look into an open store, or tidy it."""

    def __init__(self, store: OpenStore) -> None:
        self._store = store
        self._lineage: tuple[Snapshot, LineageGraph] | None = None

    # ---- looking ----

    def sample(
        self, name: str | FeatureView | FeatureService, *, n: int, seed: int, by: str, online: bool, progress: Progress
    ) -> TableResult:
        from asof.flows.admin.sample import sample
        from asof.flows.rows.history import logs_with_history

        name = name if isinstance(name, str) else name.name
        snapshot = self._store.snapshot()
        self._store.histories.warn(logs_with_history(snapshot, name))
        rows = sample(
            self._store.stores, snapshot, name, n=n, seed=seed, by=by, online=online,
            functions=self._store.repository.with_functions, progress=progress,
        )  # fmt: skip
        return TableResult(rows, f"Sample of {name!r}")

    def online_keys(self, view: str, limit: int) -> TableResult:
        from asof.flows.admin.served_keys import online_keys

        keys = online_keys(self._store.stores, self._store.snapshot(), view, limit=limit)
        return TableResult(keys, f"Served keys of {view!r}")

    def explain(self, reference: str, key: Mapping[str, object], at: datetime | str | None) -> Explanation:
        from asof.flows.admin.explain import explain

        if not isinstance(key, Mapping):
            raise RequestError(
                f"the key to explain {reference!r} for is {key!r}; expected the value of each join key by its name",
                hint="write for example {'user_id': 7}",
            )
        when = moment_given(at, "at")
        return explain(
            self._store.stores,
            self._store.snapshot(),
            reference,
            key,
            at=when,
            functions=self._store.repository.with_functions,
        )

    def audit(self, names: Sequence[str] | None, *, keys: int, seed: int, progress: Progress) -> AuditReport:
        from asof.flows.admin.audit import audit, audit_records
        from asof.flows.runs import AUDIT, recorded_run

        self._store.pushers.flush()
        stores = self._store.stores
        with recorded_run(stores, AUDIT) as notes:
            report = audit(stores, self._store.snapshot(), names, keys=keys, seed=seed, progress=progress)
            notes.add_views({each.view: each.keys or 0 for each in report.views})
            notes.details |= {"values": report.values, "differences": len(report)}
            notes.records += audit_records(report)
        return report

    def doctor(self, rows: bool) -> Records[Check]:
        from asof.flows.admin.doctor import doctor

        def differences(project: Project) -> list[FunctionMismatch]:
            self._store.definitions()
            return self._store.repository.differences(project)

        return doctor(
            self._store.stores, rows=rows, clock_note=self._store.clock_note, differences=differences,
            schedule=self._store.config.schedule,
        )  # fmt: skip

    def schedule_status(self) -> Records[ScheduledJobStatus]:
        from asof.flows.admin.schedule import schedule_status

        return schedule_status(self._store.stores, self._store.config.schedule)

    def run_schedule(self, *, once: bool, stop: Event | None, progress: Progress) -> dict[str, int]:
        from asof.flows.admin.profile import profile
        from asof.flows.admin.schedule import run_schedule

        if not self._store.config.schedule:
            raise ConfigError(
                "feature_store.yaml has no schedule", hint="add one, such as `schedule: {materialize: '*/15 * * * *'}`"
            )

        def materialized(views: Sequence[str] | None, progress: Progress) -> None:
            self._store.materialize(None, None, views, full=False, progress=progress)

        def compacted(views: Sequence[str] | None, progress: Progress) -> None:
            self.compact(progress)

        def audited(views: Sequence[str] | None, progress: Progress) -> str | None:
            # Other keys each time.
            seed = self._store.stores.system_clock() // SECOND
            report = self.audit(views, keys=AUDIT_KEYS, seed=seed, progress=progress)
            return None if report.ok else f"{counted(len(report), 'difference')}; see `asof audit --seed {seed}`"

        def profiled(views: Sequence[str] | None, progress: Progress) -> str | None:
            self._store.pushers.flush()
            report = profile(
                self._store.stores, self._store.snapshot(), views, start=None, end=None, n=PROFILE_ROWS, seed=SEED,
                compare=None, keep=True, functions=self._store.repository.with_functions, progress=progress,
            )  # fmt: skip
            return None if report.ok else "an expectation does not hold; see `asof profile --check`"

        jobs = {"materialize": materialized, "compact": compacted, "audit": audited, "profile": profiled}
        return run_schedule(
            self._store.stores, self._store.config.schedule, jobs, stop=stop or Event(), once=once, progress=progress
        )

    def dead_letters(self, source: str | None, limit: int) -> Records[DeadLetter]:
        from asof.flows.stream.dead_letters import list_dead_letters

        return list_dead_letters(self._store.stores, source, limit)

    def dead_letter(self, id: str) -> DeadLetterMessage:
        from asof.flows.stream.dead_letters import show_dead_letter

        return show_dead_letter(self._store.stores, id)

    def replay_dead_letters(self, source: str, ids: Sequence[str] | None) -> ReplayResult:
        from asof.flows.stream.dead_letters import replay_dead_letters

        return replay_dead_letters(self._store.stores, source, ids)

    def stream_status(self, source: str | None) -> Records[PartitionStatus]:
        from asof.flows.stream.status import stream_status

        return stream_status(self._store.stores, source)

    def source_schema(self, name: str) -> Records[SchemaColumn]:
        from asof.flows.admin.source_schema import source_schema

        return source_schema(self._store.stores, self._store.snapshot(), name)

    def history(self, limit: int) -> Records[AppliedVersion]:
        from asof.flows.admin.history import applied_versions

        return applied_versions(self._store.stores, limit)

    def use(self, days: int) -> Records[FeatureUse]:
        from asof.flows.use import feature_use

        return feature_use(self._store.stores, days)

    def runs(self, kind: str | None, limit: int) -> Records[Run]:
        from asof.flows.runs import list_runs

        return list_runs(self._store.stores, kind, limit)

    def lineage(self) -> LineageGraph:
        from asof.flows.admin.lineage import lineage_of

        snapshot = self._store.snapshot()
        known = self._lineage
        if known is None or known[0] is not snapshot:
            known = self._lineage = snapshot, lineage_of(self._store.stores, snapshot)
        return known[1]

    def version_changes(self, version: int) -> VersionChanges:
        from asof.flows.admin.history import version_changes

        return version_changes(self._store.stores, version)

    def training_sets(self) -> Records[TrainingSet]:
        from asof.flows.offline.training_sets.manifest import list_training_sets

        return list_training_sets(self._store.stores)

    def training_set(self, name: str) -> TrainingSet:
        from asof.flows.offline.training_sets.manifest import saved_training_set

        return saved_training_set(self._store.stores, name)

    def training_set_changes(self, name: str) -> list[str]:
        from asof.flows.offline.training_sets.rebuild import changes_since

        return changes_since(self._store.stores, name)

    def read_training_set(self, name: str) -> TableResult:
        from asof.flows.offline.training_sets.manifest import read_training_set

        return TableResult(read_training_set(self._store.stores, name), f"Training set {name!r}")

    def rebuild_training_set(self, name: str, progress: Progress) -> RebuildResult:
        from asof.flows.offline.training_sets.rebuild import rebuild_training_set
        from asof.flows.runs import REBUILD, recorded_run

        with recorded_run(self._store.stores, REBUILD) as notes:
            notes.details["training_set"] = name
            result = rebuild_training_set(
                self._store.stores, name, functions=self._store.repository.with_functions, progress=progress
            )
            notes.rows = result.rows_now
            notes.details |= {"equal": result.equal, "differing": result.differing, "why": list(result.why)}
        return result

    def served_features(self, service: str) -> TableResult:
        from asof.flows.admin.feature_log import served_features

        return TableResult(served_features(self._store.stores, service), f"Served features of {service!r}")

    # ---- tidying ----

    def compact(self, progress: Progress) -> CompactResult:
        from asof.flows.admin.compact import compact
        from asof.flows.runs import COMPACT, recorded_run

        with recorded_run(self._store.stores, COMPACT) as notes:
            result = compact(self._store.stores, self._store.snapshot(), progress=progress)
            notes.sources |= {name: dict(numbers) for name, numbers in result.archives.items()}
            notes.details["expired"] = result.expired
        return result

    def forget(self, entity: str, key: object) -> ForgetResult:
        from asof.flows.admin.forget import forget

        self._store.pushers.flush()
        return forget(self._store.stores, self._store.snapshot(), entity, key)


__all__ = ["StoreAdmin"]
