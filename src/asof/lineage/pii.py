"""Which values are personal data: the one decision of what samples, profiles and pages hide."""

from __future__ import annotations

from collections.abc import Mapping

from asof.definitions import FeatureView, OnDemandFeatureView, Projection, Source
from asof.definitions.views import View
from asof.lineage.columns import columns_of_feature
from asof.lineage.derived import inputs_of_feature

TAG = "pii"
"""The tag of a feature, view, source, source column or entity whose values are personal data."""

_NO = ("false", "no")
_COUNTS = ("count", "count_distinct")


def has_pii_tag(tags: Mapping[str, str]) -> bool:
    """Whether these tags say personal data: `pii` with any value but `false` and `no`."""
    return TAG in tags and tags[TAG].strip().lower() not in _NO


def is_pii(view: FeatureView | OnDemandFeatureView, feature: str) -> bool:
    """Whether a feature's values are to be hidden.

    They are where the feature, its view or its source is tagged, or a source column that its value is computed from;
    but for aggregations that count, whose values are numbers of rows. A feature of an on-demand view is hidden if one
    of its inputs is. A tag of the feature itself decides alone: `pii: "no"` shows it.
    """
    own = _tags_of(view, feature)
    if TAG in own:
        return has_pii_tag(own)
    if has_pii_tag(view.tags):
        return True
    if isinstance(view, OnDemandFeatureView):
        views = {each.view.name: each.view for each in view.sources if isinstance(each, Projection)}
        names = [each.split(":", 1) for each in inputs_of_feature(view).features]
        request = any(has_pii_tag(field.tags) for field in view.request_fields)
        return request or any(_is_hidden(views[name], each) for name, each in names)
    if any(each.name == feature and each.function in _COUNTS for each in view.aggregations):
        return False
    read = columns_of_feature(view, feature).value
    return has_pii_tag(view.source.tags) or any(is_pii_column(view.source, column) for column in read)


def _is_hidden(view: View, feature: str) -> bool:
    return isinstance(view, FeatureView | OnDemandFeatureView) and is_pii(view, feature)


def is_pii_key(view: FeatureView, key: str) -> bool:
    """Whether a join key's values are to be hidden: its entity, or the source's column, is tagged."""
    entities = [each for each in view.entities if key in each.join_keys]
    return any(has_pii_tag(each.tags) for each in entities) or is_pii_column(view.source, view.source.raw(key))


def is_pii_column(source: Source, column: str) -> bool:
    """Whether a column of a source is tagged, by its name in the source."""
    return any(field.name == column and has_pii_tag(field.tags) for field in source.schema)


def _tags_of(view: FeatureView | OnDemandFeatureView, feature: str) -> Mapping[str, str]:
    """The tags of a feature itself; those of an aggregation are its output's in the view's schema."""
    return next((field.tags for field in (*view.schema, *view.features) if field.name == feature and field.tags), {})


__all__ = ["TAG", "has_pii_tag", "is_pii", "is_pii_column", "is_pii_key"]
