"""`asof push`: rows into a push source."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from asof.cli.context import CliContext, pass_context
from asof.cli.options import LOCAL_PATH, Command, misused
from asof.display import counted
from asof.values.exact_floats import exact_float


@click.command(cls=Command)
@click.argument("source")
@click.argument("rows", nargs=-1)
@click.option(
    "--file",
    "-f",
    type=LOCAL_PATH,
    metavar="FILE",
    help="Rows of a .json, .jsonl, .parquet or .csv file; - is JSON on stdin.",
)
@click.option("--batch-id", metavar="ID", help="Push at most once under this name: a retry changes nothing.")
@pass_context
def push(context: CliContext, source: str, rows: tuple[str, ...], file: str | None, batch_id: str | None) -> None:
    """Push ROWS, each a JSON object, to a push source.

    The rows are readable online at once. One that does not fit refuses all.

    \b
    asof push visits '{"user_id": 7, "page": "home", "visited_at": "2026-11-23T12:00:00Z"}'
    """
    if bool(rows) == bool(file):
        raise misused("give rows as JSON, or --file")
    given = _read_file(context, source, file) if file else [row for text in rows for row in _read_json(text, "ROWS")]
    count = context.store.push(source, given, batch_id=batch_id)
    context.output.said(f"Pushed {counted(count, 'row')} to {source}.", source=source, pushed=count)


def _read_file(context: CliContext, source: str, file: str) -> Any:
    ending = Path(file).suffix.lower()
    if ending == ".parquet":
        import pyarrow.parquet as pq

        return pq.read_table(file)
    if ending == ".csv":
        from asof.connections.csv_files import csv_table

        found = next((each for each in context.store.list_data_sources() if each.name == source), None)
        declared = {field.name: field.dtype for field in found.schema} if found is not None else {}
        return csv_table(file, declared, f"file {file!r}")
    if file == "-":
        return _read_json(sys.stdin.read(), "stdin")
    return _read_json(Path(file).read_text(encoding="utf-8"), file)


def _read_json(text: str, where: str) -> list[dict[str, Any]]:
    """One object, a list of them, or one per line."""
    try:
        found = json.loads(text, parse_float=exact_float)
        rows = found if isinstance(found, list) else [found]
    except ValueError:
        try:
            rows = [json.loads(line, parse_float=exact_float) for line in text.splitlines() if line.strip()]
        except ValueError as error:
            raise misused(f"{where}: not JSON: {error}") from error
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise misused(f"""{where}: expected JSON objects, such as {{"user_id": 7}}""")
    return rows
