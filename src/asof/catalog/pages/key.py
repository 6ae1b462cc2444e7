"""The page of one key: its values now and as of a chosen moment, and which rows or events made one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from asof.catalog.index import View
from asof.catalog.keys import KeyInput, given_key, key_fields_of, key_inputs, key_url, text_of, views_of_key
from asof.catalog.live import LiveValue
from asof.catalog.pages.page import Link, Page, PageRequest, missing
from asof.catalog.pages.sections.examples import served_keys
from asof.catalog.urls import page_url, url_of
from asof.definitions import FeatureView
from asof.dtypes import DType
from asof.errors import AsofError, RequestError
from asof.lineage import hides_column, hides_key, hides_values
from asof.timing import iso, micros, moment

_VIEWS = 25
"""How many views one page reads."""

_ROWS = 40
_BUDGET_S = 2.0
_AGE_S = 2.0
"""Values of a key are looked at to see what just came."""


@dataclass(frozen=True)
class ValueNow:
    """A value as it is served."""

    value: object
    status: str
    event_time: datetime | None


@dataclass(frozen=True)
class ViewValues:
    """A view's values, or why they cannot be read."""

    values: Mapping[str, ValueNow]
    error: str = ""


@dataclass(frozen=True)
class KeyFeature:
    """One feature of the key.

    Args:
        is_hidden: its values are `pii`.
        explain_url: the address of the page with the explanation of the value as of the chosen moment.
    """

    name: str
    type: str
    url: str
    is_hidden: bool
    explain_url: str


@dataclass(frozen=True)
class KeyView:
    """One view about the key."""

    name: str
    kind: str
    url: str
    is_online: bool
    features: Sequence[KeyFeature]


@dataclass(frozen=True)
class ExplainedValue:
    """Which rows or events made a value; see `FeatureStore.explain`."""

    reference: str
    value: object
    text: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    count: int


@dataclass(frozen=True, kw_only=True)
class KeyPage(Page):
    """The page.

    Args:
        inputs: the join keys with what is given.
        examples: links to keys that are served; None where a key is given.
        at: the chosen moment; None while none is chosen.
        views: those about the key that can be read with what is given.
        now, then: view → its values now, and as of the chosen moment; None where nothing is asked for.
        is_unknown: no view serves an event of this key.
        explanation: of the value that was asked for.
        more_url: the address with further views.
    """

    entity: str
    inputs: Sequence[KeyInput]
    examples: LiveValue[Sequence[Link]] | None
    at: datetime | None
    at_text: str
    moments: Sequence[Link]
    views: Sequence[KeyView]
    now: LiveValue[Mapping[str, ViewValues]] | None
    then: LiveValue[Mapping[str, ViewValues]] | None
    is_unknown: bool
    explained: str
    explanation: LiveValue[ExplainedValue] | None
    more_url: str


def key_page(request: PageRequest) -> KeyPage:
    index, (entity,) = request.index, request.names
    if index.entity(entity) is None or not index.shows_entity(request.viewer, entity):
        known = [name for name in index.project.entities if index.shows_entity(request.viewer, name)]
        raise missing("entity", entity, known)
    about = views_of_key(index, entity, lambda view: index.shows_view(request.viewer, view))
    inputs = key_inputs(index, entity, about, request.query)
    key = given_key(about, inputs)
    at = request.moment("at")
    first = request.number("from", 1, most=1_000_000) - 1
    readable = [view for view in about if set(key_fields_of(view)) <= set(key)] if key else []
    views = readable[first : first + _VIEWS]
    query = {each.parameter: each.text for each in inputs if each.text}
    explained = request.text("explain") or ""
    now = _now(request, entity, key, views) if views else None
    page = page_url("key", entity, query={**query, "at": request.text("at")})
    return KeyPage(
        title=f"{entity} {', '.join(each.text for each in inputs if each.text)}".strip(),
        above=[Link("Home", page_url()), Link(entity, url_of("entity", entity))],
        entity=entity, inputs=inputs, examples=None if key else example_links(request, entity, about),
        at=None if at is None else moment(at), at_text=request.text("at") or "",
        moments=_moments(request, entity, query), views=[_view(request, view, page) for view in views], now=now,
        then=None if at is None or not views else _then(request, entity, key, views, at),
        is_unknown=_is_unknown(now), explained=explained,
        explanation=_explanation(request, explained, key, at, readable) if explained and key else None,
        more_url=page_url("key", entity, query={**query, "at": request.text("at"), "from": first + _VIEWS + 1})
        if len(readable) > first + _VIEWS else "",
    )  # fmt: skip


