"""What comes back from a feature server: typed values, or the error that the store itself would have raised."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from asof import errors
from asof.answers import Columns, OnlineResponse, ViewAnswer
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
from asof.timing import Micros, micros
from asof.wire import reader


@dataclass(frozen=True)
class Column:
    """One column of an answer; see `asof.answers.Answered`."""

    name: str
    dtype: DType
    reference: str = ""

    @property
    def column(self) -> str:
        return self.name


@dataclass(frozen=True)
class Shape:
    """What an answer holds, and what gives its values their types back."""

    keys: tuple[Column, ...]
    request_fields: tuple[Column, ...]
    outputs: tuple[Column, ...]
    readers: tuple[tuple[int, Callable[[Any], Any]], ...]
    request_readers: Mapping[str, Callable[[Any], Any]]


class ToldAnswer(ViewAnswer):
    """One output's statuses and times as the server told them."""

    __slots__ = ("_texts", "_told")

    def __init__(self, output: str, statuses: Sequence[str] | None, times: Sequence[str | None] | None) -> None:
        super().__init__((output,), None, ())
        self._told = statuses
        self._texts = times

    def statuses(self, values: Sequence[Any]) -> list[str]:
        if self._told is None:
            raise _left_out("statuses")
        return list(self._told)

    @property
    def times(self) -> Sequence[Micros | None]:  # type: ignore[override]
        if self._texts is None:
            raise _left_out("event times")
        return [None if text is None else micros(text) for text in self._texts]

    @times.setter
    def times(self, times: Sequence[Micros | None]) -> None:
        pass


def _left_out(what: str) -> RequestError:
    return RequestError(f"the answer has no {what}", hint="they were left out: ask with details=True")


def response_of(body: bytes) -> OnlineResponse:
    """The answer to a read.

    Raises:
        ServerError: it is not what an Asof server answers.
    """
    try:
        answer = json.loads(body)
        types, rows = answer["types"], answer["rows"]
        shape = _shape(*(tuple(map(tuple, types[kind])) for kind in ("keys", "request", "features")))
        n = len(rows)
        columns: list[Any] = list(map(list, zip(*rows))) if rows else [[] for _ in answer["names"]]
        if len(columns) != len(shape.keys) + len(shape.outputs):
            raise ValueError("it has other columns than types")
        for place, read in shape.readers:
            columns[place] = [None if value is None else read(value) for value in columns[place]]
        keys: Columns = {field.name: columns[i] for i, field in enumerate(shape.keys)}
        for name, values in answer.get("request", {}).items():
            read = shape.request_readers.get(name)
            keys[name] = values if read is None else [None if value is None else read(value) for value in values]
        start = len(shape.keys)
        values = {output.name: columns[start + i] for i, output in enumerate(shape.outputs)}
        found = _told(shape, answer, n)
        return OnlineResponse(shape, keys, values, found, at=micros(answer["at"]), rows=n)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, DefinitionError) as error:
        raise ServerError(
            f"the answer is not one of an Asof server ({type(error).__name__}: {error})",
            hint="check the url, and that client and server are of like versions",
        ) from error


def _told(shape: Shape, answer: Mapping[str, Any], n: int) -> list[ViewAnswer]:
    statuses, times = answer.get("statuses"), answer.get("event_times")
    outputs = shape.outputs
    of_output = _turned(statuses, len(outputs), n)
    times_of_output = _turned(times, len(outputs), n)
    return [ToldAnswer(output.name, of_output[i], times_of_output[i]) for i, output in enumerate(outputs)]


def _turned(rows: Any, width: int, n: int) -> Sequence[Any]:
    """Rows as columns; a None per column where there are no rows to turn."""
    if rows is None:
        return [None] * width
    return list(zip(*rows)) if n else [()] * width


