"""`python -m asof`: the command line."""

import sys
from pathlib import Path

# `python -m` searches modules in the working directory first, where a file may shadow a package that is imported later.
# The `asof` command does not. The directory is kept if it has this package: it runs from its sources.
if not sys.flags.safe_path and Path(sys.path[0]).resolve() != Path(__file__).resolve().parents[1]:
    del sys.path[0]

from asof.cli import main

main()