def example_links(request: PageRequest, entity: str, about: Sequence[View]) -> LiveValue[Sequence[Link]]:
    """Links to some keys that are served; none where they are tagged `pii`. It is late, or an error, only where no view
    has any and one of them cannot say so."""
    keys = request.index.project.entities[entity].join_keys
    unknown: LiveValue[Sequence[Link]] | None = None
    for view in about[:_VIEWS]:
        if isinstance(view, FeatureView) and set(keys) == set(view.join_keys) and not hides_key(view):
            found = served_keys(request, view)
            if found.value is None:
                unknown = unknown or LiveValue(None, None, found.is_late, found.error, found.hint)
            elif found.value.keys:
                types = key_fields_of(view)
                links = [Link(_key_text(key, types), key_url(entity, key, types)) for key in found.value.keys]
                return LiveValue(links, found.age_s, found.is_late)
    return unknown or LiveValue[Sequence[Link]]([])


def _key_text(key: Mapping[str, object], types: Mapping[str, DType]) -> str:
    return ", ".join(text_of(value, types[name]) for name, value in key.items())


def _view(request: PageRequest, view: View, page: str) -> KeyView:
    entries = {each.name: each for each in request.index.entries_of_view(view.name)}
    joined = "&" if "?" in page else "?"
    features = []
    for name in view.feature_names:
        reference = f"{view.name}:{name}"
        address = page + joined + page_url(query={"explain": reference}).partition("?")[2] + "#explanation"
        features.append(
            KeyFeature(
                name, entries[reference].type, url_of("feature", reference), hides_values(view, name), address,
            )
        )  # fmt: skip
    kind = "view" if isinstance(view, FeatureView) else "on-demand-view"
    is_online = view.online if isinstance(view, FeatureView) else True
    return KeyView(view.name, kind, url_of(kind, view.name), is_online, features)


# ---- values ----


def _now(
    request: PageRequest, entity: str, key: Mapping[str, Any], views: Sequence[View]
) -> LiveValue[Mapping[str, ViewValues]]:
    def read(some: Sequence[View]) -> dict[str, ViewValues]:
        response = request.store.get_online_features(_references(some), [dict(key)], full_feature_names=True)
        values, statuses, times = response.to_dict(), response.statuses, response.event_times
        return {
            view.name: ViewValues({
                name: ValueNow(values[column][0], statuses[column][0], times[column][0])
                for name in _shown(view)
                if (column := _column(view, name))
            })
            for view in some
        }  # fmt: skip

    served = [view for view in views if not isinstance(view, FeatureView) or view.online]
    return _values(request, ("now", entity, *_hashable(key)), served, read)


def _then(
    request: PageRequest, entity: str, key: Mapping[str, Any], views: Sequence[View], at: int
) -> LiveValue[Mapping[str, ViewValues]]:
    def read(some: Sequence[View]) -> dict[str, ViewValues]:
        import pyarrow as pa

        types: dict[str, DType] = {}
        for view in some:
            types |= key_fields_of(view)
        columns = {name: pa.array([key[name]], dtype.arrow()) for name, dtype in types.items()}
        frame = pa.table({**columns, "event_timestamp": pa.array([moment(at)], pa.timestamp("us", "UTC"))})
        table = request.store.get_historical_features(frame, _references(some), full_feature_names=True).to_arrow()
        row = {name: table[name][0].as_py() for name in table.column_names}
        return {
            view.name: ViewValues({name: ValueNow(row[_column(view, name)], "", None) for name in _shown(view)})
            for view in some
        }

    return _values(request, ("then", entity, at, *_hashable(key)), views, read)


