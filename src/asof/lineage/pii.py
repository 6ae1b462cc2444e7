"""Which values pages, samples and profiles hide: what is tagged `pii`, and what is made of it. Decided here alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from asof.definitions import FeatureView, LogSource, OnDemandFeatureView, Projection, RequestSource, Source
from asof.lineage.columns import columns_of_feature, history_columns_of_view

TAG = "pii"
"""The tag that says so, on a feature, a view, an entity, a source, or a field of a source."""

_NOT = ("false", "no")
_COUNTS = ("count", "count_distinct")


def is_pii(tags: Mapping[str, str]) -> bool:
    """Whether tags say `pii`: with any value but `false` and `no`."""
    return TAG in tags and str(tags[TAG]).strip().lower() not in _NOT


def hides_values(view: FeatureView | OnDemandFeatureView, feature: str) -> bool:
    """Whether a feature's values are hidden.

    They are where the feature, its view or its source is tagged, or a column that its value is computed of; but for
    aggregations that count, whose values are numbers of rows. An on-demand feature is hidden with any input of its
    function. A tag of the feature itself decides alone: `pii: "no"` shows it.
    """
    own = next(
        (each.tags for each in (*view.schema, *view.features) if each.name == feature and TAG in each.tags), None
    )
    if own is not None:
        return is_pii(own)
    if is_pii(view.tags):
        return True
    if isinstance(view, OnDemandFeatureView):
        return any(map(_hides_input, view.sources))
    if any(each.name == feature and each.function in _COUNTS for each in view.aggregations):
        return False
    if is_pii(view.source.tags):
        return True
    history = history_columns_of_view(view).get(feature)
    return any(hides_column(view.source, column) for column in columns_of_feature(view, feature).value) or (
        history is not None
        and isinstance(view.source, LogSource)
        and view.source.batch_source is not None
        and any(hides_column(view.source.batch_source, column) for column in history.value)
    )


def hides_key(view: FeatureView | OnDemandFeatureView) -> bool:
    """Whether the keys of a view are hidden: an entity, or the source's column of a join key, is tagged `pii`."""
    if isinstance(view, OnDemandFeatureView):
        inputs = [each.view for each in view.sources if isinstance(each, Projection)]
        return any(hides_key(each) for each in inputs if isinstance(each, FeatureView | OnDemandFeatureView))
    return any(is_pii(entity.tags) for entity in view.entities) or any(
        hides_column(view.source, view.source.raw(key)) for key in view.join_keys
    )


def hides_column(source: Source | RequestSource, column: str) -> bool:
    """Whether a column of a source, by the source's own name, is tagged `pii`."""
    fields = [*source.schema, *(source.message_fields if isinstance(source, LogSource) else ())]
    return is_pii(source.tags) or any(is_pii(each.tags) for each in fields if each.name == column)


def hides_rows(source: Source, views: Iterable[FeatureView]) -> bool:
    """Whether whole rows of a source are hidden: it, a field of it, a key or a feature of the views is tagged `pii`."""
    fields = [*source.schema, *(source.message_fields if isinstance(source, LogSource) else ())]
    return (
        is_pii(source.tags)
        or any(is_pii(each.tags) for each in fields)
        or any(hides_key(view) or any(hides_values(view, name) for name in view.feature_names) for view in views)
    )


def _hides_input(each: Projection | RequestSource) -> bool:
    if isinstance(each, RequestSource):
        return any(hides_column(each, field.name) for field in each.schema)
    view = each.view
    assert isinstance(view, FeatureView | OnDemandFeatureView)
    return any(hides_values(view, name) for name in each.features or view.feature_names)


__all__ = ["hides_column", "hides_key", "hides_rows", "hides_values", "is_pii"]
