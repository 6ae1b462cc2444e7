"""On-demand feature views: functions of features, keys and request values, run at read time."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from asof.definitions.base import as_list, text_of
from asof.definitions.entities import Entity, Field
from asof.definitions.expectations import Expectation
from asof.definitions.identity import KnownFunction
from asof.definitions.sources import RequestSource
from asof.definitions.views import FeatureView, Projection, View

MODES = ("python", "pandas", "polars")

Input: TypeAlias = FeatureView | Projection | RequestSource
Inputs: TypeAlias = Input | Sequence[Input] | Mapping[str, Input]
"""Inputs of a function: views, some of their features, and request sources; one, a list or a dict."""


class OnDemandFeatureView(View):
    """A row-wise function of features and request values.

    Args:
        schema: the fields that the function returns.
        sources: feature views (or some of their features, `view[["a"]]`), and request sources; a list or a dict.
        udf: the function. Mode `python`: a dict of one row's values → a dict; `pandas`, `polars`: a data frame → a data
            frame. It sees the features by name (as `view__feature` where two views share one), the entity keys,
            the request values and `event_timestamp`.
        mode: `python`, `pandas` or `polars`.
        version: stands for what the function uses and Asof cannot compare, such as a loaded model: change it when that
            changes. All else that decides its value is compared without it.
        expectations: what its values must be; `asof profile` checks them. Not with a request source: a profile has no
            values for it.
    """

    kind = "on-demand feature view"
    accepted = frozenset(
        {"udf_string", "feature_transformation", "write_to_online_store", "singleton", "track_metrics", "aggregations",
         "enabled", "input_schema", "org"}
    )  # fmt: skip

    schema: tuple[Field, ...]
    sources: tuple[Projection | RequestSource, ...]
    mode: str
    function: Callable[..., object] | None
    function_name: str
    source_text: str
    version: str
    code: KnownFunction
    expectations: tuple[Expectation, ...]

    def __init__(
        self,
        name: str,
        *,
        schema: Sequence[Field],
        sources: Inputs,
        udf: Callable[..., object] | None = None,
        mode: str = "pandas",
        entities: Sequence[Entity] | None = None,
        description: str = "",
        tags: Mapping[str, str] | None = None,
        owner: str = "",
        version: str = "",
        source_text: str = "",
        function_name: str = "",
        identity: Mapping[str, object] | None = None,
        expectations: Sequence[Expectation] | None = None,
        **ignored: object,
    ) -> None:
        self._begin(name, description=description, tags=tags, owner=owner, ignored=ignored)
        if mode not in MODES:
            raise self.refuse(f"mode {mode!r}", hint=f"choose one of {', '.join(MODES)}")
        if not schema:
            raise self.refuse("has no schema", hint="give schema=[Field(…)] with the fields that the function returns")
        inputs: list[Projection | RequestSource] = []
        for source in sources.values() if isinstance(sources, Mapping) else as_list(sources):
            if isinstance(source, FeatureView):
                source = Projection(source)
            if not isinstance(source, Projection | RequestSource):
                raise self.refuse(f"sources= contains {source!r}", hint="give feature views and request sources only")
            inputs.append(source)
        expected = self._expectations(expectations)
        if expected and any(isinstance(each, RequestSource) for each in inputs):
            raise self.refuse(
                "takes no expectations: it needs request values, which profiles do not have",
                hint="give them to the views that it is made of",
            )
        if any(not each.feature for each in expected):
            raise self.refuse(
                "expects to be fresh, and has no rows of its own",
                hint="give Expectation.fresh to the views it is made of",
            )
        # Feast's default says that nothing was said.
        version = "" if version == "latest" else str(version or "")
        if udf is not None:
            source_text = source_text or text_of(udf)
            function_name = getattr(udf, "__qualname__", "")
        self._set(
            schema=tuple(schema), sources=tuple(inputs), mode=mode, function=udf, function_name=function_name,
            source_text=source_text, entities=tuple(as_list(entities)), version=version, expectations=expected,
            code=KnownFunction(
                udf, name=function_name, source_text=source_text, mode=mode, version=version,
                identity=identity,
            ),
        )  # fmt: skip

    @property
    def features(self) -> tuple[Field, ...]:
        return self.schema

    @property
    def feature_names(self) -> tuple[str, ...]:
        return tuple(field.name for field in self.schema)

    @property
    def join_keys(self) -> tuple[str, ...]:
        keys: dict[str, None] = {}
        for source in self.sources:
            if isinstance(source, Projection):
                keys |= dict.fromkeys(source.join_key_map.get(key, key) for key in source.view.join_keys)
        return tuple(keys)

    @property
    def request_fields(self) -> tuple[Field, ...]:
        return tuple(field for source in self.sources if isinstance(source, RequestSource) for field in source.schema)

    @property
    def fingerprint(self) -> str:
        """Hash of all that determines what the function returns."""
        return self.code.fingerprint

    def with_function(self, function: Callable[..., object]) -> OnDemandFeatureView:
        """A copy of the view with its function attached; a view decoded from a registry has none."""
        view = object.__new__(type(self))
        view.__dict__.update(self.__dict__)
        view.__dict__.update(function=function)
        return view

    def __getitem__(self, features: str | Sequence[str]) -> Projection:
        return Projection(self, as_list(features))

    def with_name(self, name: str) -> Projection:
        return Projection(self).with_name(name)

    def content(self) -> dict[str, object]:
        return {
            **self._common(),
            "schema": [field.content() for field in self.schema],
            "sources": [
                {"request": each.name} if isinstance(each, RequestSource) else each.content() for each in self.sources
            ],
            "mode": self.mode,
            "function": self.function_name,
            "source_text": self.source_text,
            **({"version": self.version} if self.version else {}),
            **({"expectations": [each.content() for each in self.expectations]} if self.expectations else {}),
            **self.code.content(),
        }


def on_demand_feature_view(
    *,
    sources: Inputs,
    schema: Sequence[Field],
    mode: str = "pandas",
    name: str = "",
    entities: Sequence[Entity] | None = None,
    description: str | None = None,
    tags: Mapping[str, str] | None = None,
    owner: str = "",
    version: str = "",
    expectations: Sequence[Expectation] | None = None,
    **options: object,
) -> Callable[[Callable[..., object]], OnDemandFeatureView]:
    """Decorator that makes a function an on-demand feature view with the function's name."""

    def decorate(function: Callable[..., object]) -> OnDemandFeatureView:
        others: dict[str, Any] = options
        return OnDemandFeatureView(
            name or function.__name__, sources=sources, schema=schema, mode=mode, udf=function, entities=entities,
            description=(inspect.getdoc(function) or "") if description is None else description, tags=tags,
            owner=owner, version=version, expectations=expectations, **others,
        )  # fmt: skip

    return decorate
