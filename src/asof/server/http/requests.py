"""The bodies that routes take, as types: what does not fit is refused, and the API's document says the same."""

from __future__ import annotations

from collections.abc import Collection
from json import loads
from typing import Annotated, Any, Literal

import msgspec

from asof.server.http.errors import HttpError

Columns = dict[str, list[Any]]

MOST_LOOKED_FOR = 16
"""Up to so many names a body is searched for each; to parse it costs about as much as that."""


class GetOnlineFeatures(msgspec.Struct):
    """Features of some entities, by Feast's words."""

    entities: Annotated[Columns, msgspec.Meta(description="Join keys and request values: name → one value per row.")]
    features: Annotated[list[str] | None, msgspec.Meta(description="References `view:feature`.")] = None
    feature_service: Annotated[str | None, msgspec.Meta(description="A service, in place of `features`.")] = None
    full_feature_names: bool = False
    include_feature_view_version_metadata: bool = False


class Features(msgspec.Struct):
    """Features of some entities, by Asof's words."""

    entities: Annotated[
        Columns | list[dict[str, Any]],
        msgspec.Meta(description="Join keys and request values: name → one value per row, or one object per row."),
    ]
    features: Annotated[
        list[str] | str | None,
        msgspec.Meta(description="References `view:feature`; or one of them, a view's name, or a service's."),
    ] = None
    service: Annotated[str | None, msgspec.Meta(description="A service, in place of `features`.")] = None
    full_feature_names: bool = False
    statuses: Annotated[bool, msgspec.Meta(description="Also answer why a value is null.")] = False
    event_times: Annotated[bool, msgspec.Meta(description="Also answer the time of the row of each value.")] = False
    types: Annotated[
        bool,
        msgspec.Meta(
            description="Also answer what a typed client needs: names and types of keys, request values and features, "
            "the request values as they were understood, and the moment that was answered."
        ),
    ] = False


class Push(msgspec.Struct):
    """Rows for a push source."""

    push_source_name: str
    df: Annotated[Columns, msgspec.Meta(description="The source's columns: name → one value per row.")]
    to: Annotated[
        Literal["online", "offline", "online_and_offline"],
        msgspec.Meta(description="Taken for Feast's sake: rows always go to both stores, so that both agree."),
    ] = "online"
    batch_id: Annotated[
        str | None, msgspec.Meta(description="A name for these rows: a second push under it is no push.")
    ] = None
    allow_registry_cache: bool = True
    transform_on_write: bool = True


class WriteToOnlineStore(msgspec.Struct):
    """Rows of a view."""

    feature_view_name: str
    df: Annotated[
        Columns,
        msgspec.Meta(
            description="Join keys, features and the event time: name → one value per row. The columns "
            "`event_timestamp` and `created` of Feast's client stand for the times of the view's source."
        ),
    ]
    allow_registry_cache: bool = True
    transform_on_write: bool = True


class Materialize(msgspec.Struct):
    """Event times `[start_ts, end_ts)` to bring online."""

    start_ts: Annotated[str | None, msgspec.Meta(description="ISO 8601; without it, what is new.")] = None
    end_ts: Annotated[str | None, msgspec.Meta(description="ISO 8601; without it, until now.")] = None
    feature_views: Annotated[list[str] | None, msgspec.Meta(description="Views; all batch-fed ones by default.")] = None
    disable_event_timestamp: bool = False
    full_feature_names: bool = False
    version: str | None = None


class MaterializeIncremental(msgspec.Struct):
    """What is new since the last run, up to `end_ts`."""

    end_ts: Annotated[str | None, msgspec.Meta(description="ISO 8601; without it, until now.")] = None
    feature_views: Annotated[list[str] | None, msgspec.Meta(description="Views; all batch-fed ones by default.")] = None
    full_feature_names: bool = False
    version: str | None = None


def refuse_repeated_names(body: bytes, names: Collection[str]) -> None:
    """Refuse a JSON object that says a name twice: its reader would take one of the values, silently.

    Args:
        names: those that were read; the body is parsed again only where one of them stands in it more than once, or
            where they are so many that to look for each of them takes longer.

    Raises:
        HttpError: the name.
    """
    if len(names) <= MOST_LOOKED_FOR and not any(body.count(_quoted(name)) > 1 for name in names):
        return
    try:
        loads(body, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        pass  # what is no JSON is refused by the decoder


def _quoted(name: str) -> bytes:
    return b'"%b"' % name.encode("utf-8", "surrogatepass")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    answer = dict(pairs)
    if len(answer) < len(pairs):
        seen: set[str] = set()
        for twice, _ in pairs:
            if twice in seen:
                break
            seen.add(twice)
        raise HttpError(422, f"the request's body has {twice!r} twice in one object", hint="keep one of them")
    return answer
