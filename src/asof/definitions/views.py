"""Feature views: entities, a source, and the fields or aggregations read off it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from asof.definitions.base import Definition, as_list
from asof.definitions.entities import Entity, Field
from asof.definitions.expectations import Expectation
from asof.definitions.sources import RequestSource, Source
from asof.definitions.windows import MAX_HOPS, Aggregation, Sliding
from asof.display import html_table
from asof.errors import nearest
from asof.timing import Micros, span_text

BOUNDARIES = ("inclusive", "exclusive")


class View(Definition):
    """Something with features to choose from: a feature view or an on-demand feature view."""

    @property
    def features(self) -> tuple[Field, ...]:
        """The features with their types."""
        raise NotImplementedError

    @property
    def feature_names(self) -> tuple[str, ...]:
        raise NotImplementedError

    @property
    def join_keys(self) -> tuple[str, ...]:
        raise NotImplementedError

    def _expectations(self, given: Sequence[Expectation] | None) -> tuple[Expectation, ...]:
        for each in as_list(given):
            if not isinstance(each, Expectation):
                raise self.refuse(
                    f"expectations= contains {each!r}", hint="give for example Expectation.not_null('amount')"
                )
        return tuple(as_list(given))


class FeatureView(View):
    """Features of some entities, read off one source.

    Args:
        source: where the rows come from.
        entities: what the features are about; none for features of the whole system.
        schema: the features (and, if wanted, the join keys with their types); read off the source where not given.
        aggregations: features that aggregate the source's events; a view has these or plain fields.
        ttl: how old a value may be and still be known; 0 or None is forever. Ignored with aggregations.
        delay: read values as of `t - delay`, for sources that arrive late.
        boundary: whether an event at exactly t counts in aggregations: `inclusive` (it does) or `exclusive`.
        lookback: how far back in event time a materialize run reads, where the source has no created time. Without this
            and without the source's `lag`, each run rescans the whole source.
        expectations: what its values must be; `asof profile` checks them.
    """

    kind = "feature view"
    accepted = frozenset(
        {"sink_source", "offline", "org", "mode", "enable_validation", "version", "enabled", "batch_engine",
         "stream_engine", "enable_tiling", "tiling_hop_size", "timestamp_field"}
    )  # fmt: skip

    entities: tuple[Entity, ...]
    source: Source
    schema: tuple[Field, ...]
    aggregations: tuple[Aggregation, ...]
    ttl: Micros
    delay: Micros
    lookback: Micros
    boundary: str
    online: bool
    expectations: tuple[Expectation, ...]

    def __init__(
        self,
        name: str,
        *,
        source: Source | None = None,
        entities: Sequence[Entity] | Entity | None = None,
        schema: Sequence[Field] | None = None,
        aggregations: Sequence[Aggregation] | None = None,
        ttl: timedelta | str | None = None,
        delay: timedelta | str | None = None,
        lookback: timedelta | str | None = None,
        boundary: str = "inclusive",
        online: bool = True,
        expectations: Sequence[Expectation] | None = None,
        description: str = "",
        tags: Mapping[str, str] | None = None,
        owner: str = "",
        **ignored: object,
    ) -> None:
        transformation = {key for key in ("udf", "udf_string", "feature_transformation") if ignored.pop(key, None)}
        self._begin(name, description=description, tags=tags, owner=owner, ignored=ignored)
        if transformation:
            raise self.refuse(
                f"{', '.join(sorted(transformation))}: feature views have no Python transformation",
                hint="use aggregations with expressions, or an on_demand_feature_view",
            )
        if source is None or isinstance(source, RequestSource) or not isinstance(source, Source):
            raise self.refuse(f"source is {source!r}", hint="give source=FileSource(…), LogSource(…) or PushSource(…)")
        for entity in as_list(entities):
            if not isinstance(entity, Entity):
                raise self.refuse(f"entities= contains {entity!r}", hint="give Entity objects only")
        if boundary not in BOUNDARIES:
            raise self.refuse(f"boundary {boundary!r}", hint=f"choose one of {', '.join(BOUNDARIES)}")
        self._set(
            entities=tuple(as_list(entities)), source=source, schema=tuple(schema or ()),
            aggregations=tuple(aggregations or ()), ttl=self._duration("ttl", ttl),
            delay=self._duration("delay", delay), lookback=self._duration("lookback", lookback), boundary=boundary,
            online=bool(online), expectations=self._expectations(expectations),
        )  # fmt: skip
        self._check()

    def _check(self) -> None:
        keys = self.join_keys
        if len(set(keys)) != len(keys):
            raise self.refuse(f"its entities share a join key: {list(keys)}", hint="name each key once")
        features = [feature.name for feature in self.aggregations] or [field.name for field in self.schema]
        repeated = {name for name in features if features.count(name) > 1}
        if repeated:
            raise self.refuse(f"repeats the feature name(s) {sorted(repeated)}", hint="name each feature once")
        if self.aggregations and set(keys) & set(features):
            raise self.refuse(
                f"aggregation names {sorted(set(keys) & set(features))} are join keys", hint="rename them"
            )
        if self.source.is_log:
            known = [self.source.renamed(field.name) for field in self.source.schema]
            # With aggregations, a schema may name their outputs, as Feast's does; only its keys are columns of the
            # source.
            declared = [] if self.aggregations else [field.name for field in self.schema]
            for column in [*keys, *declared]:
                if column not in known:
                    raise self.refuse(
                        f"column {column!r} is not in the schema of source {self.source.name!r}",
                        hint=nearest(column, known) or f"the source has {known}",
                    )
        for aggregation in self.aggregations:
            window = aggregation.window
            if isinstance(window, Sliding) and window.length > MAX_HOPS * window.hop:
                raise self.refuse(
                    f"aggregation {aggregation.name!r}: {span_text(window.length)} has more than {MAX_HOPS} hops of "
                    f"{span_text(window.hop)}",
                    hint="give the window a longer hop",
                )
        if self.aggregations and self.ttl:
            note = (
                f"feature view {self.name!r}: ttl= is ignored on an aggregated view; "
                "its windows limit how old events may be"
            )
            self._set(notes=(*self.notes, note))

    def _repr_html_(self) -> str:
        """The view, and below it how each of its features is made."""
        types = {field.name: str(field.dtype) for field in self.features}
        columns, rows = ["feature", "type"], [[name, types.get(name, "")] for name in self.feature_names]
        if self.aggregations:
            columns += ["aggregate", "where", "window"]
            rows = [
                [each.name, types.get(each.name, ""), f"{each.function}({each.column or '*'})", each.where or "",
                 "all events" if each.window is None else str(each.window)]
                for each in self.aggregations
            ]  # fmt: skip
        return super()._repr_html_() + html_table("Features", columns, rows, most=len(rows))

    @property
    def is_aggregated(self) -> bool:
        return bool(self.aggregations)

    @property
    def join_keys(self) -> tuple[str, ...]:
        return tuple(key for entity in self.entities for key in entity.join_keys)

    @property
    def key_fields(self) -> tuple[Field, ...]:
        """Typed join keys; complete once the view is resolved, before that only those that the schema names."""
        by_name = {field.name: field for field in self.schema}
        by_name |= {
            self.source.renamed(field.name): field
            for field in self.source.schema
            if self.source.renamed(field.name) not in by_name
        }
        return tuple(Field(key, by_name[key].dtype) for key in self.join_keys if key in by_name)

    @property
    def features(self) -> tuple[Field, ...]:
        """Typed features; the types of aggregations are known once the view is resolved."""
        if self.aggregations:
            return tuple(
                Field(each.name, each.dtype, each.description, default=each.default)
                for each in self.aggregations
                if each.dtype is not None
            )
        keys = set(self.join_keys)
        return tuple(field for field in self.schema if field.name not in keys)

    @property
    def feature_names(self) -> tuple[str, ...]:
        if self.aggregations:
            return tuple(each.name for each in self.aggregations)
        return tuple(field.name for field in self.features)

    def resolved(self, *, schema: Sequence[Field], aggregations: Sequence[Aggregation]) -> FeatureView:
        """A copy of the view with the types of its keys and features filled in."""
        view = object.__new__(type(self))
        view.__dict__.update(self.__dict__)
        view.__dict__.update(schema=tuple(schema), aggregations=tuple(aggregations))
        return view

    def __getitem__(self, features: str | Sequence[str]) -> Projection:
        return Projection(self, as_list(features))

    def with_name(self, name: str) -> Projection:
        """The view under another name, for a request that reads it twice."""
        return Projection(self).with_name(name)

    def with_join_key_map(self, join_key_map: Mapping[str, str]) -> Projection:
        """The view with its join keys read from other columns of the entity frame: view's key → frame's column."""
        return Projection(self).with_join_key_map(join_key_map)

    def content(self) -> dict[str, object]:
        content = {
            **self._common(), "entities": [entity.name for entity in self.entities], "source": self.source.name,
            "schema": [field.content() for field in self.schema],
        }  # fmt: skip
        if self.aggregations:
            content["aggregations"] = [each.content() for each in self.aggregations]
        for key in ("ttl", "delay", "lookback"):
            if getattr(self, key):
                content[key] = getattr(self, key)
        if self.boundary != "inclusive":
            content["boundary"] = self.boundary
        if not self.online:
            content["online"] = False
        if self.expectations:
            content["expectations"] = [each.content() for each in self.expectations]
        return content


BatchFeatureView = FeatureView
StreamFeatureView = FeatureView


class Projection:
    """A choice of a view's features, optionally with another view name and other key columns.

    Args:
        view: a FeatureView or an OnDemandFeatureView.
        features: their names; all where None.
    """

    __slots__ = ("view", "features", "alias", "join_key_map")

    def __init__(
        self,
        view: View,
        features: Sequence[str] | None = None,
        alias: str = "",
        join_key_map: Mapping[str, str] | None = None,
    ) -> None:
        known = view.feature_names
        for feature in features or ():
            if known and feature not in known:
                raise view.refuse(
                    f"has no feature {feature!r}", hint=nearest(feature, known) or f"it has {list(known)}"
                )
        self.view = view
        self.features = tuple(features) if features is not None else None
        self.alias = alias
        self.join_key_map = dict(join_key_map or {})

    @property
    def name(self) -> str:
        return self.alias or self.view.name

    def with_name(self, name: str) -> Projection:
        return Projection(self.view, self.features, name, self.join_key_map)

    def with_join_key_map(self, join_key_map: Mapping[str, str]) -> Projection:
        unknown = set(join_key_map) - set(self.view.join_keys)
        if unknown:
            raise self.view.refuse(
                f"with_join_key_map names {sorted(unknown)}", hint=f"its join keys are {list(self.view.join_keys)}"
            )
        return Projection(self.view, self.features, self.alias, join_key_map)

    def __getitem__(self, features: str | Sequence[str]) -> Projection:
        return Projection(self.view, as_list(features), self.alias, self.join_key_map)

    def content(self) -> dict[str, object]:
        content: dict[str, Any] = {"view": self.view.name}
        if self.features is not None:
            content["features"] = list(self.features)
        if self.alias:
            content["alias"] = self.alias
        if self.join_key_map:
            content["join_key_map"] = self.join_key_map
        return content
