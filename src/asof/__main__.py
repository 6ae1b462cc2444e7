"""`python -m asof`: the command line."""

from asof.cli import main

main()
