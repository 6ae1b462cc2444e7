"""A schema registry is asked for each schema once, over HTTP; what is its fault is no message's fault."""

import base64
import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from asof.connections.schema_registry import SchemaRegistry
from asof.errors import ConfigError, SourceError
from asof.store import FeatureStore, open_store_of
from tests.unit.test_decoding_avro import CLICK, GOOD, framed, written

PLACE = {"type": "record", "name": "Place", "fields": [{"name": "city", "type": "string"}]}


class Double(ThreadingHTTPServer):
    """A small double of a registry's REST API: what the client asks for, and nothing else."""

    def __init__(self, *, user: str = "") -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.paths: dict[str, object] = {}
        self.asked: Counter[str] = Counter()
        self.wanted = f"Basic {base64.b64encode(user.encode()).decode()}" if user else ""
        self.failures = 0
        self.redirect: tuple[int, str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/api"


class _Handler(BaseHTTPRequestHandler):
    server: Double

    def do_GET(self) -> None:  # http.server's name
        self.server.asked[self.path] += 1
        if self.server.redirect is not None:
            status, location = self.server.redirect
            self._reply(status, {}, location=location)
        elif self.server.wanted and self.headers.get("Authorization") != self.server.wanted:
            self._reply(401, {"error_code": 40101, "message": "Unauthorized"})
        elif self.server.failures:
            self.server.failures -= 1
            self._reply(503, {})
        elif self.path in self.server.paths:
            self._reply(200, self.server.paths[self.path])
        elif self.path.startswith("/api/schemas/ids/"):
            self._reply(404, {"error_code": 40403, "message": "Schema not found"})
        else:
            self._reply(404, {"hello": "world"})

    def _reply(self, status: int, body: object, *, location: str = "") -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        if location:
            self.send_header("Location", location)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def running():
    servers: list[Double] = []

    def start(**options) -> Double:
        server = Double(**options)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_schema_is_asked_for_once_with_those_that_it_names(running):
    server = running()
    reference = [{"name": "Place", "subject": "place/value", "version": 2}]
    server.paths = {
        "/api/schemas/ids/7": {"schema": json.dumps(CLICK), "references": reference},
        "/api/subjects/place%2Fvalue/versions/2": {"schema": json.dumps(PLACE)},
        "/api/schemas/ids/8": {"schema": "message A {}", "schemaType": "PROTOBUF"},
    }
    registry = SchemaRegistry(server.url)

    found = registry(7)
    assert registry(7) is found
    assert (found.kind, found.text, found.references) == ("AVRO", json.dumps(CLICK), (json.dumps(PLACE),))
    assert registry(8).kind == "PROTOBUF"
    assert registry(9) is None
    assert registry(9) is None
    assert set(server.asked.values()) == {1}


def test_a_registry_that_stumbles_is_asked_again(running):
    server = running()
    server.paths["/api/schemas/ids/7"] = {"schema": "{}"}
    server.failures = 1

    assert SchemaRegistry(server.url)(7).text == "{}"


def test_user_and_password_are_sent_and_never_shown(running):
    server = running(user="me:s3cret")
    server.paths["/api/schemas/ids/7"] = {"schema": "{}"}
    with_password = server.url.replace("//", "//me:wrong@")

    assert SchemaRegistry(server.url, user="me", password="s3cret")(7).text == "{}"
    assert SchemaRegistry(server.url.replace("//", "//me:s3cret@"))(7).text == "{}"
    with pytest.raises(SourceError, match="refuses this user") as refused:
        SchemaRegistry(with_password, timeout_s=0.5)(7)
    assert "wrong" not in str(refused.value)


@pytest.mark.parametrize("credentials", [{"user": "me", "password": "s3cret"}, {"token": "s3cret"}, {}])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed_and_nothing_reaches_another_host(running, status, credentials):
    server, other = running(), running()
    other.paths["/api/schemas/ids/7"] = {"schema": "{}"}
    server.redirect = status, other.url.replace("//", "//you:0ther@") + "/schemas/ids/7"

    with pytest.raises(SourceError, match=f"responds {status} with a redirect to 'http://.*@127.0.0.1") as refused:
        SchemaRegistry(server.url, **credentials)(7)
    assert not other.asked
    assert sum(server.asked.values()) == 1
    assert not any(secret in str(refused.value) for secret in ("s3cret", "0ther"))


def test_a_redirect_to_nowhere_or_to_a_file_is_refused_as_well(running):
    server = running()

    for location in ("", "file:///etc/passwd", "/api/schemas/ids/8"):
        server.redirect = 302, location
        with pytest.raises(SourceError, match="which is not followed"):
            SchemaRegistry(server.url)(7)


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [("", None, "404"), ("/api", {"no": "schema"}, "does not respond like a schema registry")],
)
def test_a_server_that_is_no_registry_is_named(running, path, body, message):
    server = running()
    server.paths = {"/api/schemas/ids/7": body} if body else {}

    with pytest.raises(SourceError, match=message):
        SchemaRegistry(server.url.removesuffix("/api") + path, timeout_s=0.5)(7)


