"""One way to fetch what is not trusted: bounded in time and size, without redirects; and the cache of what was not there."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
import trustme

from asof.connections.bounded_http import FetchedResponse, get
from asof.connections.expiring import ExpiringEntries
from asof.server.security import key_sets

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


class Peer:
    """A server that does to each connection what it is given; it notes what it was sent."""

    def __init__(self, behave: Callable[[socket.socket, Peer], None]) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.ending = threading.Event()
        self.heads: list[bytes] = []
        self._behave = behave
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                made, _ = self._socket.accept()
                threading.Thread(target=self._one, args=(made,), daemon=True).start()

    def _one(self, made: socket.socket) -> None:
        with suppress(OSError), made:
            self._behave(made, self)

    def close(self) -> None:
        self.ending.set()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(timeout=30)


Serve = Callable[[Callable[[socket.socket, Peer], None]], Peer]


@pytest.fixture
def serve() -> Iterator[Serve]:
    made: list[Peer] = []

    def start(behave: Callable[[socket.socket, Peer], None]) -> Peer:
        made.append(Peer(behave))
        return made[-1]

    yield start
    for each in made:
        each.close()


def head_of(made: socket.socket) -> bytes:
    text = b""
    while b"\r\n\r\n" not in text:
        part = made.recv(65536)
        if not part:
            break
        text += part
    return text


def sends(answer: bytes) -> Callable[[socket.socket, Peer], None]:
    def behave(made: socket.socket, peer: Peer) -> None:
        peer.heads.append(head_of(made))
        made.sendall(answer)

    return behave


def drips(*, first: bytes, piece: bytes, reads: bool = True) -> Callable[[socket.socket, Peer], None]:
    """A byte now and then, without end: each step is quick, and the whole is never done."""

    def behave(made: socket.socket, peer: Peer) -> None:
        if reads:
            head_of(made)
        made.sendall(first)
        while not peer.ending.wait(0.05):
            made.sendall(piece)

    return behave


def fetched(peer: Peer, path: str = "/keys", *, timeout_s: float = 60, max_bytes: int = 1000) -> FetchedResponse:
    return get(
        f"http://127.0.0.1:{peer.port}{path}",
        headers={"Authorization": "Bearer x"},
        timeout_s=timeout_s,
        max_bytes=max_bytes,
    )


def test_a_response_is_its_status_and_body(serve: Serve) -> None:
    peer = serve(sends(OK))

    assert fetched(peer, "/keys?a=b") == (200, None, b"{}")
    assert peer.heads[0].startswith(b"GET /keys?a=b HTTP/1.1\r\n")
    assert (
        b"\r\nHost: 127.0.0.1:%d\r\n" % peer.port in peer.heads[0]
        and b"\r\nAuthorization: Bearer x\r\n" in peer.heads[0]
    )


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed_so_credentials_go_nowhere_else(serve: Serve, status: int) -> None:
    other = serve(sends(OK))
    to = f"http://127.0.0.1:{other.port}/stolen"
    peer = serve(sends(b"HTTP/1.1 %d Moved\r\nlocation: %b\r\ncontent-length: 0\r\n\r\n" % (status, to.encode())))

    assert fetched(peer)[:2] == (status, to)
    with pytest.raises(OSError, match=f"returned status {status}"):
        key_sets.fetch(f"http://127.0.0.1:{peer.port}/keys")
    assert not other.heads


@pytest.mark.parametrize("length", [b"content-length: 99999999999\r\n", b"", b"transfer-encoding: chunked\r\n"])
def test_of_an_endless_body_one_byte_too_many_is_read(serve: Serve, length: bytes) -> None:
    def behave(made: socket.socket, peer: Peer) -> None:
        head_of(made)
        made.sendall(b"HTTP/1.1 200 OK\r\n" + length + b"\r\n")
        piece = b"x" * 4096
        while not peer.ending.is_set():
            made.sendall(b"1000\r\n" + piece + b"\r\n" if b"chunked" in length else piece)

    peer = serve(behave)

    assert len(fetched(peer).body) == 1001
    with pytest.raises(ValueError, match="more than 1048576 bytes"):
        key_sets.fetch(f"http://127.0.0.1:{peer.port}/keys")


DRIPS = {
    "status": drips(first=b"HTTP/1.1 2", piece=b"0"),
    "headers": drips(first=b"HTTP/1.1 200 OK\r\n", piece=b"a"),
    "body": drips(first=b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n", piece=b"x"),
    "body until the end": drips(first=b"HTTP/1.0 200 OK\r\n\r\n", piece=b"x"),
    "chunks": drips(first=b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", piece=b"1\r\nx\r\n"),
    "chunk size": drips(first=b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", piece=b"0"),
    "interim responses": drips(first=b"", piece=b"HTTP/1.1 100 Continue\r\n\r\n"),
    "nothing": drips(first=b"", piece=b""),
}


@pytest.mark.parametrize("kind", DRIPS)
def test_whoever_sends_a_byte_now_and_then_is_left_after_the_time_for_all_of_it(serve: Serve, kind: str) -> None:
    # That it returns is what is tested: the peer goes on until the test ends.
    with pytest.raises(TimeoutError):
        fetched(serve(DRIPS[kind]), timeout_s=0.3)


@pytest.mark.parametrize("first", [b"", b"\x16\x03\x03\x40\x00", b"\x02"])
def test_a_tls_handshake_has_no_more_time_than_all_of_it(serve: Serve, first: bytes) -> None:
    peer = serve(drips(first=first, piece=b"\x02" if first else b"", reads=False))

    with pytest.raises(OSError):
        get(f"https://127.0.0.1:{peer.port}/keys", headers={}, timeout_s=0.3, max_bytes=10)


@pytest.mark.parametrize(
    "answer",
    [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nx", b"\x00" * 100_000,
     b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 1000 + b"\r\n", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
     b"HTTP/1.1 200 OK\r\nx: " + b"v" * 100_000 + b"\r\n\r\n"],
)  # fmt: skip
def test_what_is_no_http_is_an_unreachable_server_and_an_issuer_s_keys_stay(serve: Serve, answer: bytes) -> None:
    peer = serve(sends(answer))

    with pytest.raises(OSError):
        fetched(peer)
    keys = key_sets.KeySet("issuer", lambda: key_sets.fetch(f"http://127.0.0.1:{peer.port}/keys"))
    keys.refresh()
    assert keys.problem and not keys.is_usable


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a/b",
        "file:///etc/passwd",
        "http://",
        "http://[",
        "http://a:b/",
        "//a",
        "",
        "http://127.0.0.1:1/a b\r\nx: y",
    ],
)
def test_what_is_no_url_is_not_fetched(url: str) -> None:
    with pytest.raises((ValueError, OSError)):
        get(url, headers={}, timeout_s=5, max_bytes=10)


def test_over_tls_the_name_is_checked_also_through_a_proxy(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("login.example.com").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)

    def behave(made: socket.socket, peer: Peer) -> None:
        peer.heads.append(head_of(made))
        made.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with server.wrap_socket(made, server_side=True) as safe:
            peer.heads.append(head_of(safe))
            safe.sendall(OK)

    proxy = serve(behave)
    monkeypatch.setenv("https_proxy", f"http://ada:pw@127.0.0.1:{proxy.port}")
    monkeypatch.setenv("no_proxy", "")
    answer = get(
        "https://login.example.com/keys", headers={}, timeout_s=60, max_bytes=10, tls=client, through_proxy=True
    )

    assert answer == (200, None, b"{}")
    assert proxy.heads[0].startswith(b"CONNECT login.example.com:443 ")
    assert b"\r\nProxy-Authorization: Basic YWRhOnB3\r\n" in proxy.heads[0]
    assert b"\r\nHost: login.example.com\r\n" in proxy.heads[1] and b"Proxy-Auth" not in proxy.heads[1]
    with pytest.raises(ssl.SSLError):
        get("https://other.example.com/keys", headers={}, timeout_s=60, max_bytes=10, tls=client, through_proxy=True)


def test_a_cache_of_what_was_not_there_shrinks() -> None:
    now = 0.0
    cache: ExpiringEntries[int, str] = ExpiringEntries(seconds=30, most=100, clock=lambda: now)
    for i in range(1000):
        cache.put(i, "none")
    assert len(cache) == 100 and cache.get(999) == "none" and cache.get(0) is None

    now = 29.0
    cache.put(1000, "none")
    assert len(cache) == 100
    now = 30.0
    assert cache.get(999) is None and cache.get(1000) == "none"
    cache.put(1001, "none")
    assert len(cache) == 2
    cache.put(1000, "again")
    now = 59.5
    assert cache.get(1000) == "again" and cache.get(1001) == "none"
