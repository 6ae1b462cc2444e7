"""Makes the environment that Feast runs in, so that none of its packages meets this project's.

`python -m benchmarks.peer.environment [--venv PATH]`
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

VENV = Path(__file__).parent / ".venv"
REQUIREMENT = "feast[duckdb]==0.67.*"
_VERSION = "from importlib.metadata import version; print(version('feast'))"


class PeerUnavailable(Exception):
    """Feast cannot be installed or does not start here; the message says why."""


def python_of(venv: Path) -> Path:
    """The environment's interpreter."""
    return venv / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def make(venv: Path = VENV, *, requirement: str = REQUIREMENT) -> str:
    """Make the environment and install Feast from the configured package index, unless it is there.

    Returns:
        Feast's version.

    Raises:
        PeerUnavailable: there is no way to.
    """
    python = str(python_of(venv))
    try:
        if not Path(python).exists():
            _run([sys.executable, "-m", "venv", "--without-pip", str(venv)])
        try:
            return _run([python, "-c", _VERSION])
        except PeerUnavailable:
            # With this environment's pip, and nothing compiled but what is imported: half of the time.
            pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"]
            _run([*pip, "install", "--quiet", "--no-compile", requirement])
            return _run([python, "-c", _VERSION])
    except OSError as error:
        raise PeerUnavailable(f"{venv}: {error}") from error


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["nothing was said"]
        raise PeerUnavailable(f"`{' '.join(command)}` ended with code {done.returncode}: {said[-1]}")
    return done.stdout.strip()


def main() -> None:
    """Make it, and say what is in it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--venv", type=Path, default=VENV)
    options = parser.parse_args()
    print(f"feast {make(options.venv)} in {options.venv}")


if __name__ == "__main__":
    main()
