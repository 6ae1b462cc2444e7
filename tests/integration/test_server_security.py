"""A guarded `asof serve` as processes: TLS, client certificates, tokens whose issuer changes its keys, keys withdrawn."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

import asof
from asof import FeatureStore
from asof.errors import AsofError, NotAllowed, NotAuthenticated, Overloaded, ServerUnreachable
from asof.server.security.keys import NewKey, new_key

pytestmark = pytest.mark.integration

# A machine that is busy with other tests may take longer than a program would wait.
Client = partial(asof.Client, timeout_s=60, connect_timeout_s=30)
AsyncClient = partial(asof.AsyncClient, timeout_s=60, connect_timeout_s=30)
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
DEFINITIONS = """
from asof import *
from asof.types import *

user = Entity("user", join_keys=["user_id"])
profile = FeatureView("profile", entities=[user], source=FileSource("profile.parquet", name="rows", timestamp_field="at"),
    schema=[Field("age", Int64)])
clicks = PushSource("clicks", schema=[Field("user_id", Int64), Field("at", Timestamp)], timestamp_field="at")
activity = FeatureView("activity", entities=[user], source=clicks, aggregations=[Aggregation("", "count", name="n")])
"""
ROW = {"user_id": 1, "at": NOW}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "feature_store.yaml").write_text(f"project: shop\nclock: {NOW.isoformat()}\n")
    (folder / "features.py").write_text(DEFINITIONS)
    rows = {"user_id": [1], "age": [30], "at": pa.array([NOW], pa.timestamp("us", "UTC"))}
    pq.write_table(pa.table(rows), folder / "profile.parquet")
    with FeatureStore(folder) as store:
        store.apply()
        store.materialize()
    return folder


@pytest.fixture
def folder(built: Path, tmp_path: Path) -> Path:
    shutil.copytree(built, tmp_path / "repo")
    return tmp_path / "repo"


def configure(folder: Path, **sections: Any) -> None:
    # YAML is a superset of JSON.
    lines = [
        "project: shop",
        f"clock: {NOW.isoformat()}",
        *(f"{name}: {json.dumps(each)}" for name, each in sections.items()),
    ]
    (folder / "feature_store.yaml").write_text("\n".join(lines) + "\n")


def key_entry(key: NewKey, *roles: str) -> dict[str, Any]:
    return {"id": key.id, "hash": key.hash, "name": f"of-{key.id}", "roles": list(roles)}


class Served:
    """A running `asof serve`, and all that it said."""

    def __init__(self, folder: Path, *options: str) -> None:
        command = [sys.executable, "-m", "asof", "--repo", str(folder), "serve", "--port", "0", *options]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.said: list[str] = []
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line)
            if "Serving on" in line:
                self.port = int(line.split(" with ")[0].rpartition(":")[2])
                break
        else:
            raise AssertionError("".join(self.said))
        self._reading = threading.Thread(target=lambda: self.said.extend(self.process.stderr), daemon=True)
        self._reading.start()

    def wait(self, ask: Any, seconds: float = 30) -> Any:
        """What `ask` answers, once it answers anything true."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                if answer := ask():
                    return answer
            except AsofError:
                pass
            assert self.process.poll() is None and time.monotonic() < deadline, "".join(self.said)
            time.sleep(0.05)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(timeout=60)
        self._reading.join(timeout=10)


@pytest.fixture
def serve(folder: Path) -> Iterator[Any]:
    started: list[Served] = []

    def start(*options: str) -> Served:
        started.append(Served(folder, *options))
        return started[-1]

    yield start
    for each in started:
        each.end()


def age(client: Client) -> Any:
    return client.get_online_features("profile:age", [{"user_id": 1}]).to_dict()["age"]


# ---- who it was ----


