"""Request bodies as types: they validate requests, and generate the OpenAPI document."""

from __future__ import annotations

from collections.abc import Collection
from json import loads
from typing import Annotated, Any, Literal

import msgspec

from asof.server.http.errors import HttpError
from asof.server.http.limits import outside_strings

Columns = dict[str, list[Any]]

MOST_LOOKED_FOR = 16
"""With more names than this, counting the pairs of the body is cheaper than searching it once per name."""


class GetOnlineFeatures(msgspec.Struct):
    """Features of some entities, with Feast's parameter names."""

    entities: Annotated[Columns, msgspec.Meta(description="Join keys and request values: name → one value per row.")]
    features: Annotated[list[str] | None, msgspec.Meta(description="References `view:feature`.")] = None
    feature_service: Annotated[str | None, msgspec.Meta(description="A feature service, instead of `features`.")] = None
    full_feature_names: bool = False
    include_feature_view_version_metadata: bool = False


class Features(msgspec.Struct):
    """Features of some entities, with Asof's parameter names."""

    entities: Annotated[
        Columns | list[dict[str, Any]],
        msgspec.Meta(description="Join keys and request values: name → one value per row, or one object per row."),
    ]
    features: Annotated[
        list[str] | str | None,
        msgspec.Meta(
            description="References `view:feature`; or a single reference, or the name of a view or a service."
        ),
    ] = None
    service: Annotated[str | None, msgspec.Meta(description="A feature service, instead of `features`.")] = None
    full_feature_names: bool = False
    statuses: Annotated[bool, msgspec.Meta(description="Also return the status of each value: why it is null.")] = False
    event_times: Annotated[bool, msgspec.Meta(description="Also return the event time of each value's row.")] = False
    types: Annotated[
        bool,
        msgspec.Meta(
            description="Also return what a typed client needs: names and types of keys, request values and features, "
            "the request values after conversion, and the time of the read."
        ),
    ] = False


class Push(msgspec.Struct):
    """Rows for a push source."""

    push_source_name: str
    df: Annotated[Columns, msgspec.Meta(description="The source's columns: name → one value per row.")]
    to: Annotated[
        Literal["online", "offline", "online_and_offline"],
        msgspec.Meta(description="Accepted for compatibility with Feast: rows always go to both stores."),
    ] = "online"
    batch_id: Annotated[
        str | None, msgspec.Meta(description="An ID for the batch: a second push with the same ID writes nothing.")
    ] = None
    allow_registry_cache: bool = True
    transform_on_write: bool = True


class WriteToOnlineStore(msgspec.Struct):
    """Rows of a view."""

    feature_view_name: str
    df: Annotated[
        Columns,
        msgspec.Meta(
            description="Join keys, features and the event time: name → one value per row. "
            "`event_timestamp` and `created`, which Feast's client sends, are the source's event and created time."
        ),
    ]
    allow_registry_cache: bool = True
    transform_on_write: bool = True


class Materialize(msgspec.Struct):
    """Materialize the event times `[start_ts, end_ts)`."""

    start_ts: Annotated[str | None, msgspec.Meta(description="ISO 8601; by default, where the last run ended.")] = None
    end_ts: Annotated[str | None, msgspec.Meta(description="ISO 8601; by default, now.")] = None
    feature_views: Annotated[
        list[str] | None, msgspec.Meta(description="Names of views; by default, all views with a batch source.")
    ] = None
    disable_event_timestamp: bool = False
    full_feature_names: bool = False
    version: str | None = None


class MaterializeIncremental(msgspec.Struct):
    """Materialize what is new since the last run, up to `end_ts`."""

    end_ts: Annotated[str | None, msgspec.Meta(description="ISO 8601; by default, now.")] = None
    feature_views: Annotated[
        list[str] | None, msgspec.Meta(description="Names of views; by default, all views with a batch source.")
    ] = None
    full_feature_names: bool = False
    version: str | None = None


def refuse_repeated_names(body: bytes, columns: Collection[str], *others: str) -> None:
    """Refuse a JSON object with a repeated name: the decoder would silently keep one of the values.

    Args:
        columns: the names in the one object within; `others`: those of the body itself that have to be single. The
            body is parsed again only if one of them occurs in it more than once, or if there are so many names that
            searching for each would take longer, and more pairs in the body than were decoded.

    Raises:
        HttpError: a name is repeated.
    """
    if len(columns) + len(others) <= MOST_LOOKED_FOR:
        if not any(body.count(_quoted(name)) > 1 for name in (*columns, *others)):
            return
    elif sum(text.count(b":") for text in outside_strings(body)) == len(columns) + len(_NAMES.decode(body)):
        return
    try:
        loads(body, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        pass  # the decoder refuses a body that is not JSON


_NAMES = msgspec.json.Decoder(dict[str, msgspec.Raw])


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
