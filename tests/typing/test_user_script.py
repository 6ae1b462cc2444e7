"""Type checkers accept a user's script over the whole public face, and see what is wrong in one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("user_script.py")

# They come without types of their own, as a user has them who installed no stubs.
MYPY = "[mypy]\nstrict = True\n[mypy-pandas.*,pyarrow.*]\nignore_missing_imports = True\n"


def checked(checker: str, script: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    if checker == "mypy":
        (folder / "mypy.ini").write_text(MYPY)
        command = ["mypy", "--config-file", str(folder / "mypy.ini"), "--cache-dir", str(folder / "cache"), str(script)]
    else:
        settings = {"include": [str(script)], "typeCheckingMode": "standard"}
        (folder / "pyrightconfig.json").write_text(json.dumps(settings))
        command = ["pyright", "--pythonpath", sys.executable, "-p", str(folder)]
    return subprocess.run([sys.executable, "-m", *command], cwd=folder, capture_output=True, text=True, timeout=300)


@pytest.mark.timeout(310)
@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_a_users_script_is_accepted(checker: str, tmp_path: Path) -> None:
    done = checked(checker, SCRIPT, tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(310)
@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_what_is_wrong_is_seen(checker: str, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        "from asof import FeatureStore\n"
        "store = FeatureStore()\n"
        "store.get_historical_features(3, 'model')\n"
        "store.stream_status()[0].lagg\n"
        "store.parts\n"
    )
    done = checked(checker, wrong, tmp_path)

    assert done.returncode == 1 and all(f"wrong.py:{line}" in done.stdout for line in (3, 4, 5)), done.stdout
    assert not any(f"wrong.py:{line}:" in done.stdout for line in (1, 2))
