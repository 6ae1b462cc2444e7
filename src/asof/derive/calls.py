"""Derivations prepared to run: the function, and its inputs and outputs with their declared types."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from asof.definitions import Aggregation, FeatureView, Field, OnDemandFeatureView, Projection
from asof.dtypes import DType
from asof.errors import DerivationError
from asof.selection import Derivation
from asof.values.fit import fit_values
from asof.values.from_arrow import python_values

EVENT_TIMESTAMP = "event_timestamp"
"""The input name of the row's time, which every function gets."""


@dataclass(frozen=True, eq=False)
class DerivationCall:
    """A derivation prepared to run.

    Args:
        names: the function's input names, without the time; `columns` are their intermediate columns.
        dtypes: the declared types of the inputs; None where unknown.
        lists: inputs that are lists; the function gets copies, so that changing one does not change the feature.
        fields: the function's output fields; `outputs` are the intermediate columns to fill.
        defaults: per field the value to return instead of null.
    """

    view_name: str
    where: str
    mode: str
    function: Callable[[Any], Any]
    names: tuple[str, ...]
    columns: tuple[str, ...]
    dtypes: tuple[DType | None, ...]
    lists: tuple[bool, ...]
    fields: tuple[Field, ...]
    outputs: tuple[str, ...]
    defaults: tuple[Any, ...]

    @property
    def field_names(self) -> list[str]:
        return [field.name for field in self.fields]


_CALLS: dict[int, DerivationCall] = {}
"""Prepared derivations by identity: two with equal text may have functions of different modules."""


def call_of(derivation: Derivation) -> DerivationCall:
    """Prepare a derivation, once in its lifetime."""
    call = _CALLS.get(id(derivation))
    if call is None:
        call = _CALLS[id(derivation)] = _made_ready(derivation)
        weakref.finalize(derivation, _CALLS.pop, id(derivation), None).atexit = False
    return call


def _made_ready(derivation: Derivation) -> DerivationCall:
    view = derivation.view
    if view.function is None:
        raise DerivationError(
            f"on-demand feature view {view.name!r}: its function is not loaded; the registry has only its text",
            hint="run inside the feature repository that defines it",
            where=view.where,
        )
    known = input_types(view)
    by_name = {field.name: field for field in view.schema}
    fields = tuple(by_name[name] for name, _ in derivation.outputs)
    dtypes = tuple(known.get(name) for name, _ in derivation.inputs)
    return DerivationCall(
        view_name=view.name,
        where=view.where,
        mode=view.mode,
        function=view.function,
        names=tuple(name for name, _ in derivation.inputs),
        columns=tuple(column for _, column in derivation.inputs),
        dtypes=dtypes,
        # An input of unknown type may be a list.
        lists=tuple(dtype is None or dtype.name in ("Array", "Embedding") for dtype in dtypes),
        fields=fields,
        outputs=tuple(column for _, column in derivation.outputs),
        defaults=tuple(_default(view, field) for field in fields),
    )


def _default(view: OnDemandFeatureView, field: Field) -> Any:
    if field.default is None:
        return None
    array, misfits = fit_values([field.default], field.dtype)
    if misfits:
        raise view.refuse(f"default of field {field.name!r}: {misfits[0][1]}", hint=f"give a {field.dtype}")
    return python_values(array)[0]


def input_types(view: OnDemandFeatureView) -> dict[str, DType]:
    """Declared types of the inputs of the view's function, by their names in `select`, without the time. Inputs of
    unknown type (of views that are not resolved) are omitted.
    """
    parts = [part for part in view.sources if isinstance(part, Projection)]
    features = [
        (part, field)
        for part in parts
        for field in part.view.features
        if part.features is None or field.name in part.features
    ]
    plain = [field.name for _, field in features]
    types: dict[str, DType] = {}
    for part, field in features:
        types[field.name if plain.count(field.name) == 1 else f"{part.name}__{field.name}"] = field.dtype
    for part in parts:
        if isinstance(part.view, OnDemandFeatureView):
            nested = input_types(part.view)
            keys = {key: nested[key] for key in part.view.join_keys if key in nested}
        else:
            assert isinstance(part.view, FeatureView)
            keys = {field.name: field.dtype for field in part.view.key_fields}
        for key, dtype in keys.items():
            types.setdefault(part.join_key_map.get(key, key), dtype)
    return types | {field.name: field.dtype for field in view.request_fields}


def never_null(view: OnDemandFeatureView) -> set[str]:
    """The inputs that are never null: join keys, counts, and features with a default."""
    certain = set(view.join_keys)
    for name in input_types(view):
        feature = name.rpartition("__")[2]
        for part in view.sources:
            if not isinstance(part, Projection) or not isinstance(part.view, FeatureView):
                continue
            given: list[Aggregation | Field] = [*part.view.aggregations, *part.view.features]
            certain |= {
                name
                for each in given
                if each.name == feature and (getattr(each, "function", "") in _COUNTS or each.default is not None)
            }
    return certain


_COUNTS = ("count", "count_distinct")