def test_each_line_of_the_audit_log_has_an_address_also_of_who_reset_the_connection(folder: Path, serve: Any) -> None:
    key = new_key()
    configure(folder, auth={"keys": [key_entry(key, "write")], "audit": "audit.jsonl"})
    server = serve()
    body = json.dumps({"push_source_name": "nothing", "df": {}}).encode()
    head = f"POST /push HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key.text}\r\ncontent-length: {len(body)}\r\n\r\n"

    def answer() -> bytes:
        with socket.create_connection(("127.0.0.1", server.port)) as made:
            made.sendall(head.encode() + body)
            return made.recv(4096)

    assert answer().startswith(b"HTTP/1.1 4")
    (worker,) = [int(each) for each in children_of(server.process.pid)]
    os.kill(worker, signal.SIGSTOP)
    try:
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", server.port)) as made:
                made.sendall(head.encode() + body)
                # Closing it resets the connection.
                made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    finally:
        os.kill(worker, signal.SIGCONT)
    assert answer().startswith(b"HTTP/1.1 4")

    lines = server.wait(lambda: (folder / "audit.jsonl").read_text().splitlines())

    assert lines and all(json.loads(line).get("address") == "127.0.0.1" for line in lines)


def children_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


# ---- TLS ----


@dataclass
class Files:
    """Certificates of one authority, as files."""

    ca: str
    cert: str
    key: str
    client: tuple[str, str]
    stranger: tuple[str, str]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("tls")
    ours, theirs = trustme.CA(), trustme.CA()
    server = ours.issue_cert("127.0.0.1")
    feeder = ours.issue_cert(
        "feeder.shop", common_name="feeder", organization_name="Shop", organization_unit_name="Feeds"
    )
    stranger = theirs.issue_cert(
        "feeder.shop", common_name="feeder", organization_name="Shop", organization_unit_name="Feeds"
    )

    def written(name: str, certificate: trustme.LeafCert) -> tuple[str, str]:
        certificate.private_key_pem.write_to_path(folder / f"{name}.key")
        chain, key = folder / f"{name}.pem", folder / f"{name}.key"
        chain.write_bytes(b"".join(each.bytes() for each in certificate.cert_chain_pems))
        return str(chain), str(key)

    ours.cert_pem.write_to_path(folder / "ca.pem")
    cert, key = written("server", server)
    return Files(str(folder / "ca.pem"), cert, key, written("client", feeder), written("stranger", stranger))


def subject_in(path: str) -> str:
    certificate = x509.load_pem_x509_certificate(Path(path).read_bytes())
    return ",".join(f"{part.rfc4514_attribute_name}={part.value}" for part in certificate.subject)


def test_over_tls_a_client_that_trusts_the_authority_reads(folder: Path, serve: Any, files: Files) -> None:
    key = new_key()
    configure(folder, auth={"keys": [key_entry(key, "read")], "audit": "off"})
    served = serve("--tls-cert", files.cert, "--tls-key", files.key)
    url = f"https://127.0.0.1:{served.port}"
    with Client(url, api_key=key.text, ca=files.ca) as client:
        served.wait(client.ready)
        assert age(client) == [30]
        with pytest.raises(NotAllowed, match="lacks the write role"):
            client.push("clicks", [ROW])

    async def awaited() -> Any:
        async with AsyncClient(url, api_key=key.text, ca=files.ca) as client:
            return (await client.get_online_features("profile:age", [{"user_id": 1}])).to_dict()["age"]

    assert asyncio.run(awaited()) == [30]
    for wrong, says in (
        (Client(url, api_key=key.text), "signed by an untrusted CA"),
        (Client(f"https://localhost:{served.port}", api_key=key.text, ca=files.ca), "for another host name"),
        (Client(f"http://127.0.0.1:{served.port}", api_key=key.text), "broke|no connection"),
    ):
        with wrong, pytest.raises(ServerUnreachable, match=says):
            age(wrong)
    served.end()
    assert key.text not in "".join(served.said)


def test_who_connects_and_never_says_a_word_of_tls_is_cut_off(folder: Path, serve: Any, files: Files) -> None:
    configure(folder, auth={"keys": [key_entry(new_key(), "read")], "audit": "off"}, server={"receive_timeout_s": 1})
    served = serve("--tls-cert", files.cert, "--tls-key", files.key)
    for first in (b"", b"\x16\x03\x01"):
        with socket.create_connection(("127.0.0.1", served.port)) as made:
            # Less than a handshake may take by itself.
            made.settimeout(40)
            made.sendall(first)
            try:
                assert made.recv(1) == b""
            except ConnectionResetError:
                pass


