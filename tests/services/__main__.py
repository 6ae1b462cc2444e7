"""Servers from the command line: `python -m tests.services install`."""

from __future__ import annotations

import sys

from tests.services.jars import fetch_all
from tests.services.processes import ServiceUnavailable


def main(arguments: list[str]) -> int:
    if arguments != ["install"]:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        fetch_all()
    except ServiceUnavailable as error:
        print(f"{error.service} cannot be had: {error.reason}; its tests will be skipped", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
