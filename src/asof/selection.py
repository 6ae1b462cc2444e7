"""A resolved request for features: its views, keys, features, functions and output names.

Both readers start here: the offline reader compiles a Selection to SQL, the online reader to one multi-key read. No
other code decides what a feature means.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from asof.definitions import FeatureService, FeatureView, Field, OnDemandFeatureView, Projection, Snapshot
from asof.definitions.base import as_list
from asof.dtypes import DType
from asof.errors import Argument, FeatureNameCollision, NotFound, RequestError, UnknownFeature, nearest

FeatureReferences: TypeAlias = (
    Sequence[str | FeatureView | OnDemandFeatureView | Projection] | str | FeatureView | OnDemandFeatureView
    | Projection | FeatureService
)  # fmt: skip
"""The features to read: references `view:feature`, or `view` for all of its features; a service or its name."""


@dataclass(frozen=True)
class FeatureOut:
    """One feature of a view in the result: its name in the view, column, type, and default for nulls."""

    name: str
    output: str
    dtype: DType
    default: Any = None


@dataclass(frozen=True)
class ViewRead:
    """The read of one view.

    Args:
        view: the resolved view.
        keys: the request's columns that hold the view's join keys, in the view's order.
        features: the features to read; outputs are columns of the intermediate table, unique in the selection.
    """

    view: FeatureView
    keys: tuple[str, ...]
    features: tuple[FeatureOut, ...]


@dataclass(frozen=True)
class Derivation:
    """One on-demand view to run.

    Args:
        inputs: the function's input name → column of the intermediate table.
        outputs: field of the view → column of the intermediate table.
    """

    view: OnDemandFeatureView
    inputs: tuple[tuple[str, str], ...]
    outputs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class OutputColumn:
    """One column of the result, in the requested order.

    Args:
        name: its name in the result.
        column: its column in the intermediate table.
        reference: `view:feature`, for messages and the catalog.
    """

    name: str
    column: str
    dtype: DType
    reference: str


@dataclass(frozen=True)
class Selection:
    """A resolved request: the views to read, the functions to run on their values, and the columns of the result.

    Args:
        keys: the request's key columns and their types, each once, in the order of first use; of Int32 and Int64 in
            two views, Int64.
        request_fields: values that must come with the request.
    """

    reads: tuple[ViewRead, ...]
    derivations: tuple[Derivation, ...]
    outputs: tuple[OutputColumn, ...]
    keys: tuple[Field, ...]
    request_fields: tuple[Field, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(output.name for output in self.outputs)

    @property
    def features_used(self) -> tuple[str, ...]:
        """Each feature that is read or computed, as `view:feature` of its definition; inputs of on-demand views too."""
        read = [f"{each.view.name}:{feature.name}" for each in self.reads for feature in each.features]
        made = [f"{each.view.name}:{field}" for each in self.derivations for field, _ in each.outputs]
        return tuple(dict.fromkeys([*read, *made]))


def select(snapshot: Snapshot, features: FeatureReferences, *, full_feature_names: bool = False) -> Selection:
    """Resolve a request.

    Args:
        features: references `view:feature`, or `view` for all of its features; or a feature service or its name.
        full_feature_names: name the result's columns `view__feature`.

    Raises:
        UnknownFeature: a reference names a feature or view that is not applied.
        FeatureNameCollision: two features would have the same name, or a feature the name of a key or request value.
    """
    builder = _Builder(snapshot)
    outputs: list[OutputColumn] = []
    named: dict[str, str] = {}
    known: dict[str, dict[str, Field]] = {}
    for projection, names in _wanted(snapshot, features):
        # Once per view, not once per reference.
        by_name = known.get(projection.view.name)
        if by_name is None:
            by_name = known[projection.view.name] = _by_name(projection)
        for field in _fields(projection, names, by_name):
            column = builder.column(projection, field)
            name = f"{projection.name}__{field.name}" if full_feature_names else field.name
            reference = f"{projection.name}:{field.name}"
            if name in named:
                # Deduplicate first: however much a request repeats, the work is bounded by the project's features.
                raise _collision(named[name], reference, name, full_feature_names)
            named[name] = reference
            outputs.append(OutputColumn(name, column, field.dtype, reference))
    if not named:
        raise RequestError("no features requested", hint="name at least one feature, as 'view:feature'")
    selection = builder.selection(tuple(outputs))
    _refuse_collisions(selection, full_feature_names)
    return selection


def known_references(snapshot: Snapshot) -> list[str]:
    """Every `view:feature` that is applied, sorted."""
    project = snapshot.project
    views: list[FeatureView | OnDemandFeatureView] = [*project.views.values(), *project.on_demand_views.values()]
    return sorted(f"{view.name}:{name}" for view in views for name in view.feature_names)


def _wanted(snapshot: Snapshot, features: FeatureReferences) -> Iterable[tuple[Projection, tuple[str, ...] | None]]:
    """Projections with their requested feature names, in order."""
    project = snapshot.project
    if isinstance(features, str) and ":" not in features:
        if features in project.services:
            features = project.services[features]
        elif project.view(features) is None:
            known = [*project.services, *project.views, *project.on_demand_views]
            raise NotFound(
                f"no feature service or view {features!r} in the registry",
                hint=nearest(features, known) or "run `asof list services` to see what there is",
            )
    if isinstance(features, FeatureService):
        applied = project.services.get(features.name)
        if applied is None:
            raise NotFound(
                f"feature service {features.name!r} is not applied",
                hint=nearest(features.name, project.services) or "run `asof apply` first",
            )
        for part in applied.features:
            view = project.view(part.view.name)
            assert view is not None  # a project holds all that its services name
            yield Projection(view, None, part.alias, part.join_key_map), part.features
        return
    # Each view is looked at once, not once per reference.
    named: dict[str, tuple[Projection, frozenset[str]]] = {}
    for reference in as_list(features):
        if isinstance(reference, FeatureView | OnDemandFeatureView | Projection):
            part = reference if isinstance(reference, Projection) else Projection(reference)
            view = project.view(part.view.name)
            if view is None:
                raise UnknownFeature(part.view.name, known_references(snapshot))
            yield Projection(view, None, part.alias, part.join_key_map), part.features
            continue
        if not isinstance(reference, str):
            raise RequestError(f"feature reference {reference!r} is not text", hint="write 'view:feature'")
        name, _, feature = reference.partition(":")
        found = named.get(name)
        if found is None and (view := project.view(name)) is not None:
            found = named[name] = (Projection(view), frozenset(view.feature_names))
        if found is None or (feature and feature not in found[1]):
            raise UnknownFeature(reference, known_references(snapshot))
        yield found[0], (feature,) if feature else None


def _by_name(projection: Projection) -> dict[str, Field]:
    return {field.name: field for field in projection.view.features}


def _fields(projection: Projection, names: tuple[str, ...] | None, by_name: Mapping[str, Field]) -> list[Field]:
    if names is None:
        return list(by_name.values())
    missing = [name for name in names if name not in by_name]
    if missing:
        raise UnknownFeature(f"{projection.name}:{missing[0]}", [f"{projection.name}:{name}" for name in by_name])
    return [by_name[name] for name in names]


class _Builder:
    """Collects reads and derivations for the requested outputs; each view (under one name) is read once."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.reads: dict[tuple[str, tuple[str, ...]], tuple[Projection, dict[str, FeatureOut]]] = {}
        self.derivations: dict[str, Derivation] = {}
        self.request_fields: dict[str, Field] = {}

    def column(self, projection: Projection, field: Field) -> str:
        """The intermediate column of one feature; adds its read or derivation on first use."""
        if isinstance(projection.view, OnDemandFeatureView):
            return self._derived(projection.view, field)
        return self._read(projection, field)

    def _read(self, projection: Projection, field: Field) -> str:
        view = projection.view
        keys = tuple(projection.join_key_map.get(key, key) for key in view.join_keys)
        _, features = self.reads.setdefault((projection.name, keys), (projection, {}))
        if field.name not in features:
            mapped = "" if keys == view.join_keys else "@" + ",".join(keys)
            features[field.name] = FeatureOut(
                field.name, f"{projection.name}{mapped}__{field.name}", field.dtype, field.default
            )
        return features[field.name].output

    def _derived(self, view: OnDemandFeatureView, field: Field) -> str:
        if view.name not in self.derivations:
            inputs: dict[str, str] = {}
            fields = [
                (part, each)
                for part in view.sources
                if isinstance(part, Projection)
                for each in _fields(part, part.features, _by_name(part))
            ]
            plain = [each.name for _, each in fields]
            for part, each in fields:
                # Features of two views with the same name are passed to the function under their full names.
                name = each.name if plain.count(each.name) == 1 else f"{part.name}__{each.name}"
                inputs[name] = self.column(part, each)
            for key in view.join_keys:
                inputs.setdefault(key, key)
            for each in view.request_fields:
                self.request_fields.setdefault(each.name, each)
                inputs[each.name] = each.name
            outputs = tuple((each.name, f"{view.name}__{each.name}") for each in view.schema)
            # Placed after its inputs: a function of another function's output runs second.
            self.derivations[view.name] = Derivation(view, tuple(inputs.items()), outputs)
        return f"{view.name}__{field.name}"

    def selection(self, outputs: tuple[OutputColumn, ...]) -> Selection:
        reads = []
        keys: dict[str, Field] = {}
        for (_, columns), (projection, features) in self.reads.items():
            view = projection.view
            assert isinstance(view, FeatureView)
            reads.append(ViewRead(view, columns, tuple(features.values())))
            for column, field in zip(columns, view.key_fields, strict=True):
                known = keys.setdefault(column, Field(column, field.dtype))
                if known.dtype != field.dtype and {known.dtype.name, field.dtype.name} != {"Int32", "Int64"}:
                    raise RequestError(
                        f"key {column!r} is {known.dtype} in one view and {field.dtype} in view {projection.name!r}",
                        hint="give both sources the same type, or read them in two requests",
                    )
                if field.dtype.name == "Int64":
                    # The wider type: a key that does not fit the other view's has no row there.
                    keys[column] = Field(column, field.dtype)
        return Selection(
            tuple(reads), tuple(self.derivations.values()), outputs, tuple(keys.values()),
            tuple(self.request_fields.values()),
        )  # fmt: skip


