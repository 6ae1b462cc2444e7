"""Azure's Blob Storage for tests: Azurite, Microsoft's emulator, fetched from npm. It checks signatures."""

from __future__ import annotations

import base64
import hashlib
import hmac
import shutil
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from tests.services.jars import cache, new_folder
from tests.services.processes import Server, ServiceUnavailable, run

AZURITE_VERSION = "3.37.0"
ACCOUNT = "devstoreaccount1"
# The account and key that every Azurite has; Microsoft documents them.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
VERSION = "2020-10-02"


class Azure(Server):
    """Azurite's blobs, in memory."""

    name = "Azure"

    def command(self) -> Sequence[str]:
        return [
            "node", str(_azurite()), "--blobPort", str(self.port), "--inMemoryPersistence", "--skipApiVersionCheck",
            "--disableTelemetry", "--silent",
        ]  # fmt: skip

    def is_ready(self) -> bool:
        try:
            with urlopen(self.url, timeout=5):
                return True
        except HTTPError:
            return True  # it responds, and wants a signature

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/{ACCOUNT}"

    @property
    def storage(self) -> dict[str, object]:
        """The section `storage:` that reaches it."""
        return {"endpoint": self.url, "allow_http": True, "account_name": ACCOUNT, "account_key": KEY}

    def create_bucket(self, name: str) -> str:
        """Make a container; returns its address."""
        now = datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
        what = f"x-ms-date:{now}\nx-ms-version:{VERSION}\n/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
        signed = hmac.new(base64.b64decode(KEY), ("PUT" + "\n" * 12 + what).encode(), hashlib.sha256).digest()
        headers = {
            "x-ms-date": now, "x-ms-version": VERSION,
            "Authorization": f"SharedKey {ACCOUNT}:{base64.b64encode(signed).decode()}",
        }  # fmt: skip
        request = Request(f"{self.url}/{name}?restype=container", method="PUT", headers=headers)
        with urlopen(request, timeout=30):
            return f"az://{name}"


def _azurite() -> Path:
    """The program, fetched when it is first started."""
    folder = cache() / f"azurite-{AZURITE_VERSION}"
    if not folder.exists():
        npm = shutil.which("npm")
        if npm is None or shutil.which("node") is None:
            raise ServiceUnavailable(Azure.name, "no npm and node here to fetch and run Azurite")
        with new_folder(folder) as new:
            arguments = ["install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(new)]
            try:
                run(Azure.name, [npm, *arguments, f"azurite@{AZURITE_VERSION}"], timeout=900)
            except subprocess.TimeoutExpired as error:
                raise ServiceUnavailable(Azure.name, "npm did not fetch Azurite within 15 minutes") from error
    return folder / "node_modules/azurite/dist/src/blob/main.js"
