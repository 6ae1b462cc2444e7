"""HTTP GET from a server that is not trusted: within one time limit and a size limit, and without redirects."""

from __future__ import annotations

import base64
import ssl
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException
from socket import SHUT_RDWR, SOCK_STREAM, getaddrinfo, socket
from threading import Timer
from typing import NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit
from urllib.request import getproxies, proxy_bypass


class FetchedResponse(NamedTuple):
    """A response of any status.

    Args:
        location: where a redirect leads, which was not followed: it could lead away from https, and credentials are for
            the server that was asked.
        body: at most one byte more than was allowed, which shows that it is too large.
    """

    status: int
    location: str | None
    body: bytes


def get(
    url: str,
    *,
    headers: Mapping[str, str],
    timeout_s: float,
    max_bytes: int,
    tls: ssl.SSLContext | None = None,
    through_proxy: bool = False,
) -> FetchedResponse:
    """Fetch a URL.

    Args:
        timeout_s: for all of it, also from a server that sends a byte now and then; only the look-up of the host's name
            has the limits of the machine's resolver.
        tls: the authorities that are trusted, for https; by default the machine's.
        through_proxy: use the proxy for https that the environment names (`https_proxy`, `no_proxy`).

    Raises:
        OSError: the server cannot be reached in time, or does not respond with HTTP.
        ValueError: the URL is not valid.
    """
    until = time.monotonic() + timeout_s
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url} is not an http(s) URL")
    if parts.scheme == "http":
        tls = None
    elif tls is None:
        tls = ssl.create_default_context()
    proxy = _proxy_for(parts.hostname) if through_proxy and tls is not None else None
    target = proxy or parts
    addresses = getaddrinfo(target.hostname, _port_of(target), type=SOCK_STREAM)
    unreached: OSError = OSError("its host has no address")
    for *_, address in addresses:
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out") from unreached
        connection = TimedConnection(str(address[0]), int(address[1]), tls=tls, name=parts.hostname, timeout_s=left)
        if proxy is not None:
            connection.set_tunnel(parts.hostname, _port_of(parts), _credentials_of(proxy))
        with closing(connection):
            # The timeout of a socket is that of each step; this ends all of them.
            end = Timer(left, connection.shut)
            end.daemon = True
            end.start()
            try:
                try:
                    connection.connect()
                except OSError as error:
                    if isinstance(error, ssl.SSLError):
                        raise
                    unreached = error
                    continue
                path = urlunsplit(("", "", parts.path or "/", parts.query, ""))
                connection.request("GET", path, headers={"Host": _host_of(parts), **headers})
                response = connection.getresponse()
                body = response.read(max_bytes + 1)
                if time.monotonic() >= until:
                    raise TimeoutError("timed out")
                if response.length and len(body) <= max_bytes:
                    raise ConnectionError("the response was cut off")
                return FetchedResponse(response.status, response.getheader("Location"), body)
            except (HTTPException, OSError, ValueError) as error:
                if time.monotonic() >= until:
                    raise TimeoutError("timed out") from error
                if isinstance(error, HTTPException) and not isinstance(error, OSError):
                    raise OSError(str(error) or type(error).__name__) from error
                raise
            finally:
                end.cancel()
    raise unreached


class TimedConnection(HTTPConnection):
    """A connection to one address, of which every step can be ended from another thread."""

    def __init__(self, address: str, port: int, *, tls: ssl.SSLContext | None, name: str, timeout_s: float) -> None:
        super().__init__(address, port, timeout=timeout_s)
        self._tls = tls
        self._name = name
        self._is_shut = False
        # `sock` is None again once a response is being read that closes the connection.
        self._held: socket | None = None

    def connect(self) -> None:
        super().connect()
        self._held = self.sock
        if self._tls is not None:
            # The handshake comes apart, so that `shut` finds the socket on which it waits.
            made = self._tls.wrap_socket(self.sock, server_hostname=self._name, do_handshake_on_connect=False)
            self.sock = self._held = made
            if self._is_shut:
                raise TimeoutError("timed out")
            made.do_handshake()

    def shut(self) -> None:
        """End whatever the connection waits for."""
        self._is_shut = True
        held = self._held or self.sock
        if held is not None:
            with suppress(OSError):  # it is closed already
                # Not the method of a TLS socket, which would take its state from the thread that uses it.
                socket.shutdown(held, SHUT_RDWR)


def _port_of(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


def _host_of(parts: SplitResult) -> str:
    return parts.netloc.rpartition("@")[2].encode("idna" if not parts.netloc.isascii() else "ascii").decode("ascii")


def _proxy_for(host: str) -> SplitResult | None:
    found = getproxies().get("https", "")
    if not found or proxy_bypass(host):
        return None
    parts = urlsplit(found if "://" in found else f"http://{found}")
    if parts.scheme != "http" or not parts.hostname:
        raise ValueError("https_proxy is not the http URL of a proxy")
    return parts


def _credentials_of(proxy: SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    text = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": f"Basic {base64.b64encode(text.encode()).decode()}"}
