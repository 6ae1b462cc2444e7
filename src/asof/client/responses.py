"""Responses of a feature server: typed values, or the error that the store itself would raise."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec

from asof import errors
from asof.dtypes import DType, parse
from asof.errors import (
    AsofError,
    DefinitionError,
    JobRunning,
    NotAllowed,
    NotAuthenticated,
    NotFound,
    Overloaded,
    PushNotApplied,
    RequestError,
    ServerError,
    ServerTimeout,
)
from asof.online_response import Columns, OnlineResponse, ViewMetadata
from asof.timing import Micros, micros
from asof.values.json import reader


@dataclass(frozen=True)
class ServerColumn:
    """One column of a response; see `asof.online_response.ResponseColumn`."""

    name: str
    dtype: DType
    reference: str = ""

    @property
    def column(self) -> str:
        return self.name


@dataclass(frozen=True)
class ResponseSchema:
    """The columns of a response, and the readers that restore their types."""

    keys: tuple[ServerColumn, ...]
    request_fields: tuple[ServerColumn, ...]
    outputs: tuple[ServerColumn, ...]
    readers: tuple[tuple[int, Callable[[Any], Any]], ...]
    request_readers: Mapping[str, Callable[[Any], Any]]


class ResponseMetadata:
    """Statuses or event times from a response, decoded at the first access."""

    __slots__ = ("_raw", "_rows", "_width", "_what")

    def __init__(self, what: str, raw: bytes, *, rows: int, width: int) -> None:
        self._what = what
        self._raw = raw
        self._rows: list[Sequence[Any]] | None = None
        self._width = width if rows else 0

    def of(self, place: int) -> Sequence[Any]:
        """The values of one output.

        Raises:
            RequestError: they were not requested.
            ServerError: they are malformed.
        """
        if not self._raw:
            raise RequestError(f"the response has no {self._what}", hint="read with details=True")
        if self._rows is None:
            try:
                self._rows = list(zip(*_decode_rows(self._raw), strict=True))
                if len(self._rows) != self._width:
                    raise ValueError(f"it has {len(self._rows)} columns of {self._what}; expected {self._width}")
            except ValueError as error:
                raise _not_ours(error) from error
        return self._rows[place] if self._rows else ()


class ServerViewMetadata(ViewMetadata):
    """Statuses and times of one output, from a response."""

    __slots__ = ("_place", "_statuses", "_times")

    def __init__(self, output: str, place: int, statuses: ResponseMetadata, times: ResponseMetadata) -> None:
        # Not super().__init__: its attributes have other sources here.
        self.outputs = (output,)
        self.marks = None
        self.nulls: Columns = {}
        self._place = place
        self._statuses = statuses
        self._times = times

    def statuses(self, values: Sequence[object]) -> list[str]:
        return list(self._statuses.of(self._place))

    @property
    def times(self) -> Sequence[Micros | None]:  # type: ignore[override]  # computed when read, never set
        return [None if text is None else micros(text) for text in self._times.of(self._place)]


class ResponseBody(msgspec.Struct):
    """The body of a response; fields that are cached or seldom used stay undecoded."""

    names: msgspec.Raw
    rows: list[list[Any]]
    types: msgspec.Raw
    at: str
    request: dict[str, list[Any]] = {}
    statuses: msgspec.Raw = msgspec.Raw()
    event_times: msgspec.Raw = msgspec.Raw()


_decode_answer = msgspec.json.Decoder(ResponseBody).decode
_decode_rows = msgspec.json.Decoder(list[list[Any]]).decode


def response_of(body: bytes) -> OnlineResponse:
    """Decode the response to a read.

    Raises:
        ServerError: it is not a response of an Asof server.
    """
    try:
        answer = _decode_answer(body)
        shape = _shape(bytes(answer.types))
        n, width, start = len(answer.rows), len(shape.outputs), len(shape.keys)
        columns: list[Any] = list(map(list, zip(*answer.rows, strict=True)))
        if not n:
            columns = [[] for _ in range(start + width)]
        if len(columns) != start + width:
            raise ValueError("its numbers of columns and types differ")
        for place, read in shape.readers:
            columns[place] = [None if value is None else read(value) for value in columns[place]]
        keys: Columns = {field.name: columns[i] for i, field in enumerate(shape.keys)}
        for name, values in answer.request.items():
            back = shape.request_readers.get(name)
            keys[name] = values if back is None else [None if value is None else back(value) for value in values]
        statuses = ResponseMetadata("statuses", bytes(answer.statuses), rows=n, width=width)
        times = ResponseMetadata("event times", bytes(answer.event_times), rows=n, width=width)
        features = {output.name: columns[start + i] for i, output in enumerate(shape.outputs)}
        found: list[ViewMetadata] = [
            ServerViewMetadata(output.name, i, statuses, times) for i, output in enumerate(shape.outputs)
        ]
        return OnlineResponse(shape, keys, features, found, at=micros(answer.at), rows=n)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, DefinitionError) as error:
        raise _not_ours(error) from error


def _not_ours(error: Exception) -> ServerError:
    return ServerError(
        f"the response is not one of an Asof server ({type(error).__name__}: {error})",
        hint="check the url, and that client and server have the same version",
    )


@lru_cache(maxsize=1024)
def _shape(types: bytes) -> ResponseSchema:
    described = json.loads(types)
    named = tuple(ServerColumn(name, parse(dtype)) for name, dtype in described["keys"])
    requested = tuple(ServerColumn(name, parse(dtype)) for name, dtype in described["request"])
    outputs = tuple(ServerColumn(name, parse(dtype), reference) for name, dtype, reference in described["features"])
    readers = ((place, reader(column.dtype)) for place, column in enumerate((*named, *outputs)))
    return ResponseSchema(
        named, requested, outputs,
        tuple((place, read) for place, read in readers if read is not None),
        {column.name: read for column in requested if (read := reader(column.dtype)) is not None},
    )  # fmt: skip


def result_of(job: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Result of a job, per view; None while it runs.

    Raises:
        AsofError: the job failed; its error.
    """
    if job["state"] == "running":
        return None
    if job["state"] == "done":
        return job["result"]
    raise error_of(422, json.dumps(job.get("error", {})).encode(), what=f"job {job['id']}")


