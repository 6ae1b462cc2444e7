"""`asof get historical | online`: feature values, for training and for serving."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from asof.cli.context import CliContext, pass_context
from asof.cli.options import (
    LOCAL_PATH,
    MOMENT,
    MOMENT_OR_ROW,
    SHOWN_ROWS,
    Group,
    feature_options,
    key_option,
    key_types,
    misused,
    read_rows,
    requested_features,
    shown_rows_option,
)
from asof.cli.tables import Column
from asof.cli.values import cell
from asof.display import counted
from asof.values.exact_floats import exact_float


@click.group(cls=Group)
def get() -> None:
    """Get features: `historical` for training, `online` for serving."""


@get.command()
@click.option(
    "--entities",
    type=LOCAL_PATH,
    metavar="FILE",
    help="The entity frame: a .parquet or .csv file of join keys and times.",
)
@click.option("--sql", metavar="QUERY", help="The entity frame as SQL over the sources by name.")
@feature_options
@click.option(
    "--known-at",
    type=MOMENT_OR_ROW,
    metavar="TIME|row",
    help="Use only what was known by this time, or by each row's own time.",
)
@click.option("--start", type=MOMENT, help="Without an entity frame: rows from here on.")
@click.option("--end", type=MOMENT, help="Without an entity frame: rows before this time.")
@click.option("--out", type=LOCAL_PATH, metavar="FILE", help="Write all rows to a .parquet or .csv file.")
@click.option("--save", metavar="NAME", help="Keep the result as a training set that can be rebuilt and compared.")
@click.option("--overwrite", is_flag=True, help="With --save: replace the training set of this name.")
@click.option("--show-sql", is_flag=True, help="Show the SQL instead of running it.")
@shown_rows_option
@pass_context
def historical(
    context: CliContext, entities: str | None, sql: str | None, features: tuple[str, ...], service: str | None,
    full_feature_names: bool, known_at: datetime | bool | None, start: datetime | None, end: datetime | None,
    out: str | None, save: str | None, overwrite: bool, show_sql: bool, limit: int | None,
) -> None:  # fmt: skip
    """Join features to rows, each as of its own time.

    The rows are an entity frame; without one, all rows of a time range.

    \b
    asof get historical --entities orders.parquet --service order_model --out training_set.parquet
    asof get historical --sql "SELECT user_id, ordered_at FROM orders" --features user_profile:country
    """
    if entities and sql:
        raise misused("give either --entities or --sql")
    if overwrite and not save:
        raise misused("--overwrite replaces a saved training set: also give --save NAME")
    result = context.store.get_historical_features(
        str(Path(entities).absolute()) if entities else sql, requested_features(context, features, service),
        full_feature_names=full_feature_names, known_at=known_at, start_date=start, end_date=end,
    )  # fmt: skip
    if show_sql:
        text = result.to_sql()
        context.output.lines("sql", [text], text)
        return
    if save:
        with context.progress() as progress:
            result.save(save, overwrite=overwrite, progress=progress)
        context.output.said(f"Saved training set {save!r}: see `asof show training-set {save}`.", saved=save)
    if out:
        rows = result.write(str(Path(out).absolute()))
        context.output.said(f"Wrote {counted(rows, 'row')} to {out}.", written=out, rows_written=rows)
    if not save and not out:
        _show_rows(context, result, limit)


@get.command()
@feature_options
@key_option(multiple_rows=True)
@click.option("--rows", metavar="JSON", help="""The keys as JSON: [{"user_id": 7}, …]; - reads stdin.""")
@click.option("--status", is_flag=True, help="Show the status and event time of each value too.")
@pass_context
def online(
    context: CliContext, features: tuple[str, ...], service: str | None, full_feature_names: bool,
    key: tuple[str, ...], rows: str | None, status: bool,
) -> None:  # fmt: skip
    """Get the features of keys as of now.

    \b
    asof get online --service order_model --key user_id=7
    asof get online --features user_traffic:views_1d --key user_id=7 --key user_id=8
    """
    requested = requested_features(context, features, service)
    entity_rows = [*(_rows_of(rows) if rows else []), *read_rows(key, key_types(context))]
    if not entity_rows:
        raise misused("give --key NAME=VALUE, or --rows")
    response = context.store.get_online_features(requested, entity_rows, full_feature_names=full_feature_names)
    answered = response.to_dict()
    records = [{name: values[i] for name, values in answered.items()} for i in range(len(entity_rows))]
    if context.output.form == "json":
        facts = {"statuses": response.statuses, "event_times": response.event_times} if status else {}
        context.output.noted(rows=records, **facts)
    elif status:
        columns = [Column("feature"), Column("value", null="null"), Column("status"), Column("event_time")]
        for i, record in enumerate(records):
            values = [
                {"feature": name, "value": record[name], "status": response.statuses[name][i],
                 "event_time": _at(response.event_times, name, i)}
                for name in record if name in response.statuses
            ]  # fmt: skip
            key_text = ", ".join(f"{name}={cell(record[name])}" for name in entity_rows[i] if name in record)
            context.output.lines("key", [*([""] if i else []), f"{key_text}:"], key_text)
            context.output.records("values", values, columns, empty="No features.")
    else:
        columns = [Column(name, name, null="null") for name in answered]
        context.output.records("rows", records, columns, empty="No rows.")


def _show_rows(context: CliContext, result: Any, limit: int | None) -> None:
    import pyarrow as pa

    limit = limit or (SHOWN_ROWS if context.output.form == "text" else None)
    batches, count = [], 0
    for batch in result.to_batches():
        batches.append(batch)
        count += batch.num_rows
        # One row more than is shown says that there are more; the rest need not be computed.
        if limit is not None and count > limit:
            break
    table = pa.Table.from_batches(batches) if batches else result.to_arrow()
    context.output.rows("rows", table.slice(0, limit) if limit is not None else table)
    if limit is not None and count > limit:
        context.note(f"Shown: the first {counted(limit, 'row')}; --limit shows more, --out FILE writes all.")


def _rows_of(text: str) -> list[dict[str, Any]]:
    try:
        rows = json.loads(sys.stdin.read() if text == "-" else text, parse_float=exact_float)
    except ValueError as error:
        raise misused(f"--rows is not JSON: {error}") from error
    rows = [rows] if isinstance(rows, dict) else rows
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise misused("""--rows: expected a list of objects, [{"user_id": 7}, …]""")
    return rows


def _at(event_times: Any, name: str, i: int) -> Any:
    times = event_times.get(name) or ()
    return times[i] if i < len(times) else None