def test_handshakes_that_do_not_end_make_room_for_others(folder: Path, serve: Any, files: Files) -> None:
    key = new_key()
    configure(
        folder, auth={"keys": [key_entry(key, "read")], "audit": "off"},
        server={"max_connections": 40, "receive_timeout_s": 10_000, "keep_alive_s": 10_000},
    )  # fmt: skip
    served = serve("--tls-cert", files.cert, "--tls-key", files.key)
    url = f"https://127.0.0.1:{served.port}"
    silent: list[socket.socket] = []
    try:
        with Client(url, api_key=key.text, ca=files.ca) as client:
            served.wait(client.ready)
            for _ in range(200):
                silent.append(socket.create_connection(("127.0.0.1", served.port)))
                silent[-1].sendall(b"\x16\x03\x01")
            assert age(client) == [30]
        with Client(url, api_key=key.text, ca=files.ca) as another:
            assert age(another) == [30]
        # The first have been ended, whatever time a handshake may take.
        silent[0].settimeout(60)
        with suppress(ConnectionResetError):
            assert silent[0].recv(1) == b""
        assert len(silent) == 200
    finally:
        for each in silent:
            each.close()


def test_a_client_certificate_stands_for_its_holder(folder: Path, serve: Any, files: Files) -> None:
    key = new_key()
    configure(
        folder, server={"tls_client_ca": files.ca},
        auth={"certificates": [{"subject": subject_in(files.client[0]), "name": "feeder", "roles": ["write"]}],
              "keys": [key_entry(key, "read")], "audit": "audit.jsonl"},
    )  # fmt: skip
    served = serve("--tls-cert", files.cert, "--tls-key", files.key)
    url = f"https://127.0.0.1:{served.port}"
    with Client(url, ca=files.ca, client_cert=files.client) as client:
        served.wait(client.ready)
        assert client.push("clicks", [ROW]) == 1
        assert client.get_online_features("activity:n", [{"user_id": 1}]).to_dict()["n"] == [1]
    with Client(url, ca=files.ca, api_key=key.text) as client:
        assert age(client) == [30]
    with Client(url, ca=files.ca) as client, pytest.raises(NotAuthenticated, match="needs authentication"):
        age(client)
    with Client(url, ca=files.ca, client_cert=files.stranger, retries=0) as client, pytest.raises(ServerUnreachable):
        age(client)

    (line,) = [json.loads(each) for each in (folder / "audit.jsonl").read_text().splitlines()]
    assert (line["who"], line["how"], line["source"], line["rows"]) == ("feeder", "certificate", "clicks", 1)


def test_certificates_may_be_required(folder: Path, serve: Any, files: Files) -> None:
    configure(
        folder, server={"tls_client_ca": files.ca, "tls_client_certificates": "required"},
        auth={"certificates": [{"subject": subject_in(files.client[0]), "roles": ["read"]}], "audit": "off"},
    )  # fmt: skip
    served = serve("--tls-cert", files.cert, "--tls-key", files.key)
    url = f"https://127.0.0.1:{served.port}"
    with Client(url, ca=files.ca, client_cert=files.client) as client:
        served.wait(client.ready)
        assert age(client) == [30]
    with Client(url, ca=files.ca, retries=0) as client, pytest.raises(ServerUnreachable) as raised:
        age(client)
    assert "client_cert=" in raised.value.hint


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (lambda files: ["--tls-cert", files.cert], "server.tls_cert is set without server.tls_key"),
        (lambda files: ["--tls-cert", files.cert, "--tls-key", files.client[1]], "tls_key"),
        (lambda files: ["--tls-cert", files.ca + ".gone", "--tls-key", files.key], "cannot be read: No such file"),
        (lambda files: ["--host", "0.0.0.0"], "would let everyone who reaches it read and write features"),
    ],
)
def test_what_cannot_be_served_is_one_clear_message(folder: Path, files: Files, options: Any, says: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "asof", "--repo", str(folder), "serve", "--port", "0", *options(files)],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip

    assert done.returncode == 3, done.stderr
    assert says in done.stderr and "next: " in done.stderr and "Traceback" not in done.stderr
    assert done.stderr.count("error: ") == 1


