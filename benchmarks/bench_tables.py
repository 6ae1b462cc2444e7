"""Tables of the command line: our own against rich's, from a fresh process to the text, as a command prints one."""

from __future__ import annotations

import argparse
import subprocess
import sys
from statistics import median

_RECORDS = """
import time
began = time.process_time()
records = [{"name": f"feature_{i}", "kind": "view", "n": i, "text": "some prose that goes on " * 4} for i in range(30)]
"""

OURS = f"""{_RECORDS}
from asof.cli.tables import Column, lines_of
columns = [Column("name"), Column("kind"), Column("n"), Column("text", prose=True)]
text = "\\n".join(lines_of(records, columns, width=100))
print(time.process_time() - began)
"""

RICH = f"""{_RECORDS}
import io
from rich.console import Console
from rich.table import Table
table = Table(box=None)
for name in records[0]:
    table.add_column(name)
for record in records:
    table.add_row(*map(str, record.values()))
out = io.StringIO()
Console(file=out, width=100).print(table)
print(time.process_time() - began)
"""


def seconds(code: str) -> float:
    """CPU seconds that a fresh process takes for the imports and one table."""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(run.stdout)


def main(argv: list[str]) -> None:
    """Print medians of runs by turns, and their ratio."""
    parser = argparse.ArgumentParser(prog="bench_tables")
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="seven runs")
    options, _ = parser.parse_known_args(argv)
    pairs = [(seconds(OURS), seconds(RICH)) for _ in range(7 if options.quick else options.runs)]
    ours, rich = (median(each) for each in zip(*pairs, strict=True))
    print(
        f"one table of 30 rows, CPU: ours {ours * 1e3:.1f} ms, rich {rich * 1e3:.1f} ms, rich / ours {rich / ours:.2f}"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
