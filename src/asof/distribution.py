"""The distribution's name and version, the install command, and the other project named `asof`."""

from __future__ import annotations

import os

DISTRIBUTION = "asof-features"
"""The distribution's name. The import name is `asof`, which on PyPI is another project."""

IS_RELEASED = False
"""Whether it is on PyPI. Until then it is installed from a clone, or from the Git repository's URL."""

NOT_INSTALLED = "not installed"
"""Version of a source tree that is on the path but not installed."""


def install_command(extras: str = "") -> str:
    """The command that installs Asof.

    Args:
        extras: names of extras, separated by commas; empty for none.
    """
    wanted = f"[{extras}]" if extras else ""
    if IS_RELEASED:
        return f"pip install '{DISTRIBUTION}{wanted}'"
    return f"in a clone of Asof: pip install '.{wanted}'"


def installed_version() -> str:
    """The version of the installed distribution, or `NOT_INSTALLED`."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return NOT_INSTALLED


def namesake_in(folder: str) -> str | None:
    """The metadata directory of the other project named `asof`, if it is installed in this directory.

    Both install a package `asof`, so the files of one replace those of the other.
    """
    try:
        names = os.listdir(folder)
    except OSError:
        return None
    return next((name for name in names if name.startswith("asof-") and name.endswith(".dist-info")), None)
