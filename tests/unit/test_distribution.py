"""The names that Asof has: for pip, for imports, and in every command that installs it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from asof.distribution import DISTRIBUTION, install_command, namesake_in
from asof.errors import MissingExtra

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

SPELT = re.compile(r"pip install (?P<what>(?:-[-\w]+(?: \S+\.txt)? )*(?:'[^']*'|\"[^\"]*\"|[^\s`'\")]+))")
"""A command that installs something."""

OURS = re.compile(r"\.|\.\[[a-z0-9,]+\]|asof-features\[[a-z,]+\] @ git\+https://\S+")
"""How Asof may be spelt in one: from a clone, or from a Git address."""

EXTRAS = set(PROJECT["optional-dependencies"]) - {"test"}

ANOTHER = re.compile(rf"asof(?!-features)\[(?:{'|'.join(sorted(EXTRAS))})\b")
"""The extras of a project that is not ours."""


def texts() -> list[Path]:
    positions = ("src", "docs", "deploy", "scripts", "README.md", "CONTRIBUTING.md", "Dockerfile", "pyproject.toml")
    found = []
    for place in positions:
        path = ROOT / place
        found += [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    return [each for each in found if each.suffix in ("", ".py", ".md", ".toml", ".sh", ".yaml", ".yml")]


def test_the_distribution_has_the_name_that_messages_say() -> None:
    assert PROJECT["name"] == DISTRIBUTION == "asof-features"
    assert list(PROJECT["scripts"]) == ["asof"]


def test_the_readme_lists_all_extras() -> None:
    (listed,) = re.findall(r"# extras: ([\w, ;]+)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert set(re.split("[,;] ", listed)) == EXTRAS


def test_no_text_installs_asof_under_another_name() -> None:
    offences = []
    for path in texts():
        text = path.read_text(encoding="utf-8")
        for found in SPELT.finditer(text):
            what = found["what"].split(" ", 1)[-1] if found["what"].startswith("-") else found["what"]
            what = what.strip("'\"").split(" -")[0]
            if ("asof" in what or what.startswith(".")) and not OURS.fullmatch(what) and "{" not in what:
                offences.append(f"{path.relative_to(ROOT)}: {found[0]}")
        offences += [f"{path.relative_to(ROOT)}: {found[0]}" for found in ANOTHER.finditer(text)]

    assert offences == []


@pytest.mark.parametrize(
    "text",
    ["pip install asof", "pip install 'asof[redis]'", "pip install -U asof", "pip install asof-features"],
)
def test_the_scan_sees_other_names(text: str) -> None:
    found = SPELT.search(text)

    assert found is not None
    assert not OURS.fullmatch(found["what"].split(" ")[-1].strip("'"))


def test_every_extra_that_a_message_names_is_there() -> None:
    named = set()
    for path in (ROOT / "src").rglob("*.py"):
        for found in re.finditer(r'MissingExtra\([^)]*, "([a-z,]+)"\)', path.read_text(encoding="utf-8")):
            named |= set(found[1].split(","))

    assert named and named <= set(PROJECT["optional-dependencies"])
    assert MissingExtra("this", "redis,kafka").hint == install_command("redis,kafka")


def test_a_namesake_in_the_same_folder_is_noticed_at_the_import(tmp_path: Path) -> None:
    (tmp_path / "asof").symlink_to(ROOT / "src" / "asof")
    (tmp_path / "asof_features-0.1.0.dist-info").mkdir()

    def imported() -> str:
        # The symbolic link must not be followed: what counts is where the package is imported from.
        return subprocess.run(
            [sys.executable, "-c", "import asof"], env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True,
            check=True,
        ).stderr  # fmt: skip

    assert imported() == ""

    (tmp_path / "asof-2.0.dist-info").mkdir()

    assert "another project named 'asof' (asof-2.0.dist-info)" in imported()
    assert "pip uninstall asof" in imported()


def test_a_folder_that_cannot_be_listed_has_no_namesake(tmp_path: Path) -> None:
    assert namesake_in(str(tmp_path / "archive.zip")) is None
