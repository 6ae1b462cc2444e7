"""The command line: texts and tables around `asof.store`; it decides nothing itself."""

from __future__ import annotations

import signal


def main() -> None:
    """Run the `asof` command with the arguments of this process, and leave with its exit code."""
    # Click is loaded here and not with the package: whoever imports `asof.cli` for its tables needs none of it.
    try:
        from asof.cli.app import cli
    except KeyboardInterrupt:
        # Ctrl-C right after the start, before there is a boundary to report it.
        raise SystemExit(130) from None
    try:
        cli.main(prog_name="asof")
    finally:
        # All is done and said: Ctrl-C while Python ends must not change the exit code.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
