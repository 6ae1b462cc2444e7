"""Real keys to show and to put into snippets: of those that are served, ones with values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal

from asof.catalog.index import View
from asof.catalog.live import LiveValue
from asof.catalog.pages.page import PageRequest
from asof.catalog.snippets import SnippetSubject, SqlRows, TypedValue
from asof.definitions import FeatureService, FeatureView, Field, OnDemandFeatureView, Projection
from asof.dtypes import DType
from asof.lineage import hides_key

_READ = 50
"""How many keys are read, to find some with values."""

_SHOWN = 5

_MAX_AGE_S = 300.0
"""An example does not get worse with age."""

_PLAIN = re.compile(r"[^A-Za-z0-9_]+")


@dataclass(frozen=True)
class ServedKeys:
    """Some keys of a view that are served.

    Args:
        keys: those with the most values first.
        read: how many were looked at.
        newest: the newest event time among them; None if none has one.
    """

    keys: Sequence[Mapping[str, object]] = ()
    read: int = 0
    newest: datetime | None = None


@dataclass(frozen=True)
class ExampleRow:
    """An entity row for snippets.

    Args:
        keys: join keys, as a request names them.
        request: request values, which are always made up.
        note: why the keys are made up; empty where they are real.
    """

    keys: Mapping[str, TypedValue]
    request: Mapping[str, TypedValue] = field(default_factory=dict)
    note: str = ""


def served_keys(request: PageRequest, view: FeatureView) -> LiveValue[ServedKeys]:
    """Some keys of a view that are served; none where its keys are tagged `pii`."""
    if hides_key(view) or not view.join_keys or not view.online:
        return LiveValue(ServedKeys())
    return request.live.get(("served-keys", view.name), lambda: _served_keys(request, view), max_age_s=_MAX_AGE_S)


def _served_keys(request: PageRequest, view: FeatureView) -> ServedKeys:
    keys = [each.to_dict() for each in request.store.online_keys(view.name, _READ)]
    if not keys:
        return ServedKeys()
    response = request.store.get_online_features(view.name, keys)
    columns = [response.to_dict()[name] for name in view.feature_names]
    counts = [sum(value not in (None, 0, "", [], False) for value in row) for row in zip(*columns, strict=True)]
    best = sorted(range(len(keys)), key=lambda row: -counts[row])[:_SHOWN]
    times = [time for column in response.event_times.values() for time in column if time is not None]
    return ServedKeys([keys[row] for row in best], len(keys), max(times, default=None))


def example_row(request: PageRequest, views: Iterable[View | Projection]) -> ExampleRow:
    """A row with which all of the views can be read: real keys where there are any."""
    keys: dict[str, TypedValue] = {}
    values: dict[str, TypedValue] = {}
    notes: dict[str, None] = {}
    for view, names in read_views(views):
        own = {each.name: each.dtype for each in view.key_fields}
        if not own or set(names.values()) <= set(keys):
            continue
        found = served_keys(request, view)
        real = found.value.keys[0] if found.value is not None and found.value.keys else None
        if real is None:
            notes[_why(view, found)] = None
        for name, dtype in own.items():
            value = made_up(dtype, request.now) if real is None else real[name]
            keys.setdefault(names[name], TypedValue(value, dtype))
    for each in _request_fields(views):
        values.setdefault(each.name, TypedValue(made_up(each.dtype, request.now), each.dtype))
    return ExampleRow(keys, values, " ".join(notes))


def snippet_subject(
    request: PageRequest, row: ExampleRow, views: Sequence[View | Projection], *,
    features: Sequence[str] = (), service: FeatureService | None = None,
) -> SnippetSubject:  # fmt: skip
    """What the snippets of some features, or of a service, read."""
    read = read_views(views)
    names = [
        name for view in views for name in (view.features if isinstance(view, Projection) else None) or _names(view)
    ]
    config = request.store.config
    scheme = "https" if config.server.get("tls_cert") else "http"
    name = service.name if service is not None else features[0]
    return SnippetSubject(
        features=features, keys=row.keys, at=request.now.replace(microsecond=0), service=name if service else "",
        request=row.request, sql=_sql_rows(read, set(row.keys)),
        training_set=_PLAIN.sub("_", name).strip("_") or "training_set",
        server=f"{scheme}://localhost:{config.server.get('port', 6566)}", is_guarded=config.auth.is_on,
        full_names=len(names) != len(set(names)) if service else False,
        is_served=all(view.online for view, _ in read),
    )  # fmt: skip


def made_up(dtype: DType, now: datetime) -> object:
    """A value of a type that stands for a real one."""
    if dtype.name == "Array":
        assert dtype.inner is not None
        return [made_up(dtype.inner, now)]
    if dtype.name == "Embedding":
        return [0.5] * dtype.size
    if dtype.name == "Decimal":
        return Decimal(1).scaleb(-dtype.scale)
    made: Mapping[str, object] = {
        "Bool": True, "Int32": 1, "Int64": 1, "Float32": 1.5, "Float64": 1.5, "String": "a", "Json": "{}",
        "Bytes": b"a", "Date": date(now.year, now.month, now.day),
        "Timestamp": now.replace(microsecond=0).astimezone(UTC),
    }  # fmt: skip
    return made[dtype.name]


def read_views(views: Iterable[View | Projection]) -> list[tuple[FeatureView, dict[str, str]]]:
    """The feature views that are read, at any depth; each with its join keys → their names in a request."""
    found: list[tuple[FeatureView, dict[str, str]]] = []
    for each in views:
        view = each.view if isinstance(each, Projection) else each
        renamed = each.join_key_map if isinstance(each, Projection) else {}
        if isinstance(view, FeatureView):
            found.append((view, {key: renamed.get(key, key) for key in view.join_keys}))
        elif isinstance(view, OnDemandFeatureView):
            inputs = [source for source in view.sources if isinstance(source, Projection)]
            found += [
                (below, {key: renamed.get(name, name) for key, name in names.items()})
                for below, names in read_views(inputs)
            ]
    return found


def _request_fields(views: Iterable[View | Projection]) -> list[Field]:
    found: list[Field] = []
    for each in views:
        view = each.view if isinstance(each, Projection) else each
        if isinstance(view, OnDemandFeatureView):
            found += view.request_fields
            found += _request_fields([source for source in view.sources if isinstance(source, Projection)])
    return found


def _names(view: View | Projection) -> Sequence[str]:
    return view.view.feature_names if isinstance(view, Projection) else view.feature_names


def _sql_rows(read: Sequence[tuple[FeatureView, dict[str, str]]], keys: set[str]) -> SqlRows | None:
    """A source with all of the join keys; None if there is none."""
    for view, names in read:
        if set(names.values()) == keys:
            source = view.source
            columns = {source.raw(key): name for key, name in names.items()}
            return SqlRows(source.name, columns, source.timestamp_field, source.timestamp_unit)
    return None


def _why(view: FeatureView, found: LiveValue[ServedKeys]) -> str:
    if hides_key(view):
        return f"The keys of {view.name} are tagged pii and not shown: this one is made up."
    if found.error:
        return f"The keys of {view.name} cannot be read, so this one is made up: {found.error}"
    if found.value is None:
        return f"A key of {view.name} is still being looked for: this one is made up."
    if not view.online:
        return f"{view.name} is not served online: this key is made up."
    return f"Nothing of {view.name} is served yet: this key is made up."


__all__ = ["ExampleRow", "ServedKeys", "example_row", "made_up", "read_views", "served_keys", "snippet_subject"]