@lru_cache(maxsize=1024)
def _shape(keys: Any, request: Any, features: Any) -> Shape:
    named = tuple(Column(name, parse(dtype)) for name, dtype in keys)
    asked = tuple(Column(name, parse(dtype)) for name, dtype in request)
    outputs = tuple(Column(name, parse(dtype), reference) for name, dtype, reference in features)
    readers = ((place, reader(column.dtype)) for place, column in enumerate((*named, *outputs)))
    return Shape(
        named, asked, outputs,
        tuple((place, read) for place, read in readers if read is not None),
        {column.name: read for column in asked if (read := reader(column.dtype)) is not None},
    )  # fmt: skip


def result_of(job: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """What an ended job did, per view; None while it runs.

    Raises:
        AsofError: it failed, with the error that it failed with.
    """
    if job["state"] == "running":
        return None
    if job["state"] == "done":
        return job["result"]
    raise error_of(422, json.dumps(job.get("error", {})).encode(), what=f"job {job['id']}")


def not_ended(job: Mapping[str, Any], seconds: float) -> ServerTimeout:
    """The error of whoever does not wait any longer for a job."""
    return ServerTimeout(
        f"job {job['id']} has not ended after {seconds:g} s", hint=f"it goes on: ask job({job['id']!r})"
    )


def kept_but_not_applied(body: bytes) -> PushNotApplied:
    """The error of rows that the server keeps and has not applied yet."""
    words = _words(body)
    return PushNotApplied(
        words.get("message") or "the rows are kept, and not served yet",
        hint="do not push them again: the server applies them as soon as it can",
    )


def error_of(status: int, body: bytes, *, what: str, retry_after: str | None = None) -> AsofError:
    """The error that a server answered, as the class that the store itself raises for it.

    Args:
        what: what was being done, for answers that say nothing themselves.
        retry_after: the header of that name.
    """
    words = _words(body)
    if status == 409 and "feature_views" in words:
        # In Feast's shape for this, whose `error` is the text.
        return JobRunning(words["feature_views"], str(words.get("job", "")))
    message = words.get("message") or f"{what} failed: the server answered {status}"
    hint = words.get("hint", "")
    if not words.get("error") and hint == "":
        hint = _hints(status)
    kind = _kind(words.get("error", ""), status)
    error = kind.__new__(kind)
    # Past the class's own beginning, whose parameters are not sent; what it would set is set here.
    AsofError.__init__(error, message, hint=hint, where=words.get("where", ""))
    lines = [line[4:] for line in message.splitlines() if line.startswith("  - ")]
    for name, value in (("misfits", lines), ("findings", lines), ("retry_after_s", _seconds(retry_after))):
        setattr(error, name, value)
    return error


def _words(body: bytes) -> dict[str, Any]:
    """The words of an error: of Asof's routes an object, of Feast's a text that holds one."""
    try:
        words = json.loads(body)
        if isinstance(words, str):
            words = json.loads(words)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(words, dict):
        return {}
    message, hint = words.get("message"), words.get("hint")
    if isinstance(message, str) and hint and "class" in words:
        # In Feast's shape the hint stands behind the message, too.
        words["message"] = message.removesuffix(f" ({hint})")
    return words


def _kind(name: str, status: int) -> type[AsofError]:
    named = getattr(errors, name, None) if name and name[:1].isupper() else None
    if isinstance(named, type) and issubclass(named, AsofError) and named is not AsofError:
        return named
    if status == 429:
        # Not so 503: without its name it does not say that nothing was done.
        return Overloaded
    if status in (408, 504):
        return ServerTimeout
    known: dict[int, type[AsofError]] = {401: NotAuthenticated, 403: NotAllowed, 404: NotFound}
    return known.get(status, RequestError if status < 500 else ServerError)


def _hints(status: int) -> str:
    if status == 404:
        return "check the url: is this a feature server?"
    return "check what stands between client and server" if status in (401, 403, 502, 504) else ""


def _seconds(text: str | None) -> float | None:
    try:
        return None if text is None else max(float(text), 0.0)
    except ValueError:
        # A date: whoever sends one means "not now".
        return None
