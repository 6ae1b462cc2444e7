"""Checks of definitions against the real sources and the engine, before anything is changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from asof.decoding import check_format
from asof.decoding.transform_check import check_transform
from asof.definitions import Definition, FeatureView, FileSource, LogSource, Project, Snapshot
from asof.definitions.identity import KnownFunction
from asof.display import counted
from asof.dtypes import from_arrow
from asof.errors import AsofError, DefinitionError, ExpressionError, MissingExtra, SourceError, StorageError
from asof.flows.batch.undated import UndatedCounts
from asof.flows.offline.inputs import rows_of
from asof.flows.offline.key_rows import whole_view
from asof.flows.rows.archive import archive_schema
from asof.flows.rows.history import not_loaded
from asof.flows.stores import Stores
from asof.flows.stream.transforms import transform_of
from asof.offline.protocol import ARRIVAL_COLUMNS
from asof.planning import Delete, Finding, Plan, users_of, with_declared_types
from asof.planning.fits import misfit
from asof.sources.protocol import Batches, ScanRequest
from asof.sql import archive as statements
from asof.sql.casts import cast_example
from asof.sql.names import alike
from asof.sql.query import PointInTime, RowFilter, columns_of
from asof.timing import LATEST


def check_reserved_columns(project: Project) -> list[Finding]:
    """Columns of logs that archives have themselves, or cannot tell apart: Delta tables and DuckDB go by lower case."""
    findings = []
    for source in project.sources.values():
        if not isinstance(source, LogSource):
            continue
        title = f"source {source.name!r}"
        findings += [
            Finding(
                "error", title, source.where, "column names that are not reserved for archives",
                f"column {field.name!r}", "rename it in the messages or with a transform",
            )
            for field in source.schema
            if field.name.lower() in ARRIVAL_COLUMNS or field.name.lower().startswith("asof_")
        ]  # fmt: skip
        if same := alike(field.name for field in source.schema):
            findings.append(
                Finding(
                    "error", title, source.where, "column names that differ by more than case",
                    f"columns {same[0]!r} and {same[1]!r}", "rename one in the messages or with a transform",
                )
            )  # fmt: skip
    return findings


def check_alike_columns(project: Project) -> list[Finding]:
    """Views that read columns whose names differ by case alone: in SQL and expressions that is one name to DuckDB."""
    return [
        Finding(
            "error", f"feature view {view.name!r}", view.where, "columns whose names differ by more than case",
            f"columns {same[0]!r} and {same[1]!r}", "read one of them, or rename one in the source",
        )
        for view in project.views.values()
        if (same := _alike_columns(view)) is not None
    ]  # fmt: skip


def _alike_columns(view: FeatureView) -> tuple[str, str] | None:
    """Two columns that a view reads whose names in the source, or in Asof, differ by case alone."""
    raw = sorted(columns_of(PointInTime((whole_view(view),)), view.source.name))
    return alike(raw) or alike(sorted(map(view.source.renamed, raw)))


def check_functions(project: Project, applied: Project) -> list[Finding]:
    """What decides the value of users' functions and cannot be compared, and packages in other versions than before."""
    findings = []
    for each, code, before in _codes(project, applied):
        title = f"{each.kind} {each.name!r}"
        for problem in code.problems if code.function is not None else ():
            findings.append(
                Finding(
                    "error", title, each.where, "",
                    f"its function uses {problem}: Asof cannot compare that between processes",
                    "make it a constant or a function of the repository, or give "
                    f"{'transform_version' if isinstance(each, LogSource) else 'version'}= and change that when its "
                    "meaning changes",
                )
            )  # fmt: skip
        for difference in code.package_differences(before) if before is not None else ():
            findings.append(
                Finding("warning", title, each.where, "", difference, "check that its results are the same")
            )
    return findings


def check_removed(plan: Plan, applied: Project) -> list[Finding]:
    """Definitions that were applied as objects, which a plan of the repository's files removes."""
    removed = {(each.kind, each.name) for each in plan.changes if isinstance(each, Delete)}
    return [
        Finding(
            "warning", f"{each.kind} {each.name!r}", each.where, "",
            "it was applied from Python (`store.apply([…])`), and no file of the repository defines it: this plan "
            "removes it", "to keep it, write its definition into a file of the repository",
        )
        for each in applied
        if (each.kind, each.name) in removed and not _is_of_a_file(each.where)
    ]  # fmt: skip


def check_local_log(stores: Stores, project: Project) -> list[Finding]:
    """A log of this machine alone next to a registry that other machines apply and serve from."""
    own = [source for source in project.sources.values() if isinstance(source, LogSource)]
    if not stores.local_log or not own:
        return []
    return [
        Finding(
            "error", f"source {own[0].name!r}", own[0].where, "a log that all machines of the registry reach",
            f"{stores.local_log}, on this machine, and a registry in a bucket",
            "give `log:` a server that all of them reach, or `local: true` if only this machine writes and reads it",
        )
    ]  # fmt: skip


