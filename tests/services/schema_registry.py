"""A schema registry for tests: Apicurio Registry through its API that is compatible with Confluent's, schemas in memory."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from tests.services.jars import java, schema_registry_app
from tests.services.processes import Server


class SchemaRegistry(Server):
    """Apicurio Registry. It forgets its schemas when it is restarted."""

    name = "Schema registry"

    def command(self) -> Sequence[str]:
        (jar,) = schema_registry_app().glob("*-runner.jar")
        return [java(), "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-jar", str(jar)]

    def environment(self) -> Mapping[str, str]:
        return {"QUARKUS_HTTP_HOST": "127.0.0.1", "QUARKUS_HTTP_PORT": str(self.port)}

    def is_ready(self) -> bool:
        with urlopen(f"{self.url}/subjects", timeout=5) as answer:
            return answer.status == 200

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/apis/ccompat/v7"

    @contextmanager
    def behind_password(self, user: str, password: str) -> Iterator[str]:
        """A second address that lets only this user in (HTTP basic), which Apicurio itself cannot without Keycloak."""
        wanted = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        inner = self.url

        class Door(BaseHTTPRequestHandler):
            def answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length) if length else None
                if self.headers.get("Authorization") != wanted:
                    self.reply(401, b'{"error_code": 401, "message": "Unauthorized"}')
                    return
                kept = {name: self.headers[name] for name in ("Content-Type", "Accept") if name in self.headers}
                try:
                    with urlopen(Request(inner + self.path, body, kept, method=self.command), timeout=10) as said:
                        self.reply(said.status, said.read())
                except HTTPError as error:
                    self.reply(error.code, error.read())

            do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815, the names of http.server

            def reply(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            server.server_close()
