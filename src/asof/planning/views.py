"""Check a feature view against its source's columns, and settle the types of its keys and features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from asof.definitions import Aggregation, FeatureView, Field, Session
from asof.dtypes import Bool, DType
from asof.errors import DefinitionError, ExpressionError, nearest, some
from asof.expressions import check, parse
from asof.planning.expectations import check_expectations
from asof.planning.fits import is_of
from asof.planning.sources import CheckedSource, Findings, check_fit, copy_of

_ORDERED = ("Int32", "Int64", "Float32", "Float64", "Decimal", "String", "Date", "Timestamp", "Bool")
_SUITABLE: dict[str, tuple[str, ...]] = {
    "sum": ("Int32", "Int64", "Float32", "Float64", "Decimal"),
    "mean": ("Int32", "Int64", "Float32", "Float64", "Decimal"),
    "std": ("Int32", "Int64", "Float32", "Float64", "Decimal"),
    "var": ("Int32", "Int64", "Float32", "Float64", "Decimal"),
    "min": _ORDERED,
    "max": _ORDERED,
    "count_distinct": (*_ORDERED, "Bytes"),
    "last_n": (*_ORDERED, "Bytes", "Json"),
}
"""Function → types that it accepts; functions not listed accept any."""
_KEYS = ("Int32", "Int64", "String", "Bool", "Bytes", "Date", "Timestamp", "Decimal")


def check_view(view: FeatureView, source: CheckedSource, *, findings: Findings) -> FeatureView:
    """Resolve the view's types, as far as errors allow."""
    keys = _keys(view, source, findings)
    if view.is_aggregated:
        source = _with_declared_inputs(view, source, findings)
        aggregations = tuple(_aggregation(view, each, source, findings) for each in view.aggregations)
        _check_aggregated_schema(view, aggregations, findings)
        schema: tuple[Field, ...] = (*keys, *_inputs(view, source))
    else:
        aggregations = ()
        schema = (*keys, *_features(view, source, findings))
    _note_what_is_missed(view, source, findings)
    view = copy_of(view, source=source.source)
    resolved = view.resolved(schema=schema, aggregations=aggregations)
    check_expectations(resolved, findings=findings)
    return resolved


def _keys(view: FeatureView, source: CheckedSource, findings: Findings) -> tuple[Field, ...]:
    declared = {field.name: field for field in view.schema}
    keys = []
    for key in view.join_keys:
        if key not in source.columns:
            findings.error(
                view,
                f"join key {key!r} is not a column of source {source.source.name!r}",
                hint=_near(key, source.columns),
            )
            continue
        found = source.columns[key]
        field = declared.get(key)
        if field is not None:
            check_fit(view, field, found, findings=findings, arrow=source.found.get(key, ""), label="join key")
            keys.append(field)
            continue
        if found is None or found.name not in _KEYS:
            hint = (
                f"declare Field({key!r}, Int64) in schema= where its values are whole"
                if found and found.is_float
                else ("name another column, or convert it in the source")
            )
            findings.error(view, str(found or source.found.get(key) or "a type that Asof does not support"),
                           expected=f"join key {key!r} to be one of {', '.join(_KEYS)}", hint=hint)  # fmt: skip
        else:
            keys.append(Field(key, found))
    return tuple(keys)


def _with_declared_inputs(view: FeatureView, source: CheckedSource, findings: Findings) -> CheckedSource:
    """The source, its columns in the types in which the view declares what its aggregations read.

    What a log delivers was fitted to the types of the log's own schema.
    """
    _check_declared_once(view, source, findings)
    if source.source.is_log:
        return source
    columns = dict(source.columns)
    # With aggregations a schema may name their results as well.
    others = {*view.join_keys, *(each.name for each in view.aggregations), *_declared_by(source)}
    for field in view.schema:
        if field.name in _input_names(view).keys() & columns.keys() - others:
            found, arrow = columns[field.name], source.found.get(field.name, "")
            check_fit(view, field, found, findings=findings, arrow=arrow)
            columns[field.name] = field.dtype
    return replace(source, columns=columns)


def _check_declared_once(view: FeatureView, source: CheckedSource, findings: Findings) -> None:
    """Refuse a column that aggregations read and that the source declares otherwise than the view: which one holds?"""
    own = {source.source.renamed(field.name): field.dtype for field in source.source.schema}
    read = _input_names(view).keys() - {*view.join_keys, *(each.name for each in view.aggregations)}
    for field in view.schema:
        if field.name in read and own.get(field.name, field.dtype) != field.dtype:
            findings.error(
                view, f"{own[field.name]} in schema= of source {source.source.name!r}",
                expected=f"column {field.name!r} as {field.dtype}, as the view declares it",
                hint="give both the same type, or leave the column out of the view's schema=",
            )  # fmt: skip


def _input_names(view: FeatureView) -> dict[str, None]:
    """The names of the columns that the aggregations read."""
    names: dict[str, None] = {}
    for text in (text for each in view.aggregations for text in (each.column, each.where) if text):
        names |= dict.fromkeys(_names(text))
    return names


def _declared_by(source: CheckedSource) -> set[str]:
    """The columns that the source itself declares."""
    return {source.source.renamed(field.name) for field in source.source.schema}


