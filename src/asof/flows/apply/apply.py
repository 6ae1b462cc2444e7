"""Apply a plan: build what changes beside what is there, then switch everything at once."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from asof.definitions import FeatureView, LogSource, Project, Snapshot
from asof.errors import CheckFailed, RegistryConflict
from asof.flows.facts import change_facts
from asof.flows.generations.names import BUILT
from asof.flows.rows.archive import archive_schema
from asof.flows.stores import Parts, Progress, silent, table_of
from asof.flows.stream.rebuild import drop_generations, fill, next_generation, wait_for_workers
from asof.flows.stream.topics import make_topic
from asof.planning import NewGeneration, Plan

_ATTEMPTS = 50


def apply_plan(parts: Parts, plan: Plan, *, progress: Progress = silent) -> Snapshot:
    """Make everything as the plan says.

    New online rows are built beside the old ones under a staged copy of the definitions; then one commit switches
    definitions and generations together, so that readers never see one without the other.

    Raises:
        CheckFailed: the plan has errors; nothing was changed.
        RegistryConflict: someone else applied since the plan was made; nothing was changed.
    """
    if plan.errors:
        raise CheckFailed([str(finding) for finding in plan.errors])
    if plan.is_empty:
        return parts.registry.load(parts.project)
    for source in plan.project.sources.values():
        if isinstance(source, LogSource):
            make_topic(parts, source)
            lookups = _lookups(plan.project, source)
            parts.offline.create(parts.archive_of(source), archive_schema(source), lookups=lookups)
    token = uuid.uuid4().hex
    fresh = [plan.project.views[change.view] for change in plan.changes if isinstance(change, NewGeneration)]
    names = _stage(parts, plan, fresh, token)
    for view in fresh:
        _build(parts, view, names[view.name], progress)
    for view in fresh:
        wait_for_workers(parts, view, names[view.name])
    before = parts.registry.load(parts.project)
    snapshot = _switch(parts, plan, names, token)
    drop_generations(parts, before, snapshot)
    return snapshot


def _lookups(project: Project, source: LogSource) -> list[list[str]]:
    """The columns by which the archive's rows will be looked up: each view's keys, then the event time."""
    views = [view for view in project.views.values() if view.source.name == source.name]
    return [[*(source.raw(key) for key in view.join_keys), source.timestamp_field] for view in views]


def _build(parts: Parts, view: FeatureView, generation: str, progress: Progress) -> None:
    if view.source.is_log:
        fill(parts, view, generation, progress=progress)
        return
    table = table_of(parts.project, view, generation)
    parts.online.prepare(table)
    snapshot = parts.registry.load(parts.project)
    if view.name in snapshot.facts.get("materialized", {}):
        from asof.flows.batch.materialize import materialize  # only here, and it reads build's words

        # It was online before: its new rows stand before readers switch to them.
        materialize(parts, views=[view.name], full=True, into={view.name: (view, generation)}, progress=progress)
    parts.online.write_progress(table, {BUILT: parts.clock()})


def _stage(parts: Parts, plan: Plan, fresh: list[FeatureView], token: str) -> dict[str, str]:
    """Commit the definitions-to-be beside the applied ones, with the generations that are to be built."""
    base = parts.registry.load_version(parts.project, plan.version) if plan.version else None
    names: dict[str, str] = {}

    def staged(facts: Mapping[str, Any]) -> dict[str, Any]:
        current = parts.registry.load(parts.project)
        if current.version != plan.version and base is not None and current.project.content() != base.project.content():
            raise _overtaken(parts, plan)
        if plan.version == 0 and list(current.project):
            raise _overtaken(parts, plan)
        generations = dict(facts.get("generations", {}))
        for view in fresh:
            names[view.name] = next_generation(current, view)
            known = dict(generations.get(view.name, {}))
            generations[view.name] = {
                "current": known.get("current"), "building": names[view.name], "count": known.get("count", 0) + 1
            }  # fmt: skip
        return {"generations": generations, "staged": {"token": token, "project": plan.project.content()}}

    change_facts(parts, staged, note="staged an apply")
    return names


def _switch(parts: Parts, plan: Plan, names: Mapping[str, str], token: str) -> Snapshot:
    """Commit the definitions and their generations together."""
    for attempt in range(_ATTEMPTS):
        now = parts.registry.load(parts.project)
        if now.facts.get("staged", {}).get("token") != token:
            raise _overtaken(parts, plan)
        generations = {
            name: known for name, known in now.facts.get("generations", {}).items()
            if name in plan.project.views and plan.project.views[name].online
        }  # fmt: skip
        for name, generation in names.items():
            generations[name] = {**generations[name], "current": generation, "building": None}
        where = {f"{each.kind}/{each.name}": each.where for each in plan.project}
        facts = {key: value for key, value in now.facts.items() if key != "staged"}
        facts |= {"generations": generations, "where": where}
        snapshot = Snapshot(now.version, parts.project, plan.project, facts)
        try:
            note = f"apply: {len(plan.changes)} changes"
            return parts.registry.commit(snapshot, expected=now.version, who=parts.who, when=parts.clock(), note=note)
        except RegistryConflict:
            if attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


def _overtaken(parts: Parts, plan: Plan) -> RegistryConflict:
    # Whoever changed definitions since then, however often workers committed their progress after it.
    last = [each for each in parts.registry.history(parts.project, 1, facts=False) if each.version > plan.version]
    last = last or parts.registry.history(parts.project, 1)
    by = f" by {last[0].who} (version {last[0].version}: {last[0].note})" if last else ""
    return RegistryConflict(
        f"project {parts.project!r} was changed{by} since this plan was made; nothing of this one was applied",
        hint="run `asof plan` again and look at what changed",
    )


__all__ = ["apply_plan"]
