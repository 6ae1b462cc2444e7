"""For tests of flows: the embedded parts over a folder, a clock set by hand, and definitions applied by hand."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from asof.definitions import FeatureView, Snapshot, project_of
from asof.definitions.base import Definition
from asof.definitions.facts import Facts
from asof.dtypes import DType
from asof.expressions import check, parse
from asof.flows.offline.key_rows import view_as_of
from asof.flows.online.read import OnlineReader
from asof.flows.rows.batch import input_schema
from asof.flows.stores import Stores
from asof.log.file.log import FileLog
from asof.offline.duckdb.engine import DuckDBOffline
from asof.online.sqlite.store import SqliteOnlineStore
from asof.registry.sqlite import SqliteRegistry
from asof.selection import ViewRead, select
from asof.sources.file import FileReader
from asof.testing.clock import MicrosClock
from asof.timing import Clock, Micros


def embedded_stores(
    tmp_path: Path, *, clock: Clock | None = None, project: str = "shop", readers: Mapping[str, Any] | None = None
) -> Stores:
    """The embedded products, all below `tmp_path`; relative paths of file sources are relative to it.

    Args:
        clock: by default a `MicrosClock` that stands at `NOW`.
        readers: source type → reader, beside the one for files.
    """
    clock = clock or MicrosClock()
    return Stores(
        project=project,
        registry=SqliteRegistry(tmp_path / "registry.db"),
        offline=DuckDBOffline(tmp_path / "archive", threads=1),
        online=SqliteOnlineStore(tmp_path / "online.db"),
        log=FileLog(tmp_path / "log", clock=clock),
        readers={"file": FileReader(tmp_path), **(readers or {})},
        clock=clock,
        who="tests",
    )


def close(stores: Stores) -> None:
    """Let go of all files, so that the folder can be copied."""
    for part in (stores.registry, stores.online, stores.log, stores.offline):
        part.close()  # type: ignore[attr-defined]


def copied_stores(built: Path, tmp_path: Path) -> Stores:
    """The embedded parts over a copy of a folder that other parts (closed since) have filled."""
    shutil.copytree(built, tmp_path, dirs_exist_ok=True)
    return embedded_stores(tmp_path)


def apply_by_hand(stores: Stores, *definitions: Definition, **facts: Any) -> Snapshot:
    """Commit definitions with the types of their features, in place of what was applied, and keep the facts.

    Nothing is checked against real sources, and no online table is prepared: a view's schema has to name the types of
    its join keys, and its source's (or its own) those of the columns that aggregations use.
    """
    before = stores.registry.load(stores.project)
    project = project_of([typed(each) if isinstance(each, FeatureView) else each for each in definitions])
    kept = Facts.of({**before.facts.content(), **facts})
    after = Snapshot(before.version, stores.project, project, kept)
    return stores.registry.commit(after, expected=before.version, who=stores.who, when=stores.clock(), note="by hand")


def typed(view: FeatureView) -> FeatureView:
    """The view with the types of its aggregations, as `plan` resolves them."""
    schema = input_schema(view)

    def dtype_of(column: str) -> DType | None:
        return check(parse(column), schema) if column else None

    aggregations = [each.with_dtype(each.output_dtype(dtype_of(each.column))) for each in view.aggregations]
    return view.resolved(schema=view.schema, aggregations=aggregations)


def reader_of(stores: Stores, view: str) -> OnlineReader:
    """A reader of all features of one applied view; what a row cannot answer it reads from history."""
    snapshot = stores.registry.load(stores.project)

    def history(read: ViewRead, keys: Any, at: Micros) -> Any:
        count = len(next(iter(keys.values()))) if keys else 1
        return view_as_of(stores, snapshot, read, keys, at), [None] * count

    return OnlineReader(stores, snapshot, select(snapshot, view), history=history)


def read_online(stores: Stores, view: str, keys: Any, *, at: Micros | None = None) -> dict[str, list[Any]]:
    """Every feature of a view for some keys (a dict of columns, or dicts), as of the clock or `at`."""
    response, _ = reader_of(stores, view).read(keys, at=stores.clock() if at is None else at)
    return response.to_dict()
