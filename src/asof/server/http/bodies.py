"""From a request's body to its content: counted before it is parsed, and parsed in a thread if it is large."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import msgspec

from asof.server.http.errors import decoded
from asof.values.exact_floats import exact_decoder, may_be_inexact

PARSED_ON_LOOP = 64 << 10
"""Bodies up to this number of bytes are parsed on the event loop: that takes less than a turn to a thread and back."""


class BodyDecoder:
    """Decodes the bodies of one route.

    Args:
        content: the route's type.
    """

    def __init__(self, content: Any) -> None:
        self._decoder = msgspec.json.Decoder(content)
        # Slower: for bodies with numbers so long that a float may stand for another.
        self._exact = exact_decoder(content)

    def decode(self, body: bytes) -> Any:
        """A body as the route's type.

        Raises:
            HttpError: it is not JSON (400), or not of that type (422).
        """
        return decoded(self._exact if may_be_inexact(body) else self._decoder, body)

    def decode_large(self, body: bytes) -> Any:
        """The same without collections of garbage meanwhile, of which a parser makes none.

        They would look through all values again and again, and take five times as long as the parser.
        """
        with _COLLECTION.paused():
            return self.decode(body)


class _Collection:
    """The collection of garbage, which several threads may pause."""

    def __init__(self) -> None:
        self._pauses = 0
        self._lock = Lock()

    @contextmanager
    def paused(self) -> Iterator[None]:
        with self._lock:
            self._pauses += 1
            gc.disable()
        try:
            yield
        finally:
            with self._lock:
                self._pauses -= 1
                if not self._pauses:
                    gc.enable()


_COLLECTION = _Collection()

__all__ = ["PARSED_ON_LOOP", "BodyDecoder"]
