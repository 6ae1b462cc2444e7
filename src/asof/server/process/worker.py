"""One worker process: `python -m asof.server.process.worker`, started by the supervisor with a listening socket."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from ssl import SSLContext
from typing import TYPE_CHECKING, Any

import uvicorn

from asof.display import counted
from asof.errors import AsofError
from asof.process_log import TEXT, begin_log, facts, one_line
from asof.server.http.connection import BoundedProtocol, TlsProtocol, sweep
from asof.server.http.tls_acceptor import TlsAcceptor
from asof.server.process.worker_messages import BEAT, READY, REPLACE, WorkerSpec

if TYPE_CHECKING:
    from asof.server.fast_path.shortcut import Shortcut

BEAT_S = 1.0
"""Interval of a worker's heartbeats to the supervisor."""
LINGER_S = 1.0
"""How long idle connections stay open after a stop signal, for requests that are on their way."""


log = logging.getLogger("asof.server")

COLLECTED_AT = 10_000
"""New objects after which their garbage is collected: a response has hundreds, in no cycle. At Python's 700 it takes a
seventh of the time of unpacking rows."""

SWITCH_S = 0.001
"""How long the event loop waits for a thread that parses or encodes; Python's own is five times as long."""

KEPT_FILES = 256
"""File descriptors reserved for stores and logs, out of the process's limit."""


class WorkerConfig(uvicorn.Config):
    """uvicorn's configuration, with attributes for our protocol classes."""

    shortcut: Shortcut | None = None
    max_connections: int


class ServerWorker(uvicorn.Server):
    """uvicorn's server, with a stop that loses no request and heartbeats to the supervisor."""

    config: WorkerConfig

    def __init__(self, config: WorkerConfig, service: Any, *, tell: int) -> None:
        super().__init__(config)
        self.service = service
        self._tell = tell
        self._acceptor: TlsAcceptor | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._beating: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        assert sockets is not None
        (self._listening,) = sockets
        loop: Any = asyncio.get_running_loop()
        if self.config.is_ssl:
            loop.create_server = self._accept_tls
        await super().startup(sockets)
        if self.started:
            # Not uvicorn's own handler, which closes idle connections while requests may be on their way.
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else signal.SIG_DFL)
            loop.add_signal_handler(signal.SIGTERM, self.stop)
            self.service.waiting = self._waiting
            self._beating = asyncio.create_task(self._beat())
            # Loaded modules stay: garbage collection over them would pause serving.
            gc.freeze()
            gc.set_threshold(COLLECTED_AT)
            sys.setswitchinterval(SWITCH_S)
            self.tell(READY)
            snapshot = self.service.reading.snapshot
            log.info("serves project %s, version %d of its registry", snapshot.name, snapshot.version,
                     extra=facts("start", project=snapshot.name, version=snapshot.version))  # fmt: skip

    async def _accept_tls(
        self, make: Callable[[], asyncio.Protocol], *, sock: socket.socket, ssl: SSLContext, backlog: int
    ) -> TlsAcceptor:
        """In place of the event loop's own: `sweep` and `make_room` see a connection once its handshake is done."""
        sock.listen(backlog)
        self._acceptor = TlsAcceptor(
            sock, make, context=ssl, handshake_s=self.service.settings.receive_timeout_s,
            connections=self.server_state.connections, most=self.config.max_connections,
        )  # fmt: skip
        self._acceptor.start()
        return self._acceptor

    def _waiting(self) -> int:
        shortcut = self.config.shortcut
        return self.service.working + (shortcut.in_flight if shortcut is not None else 0)

    def tell(self, word: bytes) -> None:
        """Send a message to the supervisor; stop if there is none any more."""
        try:
            os.write(self._tell, word)
        except BlockingIOError:
            pass
        except OSError:
            self.stop()

    def stop(self) -> None:
        """Stop: accept no more connections, complete the requests in progress, then exit."""
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._drain())

    async def _beat(self) -> None:
        settings = self.service.settings
        while True:
            await asyncio.sleep(BEAT_S)
            self.tell(BEAT)
            sweep(self.server_state.connections, now=time.monotonic(), receive_timeout_s=settings.receive_timeout_s)

    async def _drain(self) -> None:
        await self._close_listening()
        # Only now: a client that reconnects must reach a new worker or be refused, not wait in this worker's queue.
        self.service.is_draining = True
        idle: dict[Any, float] = {}
        until = time.monotonic() + self.service.settings.graceful_s
        while (self.server_state.connections or self._acceptor) and time.monotonic() < until:
            now = time.monotonic()
            connections: list[Any] = list(self.server_state.connections)
            for each in connections:
                if not each.is_idle:
                    idle.pop(each, None)
                elif now - idle.setdefault(each, now) > LINGER_S:
                    each.shutdown()
            await asyncio.sleep(0.02)
        self.should_exit = True

    async def _close_listening(self) -> None:
        """Accept the connections in the kernel's queue, which would be reset otherwise, and no more."""
        loop = asyncio.get_running_loop()
        listening = self._listening.dup()
        listening.setblocking(False)
        for server in self.servers:
            server.close()
        # The inherited socket must be closed too: while it is open, the kernel goes on accepting.
        self._listening.close()
        await asyncio.sleep(0.01)
        taken = []
        while True:
            try:
                taken.append(listening.accept()[0])
            except OSError:
                break
        listening.close()
        for each in taken:
            each.setblocking(False)
            try:
                if self._acceptor is not None:
                    self._acceptor.take(each)
                else:
                    await loop.connect_accepted_socket(self._protocol, each)
            except OSError:
                each.close()

    def _protocol(self) -> asyncio.Protocol:
        make: Any = self.config.http_protocol_class
        protocol: asyncio.Protocol = make(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return protocol


def main(argv: list[str]) -> int:
    """Serve until SIGTERM."""
    spec = WorkerSpec.read(argv[0])
    form, level = spec.log_as or (TEXT, "warning")
    begin_log(form, level, always={"worker": spec.number})
    try:
        server = made(spec)
    except AsofError as error:
        return _failed(error, form)
    listening = socket.socket(fileno=spec.listen)
    listening.setblocking(False)
    logging.getLogger("uvicorn.error").addFilter(_is_news)
    try:
        server.run(sockets=[listening])
    except SystemExit:
        if server.service.failure is None:
            raise
    except AsofError as error:
        return _failed(error, form)
    failure = server.service.failure
    if failure is not None:
        return _failed(failure, form)
    if server.started:
        requests = sum(server.service.counts.requests.values())
        log.info("stopped after %s", counted(requests, "request"), extra=facts("end", requests=requests))
    return 0 if server.started else 1


def _failed(error: AsofError, form: str) -> int:
    """Say why the worker ends; returns its exit code."""
    if form == TEXT:
        print(f"error: {error}", file=sys.stderr)
    else:
        log.error(one_line(error), extra=facts("exit", code=error.exit_code, **error.to_dict()))
    return error.exit_code


def _is_news(record: logging.LogRecord) -> bool:
    """Whether to print what uvicorn says. The reason of a failed start is printed by `main`. Requests that are not HTTP
    are refused, and responses to connections that have just been closed are lost: anybody may cause any number of both.
    """
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, RuntimeError) and "the handler is closed" in str(error):
        return False
    message = record.getMessage()
    return "startup failed" not in message and "Invalid HTTP request" not in message


