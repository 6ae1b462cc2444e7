"""A project: all definitions of a repository by kind and name; and a snapshot: one applied version of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import msgspec

from asof.definitions.base import Definition
from asof.definitions.entities import Entity, Field
from asof.definitions.expectations import Expectation
from asof.definitions.facts import Facts
from asof.definitions.logs import LogSource
from asof.definitions.on_demand import OnDemandFeatureView
from asof.definitions.services import FeatureService
from asof.definitions.source_types import source_of
from asof.definitions.sources import FileSource, RequestSource, Source
from asof.definitions.views import FeatureView, Projection
from asof.definitions.windows import ORDERED, Aggregation
from asof.errors import DuplicateDefinition, RegistryError

FORMAT = 1
"""Format version of the snapshot's JSON; newer ones are refused."""

KINDS = ("entities", "sources", "request_sources", "views", "on_demand_views", "services")


@dataclass(frozen=True)
class Project:
    """Definitions by kind, then by name. Every object that another one names is in it."""

    entities: Mapping[str, Entity] = field(default_factory=dict)
    sources: Mapping[str, Source] = field(default_factory=dict)
    request_sources: Mapping[str, RequestSource] = field(default_factory=dict)
    views: Mapping[str, FeatureView] = field(default_factory=dict)
    on_demand_views: Mapping[str, OnDemandFeatureView] = field(default_factory=dict)
    services: Mapping[str, FeatureService] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Definition]:
        for kind in KINDS:
            yield from getattr(self, kind).values()

    def content(self) -> dict[str, list[dict[str, object]]]:
        return {kind: [each.content() for each in getattr(self, kind).values()] for kind in KINDS}

    def view(self, name: str) -> FeatureView | OnDemandFeatureView | None:
        return self.views.get(name) or self.on_demand_views.get(name)

    def views_of(self, source: str) -> list[FeatureView]:
        """The views that read the named source."""
        return [view for view in self.views.values() if view.source.name == source]

    def sources_with_history(self) -> list[LogSource]:
        """The log sources with a batch source."""
        return [each for each in self.sources.values() if isinstance(each, LogSource) and each.batch_source is not None]

    def views_changed_by(self, source: LogSource) -> list[FeatureView]:
        """The views fed by this source's topic, including views of other sources on the same topic."""

        def reads(other: LogSource) -> bool:
            # Where the project's log is on Kafka its topics have a prefix, and a Kafka source names them with that.
            prefixed = other.type == "kafka" and other.topic.endswith(f".{source.topic}")
            return other.topic == source.topic or prefixed

        readers = {each.name for each in self.sources.values() if isinstance(each, LogSource) and reads(each)}
        return [view for view in self.views.values() if view.source.name in readers]


def project_of(objects: Iterable[Definition]) -> Project:
    """A project of these objects and of all that they name.

    Raises:
        DuplicateDefinition: two different objects of one kind share a name.
    """
    kinds: dict[str, dict[str, Definition]] = {kind: {} for kind in KINDS}

    def add(each: Definition) -> None:
        kind = _kind_of(each)
        known = kinds[kind].get(each.name)
        if known is not None and known.is_applied != each.is_applied:
            # A module may hold what a store returned, next to the definition that it was applied from.
            if known.is_applied:
                kinds[kind][each.name] = each
                for needed in _named_by(each):
                    add(needed)
            return
        if known is not None:
            if known is not each and (known != each or known.where != each.where):
                raise DuplicateDefinition(
                    f"two definitions of {each.kind} {each.name!r}: the other one is at {known.where}",
                    hint="rename or remove one of them",
                    where=each.where,
                )
            return
        other = kinds["on_demand_views" if kind == "views" else "views"].get(each.name)
        if kind in ("views", "on_demand_views") and other is not None:
            raise DuplicateDefinition(
                f"{each.kind} {each.name!r} has the same name as the {other.kind} at {other.where}",
                hint="rename one of them", where=each.where,
            )  # fmt: skip
        for needed in _named_by(each):
            add(needed)
        kinds[kind][each.name] = each

    for each in objects:
        add(each)
    found: dict[str, Any] = {kind: dict(sorted(kinds[kind].items())) for kind in KINDS}
    return Project(**found)


def _kind_of(each: Definition) -> str:
    for kind, types in (
        ("entities", Entity), ("sources", Source), ("request_sources", RequestSource), ("views", FeatureView),
        ("on_demand_views", OnDemandFeatureView), ("services", FeatureService),
    ):  # fmt: skip
        if isinstance(each, types):
            return kind
    raise TypeError(f"{each!r} is not a definition")


