"""The parts that a flow works with: stores, log, readers, clock; and how views are named in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from asof.decoding import Schemas
from asof.definitions import FeatureView, LogSource, Project, Snapshot, Source
from asof.definitions.project import decode_project
from asof.definitions.transforms import MessageTransform
from asof.errors import NotFound, nearest, some
from asof.log.protocol import Log
from asof.offline.protocol import Archive, OfflineStore
from asof.online.protocol import OnlineStore, Table
from asof.registry.protocol import Registry
from asof.sources.protocol import SourceReader
from asof.timing import Clock

Progress = Callable[[str, int, int | None], None]
"""Told how far a long flow is: what it does, how much is done, of how much (None: not known)."""


def silent(what: str, done: int, total: int | None) -> None:
    """Progress that no one watches."""


@dataclass(frozen=True)
class Parts:
    """What a store is made of.

    Args:
        project: the project's name.
        log: where the project's own topics stand; that of a source may be elsewhere (`log_of`).
        readers: source type → its reader, for sources that are not logs.
        clock: the store's now.
        who: who commits to the registry.
        max_row_bytes: a packed row above this answers null.
    """

    project: str
    registry: Registry
    offline: OfflineStore
    online: OnlineStore
    log: Log
    readers: Mapping[str, SourceReader]
    clock: Clock
    who: str = ""
    max_row_bytes: int = 256 * 1024
    options: Mapping[str, Any] = field(default_factory=dict)

    def log_of(self, source: LogSource) -> Log:
        """Where a source's own topic stands. Replayed letters and pushes always go through `log`."""
        return self.log

    def archive_of(self, source: Source) -> Archive:
        return Archive(self.project, source.name)

    def schemas_of(self, source: LogSource) -> Schemas | None:  # for parts that are configured
        """The schema registry that a source's messages name; None where they name none, or none is configured."""
        return None

    def function_of(self, source: LogSource) -> MessageTransform | None:
        """A source's transform with its function at hand; None where this process does not have it."""
        return source.transform

    def shared_stores(self) -> Mapping[str, Sequence[str]]:
        """Other configurations → the stores whose data they have in common with this one, by the names of sections."""
        return {}

    def letters_of(self, source: Source) -> Archive:
        return Archive(self.project, source.name, "letters")


def table_of(project: str, view: FeatureView, generation: str) -> Table:
    """The online table of one generation of a view.

    Rows of views that a log feeds are read, merged and written back, since a row may hold events that are not due yet.
    """
    return Table(project, view.name, generation, "state" if view.is_aggregated or view.source.is_log else "latest")


def current_generation(snapshot: Snapshot, view: FeatureView) -> str | None:
    """The generation that readers use; None before the first one stands."""
    return snapshot.facts.generations_of(view.name).current


def building_generation(snapshot: Snapshot, view: FeatureView) -> str | None:
    """The generation that is being built beside it, if any."""
    return snapshot.facts.generations_of(view.name).building


def staged_project(snapshot: Snapshot) -> Project | None:
    """The definitions that an apply is building online rows for, if one is under way."""
    staged = snapshot.facts.staged
    return decode_project(staged.project, {}) if staged else None


def online_views(snapshot: Snapshot, source: Source) -> list[FeatureView]:
    """The views of a source that are kept online."""
    return [view for view in snapshot.project.views_of(source.name) if view.online]


def view_named(snapshot: Snapshot, name: str) -> FeatureView:
    """The applied feature view of this name.

    Raises:
        NotFound: none is applied.
    """
    view = snapshot.project.views.get(name)
    if view is None:
        raise NotFound(
            f"no feature view {name!r} is applied",
            hint=nearest(name, snapshot.project.views) or "run `asof list views` to see what there is",
        )
    return view


def log_source_named(snapshot: Snapshot, name: str) -> LogSource:
    """The applied log or push source of this name.

    Raises:
        NotFound: none is applied, or it is no log.
    """
    source = snapshot.project.sources.get(name)
    if not isinstance(source, LogSource):
        logs = [each.name for each in snapshot.project.sources.values() if each.is_log]
        what = "is not fed by a log" if source is not None else "is not applied"
        others = f"the sources that are: {some(logs)}" if logs else "run `asof apply` first"
        raise NotFound(f"source {name!r} {what}", hint=nearest(name, logs) or others)
    return source


def raw_keys(source: Source, views: list[FeatureView]) -> list[str]:
    """The source's columns that hold a join key of any of the views, each once."""
    return list(dict.fromkeys(source.raw(key) for view in views for key in view.join_keys))