def made(spec: WorkerSpec) -> ServerWorker:
    """A worker for these options, not started yet."""
    from asof.server.app import App
    from asof.server.fast_path.shortcut import Shortcut
    from asof.server.process.service import Service
    from asof.server.security.guard import Guard
    from asof.server.security.pages import with_pages
    from asof.server.security.tls import server_context, tls_settings
    from asof.server.settings import ServerSettings
    from asof.store import FeatureStore

    store = FeatureStore(Path(spec.repo), fs_yaml_file=spec.config_file or None, env=spec.env)
    settings = ServerSettings().with_options(store.config.server).with_options(spec.options)
    os.set_blocking(spec.tell, False)
    worker: ServerWorker
    service = Service(
        store, settings, security=Guard(store.config.auth, project=store.project),
        folder=Path(spec.folder),
        on_hopeless=lambda: worker.tell(REPLACE),
    )  # fmt: skip
    tls = tls_settings(
        certificate=settings.tls_cert or "", key=settings.tls_key or "", password=settings.tls_key_password or "",
        client_ca=settings.tls_client_ca or "", client_certificates=settings.tls_client_certificates or "",
    )  # fmt: skip
    config = WorkerConfig(
        with_pages(App(service), store.config.auth), loop="uvloop",
        http=TlsProtocol if tls else BoundedProtocol, ws="none", lifespan="on",
        log_config=None, access_log=False, server_header=False, date_header=False, proxy_headers=False,
        timeout_keep_alive=int(settings.keep_alive_s), timeout_graceful_shutdown=1, backlog=settings.backlog,
        ssl_context_factory=(lambda config, default: server_context(tls)) if tls else None,
    )  # fmt: skip
    # Protocol objects read it from there.
    config.shortcut = Shortcut(service) if service.takes_fast_path else None
    config.max_connections = min(settings.max_connections, _files() - KEPT_FILES)
    worker = ServerWorker(config, service, tell=spec.tell)
    return worker


def _files() -> int:
    """Raise the limit of open files to the system's maximum; returns it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):
        hard = soft
    return sys.maxsize if hard == resource.RLIM_INFINITY else hard


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