def _named_by(each: Definition) -> Iterator[Definition]:
    if isinstance(each, FeatureView):
        yield from each.entities
        yield each.source
    elif isinstance(each, LogSource) and each.batch_source is not None:
        yield each.batch_source
    elif isinstance(each, OnDemandFeatureView):
        for source in each.sources:
            yield source.view if isinstance(source, Projection) else source
    elif isinstance(each, FeatureService):
        for part in each.features:
            yield part.view


class NewerFormat(RegistryError):
    """A newer Asof wrote the snapshot."""


@dataclass(frozen=True)
class Snapshot:
    """One applied version: the definitions, and the facts about their data.

    Args:
        version: 0 before the first apply; each commit adds one.
        name: the project's name.
    """

    version: int
    name: str
    project: Project
    facts: Facts = field(default_factory=Facts)

    def with_facts(self, facts: Facts) -> Snapshot:
        """A copy with the same definitions and these facts."""
        return replace(self, facts=facts)

    def encode(self) -> str:
        """The snapshot as JSON text."""
        return json.dumps(
            {"format": FORMAT, "version": self.version, "name": self.name, "project": self.project.content(),
             "facts": self.facts.content()}, sort_keys=True,
        )  # fmt: skip

    @classmethod
    def decode(cls, text: str | bytes) -> Snapshot:
        """The snapshot that `encode` wrote.

        Raises:
            RegistryError: the text is damaged, or of a newer format.
        """
        try:
            content = json.loads(text)
            found = content["format"]
            if found > FORMAT:
                raise NewerFormat(
                    f"the registry is of format {found}; this Asof reads up to {FORMAT}", hint="upgrade asof"
                )
            facts = Facts.of(content["facts"])
            return cls(content["version"], content["name"], decode_project(content["project"], facts.where), facts)
        except (ValueError, KeyError, TypeError, AttributeError, msgspec.ValidationError) as error:
            raise RegistryError(
                f"the registry is damaged: {type(error).__name__}: {error}", hint="restore it, or apply into a new one"
            ) from error


def merged(applied: Project, new: Project) -> Project:
    """The applied definitions, with these added or replacing those of the same name. Every object is rebuilt, so that a
    view that was applied reads the new definition of its source.
    """
    content = applied.content()
    for kind, added in new.content().items():
        names = {each["name"] for each in added}
        content[kind] = [*(each for each in content[kind] if each["name"] not in names), *added]
    where = {f"{each.kind}/{each.name}": each.where for project in (applied, new) for each in project}
    project = decode_project(content, where)
    for name, view in new.on_demand_views.items():
        project.on_demand_views[name]._set(function=view.function, code=view.code)
    for name, source in new.sources.items():
        if isinstance(source, LogSource) and source.transform is not None:
            # Its function is not part of the content.
            project.sources[name]._set(transform=source.transform)
    for each in new:
        kind = _kind_of(each)
        getattr(project, kind)[each.name]._set(notes=each.notes)
    return project


def decode_project(content: Mapping[str, Any], where: Mapping[str, str]) -> Project:
    """The project that `content()` wrote; `where` supplies each object's `file:line`, if known."""
    entities = {each["name"]: Entity.of(each) for each in content["entities"]}
    sources: dict[str, Any] = {each["name"]: source_of(each) for each in content["sources"]}
    for source in sources.values():
        if isinstance(source, LogSource) and source.batch_source is not None:
            # One object for each name, as `project_of` wants it.
            source._set(batch_source=sources[source.batch_source.name])
    requests: dict[str, Any] = {each["name"]: source_of(each) for each in content["request_sources"]}
    views: dict[str, Any] = {each["name"]: _view_of(each, entities, sources) for each in content["views"]}
    for each in content["on_demand_views"]:
        views[each["name"]] = _on_demand_of(each, views, requests)
    services = {
        each["name"]: FeatureService(**{**each, "features": [_projection_of(part, views) for part in each["features"]]})
        for each in content["services"]
    }
    objects = [*entities.values(), *sources.values(), *requests.values(), *views.values(), *services.values()]
    for each in objects:
        each._set(where=where.get(f"{each.kind}/{each.name}", ""), notes=(), is_applied=True)
    return project_of(objects)