def _collision(first: str, second: str, name: str, full_feature_names: bool) -> FeatureNameCollision:
    message = f"features {first!r} and {second!r} would both be named {name!r}"
    if first == second:
        return FeatureNameCollision(message, hint="request it once")
    return _one_name(message, full_feature_names)


def _one_name(message: str, full_feature_names: bool) -> FeatureNameCollision:
    if full_feature_names:
        return FeatureNameCollision(message, hint="request one of them")
    longer = Argument("full_feature_names", True)
    return FeatureNameCollision(message, hint=f"pass {longer}", arguments=[longer])


def _refuse_collisions(selection: Selection, full_feature_names: bool) -> None:
    taken = {field.name: "join key" for field in selection.keys}
    taken |= {field.name: "request value" for field in selection.request_fields}
    for output in selection.outputs:
        if output.name in taken:
            raise _one_name(
                f"feature {output.reference!r} and {taken[output.name]} {output.name!r} would have the same name",
                full_feature_names,
            )
    if not selection.derivations:
        return
    # Functions take features by their full names, and keys and request values by their own.
    for column in (feature.output for read in selection.reads for feature in read.features):
        if column in taken:
            raise FeatureNameCollision(
                f"{taken[column]} {column!r} has the full name of a feature, and the request has an on-demand feature",
                hint=f"rename the {taken[column]}",
            )
