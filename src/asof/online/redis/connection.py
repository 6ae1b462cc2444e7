"""One connection to one Redis server: a socket (TCP, TLS or Unix), packed commands out, parsed replies in."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import hiredis
from hiredis import Reader, ReplyError

from asof.online.redis.settings import Address, RedisSettings, shown

Argument = bytes | str | int

pack_command: Callable[[tuple[Argument, ...]], bytes] = hiredis.pack_command  # type: ignore[assignment]  # its stub: 1 element
_BUFFER_BYTES = 1 << 18


class ConnectionLost(Exception):
    """A server is unreachable, or closed the connection before it replied.

    Args:
        when: `connecting`, `handshaking` (TLS), `answering` or `sentinels`.
    """

    def __init__(self, address: Address, error: BaseException | None, *, when: str) -> None:
        said = (error.strerror or error) if isinstance(error, OSError) else error
        reason = str(said or "it closed the connection")
        super().__init__(f"{shown(address)}: {reason or type(error).__name__}")
        self.address = address
        self.reason = reason or type(error).__name__
        self.when = when
        self.is_timeout = isinstance(error, TimeoutError)


class ErrorReply(Exception):
    """A server replied with an error; the code is its first field."""

    def __init__(self, address: Address, text: str) -> None:
        super().__init__(text)
        self.address = address
        self.text = text
        self.code = text.partition(" ")[0]


class RedisConnection:
    """A connection, used by one thread at a time. Replies come in the order of commands.

    Args:
        readonly: for a cluster's replica, which serves reads only after READONLY.

    Attributes:
        info: the server's last INFO.
        scripts: hashes of the scripts that are loaded on the server.

    Raises:
        ConnectionLost: the server is unreachable.
        ErrorReply: the server refused the connection, such as a wrong password.
    """

    def __init__(self, address: Address, settings: RedisSettings, *, readonly: bool = False) -> None:
        self.address = address
        self._reader = Reader()
        self._buffer = bytearray(_BUFFER_BYTES)
        self.info: dict[str, str] = {}
        self.scripts: set[bytes] = set()
        self._socket = _connected(address, settings)
        try:
            self._introduce(settings, readonly=readonly)
        except BaseException:
            self.close()
            raise

    def _introduce(self, settings: RedisSettings, *, readonly: bool) -> None:
        replies = self.ask_all(introduction(settings, readonly=readonly))
        for reply in replies:
            if isinstance(reply, ReplyError):
                raise ErrorReply(self.address, str(reply))
        self.info = info_of(replies[-1])

    @property
    def incarnation(self) -> str:
        """IDs of the server's process and replication history; another one may lack acknowledged writes."""
        return f"{self.info.get('run_id', '')}:{self.info.get('master_replid', '')}"

    def look_again(self) -> None:
        """Refresh `info`."""
        self.info = info_of(self.ask("INFO", "server", "replication", "persistence"))

    def look_around(self) -> dict[str, str]:
        """All sections of the server's INFO."""
        return info_of(self.ask("INFO"))

    def ask(self, *command: Argument) -> Any:
        """One command's reply.

        Raises:
            ConnectionLost, ErrorReply: see there.
        """
        self.send(pack_command(command))
        reply = self.receive()
        if isinstance(reply, ReplyError):
            raise ErrorReply(self.address, str(reply))
        return reply

    def ask_all(self, commands: Sequence[tuple[Argument, ...]]) -> list[Any]:
        """The replies of pipelined commands; an error is a `ReplyError` among them.

        Raises:
            ConnectionLost: see there.
        """
        self.send(b"".join(map(pack_command, commands)))
        return [self.receive() for _ in commands]

    def send(self, packed: bytes) -> None:
        """Send packed commands."""
        try:
            self._socket.sendall(packed)
        except OSError as error:
            raise ConnectionLost(self.address, error, when="answering") from error

    def receive(self) -> Any:
        """The next reply, which may be a `ReplyError`."""
        reader = self._reader
        reply = reader.gets()
        if reply is not False:
            return reply
        buffer = self._buffer
        receive = self._socket.recv_into
        while reply is False:
            try:
                count = receive(buffer)
            except OSError as error:
                raise ConnectionLost(self.address, error, when="answering") from error
            if not count:
                raise ConnectionLost(self.address, None, when="answering")
            reader.feed(buffer, 0, count)  # type: ignore[arg-type]  # its stub does not know buffers
            reply = reader.gets()
        return reply

    def close(self) -> None:
        with suppress(OSError):
            self._socket.close()


def _connected(address: Address, settings: RedisSettings) -> socket.socket:
    host, port = address
    context = settings.tls_context()
    try:
        if port:
            plain = socket.create_connection(address, timeout=settings.connect_timeout_s)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        else:
            plain = _connected_here(host, settings.connect_timeout_s)
    except OSError as error:
        raise ConnectionLost(address, error, when="connecting") from error
    try:
        made = context.wrap_socket(plain, server_hostname=host) if context is not None else plain
    except OSError as error:
        plain.close()
        raise ConnectionLost(address, error, when="handshaking") from error
    made.settimeout(settings.timeout_s)
    return made


def _connected_here(path: str, timeout_s: float) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.settimeout(timeout_s)
        made.connect(path)
    except OSError:
        made.close()
        raise
    return made


def introduction(settings: RedisSettings, *, readonly: bool = False) -> list[tuple[Argument, ...]]:
    """The first commands on a connection; the last one is INFO."""
    commands: list[tuple[Argument, ...]] = []
    if settings.password:
        user = (settings.username,) if settings.username else ()
        commands.append(("AUTH", *user, settings.password))
    if settings.db:
        commands.append(("SELECT", settings.db))
    if readonly:
        commands.append(("READONLY",))
    commands.append(("INFO", "server", "replication", "persistence"))
    return commands


def info_of(text: bytes) -> dict[str, str]:
    """The fields of `INFO`."""
    return dict(_pairs(text.decode("utf-8", "replace")))


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            yield name, value


__all__ = [
    "Argument",
    "ConnectionLost",
    "ErrorReply",
    "RedisConnection",
    "ReplyError",
    "info_of",
    "introduction",
    "pack_command",
]
