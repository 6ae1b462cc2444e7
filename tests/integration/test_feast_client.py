"""Feast's own client, from the package index and in an environment of its own, reads and writes through the server."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from asof.server.security.keys import new_key
from benchmarks.peer import environment
from tests.integration.test_server_processes import built, folder, serving
from tests.services import unavailable

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(900)]

__all__ = ["built", "folder"]


@pytest.fixture(scope="module")
def feast() -> Path:
    """The interpreter that Feast is installed for; made once, and kept."""
    try:
        environment.make()
    except environment.PeerUnavailable as error:
        unavailable("Feast", str(error))
    return environment.python_of(environment.VENV)


@pytest.fixture
def done(feast: Path, folder: Path, tmp_path: Path) -> dict[str, Any]:
    with serving(folder, "--workers", "2") as server:
        script = Path(__file__).with_name("feast_client.py")
        run = subprocess.run(
            [str(feast), str(script), str(tmp_path), f"http://127.0.0.1:{server.port}"], capture_output=True, text=True,
            timeout=600, check=False,
        )  # fmt: skip
        assert run.returncode == 0, run.stderr[-4000:] + "".join(server.said)
    return json.loads(run.stdout.splitlines()[-1])


def test_feasts_client_reads_and_writes_as_it_does_with_its_own_server(done):
    assert done["read"] == {
        "user_id": [1, 9], "age": [30, None], "score": [1.5, None], "city": ["Bonn", "?"], "is_new": [True, None],
        "half": [pytest.approx(0.1), None], "seen": [1767225601, None],
    }  # fmt: skip
    # A service is what the server has under that name, whatever the client's own registry says.
    assert done["service"] == {
        "user_id": [1],
        "age": [30],
        "city": ["Bonn"],
        "n_1h": [0],
        "total": [None],
        "session": [0],
    }
    assert done["full names"] == {"user_id": [1], "profile__age": [30]}
    assert done["pair"] == {"user_id": [1, 1], "shop_id": ["b", "x"], "visits": [4, None]}
    assert done["online_read"] == ["2026-01-01T01:02:03.250000+00:00", 30, 1767225601]
    assert done["pushed"] == {"user_id": [5], "page": ["b"], "amount": [2.5]}
    assert done["written"] == {"user_id": [8], "shop_id": ["z"], "visits": [77]}

    # Mistakes come back as Feast's errors in our words, and at once: nothing is tried again.
    name, words, seconds = done["refused"]["unknown feature"]
    assert name == "FeatureViewNotFoundException" and "no feature 'profile:ghost'" in words and seconds < 2
    name, words, seconds = done["refused"]["wrong type"]
    assert name == "FeastError" and "'x' is not Int64" in words and seconds < 2
    name, words, seconds = done["refused"]["missing key"]
    assert "shop_id" in words and seconds < 2


def test_feasts_client_shows_a_key_and_is_told_what_it_may_not_do(feast, folder, tmp_path):
    keys = {role: new_key() for role in ("read", "write")}
    entries = [{"id": key.id, "hash": key.hash, "roles": [role]} for role, key in keys.items()]
    with (folder / "feature_store.yaml").open("a") as file:
        file.write(f"auth: {json.dumps({'keys': entries, 'audit': 'off'})}\n")
    with serving(folder) as server:
        script = Path(__file__).with_name("feast_auth_client.py")
        tokens = [keys["read"].text, keys["write"].text, "", "asof_nobody"]
        run = subprocess.run(
            [str(feast), str(script), str(tmp_path), f"http://127.0.0.1:{server.port}", *tokens], capture_output=True,
            text=True, timeout=600, check=False,
        )  # fmt: skip
        assert run.returncode == 0, run.stderr[-4000:] + "".join(server.said)
    reader, writer, stranger, foreign = json.loads(run.stdout.splitlines()[-1])

    assert reader[0] == writer[0] == {"user_id": [1], "age": [30]}
    assert writer[1] is None
    assert reader[1][0] == "FeastPermissionError" and "lacks the write role" in reader[1][1]
    for said in stranger:
        assert said[0] == "FeastPermissionError" and "needs authentication" in said[1]
    for said in foreign:
        assert said[0] == "FeastPermissionError" and "the API key is unknown" in said[1]
