"""Plan: the changes that `apply` would make, and the findings of all checks."""

from __future__ import annotations

from typing import Any

from asof.definitions import LogSource, Project
from asof.derive import check_row_wise
from asof.errors import AsofError, SourceError, some
from asof.flows.apply.checks import (
    check_alike_columns,
    check_archives,
    check_environment,
    check_formats,
    check_functions,
    check_history,
    check_local_log,
    check_null_keys,
    check_offline_server,
    check_online_store,
    check_reach,
    check_removed,
    check_reserved_columns,
    check_transforms,
    check_values,
)
from asof.flows.apply.message_schemas import check_message_schemas
from asof.flows.stores import Stores
from asof.flows.stream.shared_logs import check_sharing
from asof.flows.stream.topics import check_logs
from asof.planning import Finding, Plan, check_declared_types, diff, resolve, users_of, with_declared_types


def make_plan(stores: Stores, project: Project) -> Plan:
    """The changes that `apply` would make, and all findings of checks against the real sources."""
    described: dict[str, Any] = {}
    conflicts: list[Finding] = []
    for source in project.sources.values():
        if isinstance(source, LogSource):
            continue
        try:
            reader = stores.readers.get(source.type)
            if reader is None:
                raise SourceError(
                    f"no reader for sources of type {source.type!r} is installed",
                    hint=f"installed readers: {some(sorted(stores.readers))}", where=source.where,
                )  # fmt: skip
            users = users_of(project, source.name)
            columns = reader.describe(with_declared_types(source, users))
            conflicts += check_declared_types(source, users, {each.name for each in columns if each.is_text})
            described[source.name] = columns
        except AsofError as error:
            described[source.name] = error
    applied = stores.registry.load(stores.project)
    resolved, findings = resolve(project, described, applied.project)
    plan = diff(applied, resolved).with_findings(findings)
    more = conflicts + check_reserved_columns(resolved) + check_functions(resolved, applied.project)
    if not plan.errors:
        # Of expressions that were parsed.
        more += check_alike_columns(resolved)
    more += check_removed(plan, applied.project)
    more += check_formats(stores, resolved) + check_transforms(stores, resolved)
    more += check_message_schemas(stores, resolved)
    server = check_offline_server(stores, resolved)
    more += server
    if not any(each.severity == "error" for each in server):
        more += check_reach(stores, resolved, described)
    more += check_logs(stores, resolved) + check_sharing(stores, resolved)
    more += check_local_log(stores, resolved) + check_environment(stores, resolved)
    if not plan.errors and not any(each.severity == "error" for each in more):
        more += check_archives(stores, resolved)
    if not plan.errors and not any(each.severity == "error" for each in more):
        more += check_values(stores, resolved)
    if not plan.errors and not any(each.severity == "error" for each in more):
        more += check_null_keys(stores, resolved)
    more += check_online_store(stores, resolved) + check_history(stores, resolved, applied)
    for view in resolved.on_demand_views.values():
        # Functions are checked only without errors so far: otherwise their inputs may have no types.
        if view.function is not None and not plan.errors:
            title = f"on-demand feature view {view.name!r}"
            for each in check_row_wise(view):
                # The check's text begins with location and object, which a finding has as fields.
                found = each.text.removeprefix(f"{view.where}: ").removeprefix(f"{title}: ")
                more.append(Finding(each.severity, title, view.where, "", found))
    return plan.with_findings(more)
