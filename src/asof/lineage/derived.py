"""The features and request values that an on-demand feature is made of."""

from __future__ import annotations

from dataclasses import dataclass

from asof.definitions import OnDemandFeatureView, Projection


@dataclass(frozen=True)
class FeatureInputs:
    """What an on-demand function is given: its declaration says it, the function is not looked into.

    Args:
        features: as `view:feature`, with the views' own names.
        request: names of request values.
        keys: the join keys, which the function sees, too.
    """

    features: tuple[str, ...]
    request: tuple[str, ...]
    keys: tuple[str, ...]


def inputs_of_feature(view: OnDemandFeatureView) -> FeatureInputs:
    """The inputs of each feature of an on-demand view: all of its function's."""
    features = [
        f"{part.view.name}:{name}"
        for part in view.sources if isinstance(part, Projection)
        for name in part.features or part.view.feature_names
    ]  # fmt: skip
    request = [field.name for field in view.request_fields]
    return FeatureInputs(tuple(dict.fromkeys(features)), tuple(request), view.join_keys)


__all__ = ["FeatureInputs", "inputs_of_feature"]