def check_environment(stores: Stores, project: Project) -> list[Finding]:
    """Sources with variables that no process of this configuration may read for them once they are applied."""
    return [
        Finding(
            "warning", f"source {source.name!r}", source.where, "variables that feature_store.yaml lists",
            f"${{{unlisted[0]}}}",
            f"add {', '.join(unlisted)} to `environment: […]` there: once applied, definitions read only what it lists",
        )
        for source in project.sources.values()
        if (unlisted := stores.unlisted_variables(source))
    ]  # fmt: skip


def check_history(stores: Stores, project: Project, applied: Snapshot) -> list[Finding]:
    """Batch sources of logs whose rows are not loaded, and views that would count an event twice."""
    findings = []
    for source in project.sources_with_history():
        before = applied.project.sources.get(source.name)
        was_applied = isinstance(before, LogSource) and before.batch_source is not None
        if text := not_loaded(stores, applied, source):
            findings.append(
                Finding(
                    "warning" if was_applied else "note", f"source {source.name!r}", source.where, "", text,
                    "`asof apply` loads them, and `asof materialize` what is written there later",
                )
            )  # fmt: skip
    for view in project.views.values():
        log = view.source
        if not (view.is_aggregated and isinstance(log, LogSource)) or log.batch_source is None:
            continue
        if log.stream_from is None and not log.event_id:
            findings.append(
                Finding(
                    "warning", f"feature view {view.name!r}", view.where, "",
                    f"it aggregates source {log.name!r} and its batch source {log.batch_source.name!r}: an event "
                    "that is in both counts twice",
                    "give the source event_id=, the column that identifies an event, or stream_from=, the time from "
                    "which only its own events count",
                )
            )  # fmt: skip
    return findings


def _is_of_a_file(where: str) -> bool:
    """Whether the definition was read from the repository's files: their `where` is relative to its folder."""
    return bool(where) and not where.startswith("<") and not Path(where).is_absolute()


def _codes(project: Project, applied: Project) -> Iterator[tuple[Definition, KnownFunction, KnownFunction | None]]:
    """The users' functions of a project, each with what is applied under its name."""
    for name, view in project.on_demand_views.items():
        old = applied.on_demand_views.get(name)
        yield view, view.code, old.code if old is not None else None
    for name, source in project.sources.items():
        if isinstance(source, LogSource) and source.transform is not None and not source.transform.sql:
            before = applied.sources.get(name)
            known = before.transform if isinstance(before, LogSource) else None
            yield source, source.transform.code, known.code if known is not None else None


def check_transforms(stores: Stores, project: Project) -> list[Finding]:
    """Transforms in SQL that the engine refuses, the types of their columns, and functions that are not row-wise."""
    findings = []
    for source in project.sources.values():
        if not isinstance(source, LogSource) or source.transform is None:
            continue
        if not source.transform.sql:
            findings += _check_function(stores, source)
            continue
        empty = pa.schema([(field.name, field.dtype.arrow()) for field in source.message_fields]).empty_table()
        try:
            run = transform_of(stores, source)
            assert run is not None
            made = run(empty)
        except AsofError as error:
            cause = str(error.__cause__ or error.message.removeprefix(f"source {source.name!r}: ")).strip()
            findings.append(
                Finding("error", f"source {source.name!r}", source.where, "a transform of one message to one row",
                        cause.split("\n")[0], error.hint if isinstance(error, DefinitionError) else "fix the SELECT")
            )  # fmt: skip
            continue
        for field in source.schema:
            found = from_arrow(made.schema.field(field.name).type)
            if found is not None and not misfit(field.dtype, found)[0]:
                findings.append(
                    Finding("error", f"source {source.name!r}", source.where,
                            f"the transform's column {field.name!r} to be {field.dtype}", str(found),
                            f"write {cast_example('…', field.dtype)} AS {field.name}")
                )  # fmt: skip
    return findings


def _check_function(stores: Stores, source: LogSource) -> list[Finding]:
    """Whether a source's function depends on one message at a time."""
    assert source.transform is not None
    if source.transform.function is None:
        return []  # only its name is known here
    run = transform_of(stores, source)
    assert run is not None
    return [
        Finding(each.severity, f"source {source.name!r}", source.where, "", each.text, each.hint)
        for each in check_transform(source, run)
    ]


def check_formats(stores: Stores, project: Project) -> list[Finding]:
    """Schemas and types of messages that no worker could use."""
    findings = []
    for source in project.sources.values():
        if not isinstance(source, LogSource):
            continue
        try:
            check_format(source, stores.bounds)
        except MissingExtra:
            continue  # it is the workers that need the library
        except DefinitionError as error:
            findings.append(
                Finding("error", f"source {source.name!r}", source.where, "messages that can be read", error.message,
                        error.hint)
            )  # fmt: skip
    return findings


def check_archives(stores: Stores, project: Project) -> list[Finding]:
    """Columns of logs that their archives cannot hold, or hold as other types."""
    findings = []
    for source in project.sources.values():
        if not isinstance(source, LogSource):
            continue
        try:
            stores.offline.check(stores.archive_of(source), archive_schema(source))
        except StorageError as error:
            findings.append(
                Finding("error", f"source {source.name!r}", source.where, "", error.message, error.hint)
            )  # fmt: skip
    return findings


