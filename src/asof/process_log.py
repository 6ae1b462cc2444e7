"""What a long-running process says of its work: records of Python's logging as lines of text or JSON on stderr."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from asof.errors import AsofError
from asof.timing import iso

TEXT, JSON = "text", "json"

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}

_FACTS = "asof_facts"
_ROOT = "asof"


def facts(event: str, **values: object) -> dict[str, Any]:
    """The `extra=` of a logging call: what a line of JSON has in addition to the sentence.

    Args:
        event: the kind of line, which stays when its sentence is rewritten.
        values: of JSON's types; never of an entity or a row.
    """
    return {_FACTS: {"event": event, **values}}


def one_line(error: BaseException) -> str:
    """An error in one line, with its next step. Only its first line, as what follows may quote rows."""
    text = error.message if isinstance(error, AsofError) else str(error)
    first = text.partition("\n")[0] or type(error).__name__
    return f"{first}; next: {error.hint}" if isinstance(error, AsofError) and error.hint else first


class TextLines(logging.Formatter):
    """`2026-12-01T12:00:00.000001Z INFO asof.stream: flushed …`, one line per record and its traceback below it.

    Args:
        always: facts of the process, such as its number among several; they stand before each sentence.
    """

    def __init__(self, always: Mapping[str, object] | None = None) -> None:
        super().__init__()
        self._always = "".join(f"{name} {value}: " for name, value in (always or {}).items())

    def format(self, record: logging.LogRecord) -> str:
        sentence = " ".join(record.getMessage().split())
        line = f"{_time(record)} {record.levelname} {record.name}: {self._always}{sentence}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JsonLines(logging.Formatter):
    """One JSON object per record: `time`, `level`, `logger`, `message`, and the facts of its call.

    Args:
        always: facts of the process, which every line has.
    """

    def __init__(self, always: Mapping[str, object] | None = None) -> None:
        super().__init__()
        self._always = dict(always or {})

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": _time(record), "level": record.levelname.lower(), "logger": record.name,
            "message": record.getMessage(), "pid": os.getpid(), **self._always, **getattr(record, _FACTS, {}),
        }  # fmt: skip
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def _time(record: logging.LogRecord) -> str:
    return iso(int(record.created * 1_000_000))


class _Stderr(logging.StreamHandler[TextIO]):
    """Writes to what stderr is at the time of the record: progress bars replace it while they are shown."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    @stream.setter
    def stream(self, stream: TextIO) -> None:
        raise AttributeError("the stream is stderr")


def begin_log(form: str, level: str, *, always: Mapping[str, object] | None = None) -> Callable[[], None]:
    """Write the log of this process to stderr from now on; returns a function that ends that.

    Args:
        form: `text` or `json`.
        level: a key of `LEVELS`, for Asof's own records; other packages' are written from `warning` on.
        always: facts of the process, which every line has.
    """
    handler = _Stderr()
    handler.setFormatter(JsonLines(always) if form == JSON else TextLines(always))
    root, own = logging.getLogger(), logging.getLogger(_ROOT)
    before = own.level
    root.addHandler(handler)
    own.setLevel(LEVELS[level])

    def end() -> None:
        root.removeHandler(handler)
        own.setLevel(before)

    return end


__all__ = ["JSON", "LEVELS", "TEXT", "JsonLines", "TextLines", "begin_log", "facts", "one_line"]