def test_a_registry_that_is_out_of_reach_is_one_clear_message_too(folder: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    registry = {
        "type": "postgres",
        "host": "127.0.0.1",
        "port": port,
        "user": "asof",
        "password": "hunter2",
        "database": "a",
    }
    configure(folder, registry=registry)
    done = subprocess.run(
        [sys.executable, "-m", "asof", "--repo", str(folder), "serve", "--port", "0"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip

    assert done.returncode == 8, done.stderr
    assert f"127.0.0.1:{port}" in done.stderr and "cannot be reached" in done.stderr
    assert done.stderr.count("error: ") == 1 and "Traceback" not in done.stderr and "hunter2" not in done.stderr


# ---- keys and tokens ----


def test_a_key_that_was_withdrawn_is_refused_after_a_reload(folder: Path, serve: Any) -> None:
    kept, withdrawn = new_key(), new_key()
    configure(folder, auth={"keys": [key_entry(kept, "read"), key_entry(withdrawn, "read")], "audit": "off"})
    served = serve()
    url = f"http://127.0.0.1:{served.port}"
    with Client(url, api_key=kept.text) as first, Client(url, api_key=withdrawn.text) as second:
        served.wait(first.ready)
        assert age(first) == age(second) == [30]

        configure(folder, auth={"keys": [key_entry(kept, "read")], "audit": "off"})
        served.process.send_signal(signal.SIGHUP)

        def refused() -> bool:
            try:
                return not age(second)
            except NotAuthenticated:
                return True

        served.wait(refused)
        assert age(first) == [30]


class IssuerPlace:
    """An issuer on this machine: its discovery document and its keys, which change."""

    def __init__(self) -> None:
        self.keys: dict[str, Any] = {}
        self.is_down = False
        self.asked = 0
        place = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # the name is http.server's
                place.asked += 1
                if place.is_down:
                    self.send_error(500)
                    return
                told: Any = {"keys": [
                    json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key())) | {"kid": kid}
                    for kid, key in place.keys.items()
                ]}  # fmt: skip
                if self.path.endswith("openid-configuration"):
                    told = {"issuer": place.url, "jwks_uri": f"{place.url}/keys"}
                body = json.dumps(told).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def token(self, kid: str, **claims: Any) -> str:
        known = {"iss": self.url, "aud": "asof", "sub": "ada", "exp": int(time.time()) + 600, "roles": ["read"]}
        return jwt.encode(known | claims, self.keys[kid], algorithm="ES256", headers={"kid": kid})

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def issuer() -> Iterator[IssuerPlace]:
    place = IssuerPlace()
    yield place
    place.close()


def test_tokens_of_an_issuer_are_accepted_through_its_outages(folder: Path, serve: Any, issuer: IssuerPlace) -> None:
    issuer.keys["one"] = ec.generate_private_key(ec.SECP256R1())
    configure(folder, auth={"issuers": [{"issuer": issuer.url, "audience": "asof"}], "audit": "audit.jsonl"})
    served = serve()
    url = f"http://127.0.0.1:{served.port}"
    issuer.is_down = True
    with Client(url, token=issuer.token("one"), retries=0) as client:
        served.wait(client.ready)
        for _ in range(3):
            with pytest.raises(Overloaded, match="keys of issuer .* cannot be read"):
                age(client)
        assert issuer.asked == 1
    issuer.is_down = False

    # The issuer is asked again after a while, and not with each request.
    with Client(url, token=issuer.token("one")) as client:
        assert served.wait(lambda: age(client)) == [30]
        issuer.is_down = True
        assert age(client) == [30]
    with Client(url, token=issuer.token("one", jti="another")) as client:
        assert age(client) == [30]
    for claims, kind in (
        ({"aud": "billing"}, NotAuthenticated),
        ({"exp": 1}, NotAuthenticated),
        ({"roles": []}, NotAllowed),
    ):
        with Client(url, token=issuer.token("one", **claims)) as client, pytest.raises(kind):
            age(client)
    with Client(url, token=issuer.token("one", roles=["write"])) as client:
        assert client.push("clicks", [ROW], batch_id="b") == 1
    served.end()
    lines = [json.loads(each) for each in (folder / "audit.jsonl").read_text().splitlines()]
    assert [(line["who"], line["how"], line["status"]) for line in lines] == [("ada", "token", 200)]
    assert "eyJ" not in "".join(served.said) + json.dumps(lines)