def _inputs(view: FeatureView, source: CheckedSource) -> list[Field]:
    """Columns that the aggregations read without a type that the source declares: online rows depend on these types."""
    declared = _declared_by(source) | set(view.join_keys)
    found = {name: source.columns.get(name) for name in _input_names(view) if name not in declared}
    return [Field(name, dtype) for name, dtype in found.items() if dtype is not None]


def _names(text: str) -> tuple[str, ...]:
    """The columns that an expression names; none if it does not parse, which is a finding already."""
    try:
        return parse(text).columns
    except ExpressionError:
        return ()


def _features(view: FeatureView, source: CheckedSource, findings: Findings) -> list[Field]:
    if not view.features:
        return _inferred(view, source, findings)
    for field in view.features:
        if field.name not in source.columns:
            findings.error(
                view,
                f"column {field.name!r} is not in source {source.source.name!r}",
                hint=_near(field.name, source.columns),
            )
            continue
        arrow = source.found.get(field.name, "")
        check_fit(view, field, source.columns[field.name], findings=findings, arrow=arrow, label="feature")
        _check_default(view, field.name, field.default, field.dtype, findings)
    return list(view.features)


def _inferred(view: FeatureView, source: CheckedSource, findings: Findings) -> list[Field]:
    """All columns except keys and times."""
    features = []
    for name, dtype in source.columns.items():
        if name in view.join_keys or name in source.times:
            continue
        if dtype is None:
            findings.add(
                "warning",
                view,
                f"column {name!r} is left out: Asof has no type for it",
                hint="convert it in the source",
            )
        else:
            features.append(Field(name, dtype))
    if not features:
        findings.error(
            view, "has no features: its source has only keys and times", hint="give schema= or aggregations="
        )
    return features


def _aggregation(view: FeatureView, each: Aggregation, source: CheckedSource, findings: Findings) -> Aggregation:
    columns = {name: dtype for name, dtype in source.columns.items() if dtype is not None}
    before = f"aggregation {each.name!r}: "
    found: DType | None = None
    try:
        if each.where:
            check(parse(each.where), columns, expected=Bool)
        if each.column:
            found = check(parse(each.column), columns)
    except ExpressionError as error:
        findings.raised(view, error, before=before)
        return each
    suitable = _SUITABLE.get(each.function)
    if suitable and found is not None and found.name not in suitable:
        hint = "count rows with where= instead" if found == Bool else "write another column or function"
        findings.error(view, f"{before}{each.function} does not work on {each.column!r}, which is {found}", hint=hint)
        return each
    try:
        dtype = each.output_dtype(found)
    except DefinitionError as error:
        findings.raised(view, error, before=before)
        return each
    if each.dtype is not None and each.dtype != dtype:
        findings.error(view, str(dtype), expected=f"{before}dtype {each.dtype}", hint="leave dtype= out")
    if each.default is not None and each.function in ("count", "count_distinct"):
        findings.add("note", view, f"{before}default= is ignored: {each.function} is never null")
    _check_default(view, each.name, each.default, dtype, findings)
    return each.with_dtype(dtype)


def _check_aggregated_schema(view: FeatureView, aggregations: tuple[Aggregation, ...], findings: Findings) -> None:
    """Check Feast's schema= of an aggregated view, which names its outputs."""
    by_name = {each.name: each.dtype for each in aggregations}
    read = {name for each in aggregations for text in (each.column, each.where) if text for name in _names(text)}
    for field in view.schema:
        if field.name in view.join_keys or field.name in read - by_name.keys():
            continue
        if field.name not in by_name:
            findings.add(
                "warning",
                view,
                f"schema= names {field.name!r}, which is not an aggregation of this view; it is ignored",
                hint=nearest(field.name, by_name) or "leave it out",
            )
        elif by_name[field.name] is not None and field.dtype != by_name[field.name]:
            findings.error(
                view,
                str(by_name[field.name]),
                expected=f"aggregation {field.name!r} to be {field.dtype}",
                hint=f"declare Field({field.name!r}, {by_name[field.name]})",
            )


def _check_default(view: FeatureView, name: str, default: object, dtype: DType, findings: Findings) -> None:
    if default is not None and not is_of(default, dtype):
        findings.error(
            view, repr(default), expected=f"the default of {name!r} to be {dtype}", hint="give a default of that type"
        )


def _note_what_is_missed(view: FeatureView, source: CheckedSource, findings: Findings) -> None:
    table = source.source
    if not view.online:
        return
    if not table.is_log and not table.created_timestamp_column and not table.lag and not view.lookback:
        findings.add(
            "note",
            view,
            f"every run rescans all of {table.name!r}",
            hint="set created_timestamp_column= or lag= of the source, or lookback= of the view, to read only new rows",
        )
    sessions = [each.window.gap for each in view.aggregations if isinstance(each.window, Session)]
    if sessions and table.is_log and getattr(table, "allowed_lateness", 1) == 0:
        findings.add(
            "note", view,
            f"allowed_lateness of source {table.name!r} is 0: keys with late events have their sessions "
            "recomputed from the archive", hint="set allowed_lateness= of the source",
        )  # fmt: skip


def _near(name: str, known: Mapping[str, object]) -> str:
    return nearest(name, known) or f"it has {some(known)}"
