"""Plan and apply: check definitions against the real sources, build what changes, and switch everything at once."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from asof.definitions import FeatureView, LogSource, Project, Snapshot, Source
from asof.derive import check_row_wise
from asof.dtypes import from_arrow
from asof.errors import AsofError, CheckFailed, RegistryConflict, SourceError
from asof.flows.facts import change_facts
from asof.flows.rows.archive import archive_schema, replay_topic
from asof.flows.stores import Parts, Progress, silent, table_of
from asof.flows.stream.ingest import BUILT
from asof.flows.stream.rebuild import drop_generations, fill, next_generation, wait_for_workers
from asof.flows.stream.shared_logs import check_sharing, delete_or_leave, leave
from asof.flows.stream.topics import check_logs, make_topic
from asof.flows.stream.transforms import transform_of
from asof.offline.protocol import ARRIVAL_COLUMNS
from asof.planning import Finding, NewGeneration, Plan, diff, resolve
from asof.planning.fits import misfit
from asof.sources.protocol import Need
from asof.sql import archive as statements

_ATTEMPTS = 50


def make_plan(parts: Parts, project: Project) -> Plan:
    """What `apply` would change, and all findings of checking the definitions against the real sources."""
    described: dict[str, Any] = {}
    for source in project.sources.values():
        if isinstance(source, LogSource):
            continue
        try:
            reader = parts.readers.get(source.type)
            if reader is None:
                raise SourceError(
                    f"no reader for sources of type {source.type!r} is installed",
                    hint=f"there are readers for {sorted(parts.readers)}", where=source.where,
                )  # fmt: skip
            described[source.name] = reader.describe(source)
        except AsofError as error:
            described[source.name] = error
    resolved, findings = resolve(project, described)
    plan = diff(parts.registry.load(parts.project), resolved).with_findings(findings)
    more = _reserved_columns(resolved) + _transforms(parts, resolved)
    more += _out_of_reach(parts, resolved, described) + check_logs(parts, resolved) + check_sharing(parts, resolved)
    if not plan.errors:
        more += _null_keys(parts, resolved)
    for view in resolved.on_demand_views.values():
        # The functions' inputs have types only where nothing stands in the way.
        if view.function is not None and not plan.errors:
            title = f"on-demand feature view {view.name!r}"
            for each in check_row_wise(view):
                # The check's own text begins with the place and the object, which a finding says by itself.
                found = each.text.removeprefix(f"{view.where}: ").removeprefix(f"{title}: ")
                more.append(Finding(each.severity, title, view.where, "", found))
    return plan.with_findings(more)


def _reserved_columns(project: Project) -> list[Finding]:
    return [
        Finding(
            "error", f"source {source.name!r}", source.where, "column names that archives do not use themselves",
            f"column {field.name!r}", "rename it in the message or with a transform",
        )
        for source in project.sources.values()
        if isinstance(source, LogSource)
        for field in source.schema
        if field.name in ARRIVAL_COLUMNS
    ]  # fmt: skip


def _transforms(parts: Parts, project: Project) -> list[Finding]:
    """What the engine says to the SQL between messages and rows, and to the types that it makes."""
    findings = []
    for source in project.sources.values():
        if not isinstance(source, LogSource) or source.transform is None or not source.transform.sql:
            continue
        empty = pa.schema([(field.name, field.dtype.arrow()) for field in source.message_fields]).empty_table()
        run = transform_of(parts, source)
        assert run is not None
        try:
            made = run(empty)
        except AsofError as error:
            cause = str(error.__cause__ or error.message).strip().split("\n")[0]
            findings.append(
                Finding("error", f"source {source.name!r}", source.where, "a transform that the engine takes", cause,
                        "mend the SELECT")
            )  # fmt: skip
            continue
        for field in source.schema:
            found = from_arrow(made.schema.field(field.name).type)
            if found is not None and not misfit(field.dtype, found)[0]:
                findings.append(
                    Finding("error", f"source {source.name!r}", source.where,
                            f"the transform's column {field.name!r} to be {field.dtype}", str(found),
                            f"write CAST(… AS …) AS {field.name}")
                )  # fmt: skip
    return findings


def _out_of_reach(parts: Parts, project: Project, described: Mapping[str, Any]) -> list[Finding]:
    """Views whose rows the offline store cannot compute over, said before anything runs."""
    findings = []
    for view in project.views.values():
        source = view.source
        if isinstance(source, LogSource) or isinstance(described.get(source.name), AsofError):
            continue
        if not parts.offline.reaches(parts.readers[source.type].scan(source, Need())):
            findings.append(
                Finding(
                    "error", f"feature view {view.name!r}", view.where, "a source in the offline store's own database",
                    f"source {source.name!r} ({source.type}), which is elsewhere",
                    "load its rows into that database and declare a PostgresSource, or use an offline store of type "
                    "duckdb, which reads from everywhere",
                )
            )  # fmt: skip
    return findings


def _null_keys(parts: Parts, project: Project) -> list[Finding]:
    """Rows that no read can find, because a join key or the event time is null."""
    findings = []
    for view in project.views.values():
        source = view.source
        if isinstance(source, LogSource):
            continue
        columns = [source.raw(name) for name in view.join_keys] + [source.timestamp_field]
        for column, nulls in _nulls(parts, source, columns).items():
            findings.append(
                Finding(
                    "warning",
                    f"feature view {view.name!r}",
                    view.where,
                    f"no nulls in {column!r}",
                    f"{nulls} where it is null",
                    "such rows are never found; mend or filter them in the source",
                )  # fmt: skip
            )
    return findings


def _lookups(project: Project, source: LogSource) -> list[list[str]]:
    """The columns by which the archive's rows will be looked up: each view's keys, then the event time."""
    views = [view for view in project.views.values() if view.source.name == source.name]
    return [[*(source.raw(key) for key in view.join_keys), source.timestamp_field] for view in views]


def _nulls(parts: Parts, source: Source, columns: Sequence[str]) -> dict[str, str]:
    """Column → how many of its rows are null, in words; only those that have some."""
    from asof.flows.offline.inputs import rows_of

    reader = parts.readers.get(source.type)
    if reader is not None and reader.counts is not None:
        return reader.counts.nulls(source, columns)
    rows = rows_of(parts, source)
    if rows is None:
        return {}
    row = parts.offline.sql(statements.count_nulls(columns), {"source": rows}).reader().read_all()
    found = {column: row[column][0].as_py() for column in columns}
    return {column: f"{nulls} rows" for column, nulls in found.items() if nulls}


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


def teardown(parts: Parts, *, purge: bool = False) -> list[str]:
    """Remove everything of exactly this project: registry, online rows; archives and logs only with `purge`.

    Returns:
        What was left where it is because others use it, in words.
    """
    snapshot = parts.registry.load(parts.project)
    left = []
    parts.online.drop_project(parts.project)
    if purge:
        for source in snapshot.project.sources.values():
            if not isinstance(source, LogSource):
                continue
            own = [source.topic] if source.type == "push" else []
            for topic in [*own, replay_topic(source)]:
                if others := delete_or_leave(parts, topic):
                    left.append(f"topic {topic!r} stays: it is also that of {' and '.join(others)}")
            if source.type == "log":
                # Programs that send to it may be anyone's.
                leave(parts, source.topic)
        parts.offline.drop_project(parts.project)
    parts.registry.drop(parts.project)
    return left


__all__ = ["apply_plan", "make_plan", "teardown"]
