"""Apply a plan: build new online rows in addition to the current ones, then switch in one commit."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress

from asof.definitions import FeatureView, LogSource, Project, Snapshot, Source
from asof.display import counted
from asof.errors import CheckFailed, RegistryConflict, StorageError
from asof.flows.batch.backfill import with_history
from asof.flows.batch.load_history import HistoryLoad
from asof.flows.batch.materialize import materialize
from asof.flows.facts import commit_change
from asof.flows.generations.names import next_generation
from asof.flows.generations.progress import TableProgress, write_progress
from asof.flows.generations.switch import drop_generations
from asof.flows.records import refuse_unfinished_restore
from asof.flows.rows.archive import archive_schema
from asof.flows.runs import LOAD_HISTORY, RunNotes, recorded_run
from asof.flows.stores import Progress, Stores, current_generation, online_views, silent, table_of
from asof.flows.stream.rebuild import fill, wait_for_workers
from asof.flows.stream.topics import make_topic
from asof.planning import Create, CreateArchive, NewGeneration, Plan, Update


def apply_plan(stores: Stores, plan: Plan, *, progress: Progress = silent) -> Snapshot:
    """Run exactly the steps of a plan.

    Topics and archives are created first, and batch sources of logs are loaded into them as far as they are not yet,
    also where the plan is empty. Then new online rows are built next to the old ones, from staged
    definitions. One commit switches definitions and generations together, so that readers never see one without the
    other. Tables that are no longer read are dropped last.

    Raises:
        CheckFailed: the plan has errors; nothing was changed.
        RegistryConflict: another apply ran since the plan was made; nothing was changed.
        RegistryError: a restore has not come to its end; nothing was changed.
    """
    if plan.errors:
        raise CheckFailed([str(finding) for finding in plan.errors])
    refuse_unfinished_restore(stores)
    for source in _log_sources(plan):
        make_topic(stores, source)
        lookups = lookups_of(plan.project, source)
        stores.offline.create(stores.archive_of(source), archive_schema(source), lookups=lookups)
    # Their rows are checked before anything is changed.
    loads = [HistoryLoad(stores, source, progress=progress) for source in plan.project.sources_with_history()]
    missing = {load.source.name: load.check() for load in loads}
    if plan.is_empty:
        _upgrade_archives(stores, plan.project)
        for load in loads:
            _load(stores, load, missing[load.source.name])
            _feed(stores, stores.registry.load(stores.project), load.source, progress)
        return stores.registry.load(stores.project)
    token = uuid.uuid4().hex
    builds = [plan.project.views[step.view] for step in plan.changes if isinstance(step, NewGeneration)]
    staged, names = _stage(stores, plan, builds, token)
    for load in loads:
        _load(stores, load, missing[load.source.name])
    _build(stores, staged, builds, names, progress)
    for view in builds:
        if view.source.is_log and current_generation(staged, view) is not None:
            wait_for_workers(stores, view, names[view.name])
    before = stores.registry.load(stores.project)
    snapshot = _switch(stores, plan, names, token)
    drop_generations(stores, before, snapshot)
    for load in loads:
        _feed(stores, snapshot, load.source, progress)
    return snapshot


def _upgrade_archives(stores: Stores, project: Project) -> None:
    """Add the columns that archives of an earlier version of Asof lack, where this process may."""
    for source in project.sources.values():
        if isinstance(source, LogSource) and stores.offline.rows(stores.archive_of(source)) is not None:
            # Others than its owner go on without, and hear at the next write which statement adds them.
            with suppress(StorageError):
                stores.offline.create(
                    stores.archive_of(source), archive_schema(source), lookups=lookups_of(project, source)
                )


def _load(stores: Stores, load: HistoryLoad, missing: int) -> None:
    """Load history, which is a run of its own where rows are missing."""
    with recorded_run(stores, LOAD_HISTORY) if missing else nullcontext(RunNotes()) as notes:
        notes.add_source(load.source.name, load.load())


def _feed(stores: Stores, snapshot: Snapshot, source: LogSource, progress: Progress) -> None:
    for view in online_views(snapshot, source):
        with_history(stores, view, progress=progress)


def _log_sources(plan: Plan) -> list[LogSource]:
    """The log sources that the plan changes or builds rows from, each once."""
    project = plan.project
    sources: dict[str, Source] = {}
    for step in plan.changes:
        match step:
            case Create(kind="source", name=name) | Update(kind="source", name=name) | CreateArchive(source=name):
                sources[name] = project.sources[name]
            case (
                Create(kind="feature view", name=name)
                | Update(kind="feature view", name=name)
                | NewGeneration(view=name)
            ):
                # A new key needs another lookup in the archive.
                source = project.views[name].source
                sources[source.name] = project.sources.get(source.name, source)
    return [source for source in sources.values() if isinstance(source, LogSource)]


def lookups_of(project: Project, source: LogSource) -> list[list[str]]:
    """The columns for lookups in the archive: each view's keys, then the event time."""
    views = [view for view in project.views.values() if view.source.name == source.name]
    return [[*(source.raw(key) for key in view.join_keys), source.timestamp_field] for view in views]


