"""Transforms from a message's columns to rows: SQL expressions, or a Python function."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from asof.definitions.base import text_of

MESSAGE = "message"
"""What a transform's SQL selects from."""

KEEP = "keep"
"""The boolean column by which a function drops messages."""

_TOKEN = re.compile(
    r"""(?P<space>\s+|--[^\n]*|/\*.*?\*/)|(?P<text>'(?:[^']|'')*')|(?P<name>"(?:[^"]|"")*")|"""
    r"""(?P<word>[A-Za-z_][A-Za-z0-9_]*)|(?P<number>[0-9][0-9A-Za-z_.]*)|(?P<other>.)""",
    re.DOTALL,
)
_OF_SEVERAL_ROWS = {
    "select", "group", "having", "qualify", "limit", "offset", "union", "intersect", "except", "distinct", "window",
}  # fmt: skip
_FUNCTIONS_OF_SEVERAL_ROWS = {"over", "unnest", "generate_subscripts"}
_OF_THE_MOMENT = {"current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"}
_FUNCTIONS_OF_THE_MOMENT = {
    "now", "random", "uuid", "uuidv4", "uuidv7", "gen_random_uuid", "today", "transaction_timestamp",
    "get_current_time", "get_current_timestamp", "setseed", "nextval", "currval", "getenv", "age",
}  # fmt: skip


class MessageTransform:
    """Turns messages into rows, at most one row per message.

    Args:
        sql: a SELECT from `message`, whose columns are those of the source's schema; without a function.
        function: takes an Arrow table of messages, returns one of rows.
    """

    def __init__(
        self,
        *,
        sql: str = "",
        function: Callable[..., object] | None = None,
        function_name: str = "",
        source_text: str = "",
    ) -> None:
        self.sql, self.function = sql.strip().rstrip(";").rstrip(), function
        self.function_name = function_name or getattr(function, "__qualname__", "")
        self.source_text = source_text or (text_of(function) if function is not None else "")

    @classmethod
    def of(cls, given: str | Callable[..., object] | Mapping[str, str] | MessageTransform) -> MessageTransform:
        """A transform from a SELECT, a function, or the result of `content`."""
        if isinstance(given, MessageTransform):
            return given
        if isinstance(given, str):
            return cls(sql=given)
        if isinstance(given, Mapping):
            said: Mapping[str, Any] = given
            return cls(**said)
        return cls(function=given)

    @property
    def name(self) -> str:
        """Its name in errors."""
        return f"transform {self.function_name!r}" if not self.sql else "transform"

    @property
    def fingerprint(self) -> str:
        """Hash of the text, to check that the code that runs is the applied code."""
        return hashlib.sha256((self.sql or self.source_text).encode()).hexdigest()[:16]

    def content(self) -> dict[str, str]:
        """The transform as JSON-ready data."""
        if self.sql:
            return {"sql": self.sql}
        return {"function_name": self.function_name, "source_text": self.source_text}


@dataclass(frozen=True)
class Statement:
    """A parsed SELECT of a transform.

    Args:
        columns: name → SQL over the message's columns.
        where: SQL condition for the messages that become rows; empty where all do.
    """

    columns: Mapping[str, str]
    where: str


def statement(sql: str, names: Sequence[str]) -> Statement:
    """Parse a SELECT.

    Args:
        names: the message's columns, for `*`.

    Raises:
        ValueError: it is more than expressions over one message; the text says what is refused.
    """
    tokens = [each for each in _TOKEN.finditer(sql) if each.lastgroup != "space"]
    words = [each[0].lower() if each.lastgroup == "word" else "" for each in tokens]
    if not words or words[0] != "select":
        raise ValueError("it is not a SELECT")
    for i, word in enumerate(words[1:], 1):
        is_call = tokens[i + 1 : i + 2] and tokens[i + 1][0] == "("
        if word in _OF_SEVERAL_ROWS or (is_call and word in _FUNCTIONS_OF_SEVERAL_ROWS):
            raise ValueError(f"{word.upper()} reads more than one message, or makes several rows of one")
        if word in _OF_THE_MOMENT or (is_call and word in _FUNCTIONS_OF_THE_MOMENT):
            raise ValueError(f"{word} gives another result when the messages are read again")
    depths = _depths(tokens)
    top = [i for i, depth in enumerate(depths) if depth == 0]
    start = next((i for i in top if words[i] == "from"), None)
    if start is None or words[start + 1 : start + 2] != [MESSAGE]:
        raise ValueError(f"it does not select FROM {MESSAGE}")
    where = ""
    rest = start + 2
    if rest < len(tokens):
        if words[rest] != "where":
            raise ValueError(f"{tokens[rest][0]!r} is not allowed after FROM {MESSAGE}; only WHERE is")
        if "order" in (words[i] for i in top):
            raise ValueError("ORDER BY has no meaning: rows stay in the order of messages")
        where = sql[tokens[rest + 1].start() :] if rest + 1 < len(tokens) else ""
    commas = [i for i in top if tokens[i][0] == "," and i < start]
    columns: dict[str, str] = {}
    for first, after in zip([1, *(i + 1 for i in commas)], [*commas, start], strict=True):
        for name, text in _item(sql, tokens[first:after], depths[first:after], names):
            if name in columns:
                raise ValueError(f"column {name!r} is selected twice")
            columns[name] = text
    return Statement(columns, where)


def _depths(tokens: Sequence[re.Match[str]]) -> list[int]:
    depth, depths = 0, []
    for each in tokens:
        depth -= each[0] in ")]}"
        depths.append(depth)
        depth += each[0] in "([{"
    return depths


def _item(
    sql: str, tokens: Sequence[re.Match[str]], depths: Sequence[int], names: Sequence[str]
) -> list[tuple[str, str]]:
    """Parse one item of the list: names and texts of its columns."""
    if not tokens:
        raise ValueError("an item of the list is empty")
    if len(tokens) == 1 and tokens[0][0] == "*":
        return [(name, '"' + name.replace('"', '""') + '"') for name in names]
    last = tokens[-1]
    text = sql[tokens[0].start() : last.end()]
    if len(tokens) >= 3 and tokens[-2][0].lower() == "as" and depths[-2] == 0 and last.lastgroup in ("word", "name"):
        return [(_plain(last), sql[tokens[0].start() : tokens[-3].end()])]
    if len(tokens) == 1 and last.lastgroup in ("word", "name"):
        return [(_plain(last), text)]
    raise ValueError(f"{text!r} has no name: write AS and the column's name behind it")


def _plain(token: re.Match[str]) -> str:
    return token[0][1:-1].replace('""', '"') if token.lastgroup == "name" else token[0]


__all__ = ["KEEP", "MESSAGE", "MessageTransform", "Statement", "statement"]