def check_offline_server(stores: Stores, project: Project) -> list[Finding]:
    """A server of the offline store that does not respond, and what its executors cannot run."""
    codes = [view.code for view in project.on_demand_views.values() if view.code.function is not None]
    packages = {
        name: version for code in codes if code.identity is not None for name, version in code.identity.packages.items()
    }
    try:
        runs = bool(codes) or stores.remote is not None
        problems = stores.offline.server_problems(packages, runs_functions=runs)
    except StorageError as error:
        return [Finding("error", "offline store", error.where, "", error.message, error.hint)]
    return [Finding("warning", "offline store", each.where, "", each.message, each.hint) for each in problems]


def check_online_store(stores: Stores, project: Project) -> list[Finding]:
    """An online store that `apply` could not use, and a setting by which it removes rows that have not expired."""
    if not any(view.online for view in project.views.values()):
        return []
    try:
        stores.online.check()
        evicts = stores.online.evicts()
    except StorageError as error:
        found = error.message.removeprefix("online store: ")
        return [Finding("error", "online store", "", "", found, error.hint)]
    if not evicts:
        return []
    return [
        Finding(
            "error", "online store", "", "a store that keeps rows until they expire", f"{evicts}, which removes others",
            "set the server's maxmemory-policy to noeviction",
        )
    ]  # fmt: skip


def check_reach(stores: Stores, project: Project, described: Mapping[str, Any]) -> list[Finding]:
    """Views whose source the offline store cannot reach."""
    findings = []
    for view in project.views.values():
        source = view.source
        if isinstance(source, LogSource) or isinstance(described.get(source.name), AsofError):
            continue
        try:
            rows = rows_of(stores, source, [view], columns=[source.timestamp_field])
        except (SourceError, ExpressionError):
            continue  # the checks of its columns have found that
        if not stores.offline.reaches(rows):
            findings.append(
                Finding(
                    "error", f"feature view {view.name!r}", view.where, "a source in the offline store's own database",
                    f"source {source.name!r} ({source.type}) outside of it",
                    stores.offline.reach_hint,
                )
            )  # fmt: skip
    return findings


def check_values(stores: Stores, project: Project) -> list[Finding]:
    """Values of files that do not fit the types of their columns: text, and files of several types."""
    findings = []
    for source in project.sources.values():
        if not isinstance(source, FileSource):
            continue
        users = users_of(project, source.name)
        try:
            columns = [field.name for field in with_declared_types(source, users).schema]
            times = [each for each in (source.timestamp_field, source.created_timestamp_column) if each]
            rows = rows_of(stores, source, users, columns=[*columns, *times])
            if isinstance(rows, Batches):
                for _ in rows.open(ScanRequest()):
                    pass
        except SourceError as error:
            found = error.message.removeprefix(f"source {source.name!r}: ")
            findings.append(
                Finding(
                    "error", f"source {source.name!r}", source.where, "values of the declared types", found, error.hint
                )
            )
    return findings


def check_null_keys(stores: Stores, project: Project) -> list[Finding]:
    """Rows with a null join key, or without an event time, which no read can find."""
    findings, undated = [], UndatedCounts(stores)
    for source in project.sources.values():
        if isinstance(source, LogSource) and source.batch_source and (rows := undated.of_history(source)):
            expected = (
                f"event times of the years 1 to 9999 in {source.batch_source.timestamp_field!r} of its batch source"
            )
            findings.append(_never_read(f"source {source.name!r}", source.where, expected, _undated(rows)))
    for view in project.views.values():
        source = view.source
        if isinstance(source, LogSource):
            continue
        columns = [source.raw(name) for name in view.join_keys]
        found = [
            (f"no nulls in {column!r}", f"{nulls} where it is null")
            for column, nulls in (_nulls(stores, view, columns) if columns else {}).items()
        ]
        if rows := undated.of(view, RowFilter(LATEST)):
            expected = f"event times of the years 1 to 9999 in {source.timestamp_field!r}"
            found.append((expected, _undated(rows)))
        findings += [_never_read(f"feature view {view.name!r}", view.where, *each) for each in found]
    return findings


def _undated(rows: int) -> str:
    return f"{counted(rows, 'row')} without one (null, infinite or outside)"


def _never_read(what: str, where: str, expected: str, found: str) -> Finding:
    hint = "such rows are never read; fix or filter them in the source"
    return Finding("warning", what, where, expected, found, hint)


def _nulls(stores: Stores, view: FeatureView, columns: Sequence[str]) -> dict[str, str]:
    """Column of a view's source → number of null rows, as text; only columns with nulls."""
    source = view.source
    reader = stores.readers.get(source.type)
    if reader is not None and reader.counts is not None:
        return reader.counts.nulls(source, columns)
    rows = rows_of(stores, source, [view], columns=columns)
    if rows is None:
        return {}
    row = stores.offline.sql(statements.count_nulls(columns), {"source": rows}).reader().read_all()
    found = {column: row[column][0].as_py() for column in columns}
    return {column: counted(nulls, "row") for column, nulls in found.items() if nulls}
