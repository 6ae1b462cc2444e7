"""The lineage of a whole project: a directed graph from sources to services and training sets.

An edge leads from what is read to what is made of it. A column that a feature's value or condition is made of has an
edge to the feature; one that matters to all features of a view (a key, a time, …) has an edge to the view:

    source ─ column ──────────────┬ feature ─┬ service
       │        └─ (key, time) ┐  │          ├ training set
       └───────────────────── view┘          └ on-demand view ─ feature ─ …
       entity ─────────────────┘                   request source ┘
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import cached_property

from asof.definitions import FeatureView, LogSource, OnDemandFeatureView, Projection, RequestSource, Source
from asof.definitions.facts import TrainingSet
from asof.definitions.project import Project
from asof.lineage.columns import FeatureColumns, columns_of_view, history_columns_of_view
from asof.lineage.neighbourhood import Neighbourhood, neighbourhood_of
from asof.lineage.nodes import KINDS, LineageNode
from asof.sql.row_select import RowSelect


class LineageGraph:
    """The nodes and edges of a project, made once for each version of it.

    Args:
        training_sets: name → manifest, as the facts of a snapshot have them.
        selects: source → the SQL of its transform, as the engine reads it. Without it each column of a message may
            matter to each feature.
    """

    def __init__(
        self,
        project: Project,
        training_sets: Mapping[str, TrainingSet] | None = None,
        selects: Mapping[str, RowSelect] | None = None,
    ) -> None:
        self._after: dict[LineageNode, dict[LineageNode, tuple[str, ...]]] = {}
        self._before: dict[LineageNode, dict[LineageNode, tuple[str, ...]]] = {}
        for entity in project.entities.values():
            self._node("entity", entity.name)
        for source in project.sources.values():
            self._add_source(source)
        for request in project.request_sources.values():
            self._node("request-source", request.name)
        for view in project.views.values():
            self._add_view(view, (selects or {}).get(view.source.name))
        for on_demand in project.on_demand_views.values():
            self._add_on_demand_view(on_demand)
        for service in project.services.values():
            self._add_features(self._node("service", service.name), service.features, "served in")
        for name, manifest in (training_sets or {}).items():
            self._add_training_set(name, manifest)

    # ---- looking ----

    @property
    def nodes(self) -> Collection[LineageNode]:
        """All nodes."""
        return self._after.keys()

    @property
    def edges(self) -> int:
        """The number of edges."""
        return sum(map(len, self._after.values()))

    def node(self, kind: str, name: str) -> LineageNode | None:
        """The node of this kind and name; None if there is none."""
        found = LineageNode(kind, name)
        return found if found in self._after else None

    def named(self, name: str) -> list[LineageNode]:
        """The nodes with this name, of whatever kind, in the order of `KINDS`."""
        return [node for kind in KINDS if (node := self.node(kind, name)) is not None]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of all nodes, each once."""
        return tuple(dict.fromkeys(node.name for node in self._after))

    def downstream(self, node: LineageNode) -> Mapping[LineageNode, tuple[str, ...]]:
        """What is made of the node, with the reasons, one step."""
        return self._after[node]

    def upstream(self, node: LineageNode) -> Mapping[LineageNode, tuple[str, ...]]:
        """What the node is made of, with the reasons, one step."""
        return self._before[node]

    def impact(self, node: LineageNode) -> dict[str, list[LineageNode]]:
        """All that may change when the node does, by kind: its descendants, nearest first; kinds without any are left
        out.

        Raises:
            KeyError: there is no such node.
        """
        return _by_kind(_reached(node, self._after))

    def origins(self, node: LineageNode) -> dict[str, list[LineageNode]]:
        """All that the node is made of, by kind: its ancestors, nearest first.

        Raises:
            KeyError: there is no such node.
        """
        return _by_kind(_reached(node, self._before))

    def neighbourhood(
        self,
        node: LineageNode,
        *,
        upstream: int = 1,
        downstream: int = 1,
        limit: int = 60,
        expanded: Collection[str] = (),
    ) -> Neighbourhood:
        """What is near a node, small enough to be drawn: see `neighbourhood_of`.

        Raises:
            KeyError: there is no such node.
        """
        return neighbourhood_of(
            self._before, self._after, node, upstream=upstream, downstream=downstream, limit=limit, expanded=expanded
        )

    # ---- building ----

    def _node(self, kind: str, name: str) -> LineageNode:
        node = LineageNode(kind, name)
        if node not in self._after:
            self._after[node] = {}
            self._before[node] = {}
        return node

    def _edge(self, before: LineageNode, after: LineageNode, reason: str) -> None:
        known = self._after[before].get(after, ())
        if reason not in known:
            self._after[before][after] = self._before[after][before] = (*known, reason)

    def _column(self, source: str, column: str) -> LineageNode:
        node = self._node("column", f"{source}:{column}")
        self._edge(LineageNode("source", source), node, "column of")
        return node

    def _add_source(self, source: Source) -> None:
        node = self._node("source", source.name)
        fields = source.message_fields if isinstance(source, LogSource) else source.schema
        for field in fields:
            self._column(source.name, field.name)
        if isinstance(source, LogSource) and source.batch_source is not None:
            self._edge(self._node("source", source.batch_source.name), node, "history of")

    def _add_view(self, view: FeatureView, select: RowSelect | None) -> None:
        node = self._node("view", view.name)
        self._edge(LineageNode("source", view.source.name), node, "rows of")
        for entity in view.entities:
            self._edge(LineageNode("entity", entity.name), node, "entity of")
        for name in view.feature_names:
            self._edge(node, self._node("feature", f"{view.name}:{name}"), "feature of")
        for found in (columns_of_view(view, select=select), history_columns_of_view(view)):
            self._add_columns(node, found)

    def _add_columns(self, view: LineageNode, found: Mapping[str, FeatureColumns]) -> None:
        for name, columns in found.items():
            feature = LineageNode("feature", f"{view.name}:{name}")
            for reason, names in (
                ("value of", columns.value), ("condition of", columns.where), ("order of rows of", columns.order)
            ):  # fmt: skip
                for column in names:
                    self._edge(self._column(columns.source, column), feature, reason)
        for columns in list(found.values())[:1]:
            # They are the same for all features of a view.
            for reason, names in (
                ("join key of", columns.keys), ("time of", columns.times), ("deletion in", columns.deletes),
                ("event ID of", columns.event_id),
            ):  # fmt: skip
                for column in names:
                    self._edge(self._column(columns.source, column), view, reason)

    def _add_on_demand_view(self, view: OnDemandFeatureView) -> None:
        node = self._node("on-demand-view", view.name)
        for part in view.sources:
            if isinstance(part, RequestSource):
                self._edge(self._node("request-source", part.name), node, "request values of")
        self._add_features(node, [each for each in view.sources if isinstance(each, Projection)], "input of")
        for name in view.feature_names:
            self._edge(node, self._node("feature", f"{view.name}:{name}"), "feature of")

    def _add_features(self, node: LineageNode, parts: Iterable[Projection], reason: str) -> None:
        for part in parts:
            for name in part.features or part.view.feature_names:
                self._edge(self._node("feature", f"{part.view.name}:{name}"), node, reason)

    def _add_training_set(self, name: str, manifest: TrainingSet) -> None:
        node = self._node("training-set", name)
        for part in manifest.projections:
            features = part.features
            if features is None:
                views = (LineageNode(kind, part.view) for kind in ("view", "on-demand-view"))
                features = [each.label for view in views for each in self._after.get(view, ())]
            for each in features:
                # A feature that was removed since then is no longer part of the project.
                if (feature := self.node("feature", f"{part.view}:{each}")) is not None:
                    self._edge(feature, node, "saved in")


def _reached(node: LineageNode, edges: Mapping[LineageNode, Iterable[LineageNode]]) -> list[LineageNode]:
    """All nodes that the edges lead to, nearest first."""
    found = {node: None}
    ring = list(edges[node])
    while ring:
        new = [each for each in dict.fromkeys(ring) if each not in found]
        found |= dict.fromkeys(new)
        ring = [after for each in new for after in edges[each]]
    return list(found)[1:]


def _by_kind(nodes: Iterable[LineageNode]) -> dict[str, list[LineageNode]]:
    kinds: dict[str, list[LineageNode]] = {}
    for node in nodes:
        kinds.setdefault(node.kind, []).append(node)
    return {kind: kinds[kind] for kind in KINDS if kind in kinds}


__all__ = ["LineageGraph"]