def test_a_registry_out_of_reach_is_waited_for_and_then_named(running):
    server = running()
    url = server.url
    server.shutdown()
    server.server_close()

    with pytest.raises(SourceError, match=r"cannot be reached within 0.3 s: Connection refused") as refused:
        SchemaRegistry(url, timeout_s=0.3, label="connections.schemas")(7)
    assert "(connections.schemas)" in str(refused.value)


def test_tls_to_a_plain_server_and_a_missing_certificate_are_named(running, tmp_path):
    server = running()

    with pytest.raises(SourceError, match="cannot be reached by TLS"):
        SchemaRegistry(server.url.replace("http://", "https://"), timeout_s=1)(7)
    with pytest.raises(ConfigError, match="ca_file"):
        SchemaRegistry("https://host", ca_file=str(tmp_path / "none.pem"))
    with pytest.raises(ConfigError, match=r"'ftp://\*\*\*@host' is not the URL"):
        SchemaRegistry("ftp://me:secret@host")


REPOSITORY = """
from asof import AvroFormat, Entity, FeatureView, Field, LogSource
from asof.types import Int64, String, Timestamp

clicks = LogSource(
    "clicks", message_format=AvroFormat(registry={registry}),
    schema=[Field("user_id", Int64), Field("page", String), Field("ts", Timestamp)], timestamp_field="ts",
)
last_page = FeatureView("last_page", entities=[Entity("user", join_keys=["user_id"])], source=clicks)
"""


def store_with(root: Path, *, registry: str, connections: str = "") -> FeatureStore:
    (root / "feature_store.yaml").write_text(
        f"project: shop\nclock: 2026-11-23T12:00:00Z\n{connections}", encoding="utf-8"
    )
    (root / "features.py").write_text(REPOSITORY.format(registry=registry), encoding="utf-8")
    store = FeatureStore(root)
    store.apply()
    return store


CONNECTIONS = "connections:\n  schemas: {type: schema_registry, url: '${SCHEMAS_URL}', timeout_s: 0.3}\nenvironment: [SCHEMAS_HOST]\n"


@pytest.mark.parametrize("registry", ["True", "'schemas'", "'http://${SCHEMAS_HOST}'"])
def test_a_worker_reads_framed_messages(running, tmp_path, monkeypatch, registry):
    server = running()
    server.paths["/api/schemas/ids/7"] = {"schema": json.dumps(CLICK)}
    monkeypatch.setenv("SCHEMAS_URL", server.url)
    monkeypatch.setenv("SCHEMAS_HOST", server.url.removeprefix("http://"))
    with store_with(tmp_path, registry=registry, connections=CONNECTIONS) as store:
        messages = framed(7, written(CLICK, GOOD, {**GOOD, "user_id": 8, "page": None}))
        open_store_of(store).stores.log.send("clicks", messages, durable=True)

        store.stream_run(until_caught_up=True)

        read = store.get_online_features(["last_page:page"], [{"user_id": 7}, {"user_id": 8}])
        assert read.to_dict()["page"] == ["home", None]
        assert len(store.dead_letters()) == 0
        assert str(server.server_port) not in str(store.get_source("clicks").content())


