"""From errors to HTTP: which status each has, and its body, which Feast's client and people can read."""

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
"""After how many seconds a client may come back to a store, or a server, that could not answer."""

MOST_CHARACTERS = 20_000
"""How much of a text an answer repeats."""


class HttpError(AsofError):
    """A request that is refused before it reaches the store.

    Args:
        status: of the answer.
        headers: beside those that every answer has.
        closes: the connection ends with the answer, as what follows on it cannot be understood.
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
"""Error → status, the first that fits. No mistake of a caller is a 5xx: Feast's client repeats those, and hides their
text. A function or source of the project's that fails is 424, for the same reason."""

FEAST_CLASSES: tuple[tuple[type[BaseException], str], ...] = (
    (NotAllowed, "FeastPermissionError"),
    (NotAuthenticated, "FeastPermissionError"),
    (FeatureNameCollision, "FeatureNameCollisionError"),
    (UnknownFeature, "FeatureViewNotFoundException"),
    (NotFound, "FeastObjectNotFoundException"),
)
"""Error → the class of `feast.errors` that Feast's client raises for it; `FeastError` for all others."""


def failed_elsewhere(words: Mapping[str, str]) -> AsofError:
    """An error of another process, from its words."""
    kind = getattr(errors, words["error"], None)
    status = 500
    if isinstance(kind, type) and issubclass(kind, AsofError):
        status = next((status for each, status in STATUS if issubclass(kind, each)), 500)
    return HttpError(status, words["message"], hint=words.get("hint", ""))


def status_of(error: BaseException) -> int:
    """The status of the answer to a request that met this error."""
    if isinstance(error, HttpError):
        return error.status
    return next((status for kind, status in STATUS if isinstance(error, kind)), 500)


def headers_of(error: BaseException) -> list[tuple[bytes, bytes]]:
    """What the answer's headers say beside its type."""
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


def words_of(error: BaseException, *, request_id: str = "") -> dict[str, str]:
    """The error as plain words; of a defect of ours only that it is one."""
    if isinstance(error, AsofError):
        # A name in it may be as long as the request that it came in.
        return {name: _cut(text) for name, text in error.to_dict().items()}
    return {
        "error": "Unexpected",
        "message": f"the server failed on this request ({type(error).__name__})",
        "where": "",
        "hint": "the server's log has the details; report it",
    }


def _cut(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}…"


def plain_body(error: BaseException) -> bytes:
    """The words as a JSON object: `error`, `message`, `hint`, `where`."""
    return orjson.dumps(words_of(error))


def feast_body(error: BaseException) -> bytes:
    """JSON text that holds JSON, as Feast's client reads it, with our words beside Feast's."""
    if isinstance(error, JobRunning):
        return orjson.dumps({"error": str(error), "feature_views": error.views, "job": error.job})
    words = words_of(error)
    text = words["message"] if not words["hint"] else f"{words['message']} ({words['hint']})"
    name = next((name for kind, name in FEAST_CLASSES if isinstance(error, kind)), "FeastError")
    return orjson.dumps(json.dumps({"module": "feast.errors", "class": name, "message": text, **_ours(words)}))


def _ours(words: Mapping[str, str]) -> dict[str, str]:
    return {key: words[key] for key in ("error", "hint", "where") if words[key]}


def decoded(decoder: msgspec.json.Decoder[Any], body: bytes) -> Any:
    """A request's body as what the route expects.

    Raises:
        HttpError: it is no JSON (400), or not what is expected (422).
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise HttpError(422, f"the request's body: {_lower(error)}", hint="see /openapi.json") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        what = "is empty" if not body else f"is no JSON: {_lower(error)}"
        raise HttpError(400, f"the request's body {what}", hint="send a JSON object") from error


def _lower(error: BaseException) -> str:
    text = str(error) or type(error).__name__
    first = text.partition(" ")[0]
    return text if first.isupper() else text[:1].lower() + text[1:]  # `JSON is malformed`, and not `jSON`


def phrase(status: int) -> str:
    """`Not Found`."""
    return HTTPStatus(status).phrase
