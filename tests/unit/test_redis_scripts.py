"""Redis's scripts are files: each one is used, and comes with the package."""

import tomllib
from fnmatch import fnmatch
from pathlib import Path

from asof.online.redis import scripts

FOLDER = Path(scripts.__file__).parent
ROOT = Path(__file__).parents[2]


def test_each_lua_file_is_part_of_a_script_and_each_script_one_of_them() -> None:
    texts = [each.text for each in vars(scripts).values() if isinstance(each, scripts.Script)]
    files = {path.name: path.read_bytes() for path in FOLDER.glob("*.lua")}

    assert len(texts) == len(files) - 1  # `table_check` begins several
    unused = [name for name, content in files.items() if not any(content in text for text in texts)]
    assert unused == []


def test_the_package_has_the_scripts() -> None:
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    left_out = [
        path.name
        for path in FOLDER.iterdir()
        if path.is_file() and path.suffix != ".py" and not any(fnmatch(path.name, each) for each in data["*"])
    ]
    assert left_out == []
