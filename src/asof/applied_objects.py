"""The applied definitions as users list and get them: two verbs per kind."""

from __future__ import annotations

from asof.definitions import Entity, FeatureService, FeatureView, OnDemandFeatureView, Source
from asof.open_store import OpenStore


class AppliedObjects:
    """Lists and gets what is applied in a store."""

    def __init__(self, store: OpenStore) -> None:
        self._applied = store

    def list_entities(self) -> list[Entity]:
        return list(self._applied.snapshot().project.entities.values())

    def list_sources(self) -> list[Source]:
        return list(self._applied.snapshot().project.sources.values())

    list_data_sources = list_sources

    def list_feature_views(self) -> list[FeatureView]:
        return list(self._applied.snapshot().project.views.values())

    def list_on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        return list(self._applied.snapshot().project.on_demand_views.values())

    def list_feature_services(self) -> list[FeatureService]:
        return list(self._applied.snapshot().project.services.values())

    def get_entity(self, name: str) -> Entity:
        return self._applied.named("entity", self._applied.snapshot().project.entities, name)

    def get_source(self, name: str) -> Source:
        return self._applied.named("source", self._applied.snapshot().project.sources, name)

    get_data_source = get_source

    def get_feature_view(self, name: str) -> FeatureView:
        return self._applied.named("feature view", self._applied.snapshot().project.views, name)

    def get_on_demand_feature_view(self, name: str) -> OnDemandFeatureView:
        return self._applied.named("on-demand feature view", self._applied.snapshot().project.on_demand_views, name)

    def get_feature_service(self, name: str) -> FeatureService:
        return self._applied.named("feature service", self._applied.snapshot().project.services, name)


__all__ = ["AppliedObjects"]