def _build(
    stores: Stores, staged: Snapshot, views: Sequence[FeatureView], generations: Mapping[str, str], progress: Progress
) -> None:
    batch_fed = {view.name: (view, generations[view.name]) for view in views if not view.source.is_log}
    for view in views:
        if view.name not in batch_fed:
            fill(stores, view, generations[view.name], progress=progress)
    for view, generation in batch_fed.values():
        stores.online.prepare(table_of(stores.project, view, generation))
    # Those that were online before: their new rows are complete before readers switch to them.
    into = {name: each for name, each in batch_fed.items() if name in staged.facts.materialized}
    if into:
        materialize(stores, views=list(into), full=True, into=into, progress=progress)
    for view, generation in batch_fed.values():
        table = table_of(stores.project, view, generation)
        write_progress(stores.online, table, TableProgress(built=stores.clock()))
        stores.online.mark(table)


def _stage(stores: Stores, plan: Plan, builds: list[FeatureView], token: str) -> tuple[Snapshot, dict[str, str]]:
    """Commit the new definitions next to the applied ones, with the generations to build."""
    base = stores.registry.load_version(stores.project, plan.version) if plan.version else None
    names: dict[str, str] = {}

    def staged(current: Snapshot) -> Snapshot:
        if current.version != plan.version and base is not None and current.project.content() != base.project.content():
            raise _overtaken(stores, plan)
        if plan.version == 0 and list(current.project):
            raise _overtaken(stores, plan)
        facts = current.facts.with_staged(token, plan.project.content())
        for view in builds:
            names[view.name] = next_generation(facts, view)
            facts = facts.with_building(view.name, names[view.name])
        return current.with_facts(facts)

    return commit_change(stores, staged, note="staged an apply"), names


def _switch(stores: Stores, plan: Plan, names: Mapping[str, str], token: str) -> Snapshot:
    """Commit the definitions and their generations together."""

    def switched(now: Snapshot) -> Snapshot:
        if now.facts.staged is None or now.facts.staged.token != token:
            raise _overtaken(stores, plan)
        online = {view.name for view in plan.project.views.values() if view.online}
        where = {f"{each.kind}/{each.name}": each.where for each in plan.project}
        facts = now.facts.with_applied(online, where)
        if plan.version == 0:
            facts = facts.with_environment(uuid.uuid4().hex[:8])
        for name, generation in names.items():
            facts = facts.with_current(name, generation)
        return Snapshot(now.version, stores.project, plan.project, facts)

    return commit_change(stores, switched, note=f"apply: {counted(plan.definitions, 'change')}")


def _overtaken(stores: Stores, plan: Plan) -> RegistryConflict:
    # The last change of definitions; workers may have committed progress after it.
    last = [each for each in stores.registry.history(stores.project, 1, facts=False) if each.version > plan.version]
    last = last or stores.registry.history(stores.project, 1)
    by = f" by {last[0].who} (version {last[0].version}: {last[0].note})" if last else ""
    return RegistryConflict(
        f"project {stores.project!r} changed{by} since this plan was made; nothing was applied",
        hint="run `asof plan` again and review the changes",
    )


__all__ = ["apply_plan", "lookups_of"]
