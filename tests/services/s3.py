"""S3 for tests: moto's server, a process of its own with buckets in memory; and a proxy that counts, delays and breaks."""

from __future__ import annotations

import ssl
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Protocol
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from tests.services.certificates import Certificates
from tests.services.processes import Server

ACCESS_KEY, SECRET_KEY = "asof-access", "asof-secret"
REGION = "us-east-1"


class S3(Server):
    """moto's S3. It forgets its buckets when it is restarted. It checks signatures with option `checks_signatures` alone."""

    name = "S3"

    def command(self) -> Sequence[str]:
        return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]

    def environment(self) -> Mapping[str, str]:
        # What comes before that many requests makes the user and its key.
        return {"INITIAL_NO_AUTH_ACTION_COUNT": "3"} if self.option("checks_signatures") else {}

    def is_ready(self) -> bool:
        with urlopen(f"{self.url}/moto-api/", timeout=5) as response:
            return response.status == 200

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def storage(self) -> dict[str, object]:
        """The section `storage:` that reaches it."""
        return {
            "endpoint": self.url, "region": REGION, "allow_http": True, "access_key_id": ACCESS_KEY,
            "secret_access_key": SECRET_KEY,
        }  # fmt: skip

    def create_bucket(self, name: str) -> str:
        """Make a bucket; returns its address."""
        with urlopen(Request(f"{self.url}/{name}", method="PUT"), timeout=10):
            return f"s3://{name}"


class BucketServer(Protocol):
    """A server of a provider, as a proxy stands before it."""

    @property
    def port(self) -> int: ...

    @property
    def storage(self) -> dict[str, object]:
        """The section `storage:` that reaches it."""
        ...


class S3Proxy:
    """Stands before a server: keeps the requests that it passes on, and does to them what a network or a busy store does.

    Args:
        tls: the certificate with which it is reached; without one it is plain HTTP.

    Attributes:
        requests: method and path with query of each request, in the order in which they came.
        refuse: how many requests to answer with 503 SlowDown.
        deny: how many requests to answer with 403 AccessDenied.
        drop: how many requests to pass on, and then to close the connection without a response.
        after: how many requests pass before the first of these.
        delay_s: how long each response is held back.
        sent_bytes: bytes of all responses' bodies.
    """

    def __init__(self, server: BucketServer, tls: Certificates | None = None) -> None:
        self.requests: list[tuple[str, str]] = []
        self.refuse = self.deny = self.drop = self.after = 0
        self.delay_s = 0.0
        self.sent_bytes = 0
        self.only = ""
        self.lock = threading.Lock()
        self.target = server.port
        self._storage = server.storage
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self._scheme = "https" if tls else "http"
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls.certificate, tls.key)
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._http.server_port}"

    @property
    def storage(self) -> dict[str, object]:
        """The server's section `storage:`, by way of this proxy."""
        return {**self._storage, "endpoint": self.url + urlsplit(str(self._storage["endpoint"])).path}

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    @contextmanager
    def counted(self) -> Iterator[list[tuple[str, str]]]:
        """The requests that come within."""
        before = len(self.requests)
        found: list[tuple[str, str]] = []
        yield found
        found += self.requests[before:]

    def takes(self, name: str, method: str) -> bool:
        """Whether this request is one of those that a fault is still for."""
        with self.lock:
            left = getattr(self, name)
            if not left or (self.only and self.only != method):
                return False
            if self.after:
                self.after -= 1
                return False
            setattr(self, name, left - 1)
            return True

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                with proxy.lock:
                    proxy.requests.append((self.command, self.path))
                for fault, status, text in _REFUSALS:
                    if proxy.takes(fault, self.command):
                        self.reply(status, {"Content-Type": "application/xml"}, text)
                        return
                connection = HTTPConnection("127.0.0.1", proxy.target, timeout=30)
                try:
                    connection.request(self.command, self.path, body or None, dict(self.headers))
                    response = connection.getresponse()
                    data = response.read()
                except (OSError, HTTPException):
                    self.close_connection = True
                    return
                finally:
                    connection.close()
                with proxy.lock:
                    proxy.sent_bytes += len(data)
                if proxy.takes("drop", self.command):
                    self.close_connection = True
                    return
                if proxy.delay_s:
                    time.sleep(proxy.delay_s)
                kept = {name: value for name, value in response.headers.items() if name.lower() not in _OWN}
                self.reply(response.status, kept, data, response.headers.get("Content-Length"))

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = serve  # noqa: N815, the names of http.server

            def reply(self, status: int, headers: Mapping[str, str], data: bytes, length: str | None = None) -> None:
                try:
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    shown = length if self.command == "HEAD" and length is not None else str(len(data))
                    self.send_header("Content-Length", shown)
                    self.end_headers()
                    self.wfile.write(data)
                except OSError:
                    self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        return Handler


_REFUSALS = (
    ("refuse", 503, b"<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"),
    ("deny", 403, b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"),
)
"""Attribute of the proxy, status and body of what it does not pass on."""

_OWN = ("content-length", "transfer-encoding", "connection", "date", "server")
"""Headers that the proxy writes itself."""
