"""Feature services: the named feature list of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from asof.definitions.base import Definition, as_list
from asof.definitions.on_demand import OnDemandFeatureView
from asof.definitions.views import FeatureView, Projection


class FeatureService(Definition):
    """The features that a model is trained on and served with, in order.

    Args:
        features: feature views, on-demand views, or projections of them (`view[["a"]]`).
    """

    kind = "feature service"
    accepted = frozenset({"logging_config", "precompute_online"})

    features: tuple[Projection, ...]

    def __init__(
        self,
        name: str,
        features: Sequence[FeatureView | OnDemandFeatureView | Projection],
        *,
        description: str = "",
        tags: Mapping[str, str] | None = None,
        owner: str = "",
        **ignored: object,
    ) -> None:
        self._begin(name, description=description, tags=tags, owner=owner, ignored=ignored)
        parts: list[Projection] = []
        for part in as_list(features):
            if isinstance(part, FeatureView | OnDemandFeatureView):
                part = Projection(part)
            if not isinstance(part, Projection):
                raise self.refuse(
                    f"features= contains {part!r}", hint="give feature views, or projections such as view[['a']]"
                )
            parts.append(part)
        if not parts:
            raise self.refuse("has no features", hint="give features=[view, …]")
        self._set(features=tuple(parts))

    def content(self) -> dict[str, object]:
        return {**self._common(), "features": [part.content() for part in self.features]}
