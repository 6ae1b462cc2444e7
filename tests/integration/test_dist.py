"""What `make dist` builds, used as a newcomer would: installed into a fresh environment of each Python at hand."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from functools import cache
from pathlib import Path

import pytest

from scripts.check_dist import check

pytestmark = [pytest.mark.integration, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
MINORS = (11, 12, 13, 14)


@cache
def interpreters() -> dict[str, str]:
    """The Pythons of this machine that Asof supports: version → program."""
    found = {}
    for minor in MINORS:
        beside = sorted(Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python3.{minor}"))
        own = [sys.executable] if sys.version_info[:2] == (3, minor) else []
        for program in (*own, shutil.which(f"python3.{minor}"), *beside):
            asked = "import venv, sys; print('%d.%d' % sys.version_info[:2])"
            if program is not None and _printed([str(program), "-c", asked]) == f"3.{minor}":
                found[f"3.{minor}"] = str(program)
                break
    return found


def _printed(command: list[str]) -> str:
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    return run.stdout.strip() if run.returncode == 0 else ""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The distributions, from a copy: building leaves files beside the sources."""
    copy = tmp_path_factory.mktemp("sources")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    shutil.copytree(ROOT / "src", copy / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    folder = copy / "dist"
    run = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, copy],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return folder


def test_wheel_and_sdist_are_whole_and_of_one_version(built: Path) -> None:
    assert check(built, version=VERSION) == []


def test_what_a_wheel_lacks_or_has_too_much_is_named(built: Path, tmp_path: Path) -> None:
    for path in built.iterdir():
        shutil.copy(path, tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        kept = {name: archive.read(name) for name in archive.namelist() if not name.endswith("py.typed")}
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in {**kept, "tests/test_x.py": b""}.items():
            archive.writestr(name, content)

    assert check(tmp_path, version=VERSION) == [
        f"{wheel.name} lacks asof/py.typed",
        f"{wheel.name} has tests/test_x.py, which is not of the package",
    ]
    assert "pyproject.toml says 9.9" in check(tmp_path, version="9.9")[0]
    assert check(tmp_path / "none", version=VERSION)[0].endswith("run `make dist`")


@pytest.mark.timeout(900)
@pytest.mark.parametrize("minor", [MINORS[0], *(pytest.param(minor, marks=pytest.mark.soak) for minor in MINORS[1:])])
def test_the_wheel_works_in_a_fresh_environment(built: Path, tmp_path: Path, minor: int) -> None:
    program = interpreters().get(f"3.{minor}")
    if program is None:
        pytest.skip(f"there is no Python 3.{minor} on this machine")
    # With the pip of these tests, and nothing compiled but what is imported: both would take most of the time.
    subprocess.run([program, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    bin_ = tmp_path / "venv" / "bin"
    (wheel,) = built.glob("*.whl")
    pip = [sys.executable, "-m", "pip", "--python", str(bin_ / "python"), "--disable-pip-version-check"]
    install = [*pip, "install", "--quiet", "--no-compile", "-c", ROOT / "constraints.txt", wheel]
    run = subprocess.run(install, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "ASOF_"))}

    def asof(*args: str) -> str:
        ran = subprocess.run(
            [bin_ / "asof", *args], cwd=tmp_path, env=clean, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    assert asof("--version") == f"asof {VERSION}\n"
    asof("init", "shop")
    asof("-C", "shop", "apply", "--yes")
    asof("-C", "shop", "push", "visits", '{"user_id": 7, "page": "home", "seconds": 3, "visited_at": "2026-01-01"}')
    assert '"user_id": 7' in asof("-C", "shop", "sample", "visits", "--output", "json")
    assert _printed([*pip, "check"]) == "No broken requirements found."
