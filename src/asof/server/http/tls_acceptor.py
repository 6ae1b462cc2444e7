"""Accepts TLS connections, which count among the connections of a worker from their first byte on."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Sized

ACCEPTED_AT_ONCE = 64
"""Connections that are accepted before the event loop goes on."""

PAUSE_S = 0.1
"""Pause after the system could not accept a connection, as for want of a file descriptor."""


class TlsAcceptor:
    """In place of an asyncio server, which knows a connection only once its handshake is done, and so counts none that
    never ends it.

    Beyond the limit, the handshakes that have taken longest are ended, one for each new connection.

    Args:
        make: makes the protocol of a connection.
        handshake_s: how long a handshake may take.
        connections: those with their handshake done.
        most: limit of connections and handshakes together.
    """

    def __init__(
        self,
        listening: socket.socket,
        make: Callable[[], asyncio.Protocol],
        *,
        context: ssl.SSLContext,
        handshake_s: float,
        connections: Sized,
        most: int,
    ) -> None:
        self.sockets = [listening]
        self._loop = asyncio.get_running_loop()
        self._listening = listening
        self._make = make
        self._context = context
        self._handshake_s = handshake_s
        self._connections = connections
        self._most = most
        # The oldest first.
        self._handshakes: dict[asyncio.Task[None], None] = {}
        self._is_open = True

    def __len__(self) -> int:
        """Number of handshakes that are not done."""
        return len(self._handshakes)

    def start(self) -> None:
        """Accept connections from now on."""
        if self._is_open:
            self._loop.add_reader(self._listening, self._accept)

    def close(self) -> None:
        """Accept no more connections; handshakes go on."""
        if self._is_open:
            self._is_open = False
            self._loop.remove_reader(self._listening)

    async def wait_closed(self) -> None:
        """End the handshakes."""
        for each in list(self._handshakes):
            each.cancel()
        await asyncio.gather(*self._handshakes, return_exceptions=True)

    def _accept(self) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                made, _address = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:
                self._loop.remove_reader(self._listening)
                self._loop.call_later(PAUSE_S, self.start)
                return
            made.setblocking(False)
            self.take(made)

    def take(self, made: socket.socket) -> None:
        """Begin the handshake of a connection."""
        if self._handshakes and len(self._handshakes) + len(self._connections) >= self._most:
            oldest = next(iter(self._handshakes))
            del self._handshakes[oldest]
            oldest.cancel()
        self._handshakes[self._loop.create_task(self._shake_hands(made))] = None

    async def _shake_hands(self, made: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(
                self._make, made, ssl=self._context, ssl_handshake_timeout=self._handshake_s
            )
        except OSError:
            # A peer that is silent, gone, or of another protocol; TimeoutError and SSLError are among these.
            made.close()
        finally:
            task = asyncio.current_task()
            if task is not None:
                self._handshakes.pop(task, None)