def test_a_worker_that_runs_until_it_has_caught_up_stops_while_the_registry_is_down_and_blames_no_message(
    running, tmp_path, monkeypatch
):
    server = running()
    server.paths["/api/schemas/ids/7"] = {"schema": json.dumps(CLICK)}
    server.failures = 1_000_000
    monkeypatch.setenv("SCHEMAS_URL", server.url)
    with store_with(tmp_path, registry="True", connections=CONNECTIONS) as store:
        open_store_of(store).stores.log.send("clicks", framed(7, written(CLICK, GOOD)), durable=True)

        # On a busy machine the last request of the wait may have no response at all.
        with pytest.raises(SourceError, match="schema registry"):
            store.stream_run(until_caught_up=True, patience_s=0.1)
        assert len(store.dead_letters()) == 0
        server.failures = 0
        store.stream_run(until_caught_up=True)

        assert store.get_online_features(["last_page:page"], [{"user_id": 7}]).to_dict()["page"] == ["home"]


def test_a_registry_that_nobody_names_is_asked_for(tmp_path):
    with store_with(tmp_path, registry="True") as store:
        open_store_of(store).stores.log.send("clicks", [b"\0\0\0\0\7x"], durable=True)

        with pytest.raises(ConfigError, match="names no schema registry") as refused:
            store.stream_run(until_caught_up=True)
    assert "type: schema_registry" in str(refused.value)


def plan_findings(store: FeatureStore) -> list[str]:
    return [f"{each.severity}: {each.found} ({each.hint})" for each in store.plan().findings]


def test_plan_names_the_columns_that_the_newest_schema_of_a_topic_lacks(running, tmp_path, monkeypatch):
    server = running()
    fields = [{**each, "name": "pages" if each["name"] == "page" else each["name"]} for each in CLICK["fields"]]
    latest = "/api/subjects/clicks-value/versions/latest"
    server.paths[latest] = {"schema": json.dumps({**CLICK, "fields": fields})}
    monkeypatch.setenv("SCHEMAS_URL", server.url)
    with store_with(tmp_path, registry="True", connections=CONNECTIONS) as store:
        (found,) = plan_findings(store)
        assert found.startswith("warning: ") and "subject 'clicks-value' lacks 'page'" in found
        assert "for 'page' did you mean 'pages'?" in found

        server.paths[latest] = {"schema": json.dumps(CLICK)}
        assert plan_findings(store) == []
        server.paths[latest] = {"schema": "{}", "schemaType": "JSON"}
        (found,) = plan_findings(store)
        assert "is JSON" in found
        server.redirect = (302, "elsewhere")
        (found,) = plan_findings(store)
        assert found.startswith("warning: schema registry") and "redirect" in found


JSON_SCHEMAS = [
    ('{"properties": {"user_id": {}, "ts": {}, "pages": {}}}', "lacks 'page'"),
    ('{"properties": {"user_id": {}, "ts": {}, "page": {}}}', ""),
    ('{"type": "object"}', ""),
    ("[1]", ""),
    ("{", ""),
    ('{"properties": 3}', ""),
]


@pytest.mark.parametrize(("schema", "expected"), JSON_SCHEMAS)
def test_plan_reads_the_newest_schema_of_messages_in_json(running, tmp_path, monkeypatch, schema, expected):
    server = running()
    server.paths["/api/subjects/clicks-value/versions/latest"] = {"schema": schema, "schemaType": "JSON"}
    monkeypatch.setenv("SCHEMAS_URL", server.url)
    with store_with(tmp_path, registry="True", connections=CONNECTIONS) as store:
        file = tmp_path / "features.py"
        file.write_text(file.read_text().replace("AvroFormat", "JsonFormat"), encoding="utf-8")
        found = plan_findings(store)

    assert expected in found[0] if expected else found == [], found
