"""The access log: one JSON line per request on stderr, written in the background."""

from __future__ import annotations

import json
import sys
from collections import deque
from typing import Any

from asof.timing import iso

MOST = 20_000
"""Most lines in the buffer; lines beyond are dropped and counted."""


class AccessLog:
    """Buffer of access-log lines.

    Args:
        level: `none`, `errors` or `all`.
    """

    def __init__(self, level: str) -> None:
        self.level = level
        self.dropped = 0
        self._lines: deque[tuple[Any, ...]] = deque()

    def wants(self, status: int) -> bool:
        """Whether a response with this status has a line."""
        return self.level == "all" or (self.level == "errors" and status >= 400)

    def note(self, at: int, method: str, path: str, status: int, seconds: float, **more: Any) -> None:
        """Add a line to the buffer."""
        if len(self._lines) >= MOST:
            self.dropped += 1
            return
        self._lines.append((at, method, path, status, seconds, more))

    def write(self) -> None:
        """Write the buffered lines."""
        if not self._lines:
            return
        text = []
        while self._lines:
            at, method, path, status, seconds, more = self._lines.popleft()
            entry = {"time": iso(at), "method": method, "path": path, "status": status, "ms": round(seconds * 1e3, 3)}
            text.append(json.dumps(entry | {name: value for name, value in more.items() if value not in ("", None, 0)}))
        if self.dropped:
            text.append(json.dumps({"dropped": self.dropped}))
            self.dropped = 0
        sys.stderr.write("\n".join(text) + "\n")
        sys.stderr.flush()


def said_of(error: BaseException | None, *, has_messages: bool) -> str:
    """What logs say of an error: its name alone, since messages repeat values of the request, such as keys.

    Args:
        has_messages: with its message.
    """
    if error is None:
        return ""
    name = type(error).__name__
    return f"{name}: {error}"[:300] if has_messages else name
