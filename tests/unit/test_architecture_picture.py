"""The picture of the layers, and the tree in CONTRIBUTING, are those of the code."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from scripts.draw_architecture import BANDS, CAPTIONS, OUTPUT, bands, contracts, drawn_now, picture

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "asof"


@pytest.fixture
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def names(svg: str) -> list[str]:
    root = ElementTree.fromstring(svg)
    return [each.text or "" for each in root.iter("{http://www.w3.org/2000/svg}text") if each.get("class") == "name"]


def test_the_picture_is_that_of_the_contracts() -> None:
    assert OUTPUT.read_text(encoding="utf-8") == drawn_now(), "docs/images/architecture.svg is stale: run `make docs`"


def test_the_picture_shows_every_module_that_the_contracts_order(project: dict[str, Any]) -> None:
    held = contracts(project)
    there = [
        name
        for layer in held["asof"]
        for name in layer
        if name != "flows" and ((SOURCE / name).is_dir() or (SOURCE / f"{name}.py").exists())
    ]
    flows = [name for layer in held["asof.flows"] for name in layer]
    assert len(there) > 20 and len(flows) > 8
    assert sorted(names(drawn_now())) == sorted(there + flows)


def test_the_picture_follows_a_contract_that_changes(project: dict[str, Any]) -> None:
    layers = project["tool"]["importlinter"]["contracts"][0]["layers"]
    place = next(index for index, layer in enumerate(layers) if "server" in layer)
    layers.insert(place + 1, "decoding")  # a module that is there, where it is not today
    drawn = [[card.name for layer in band.layers for card in layer] for band in bands(project, SOURCE)]
    assert "decoding" in drawn[0] and picture(project, SOURCE) != drawn_now()


def test_a_module_that_is_not_there_yet_is_not_drawn(project: dict[str, Any]) -> None:
    project["tool"]["importlinter"]["contracts"][0]["layers"].insert(1, "(no_such_module)")
    assert picture(project, SOURCE) == drawn_now()


def test_bands_and_captions_are_of_modules_of_the_contracts(project: dict[str, Any]) -> None:
    held = contracts(project)
    known = {name for layer in held["asof"] for name in layer}
    known |= {f"flows.{name}" for layer in held["asof.flows"] for name in layer}
    assert [first for *_, first in BANDS if first not in known] == []
    assert [name for name in CAPTIONS if name not in known] == []
    assert [band.title for band in bands(project, SOURCE)] == [title for title, *_ in BANDS]


def test_the_tree_of_contributing_is_the_real_one() -> None:
    tree = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("```\nsrc/asof/")[1].split("```")[0]
    package, rest = tree.split("tests/unit/")
    named = set()
    for line in package.splitlines()[1:]:
        named |= set(re.split(r" {2,}", line.lstrip("├└─ "))[0].split())
    there = {f"{each.name}/" for each in SOURCE.iterdir() if (each / "__init__.py").exists()}
    there |= {each.stem for each in SOURCE.glob("*.py") if not each.stem.startswith("__")}
    assert named == there
    folders = re.findall(r"[a-z]+(?:/[a-z]+)?/(?= |$|\n)", "tests/unit/" + re.sub(r"\([^)]*\)", "", rest))
    assert len(folders) > 6
    assert [each for each in folders if not (ROOT / each).is_dir()] == []
