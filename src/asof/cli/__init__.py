"""The command line: words and tables around `asof.store`; it decides nothing itself."""

from __future__ import annotations


def main() -> None:
    """Run the `asof` command with the arguments of this process, and leave with its exit code."""
    # Click is loaded here and not with the package: whoever imports `asof.cli` for its tables needs none of it.
    from asof.cli.app import cli

    cli.main(prog_name="asof")
