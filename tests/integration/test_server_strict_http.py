"""`asof serve` and HTTP that two readers could understand differently: it is refused, and what is good before it is answered."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.test_server_abuse import BODY, CHUNKED, READ, Server, built, patient, received, serving

__all__ = ["built", "patient", "serving"]

pytestmark = pytest.mark.integration

LENGTH = b"content-length: %d\r\n" % len(BODY)
CHUNKS = b"%x\r\n%b\r\n0\r\n" % (len(BODY), BODY)
LAST = b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def guarded(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from _started(built, tmp_path_factory, is_guarded=True)


@pytest.fixture(scope="module")
def unguarded(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from _started(built, tmp_path_factory, is_guarded=False)


def _started(built: Path, folders: pytest.TempPathFactory, *, is_guarded: bool) -> Iterator[Server]:
    import shutil

    folder = folders.mktemp("strict") / "repo"
    shutil.copytree(built, folder)
    server = Server(folder, {"allowed_hosts": ["Notebook.example", "hub.example:8443"]}, is_guarded=is_guarded)
    yield server
    assert server.is_the_same()
    server.end()


def exchanged(server: Server, *pieces: bytes) -> list[bytes]:
    """The responses to these bytes, until the server closes the connection."""
    with server.connect() as made:
        for piece in pieces:
            made.sendall(piece)
        return split(received(made))


def split(text: bytes) -> list[bytes]:
    """Responses one after the other, by the lengths that they have."""
    found = []
    while text:
        head, end, rest = text.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 ") and end, text[:200]
        size = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        assert len(rest) >= size, text[:200]
        found.append(head + end + rest[:size])
        text = rest[size:]
    return found


def statuses(responses: list[bytes]) -> list[int]:
    return [int(each.split(b" ", 2)[1]) for each in responses]


def bearer(server: Server, role: str) -> bytes:
    return f"authorization: Bearer {server.keys[role].text}\r\n".encode()


def head(*lines: bytes) -> bytes:
    return b"POST /get-online-features HTTP/1.1\r\nhost: localhost\r\n" + b"".join(lines)


# ---- credentials ----


def test_a_request_with_two_credentials_is_refused(guarded: Server) -> None:
    good, wrong = bearer(guarded, "read"), b"authorization: Bearer asof_no\r\n"
    nothing = bearer(guarded, "nothing")
    api_key = good.replace(b"authorization: Bearer ", b"X-API-Key: ")
    for both, status in (
        ((good, wrong), 400), ((wrong, good), 400), ((good, good), 400), ((good, nothing), 400), ((nothing, good), 400),
        ((good.title(), good), 400), ((api_key, api_key), 400), ((api_key, wrong), 401), ((nothing, api_key), 401),
    ):  # fmt: skip
        (response,) = exchanged(guarded, head(*both, LENGTH, b"connection: close\r\n\r\n") + BODY)
        assert statuses([response]) == [status], (both, response)
        assert b'"results"' not in response


def test_a_known_head_with_another_credential_before_or_behind_it_is_refused_too(guarded: Server) -> None:
    # The same head again and again takes the fast path.
    good = head(bearer(guarded, "read"), LENGTH)
    twice = good + b"authorization: Bearer asof_no\r\n"
    responses = exchanged(guarded, (good + b"\r\n" + BODY) * 5 + (twice + b"\r\n" + BODY) * 2)

    assert statuses(responses) == [200] * 5 + [400]


@pytest.mark.parametrize(
    "name", [b"authorization", b"Authorization", b"x-api-key", b"host", b"cookie", b"content-length"]
)
@pytest.mark.parametrize("role", ["read", ""])
def test_what_belongs_into_the_head_is_refused_in_a_trailer(guarded: Server, role: str, name: bytes) -> None:
    value = b"Bearer " + guarded.keys["read"].text.encode()
    credential = bearer(guarded, role) if role else b""
    whole = head(credential, CHUNKED) + CHUNKS + name + b": " + value + b"\r\n\r\n"

    responses = exchanged(guarded, whole)
    assert statuses(responses) == [400] and (b"in its trailer" in responses[0] or name == b"content-length")
    # In pieces, a caller without a key is refused for it before the trailer arrives.
    with guarded.connect() as made:
        at = whole.index(CHUNKS)
        made.sendall(whole[:at])
        made.sendall(whole[at:])
        assert statuses(split(received(made))) in ([400], *([] if role else [[401]]))


def test_other_trailers_change_nothing(guarded: Server) -> None:
    whole = head(bearer(guarded, "read"), CHUNKED) + CHUNKS + b"x-checksum: 7\r\n\r\n"

    assert statuses(exchanged(guarded, whole * 2 + LAST)) == [200, 200, 200]


# ---- hosts ----


@pytest.mark.parametrize("name", [b"", b"host: localhost\r\nhost: localhost\r\n", b"host: a\r\nHost: localhost\r\n"])
def test_a_request_names_one_host(unguarded: Server, name: bytes) -> None:
    (response,) = exchanged(unguarded, b"GET /health HTTP/1.1\r\n" + name + b"\r\n")

    assert statuses([response]) == [400] and b"Host header" in response or b"host more than once" in response


PATHS = (
    ("POST", READ), ("POST", "/v1/features"), ("POST", "/push"), ("POST", "/write-to-online-store"), ("POST", "/materialize"),
    ("POST", "/materialize-incremental"), ("GET", "/jobs"), ("GET", "/jobs/1"), ("GET", "/metrics"), ("GET", "/ready"),
    ("GET", "/openapi.json"), ("GET", "/ui/"), ("HEAD", "/ui/"), ("GET", "/ui/home.json"), ("POST", "/ui/sign-in"),
    ("GET", "/"), ("GET", "/health"),
)  # fmt: skip


@pytest.mark.parametrize(("method", "path"), PATHS)
def test_on_an_open_server_of_this_machine_a_foreign_host_is_refused(unguarded: Server, method: str, path: str) -> None:
    for host in ("evil.example", f"evil.example:{unguarded.port}", "localhost.evil.example", "127.0.0.1.evil.example",
                 "0.0.0.0", "[", "localhost@evil.example", "evil.example:80:80"):  # fmt: skip
        text = f"{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: {len(BODY)}\r\n\r\n"
        with unguarded.connect() as made:
            made.sendall(text.encode() + BODY)
            answer = received(made)
        assert answer.startswith(b"HTTP/1.1 403 "), (host, answer)
        if method != "HEAD" and not path.startswith(("/ui", "/health")):
            assert b"server.allowed_hosts" in answer


def test_a_foreign_host_is_never_learned_by_the_fast_path(unguarded: Server) -> None:
    own = head(LENGTH) + b"\r\n" + BODY
    foreign = own.replace(b"host: localhost", b"host: evil.example")

    assert statuses(exchanged(unguarded, (own + foreign) * 5 + LAST)) == [200, 403] * 5 + [200]


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:99", "[::1]", "[::1]:8080", "notebook.example", "NOTEBOOK.example",
     "notebook.example:8443", "hub.example:8443"],
)  # fmt: skip
def test_this_machine_and_allowed_hosts_are_answered(unguarded: Server, host: str) -> None:
    text = f"POST {READ} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: {len(BODY)}\r\n\r\n"

    assert statuses(exchanged(unguarded, text.encode() + BODY)) == [200]


def test_an_allowed_host_with_a_port_is_that_port(unguarded: Server) -> None:
    text = f"POST {READ} HTTP/1.1\r\nhost: hub.example:1\r\nconnection: close\r\ncontent-length: {len(BODY)}\r\n\r\n"

    assert statuses(exchanged(unguarded, text.encode() + BODY)) == [403]


@pytest.mark.parametrize(
    "path", ["/push/", "/health/", "/ui", "/ui/", "/", "/docs", "/ui/sign-in/", "//evil.example", "/jobs/"]
)
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
def test_no_redirect_takes_the_host(guarded: Server, method: str, path: str) -> None:
    lines = (
        f"{method} {path} HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\nx-forwarded-host: evil.example\r\n\r\n"
    )
    with guarded.connect() as made:
        made.sendall(lines.encode())
        first = received(made).partition(b"\r\n\r\n")[0]
    location = first.partition(b"\r\nlocation: ")[2].split(b"\r\n")[0]

    assert not location or location.startswith(b"/ui/"), first


# ---- pipelines ----

BROKEN: dict[str, bytes] = {
    "no HTTP": b"nonsense\r\n\r\n",
    "no method": b"\x00\x01\x02\x03\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01",
    "a line without a colon": b"GET /health HTTP/1.1\r\nhost localhost\r\n\r\n",
    "no host": b"GET /health HTTP/1.1\r\n\r\n",
    "two lengths": b"POST /push HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\n{}",
    "length and chunks": b"POST /push HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "a negative length": b"POST /push HTTP/1.1\r\nhost: localhost\r\ncontent-length: -3\r\n\r\n",
    "a signed length": b"POST /push HTTP/1.1\r\nhost: localhost\r\ncontent-length: +3\r\n\r\n{ }",
    "a length of 5,000 digits": b"POST /push HTTP/1.1\r\nhost: localhost\r\ncontent-length: "
    + b"9" * 5000
    + b"\r\n\r\n",
    "a chunk of no size": b"POST /push HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n",
    "a head without end": b"GET /health HTTP/1.1\r\nhost: localhost\r\nx: " + b"v" * (80 << 10),
    "a broken target": b"GET http://[ HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "a tunnel": b"CONNECT evil.example:443 HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "two hosts": b"GET /health HTTP/1.1\r\nhost: a\r\nhost: localhost\r\n\r\n",
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("good", [1, 2, 7])
def test_a_malformed_request_leaves_the_answers_of_those_before_it(guarded: Server, kind: str, good: int) -> None:
    one = head(bearer(guarded, "read"), LENGTH) + b"\r\n" + BODY
    behind = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n" * 3
    responses = exchanged(guarded, one * good + BROKEN[kind] + behind)

    assert statuses(responses)[:good] == [200] * good
    assert all(b'"values":[30]' in each for each in responses[:good])
    # A request may be refused before all of it has come; nothing behind it is looked at.
    assert len(responses) == good + 1 and statuses(responses)[good] in (400, 401, 431), responses[good:]
    assert b"connection: close" in responses[good]


def test_answers_that_take_their_time_come_before_the_refusal(guarded: Server) -> None:
    """The rows are written while the malformed bytes are there already; sent apart, they arrive meanwhile."""
    rows = b'{"push_source_name": "clicks", "df": {"user_id": [1], "page": ["a"], "amount": [1.0], "at": ["2026-01-01T11:00:00Z"]}}'
    push = b"POST /push HTTP/1.1\r\nhost: localhost\r\n" + bearer(guarded, "write")
    push += b"content-length: %d\r\n\r\n" % len(rows) + rows
    assert statuses(exchanged(guarded, push + push + b"nonsense\r\n\r\n")) == [200, 200, 400]
    assert statuses(exchanged(guarded, push, b"nonsense\r\n\r\n")) == [200, 400]


def test_a_broken_body_gets_one_answer_and_does_nothing(guarded: Server) -> None:
    start = b"POST /push HTTP/1.1\r\nhost: localhost\r\n" + bearer(guarded, "write") + CHUNKED + b'5\r\n{"pus\r\nz\r\n'
    one = head(bearer(guarded, "read"), LENGTH) + b"\r\n" + BODY

    assert statuses(exchanged(guarded, start + one)) == [400]
    assert statuses(exchanged(guarded, one * 3 + start + one)) == [200, 200, 200, 400]