def _view_of(content: Mapping[str, Any], entities: Mapping[str, Entity], sources: Mapping[str, Source]) -> FeatureView:
    values = dict(content)
    values["entities"] = [entities[name] for name in values["entities"]]
    values["source"] = sources[values["source"]]
    values["schema"] = [Field.of(each) for each in values["schema"]]
    values["aggregations"] = [Aggregation.of(each) for each in values.get("aggregations", ())]
    values["expectations"] = [Expectation.of(each) for each in values.get("expectations", ())]
    for duration in ("ttl", "delay", "lookback"):
        values[duration] = timedelta(microseconds=values.get(duration, 0))
    return FeatureView(**values)


def _on_demand_of(
    content: Mapping[str, Any], views: Mapping[str, Any], requests: Mapping[str, Any]
) -> OnDemandFeatureView:
    values = dict(content)
    values["schema"] = [Field.of(each) for each in values["schema"]]
    values["sources"] = [
        requests[each["request"]] if "request" in each else _projection_of(each, views) for each in values["sources"]
    ]
    values["function_name"] = values.pop("function")
    values["expectations"] = [Expectation.of(each) for each in values.get("expectations", ())]
    return OnDemandFeatureView(**values)


def _projection_of(content: Mapping[str, Any], views: Mapping[str, Any]) -> Projection:
    return Projection(
        views[content["view"]], content.get("features"), content.get("alias", ""), content.get("join_key_map")
    )


def is_ordered_by_arrival(view: FeatureView) -> bool:
    """Whether the view's online rows depend on which of two rows of a log came later."""
    return view.source.is_log and _is_ordered(view)


def _is_ordered(view: FeatureView) -> bool:
    """Whether the order of rows of one key and time decides a value."""
    return not view.is_aggregated or any(each.function in ORDERED for each in view.aggregations)


def _order_by_values(view: FeatureView) -> list[list[str]] | None:
    """Where the values of rows without an arrival decide between them, in what order; None where they do not.

    For latest values that is the schema's, which is part of the shape anyway; so only what was ordered otherwise before
    has an entry.
    """
    if view.source.has_arrival or not _is_ordered(view):
        return None
    if not view.is_aggregated:
        return [] if isinstance(view.source, FileSource) else None
    return [list(pair) for pair in dict.fromkeys((each.column, each.where) for each in view.aggregations)]


def state_hash(view: FeatureView, *, earlier: bool = False) -> str:
    """A hash of all that shapes a view's online rows: what a generation is named by.

    Args:
        earlier: as versions of Asof made it whose rows do not know their arrival, or have another order of equal rows.
    """
    if view.is_aggregated:
        # Names, defaults, descriptions, output names and order do not change the state.
        shape: Any = sorted(
            json.dumps([each.function, each.column, each.where, str(each.window), each.n, str(each.dtype)])
            for each in view.aggregations
        )
    else:
        shape = [[each.name, str(each.dtype)] for each in view.features]
    source = view.source
    content: dict[str, Any] = {
        "keys": [[each.name, str(each.dtype)] for each in view.key_fields],
        "source": source.content(), "shape": shape, "boundary": view.boundary,
        "delay": view.delay if view.is_aggregated else 0,
    }  # fmt: skip
    if is_ordered_by_arrival(view) and not earlier:
        # Rows that earlier versions of Asof wrote do not know it.
        content["arrival"] = True
    if (order := _order_by_values(view)) is not None and not earlier:
        content["order"] = order
    # Where the rows are read and from when on does not change what they mean.
    unshaping = ("description", "tags", "owner", "connection_ref", "start", "dead_letter_topic", *source.connection,
                  "event_id", "event_id_horizon")  # fmt: skip
    for each in unshaping:
        content["source"].pop(each, None)
    if isinstance(content["source"].get("transform"), dict):
        content["source"]["transform"] = _shaping(content["source"]["transform"])
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def _shaping(transform: dict[str, Any]) -> dict[str, Any]:
    """Of a transform's content what shapes rows: versions of packages are only recorded.

    A function that uses nothing else is known by its text, which is there anyway: as before identities were recorded,
    so that its rows need not be built again.
    """
    shaping = {key: each for key, each in transform.items() if key not in ("identity", "version")}
    parts = dict(transform.get("identity", {}).get("parts", {}))
    parts.pop(f"function {transform.get('function_name', '')}", None)
    return {**shaping, "parts": parts} if parts else shaping


__all__ = ["FORMAT", "KINDS", "Project", "Snapshot", "is_ordered_by_arrival", "project_of", "state_hash"]
