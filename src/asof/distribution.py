"""What Asof is installed as: the distribution's name and version, the command that installs it, and its namesake."""

from __future__ import annotations

import os

DISTRIBUTION = "asof-features"
"""The name for pip. The package that is imported is `asof`; on PyPI that name is another project's."""

IS_RELEASED = False
"""Whether PyPI has it. Until then it is installed from a clone, or from the address of the Git repository."""

NOT_INSTALLED = "not installed"
"""In place of a version: the package is a source tree that is only on the path."""


def install_command(extras: str = "") -> str:
    """The command that installs Asof.

    Args:
        extras: names of extras, with commas in between; empty for none.
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


def namesake_beside(folder: str) -> str | None:
    """The metadata folder of the other project named `asof`, if it is installed into this folder.

    It installs a package of the same name, so the files of one replace those of the other.
    """
    try:
        names = os.listdir(folder)
    except OSError:
        return None
    return next((name for name in names if name.startswith("asof-") and name.endswith(".dist-info")), None)
