"""The one module that writes errors to HTTP: the status of each, and its body.

Asof's own routes return a JSON object with `code`, `message` and `hint`; Feast's routes return the JSON string that
Feast's client parses.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
import orjson

from asof import errors
from asof.errors import (
    AsofError,
    DerivationError,
    FeatureNameCollision,
    FunctionChanged,
    FunctionTimeout,
    JobRunning,
    MissingExtra,
    NotAllowed,
    NotAuthenticated,
    NotFound,
    Overloaded,
    RegistryConflict,
    RegistryError,
    RequestError,
    RowsRefused,
    SourceError,
    StorageError,
    UnknownFeature,
)

JSON = (b"content-type", b"application/json")
RETRY_AFTER_S = 1
"""`Retry-After` of a 429 or 503, in seconds."""

MOST_CHARACTERS = 20_000
"""Longest message or hint in an error body; the rest is cut off."""


class HttpError(AsofError):
    """A request that is refused before it reaches the store.

    Args:
        status: HTTP status of the response.
        headers: response headers in addition to the usual ones.
        closes: close the connection after the response, because what follows on it cannot be parsed.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        hint: str = "",
        headers: tuple[tuple[bytes, bytes], ...] = (),
        closes: bool = False,
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.headers = headers
        self.closes = closes


STATUS: tuple[tuple[type[BaseException], int], ...] = (
    (NotAuthenticated, 401),
    (NotAllowed, 403),
    (NotFound, 404),
    (JobRunning, 409),
    (RegistryConflict, 409),
    (RowsRefused, 422),
    (FunctionChanged, 503),
    (RequestError, 422),
    (FunctionTimeout, 424),
    (DerivationError, 424),
    (SourceError, 424),
    (Overloaded, 503),
    (MissingExtra, 501),
    (StorageError, 503),
    (RegistryError, 503),
    (AsofError, 422),
)
"""Error → status; the first match counts. A caller's mistake is never a 5xx: Feast's client retries those and hides
their message. For the same reason a failing function or source of the project is 424."""

FEAST_CLASSES: tuple[tuple[type[BaseException], str], ...] = (
    (NotAllowed, "FeastPermissionError"),
    (NotAuthenticated, "FeastPermissionError"),
    (FeatureNameCollision, "FeatureNameCollisionError"),
    (UnknownFeature, "FeatureViewNotFoundException"),
    (NotFound, "FeastObjectNotFoundException"),
)
"""Error → the class of `feast.errors` that Feast's client raises for it; `FeastError` for all others."""


def error_of_object(fields: Mapping[str, str]) -> AsofError:
    """The error that another process wrote with `error_object`, to raise it with its own status."""
    kind = getattr(errors, fields["code"], None)
    status = 500
    if isinstance(kind, type) and issubclass(kind, AsofError):
        status = next((status for each, status in STATUS if issubclass(kind, each)), 500)
    return HttpError(status, fields["message"], hint=fields["hint"])


def status_of(error: BaseException) -> int:
    """HTTP status of the response for an error."""
    if isinstance(error, HttpError):
        return error.status
    return next((status for kind, status in STATUS if isinstance(error, kind)), 500)


def headers_of(error: BaseException) -> list[tuple[bytes, bytes]]:
    """Response headers of an error, without the content type."""
    status = status_of(error)
    headers: list[tuple[bytes, bytes]] = []
    if status in (429, 503):
        headers.append((b"retry-after", b"%d" % RETRY_AFTER_S))
    if status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="asof"'))
    if isinstance(error, HttpError):
        headers += error.headers
        if error.closes:
            headers.append((b"connection", b"close"))
    return headers


def error_object(error: BaseException) -> dict[str, str]:
    """The error as `code`, `message`, `hint`, and `where` if it is about a definition.

    An exception that is not Asof's shows only its class: its text may hold what the caller must not see.
    """
    if not isinstance(error, AsofError):
        return {
            "code": "Unexpected",
            "message": f"the server failed on this request ({type(error).__name__})",
            "hint": "see the server's log, and report it",
        }
    # A name in the message may be as long as the request that it came in.
    fields = {"code": type(error).__name__, "message": _cut(error.message), "hint": _cut(error.hint)}
    return fields | {"where": error.where} if error.where else fields


def _cut(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}…"


def asof_body(error: BaseException) -> bytes:
    """Body of an error on Asof's own routes: the JSON object of `error_object`."""
    return orjson.dumps(error_object(error))


def feast_body(error: BaseException) -> bytes:
    """Body of an error on Feast's routes: a JSON string that contains JSON, with Feast's fields and Asof's."""
    if isinstance(error, JobRunning):
        return orjson.dumps({"error": str(error), "feature_views": error.views, "job": error.job})
    fields = error_object(error)
    text = fields["message"] if not fields["hint"] else f"{fields['message']} ({fields['hint']})"
    name = next((name for kind, name in FEAST_CLASSES if isinstance(error, kind)), "FeastError")
    return orjson.dumps(json.dumps({"module": "feast.errors", "class": name, "message": text, **_ours(fields)}))


def _ours(fields: Mapping[str, str]) -> dict[str, str]:
    return {key: text for key, text in fields.items() if text and key != "message"}


def decoded(decoder: msgspec.json.Decoder[Any], body: bytes) -> Any:
    """A request's body, as the type that the route expects.

    Raises:
        HttpError: the body is not JSON (400), or not of that type (422).
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise HttpError(422, f"the request's body: {_lower(error)}", hint="see /openapi.json") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        what = "is empty" if not body else f"is not JSON: {_lower(error)}"
        raise HttpError(400, f"the request's body {what}", hint="send a JSON object") from error


def _lower(error: BaseException) -> str:
    text = str(error) or type(error).__name__
    first = text.partition(" ")[0]
    return text if first.isupper() else text[:1].lower() + text[1:]  # `JSON is malformed`, and not `jSON`


def phrase(status: int) -> str:
    """`Not Found`."""
    return HTTPStatus(status).phrase