def _values(
    request: PageRequest, name: tuple[object, ...], views: Sequence[View], read: Any
) -> LiveValue[Mapping[str, ViewValues]]:
    """All views at once; one by one where that fails, so that one of them does not hide the others."""

    def work() -> dict[str, ViewValues]:
        readable = [view for view in views if _shown(view)]
        found = {view.name: ViewValues({}) for view in views}
        try:
            return {**found, **(read(readable) if readable else {})}
        except AsofError:
            for view in readable:
                try:
                    found |= read([view])
                except AsofError as error:
                    found[view.name] = ViewValues({}, error.message)
            return found

    key = (*name, tuple(view.name for view in views))
    return request.live.get(key, work, budget_s=_BUDGET_S, max_age_s=_AGE_S)


def _references(views: Sequence[View]) -> list[str]:
    return [f"{view.name}:{name}" for view in views for name in _shown(view)]


def _column(view: View, feature: str) -> str:
    """The feature's name in a result with full names."""
    return f"{view.name}__{feature}"


def _shown(view: View) -> list[str]:
    return [name for name in view.feature_names if not hides_values(view, name)]


def _hashable(key: Mapping[str, Any]) -> list[object]:
    return [(name, repr(value)) for name, value in key.items()]


def _is_unknown(now: LiveValue[Mapping[str, ViewValues]] | None) -> bool:
    if now is None or now.value is None:
        return False
    values = [each for view in now.value.values() for each in view.values.values()]
    errors = any(view.error for view in now.value.values())
    return bool(values) and not errors and all(each.event_time is None for each in values)


def _moments(request: PageRequest, entity: str, query: Mapping[str, str]) -> list[Link]:
    """Some moments to choose."""
    now = micros(request.now)
    spans = (("now", 0), ("an hour ago", 3600), ("a day ago", 86400), ("a week ago", 7 * 86400))
    return [
        Link(text, page_url("key", entity, query={**query, "at": iso(now - ago * 1_000_000)})) for text, ago in spans
    ]


# ---- the explanation ----


def _explanation(
    request: PageRequest, reference: str, key: Mapping[str, Any], at: int | None, views: Sequence[View]
) -> LiveValue[ExplainedValue]:
    name, _, feature = reference.partition(":")
    view = next((each for each in views if each.name == name), None)
    if view is None or feature not in view.feature_names:
        raise RequestError(
            f"?explain={reference[:80]}: this key has no such feature", hint="choose one of the features of this page"
        )
    if hides_values(view, feature):
        raise RequestError(f"?explain={reference[:80]}: its values are tagged pii", hint="choose another feature")
    own = {name: key[name] for name in key_fields_of(view)}

    def work() -> ExplainedValue:
        found = request.store.explain(reference, own, at=None if at is None else moment(at))
        hidden = _hidden_columns(view)
        columns = [each for each in found.rows.column_names if each not in hidden]
        rows = found.rows.select(columns).slice(0, _ROWS).to_pylist()
        return ExplainedValue(
            found.reference, found.value, found.text, columns, [list(row.values()) for row in rows], len(found)
        )

    key_of_it = ("explain", reference, at, *_hashable(own))
    return request.live.get(key_of_it, work, budget_s=_BUDGET_S, max_age_s=_AGE_S)


def _hidden_columns(view: View) -> set[str]:
    """Columns of an explanation's rows that are `pii`: other features of the row, and columns of the source."""
    if not isinstance(view, FeatureView):
        return set()
    source = view.source
    hidden = {name for name in view.feature_names if hides_values(view, name)}
    names = {field.name for field in source.schema} | {source.renamed(field.name) for field in source.schema}
    hidden |= {name for name in names if hides_column(source, source.raw(name))}
    # A column that is named like one of the explanation's own has an underscore after it.
    return hidden | {f"{name}_" for name in hidden}
