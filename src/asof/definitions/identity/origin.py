"""Whose a piece of code is: the user's own, which counts by its text, or a package's, which counts by its version."""

from __future__ import annotations

import sys
import sysconfig
from functools import lru_cache
from pathlib import Path

_PACKAGES = frozenset({"site-packages", "dist-packages"})
_ASOF = Path(__file__).resolve().parents[2]
_USERS_WITHIN = ("demo", "testing")
"""Parts of Asof's package that hold code as users write it."""


def is_standard(top: str) -> bool:
    """Whether a module of this name is Python's own."""
    return top in sys.stdlib_module_names or top == "builtins"


@lru_cache(maxsize=4096)
def is_own_file(filename: str, root: Path | None) -> bool:
    """Whether a file is the user's own.

    Args:
        root: the repository's folder. What is below it is the user's, even where it is installed as a package.
    """
    if filename.startswith("<"):
        # What was typed at a prompt; but not what is frozen into Python.
        return not filename.startswith("<frozen")
    if filename in ("built-in", "frozen", "namespace"):
        return False
    path = Path(filename)
    if root is not None and path.is_relative_to(root):
        return _PACKAGES.isdisjoint(path.relative_to(root).parts)
    if not _PACKAGES.isdisjoint(path.parts):
        return False
    if path.is_relative_to(_ASOF):
        return path.relative_to(_ASOF).parts[0] in _USERS_WITHIN
    return not any(path.is_relative_to(each) for each in _standard_folders())


@lru_cache(maxsize=1)
def _standard_folders() -> tuple[Path, ...]:
    paths = sysconfig.get_paths()
    return tuple({Path(paths[each]) for each in ("stdlib", "platstdlib")})


__all__ = ["is_own_file", "is_standard"]
