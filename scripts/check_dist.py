"""Checks what `make dist` built: one wheel and one sdist of one version, their metadata, and the files in them."""

from __future__ import annotations

import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

from packaging.metadata import Metadata
from packaging.utils import parse_sdist_filename, parse_wheel_filename

ROOT = Path(__file__).parents[1]

IN_WHEEL = ("asof/py.typed", "asof/cli/template/features.py", "asof/demo/template/features.py", "asof/demo/report.css")
"""Files that are no modules, and that a wheel loses first."""


def check(folder: Path, *, version: str) -> list[str]:
    """What is wrong with the distributions in a folder; nothing where they may be released."""
    wheels, sdists = sorted(folder.glob("*.whl")), sorted(folder.glob("*.tar.gz"))
    if (len(wheels), len(sdists)) != (1, 1):
        return [f"{folder} holds {len(wheels)} wheels and {len(sdists)} sdists, not one of each: run `make dist`"]
    wheel, sdist = wheels[0], sdists[0]
    wrong = []
    versions = {str(parse_wheel_filename(wheel.name)[1]), str(parse_sdist_filename(sdist.name)[1])}
    if versions != {version}:
        wrong.append(f"versions {sorted(versions)}, but pyproject.toml says {version}")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(next(name for name in names if name.endswith(".dist-info/METADATA")))
        stray = sorted(name for name in names if not name.startswith(("asof/", "asof_features-")))
    # Raises an error that names each field which is not well formed.
    described = Metadata.from_email(metadata, validate=True)
    if not described.description or described.description_content_type != "text/markdown":
        wrong.append("the wheel has no description")
    wrong += [f"{wheel.name} lacks {name}" for name in IN_WHEEL if name not in names]
    wrong += [f"{wheel.name} has {name}, which is not of the package" for name in stray]
    with tarfile.open(sdist) as archive:
        sources = {name.partition("/")[2] for name in archive.getnames()}
    packaged = {name for name in names if name.startswith("asof/")}
    wrong += [f"{sdist.name} lacks {name}" for name in sorted(packaged) if f"src/{name}" not in sources]
    wrong += [f"{sdist.name} lacks {name}" for name in ("LICENSE", "README.md") if name not in sources]
    return wrong


if __name__ == "__main__":
    said = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    found = check(Path(sys.argv[1]), version=said)
    print("\n".join(found) or f"wheel and sdist of {said} are whole")
    sys.exit(bool(found))
