"""Transforms from a message's columns to rows: SQL expressions, or a Python function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from asof.definitions.base import text_of
from asof.definitions.identity import KnownFunction

MESSAGE = "message"
"""What a transform's SQL selects from."""

FORM = f"write SELECT … AS column, … FROM {MESSAGE} WHERE …, of one message each"
"""The next step where the SQL is something else."""

KEEP = "keep"
"""The boolean column by which a function drops messages."""


class MessageTransform:
    """Turns messages into rows, at most one row per message.

    Args:
        sql: a SELECT from `message`, whose columns are those of the source's schema; without a function.
        function: takes an Arrow table of messages, returns one of rows.
        version: a text that stands for what the function uses and cannot be compared.
    """

    def __init__(
        self,
        *,
        sql: str = "",
        function: Callable[..., object] | None = None,
        function_name: str = "",
        source_text: str = "",
        version: str = "",
        identity: Mapping[str, object] | None = None,
    ) -> None:
        self.sql, self.function = sql.strip().rstrip(";").rstrip(), function
        self.function_name = function_name or getattr(function, "__qualname__", "")
        self.source_text = source_text or (text_of(function) if function is not None else "")
        self.version = version
        self.code = KnownFunction(
            function, name=self.function_name, source_text=self.source_text, mode="arrow", version=version,
            identity=identity,
        )  # fmt: skip

    @classmethod
    def of(
        cls, given: str | Callable[..., object] | Mapping[str, object] | MessageTransform, *, version: str = ""
    ) -> MessageTransform:
        """A transform from a SELECT, a function, or the result of `content`."""
        if isinstance(given, MessageTransform):
            return given
        if isinstance(given, str):
            return cls(sql=given)
        if isinstance(given, Mapping):
            said: Mapping[str, Any] = given
            return cls(**said)
        return cls(function=given, version=version)

    @property
    def name(self) -> str:
        """Its name in errors."""
        return f"transform {self.function_name!r}" if not self.sql else "transform"

    def differences(self, applied: MessageTransform) -> list[str]:
        """What differs from the applied transform, as text."""
        if self.sql or applied.sql:
            return [] if self.sql == applied.sql else ["its text"]
        return self.code.differences(applied.code)

    def content(self) -> dict[str, object]:
        """The transform as JSON-ready data."""
        if self.sql:
            return {"sql": self.sql}
        return {
            "function_name": self.function_name,
            "source_text": self.source_text,
            **({"version": self.version} if self.version else {}),
            **self.code.content(),
        }


__all__ = ["FORM", "KEEP", "MESSAGE", "MessageTransform"]
