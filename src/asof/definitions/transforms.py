"""What stands between a message's columns and the rows: SQL expressions, or a Python function."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from asof.definitions.base import text_of

MESSAGE = "message"
"""What a transform's SQL selects from."""

FORM = f"write SELECT … AS column, … FROM {MESSAGE} WHERE …, of one message each"
"""The next step where the SQL is something else."""

KEEP = "keep"
"""The column by which a function leaves messages out."""


class MessageTransform:
    """Makes rows out of messages' columns: at most one row of each message.

    Args:
        sql: a SELECT from `message`, whose columns are those of the source's schema; without a function.
        function: takes an Arrow table of messages, answers one of rows.
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
        """From a SELECT, a function, or what `content` said."""
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
        """As errors name it."""
        return f"transform {self.function_name!r}" if not self.sql else "transform"

    @property
    def fingerprint(self) -> str:
        """A hash of the text: whether the code that runs is the code that was applied."""
        return hashlib.sha256((self.sql or self.source_text).encode()).hexdigest()[:16]

    def content(self) -> dict[str, str]:
        """All that shapes the rows, ready for JSON."""
        if self.sql:
            return {"sql": self.sql}
        return {"function_name": self.function_name, "source_text": self.source_text}


__all__ = ["FORM", "KEEP", "MESSAGE", "MessageTransform"]
