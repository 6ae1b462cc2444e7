"""Lists and runs the benchmarks: every `bench_*.py` beside this file, each with `main(argv)`."""

from __future__ import annotations

import argparse
import ast
import importlib
import sys
from pathlib import Path

HERE = Path(__file__).parent


def find_benchmarks() -> dict[str, Path]:
    """Name without `bench_` → file."""
    return {path.stem.removeprefix("bench_"): path for path in sorted(HERE.glob("bench_*.py"))}


def main(argv: list[str] | None = None) -> int:
    """Run the named benchmarks, or all; options that are not known here go to each of them.

    Returns:
        1 where a benchmark answered False or failed (a figure was missed), else 0.
    """
    benchmarks = find_benchmarks()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which ones; all by default: {', '.join(benchmarks)}")
    parser.add_argument("--list", action="store_true", help="say what there is, and run nothing")
    parser.add_argument("--quick", action="store_true", help="small sizes and few runs: does it run, not how fast")
    options, rest = parser.parse_known_args(argv)
    unknown = [name for name in options.names if name not in benchmarks]
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(benchmarks)}")
    if options.list:
        for name, path in benchmarks.items():
            print(f"{name:16} {(ast.get_docstring(ast.parse(path.read_text(encoding='utf-8'))) or '').splitlines()[0]}")
        return 0

    # So that `benchmarks.bench_x` can be imported here and, by name, in the fresh processes of the harness.
    sys.path.insert(0, str(HERE.parent))
    missed = []
    for name in options.names or benchmarks:
        print(f"\n== {name} ==", flush=True)
        module = importlib.import_module(f"benchmarks.bench_{name}")
        if module.main([*(["--quick"] if options.quick else []), *rest]) is False:
            missed.append(name)
    if missed:
        print(f"\nfigures missed in: {', '.join(missed)}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