def not_ended(job: Mapping[str, Any], seconds: float) -> ServerTimeout:
    """The error for a job that has not ended within the waiting time."""
    return ServerTimeout(
        f"job {job['id']} has not ended after {seconds:g} s",
        hint=f"it is still running: check it with job({job['id']!r})",
    )


def kept_but_not_applied(body: bytes) -> PushNotApplied:
    """The error for rows that are durable on the server, but not applied yet."""
    fields = _error_fields(body)
    return PushNotApplied(
        fields.get("message") or "the rows are durable, but not served yet",
        hint="do not push them again: the server applies them as soon as it can",
    )


def error_of(status: int, body: bytes, *, what: str, retry_after: str | None = None) -> AsofError:
    """The error in a server's response, as the class that the store itself raises for it.

    Args:
        what: the operation, for responses without a message.
        retry_after: the header of that name.
    """
    fields = _error_fields(body)
    if status == 409 and "feature_views" in fields:
        # Feast's body for a view that is being materialized: {"error": message, "feature_views": names}.
        return JobRunning(fields["feature_views"], str(fields.get("job", "")))
    message = fields.get("message") or f"{what} failed: the server returned {status}"
    hint = fields.get("hint", "")
    if not fields.get("code") and hint == "":
        hint = _hints(status)
    kind = _kind(fields.get("code", ""), status)
    error = kind.__new__(kind)
    # Not the class's own __init__: its parameters are not in the response. The attributes it would set are set here.
    AsofError.__init__(error, message, hint=hint, where=fields.get("where", ""))
    lines = [line[4:] for line in message.splitlines() if line.startswith("  - ")]
    for name, value in (("misfits", lines), ("findings", lines), ("retry_after_s", _seconds(retry_after))):
        setattr(error, name, value)
    return error


def _error_fields(body: bytes) -> dict[str, Any]:
    """The fields of an error body: a JSON object on Asof's routes, a JSON string with an object on Feast's."""
    try:
        fields = json.loads(body)
        if isinstance(fields, str):
            fields = json.loads(fields)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(fields, dict):
        return {}
    message, hint = fields.get("message"), fields.get("hint")
    if isinstance(message, str) and hint and "class" in fields:
        # In Feast's shape the message repeats the hint.
        fields["message"] = message.removesuffix(f" ({hint})")
    return fields


def _kind(name: str, status: int) -> type[AsofError]:
    named = getattr(errors, name, None) if name and name[:1].isupper() else None
    if isinstance(named, type) and issubclass(named, AsofError) and named is not AsofError:
        return named
    if status == 429:
        # Not 503: without a code it does not guarantee that nothing was done.
        return Overloaded
    if status in (408, 504):
        return ServerTimeout
    known: dict[int, type[AsofError]] = {401: NotAuthenticated, 403: NotAllowed, 404: NotFound}
    return known.get(status, RequestError if status < 500 else ServerError)


def _hints(status: int) -> str:
    if status == 404:
        return "check the url: is this a feature server?"
    return "check the proxy or gateway between client and server" if status in (401, 403, 502, 504) else ""


def _seconds(text: str | None) -> float | None:
    try:
        return None if text is None else max(float(text), 0.0)
    except ValueError:
        # An HTTP date, which the header may also hold.
        return None
