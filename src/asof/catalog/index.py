"""What pages look up in one applied snapshot, made once per version and not per page."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING

from asof.catalog.entries import CatalogEntry, entries_of
from asof.catalog.viewer import Owner, Viewer
from asof.definitions import (
    Entity,
    FeatureService,
    FeatureView,
    OnDemandFeatureView,
    Projection,
    RequestSource,
    Snapshot,
    Source,
)
from asof.definitions.project import Project

if TYPE_CHECKING:
    from asof.catalog.health import Health
    from asof.catalog.search import CatalogSearch

View = FeatureView | OnDemandFeatureView

SHOWN = 4
"""How many indexes of a part of the project are kept, for viewers who may not see all of it."""


class CatalogIndex:
    """The objects of a snapshot, and how they hang together.

    Args:
        snapshot: as the registry has it.
        before: the index of an earlier snapshot: what is made of definitions alone is taken from it, if they are equal.
    """

    def __init__(self, snapshot: Snapshot, before: CatalogIndex | None = None) -> None:
        self.snapshot = snapshot
        self.project: Project = snapshot.project
        self._lock = Lock()
        self._entries_lock = Lock()
        self._entries: list[CatalogEntry] | None = None
        self._ranked_by: object = None
        # Names of views → the index of them alone.
        self._shown: dict[frozenset[str], CatalogIndex] = {}
        self._shown_lock = Lock()
        self._services: dict[str, list[FeatureService]] = defaultdict(list)
        self._on_demand: dict[str, list[OnDemandFeatureView]] = defaultdict(list)
        self._by_source: dict[str, list[FeatureView]] = defaultdict(list)
        self._by_entity: dict[str, list[FeatureView]] = defaultdict(list)
        for service in self.project.services.values():
            for name in dict.fromkeys(part.view.name for part in service.features):
                self._services[name].append(service)
        for derived in self.project.on_demand_views.values():
            for name in dict.fromkeys(each.view.name for each in derived.sources if isinstance(each, Projection)):
                self._on_demand[name].append(derived)
        for view in self.project.views.values():
            self._by_source[view.source.name].append(view)
            for entity in view.entities:
                self._by_entity[entity.name].append(view)
        # Most versions are of facts: a search over ten thousand features is not made again for them.
        if (
            before is not None
            and before.project == self.project
            and before.snapshot.facts.where == snapshot.facts.where
        ):
            self._lock = before._lock
            self._entries = before._entries
            for name in ("_by_view", "_by_name", "_search"):
                if name in before.__dict__:
                    self.__dict__[name] = before.__dict__[name]

    def prepare(self) -> None:
        """Make what the first search would wait for; `find_by_name` does meanwhile."""
        with self._lock:
            len(self._search)

    # ---- objects ----

    def view(self, name: str) -> View | None:
        return self.project.views.get(name) or self.project.on_demand_views.get(name)

    def source(self, name: str) -> Source | RequestSource | None:
        return self.project.sources.get(name) or self.project.request_sources.get(name)

    def entity(self, name: str) -> Entity | None:
        return self.project.entities.get(name)

    def views(self) -> list[View]:
        return [*self.project.views.values(), *self.project.on_demand_views.values()]

    # ---- how they hang together ----

    def services_of(self, view: str) -> Sequence[FeatureService]:
        """The services that have features of the view."""
        return self._services.get(view, ())

    def on_demand_of(self, view: str) -> Sequence[OnDemandFeatureView]:
        """The on-demand views that read the view."""
        return self._on_demand.get(view, ())

    def views_of_source(self, source: str) -> Sequence[FeatureView]:
        return self._by_source.get(source, ())

    def views_of_entity(self, entity: str) -> Sequence[FeatureView]:
        return self._by_entity.get(entity, ())

    # ---- what a viewer may see ----

    def shows_view(self, viewer: Viewer, view: View) -> bool:
        """Whether the viewer may read the view and, of an on-demand view, all views that it is made of."""
        return viewer.may("read", _with_inputs(view))

    def shows_source(self, viewer: Viewer, source: str) -> bool:
        """Whether the viewer may read one of the source's views, or everything."""
        return viewer.may("read") or any(viewer.may("read", [view]) for view in self.views_of_source(source))

    def shows_entity(self, viewer: Viewer, entity: str) -> bool:
        return viewer.may("read") or any(viewer.may("read", [view]) for view in self.views_of_entity(entity))

    def shows_service(self, viewer: Viewer, service: FeatureService) -> bool:
        return viewer.may("read") or viewer.may(
            "read", [each for part in service.features for each in _with_inputs(part.view)]
        )

    def shows(self, viewer: Viewer, entry: CatalogEntry) -> bool:
        """Whether an entry may be shown to the viewer."""
        if viewer.may("read"):
            return True
        if entry.kind in ("view", "on-demand-view", "feature"):
            view = self.view(entry.name.partition(":")[0])
            return view is not None and self.shows_view(viewer, view)
        if entry.kind == "service":
            service = self.project.services.get(entry.name)
            return service is not None and self.shows_service(viewer, service)
        return (self.shows_source if entry.kind == "source" else self.shows_entity)(viewer, entry.name)

    def counts(self, viewer: Viewer) -> dict[str, int]:
        """Kind of catalog entry → how many the viewer may see; kinds without any are left out."""
        project = self.project
        views = [each for each in project.views.values() if self.shows_view(viewer, each)]
        derived = [each for each in project.on_demand_views.values() if self.shows_view(viewer, each)]
        sources = (*project.sources, *project.request_sources)
        found = {
            "feature": sum(len(each.feature_names) for each in (*views, *derived)),
            "view": len(views), "on-demand-view": len(derived),
            "service": sum(self.shows_service(viewer, each) for each in project.services.values()),
            "entity": sum(self.shows_entity(viewer, each) for each in project.entities),
            "source": sum(self.shows_source(viewer, each) for each in sources),
        }  # fmt: skip
        return {kind: count for kind, count in found.items() if count}

    # ---- search ----

    @property
    def entries(self) -> list[CatalogEntry]:
        with self._entries_lock:
            # A search that goes by names waits here for the thread that prepares the others, and then has them too.
            if self._entries is None:
                self._entries = entries_of(self.project)
            return self._entries

    @cached_property
    def _by_view(self) -> dict[str, list[CatalogEntry]]:
        found: dict[str, list[CatalogEntry]] = defaultdict(list)
        for each in self.entries:
            if each.kind in ("view", "on-demand-view", "feature"):
                found[each.name.partition(":")[0]].append(each)
        return found

    def entries_of_view(self, view: str) -> Sequence[CatalogEntry]:
        """The entries of a view, also an on-demand one, and of its features."""
        return self._by_view.get(view, ())

    @cached_property
    def _by_name(self) -> dict[tuple[str, str], CatalogEntry]:
        return {(each.kind, each.name): each for each in self.entries}

    def entry(self, kind: str, name: str) -> CatalogEntry:
        """The entry of something that is applied.

        Raises:
            KeyError: it is not.
        """
        return self._by_name[kind, name]

    def find(
        self,
        text: str,
        *,
        limit: int,
        viewer: Viewer,
        health: Health | None = None,
        stale: bool = False,
        unused: bool = False,
        **filters: str | None,
    ) -> list[CatalogEntry]:
        """The best matches among what the viewer may see; see `CatalogSearch.find` and `filter_of`.

        Args:
            health: of entries that match equally well, the used, fresh and audited come first.
        """
        if not viewer.may("read"):
            shown = self._shown_to(viewer)
            return shown.find(text, limit=limit, viewer=Owner(), health=health, stale=stale, unused=unused, **filters)
        keeps = self._filter(health=health, stale=stale, unused=unused, **filters)
        with self._lock:
            # By what it is made of: a health that says what is late is a copy.
            if health is not None and self._ranked_by is not health.views:
                self._search.rank_by(health.rank)
                self._ranked_by = health.views
            return self._search.find(text, limit=limit, keeps=keeps)

    def find_by_name(
        self,
        text: str,
        *,
        limit: int,
        viewer: Viewer,
        health: Health | None = None,
        stale: bool = False,
        unused: bool = False,
        **filters: str | None,
    ) -> list[CatalogEntry]:
        """Entries with the text in their names, without any preparation: those that begin with it first.

        Args: see `find`.
        """
        if not viewer.may("read"):
            shown = self._shown_to(viewer)
            return shown.find_by_name(
                text, limit=limit, viewer=Owner(), health=health, stale=stale, unused=unused, **filters
            )
        keeps = self._filter(health=health, stale=stale, unused=unused, **filters)
        text = text.strip().lower()
        begins: list[CatalogEntry] = []
        holds: list[CatalogEntry] = []
        for each in self.entries:
            name = each.name.lower()
            if text in name and (keeps is None or keeps(each)):
                is_first = name.startswith(text) or name.rpartition(":")[2].startswith(text)
                (begins if is_first else holds).append(each)
                if len(begins) == limit:
                    break
        return [*begins, *holds][:limit]

    def _filter(
        self, *, health: Health | None, stale: bool, unused: bool, **filters: str | None
    ) -> Callable[[CatalogEntry], bool] | None:
        """What is found of all; None for everything."""
        # NumPy's share of the search is not loaded by pages that do without it.
        from asof.catalog.search import filter_of

        return filter_of(stale=stale, unused=unused, health=health, **filters)

    def _shown_to(self, viewer: Viewer) -> CatalogIndex:
        """The index of what the viewer may see, as if there were nothing else.

        Entries name other objects, and a search goes by all terms: a filter on what it finds would still tell of a
        hidden name whether it is there.
        """
        project = self.project
        views = {name: each for name, each in project.views.items() if self.shows_view(viewer, each)}
        derived = {name: each for name, each in project.on_demand_views.items() if self.shows_view(viewer, each)}
        key = frozenset((*views, *derived))
        with self._shown_lock:
            found = self._shown.pop(key, None)
            if found is None:
                services = project.services.items()
                found = CatalogIndex(
                    replace(
                        self.snapshot,
                        project=Project(
                            {name: each for name, each in project.entities.items() if self.shows_entity(viewer, name)},
                            {name: each for name, each in project.sources.items() if self.shows_source(viewer, name)},
                            {}, views, derived,
                            {name: each for name, each in services if self.shows_service(viewer, each)},
                        ),
                    )
                )  # fmt: skip
            # The last ones stay, in the order of their use.
            self._shown[key] = found
            while len(self._shown) > SHOWN:
                del self._shown[next(iter(self._shown))]
        return found

    @cached_property
    def _search(self) -> CatalogSearch:
        from asof.catalog.search import CatalogSearch

        return CatalogSearch(self.entries)


def _with_inputs(view: object) -> list[View]:
    """The view and, at any depth, the views that it is made of."""
    if isinstance(view, FeatureView):
        return [view]
    if not isinstance(view, OnDemandFeatureView):
        return []
    inputs = [each.view for each in view.sources if isinstance(each, Projection)]
    return [view, *(each for below in inputs for each in _with_inputs(below))]
