"""`python -m asof`: the command line."""

import sys
from pathlib import Path

# `python -m` looks for modules in the working directory first, where a file may have the name of a package that is
# imported later. The `asof` command does not. Where it is this package's own folder, it was run from its sources.
if not sys.flags.safe_path and Path(sys.path[0]).resolve() != Path(__file__).resolve().parents[1]:
    del sys.path[0]

from asof.cli import main

main()
