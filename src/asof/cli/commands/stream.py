"""`asof stream run | status`: the worker that reads logs."""

from __future__ import annotations

import threading
from contextlib import ExitStack

import click

from asof.cli.context import CliContext, pass_context
from asof.cli.interrupts import stopped_by_signals
from asof.cli.options import Group
from asof.cli.tables import Column
from asof.cli.values import cell
from asof.timing import PATIENCE_S


@click.group(cls=Group)
def stream() -> None:
    """Read streams: `run` the worker, see its `status`."""


@stream.command()
@click.argument("sources", nargs=-1)
@click.option("--until-caught-up", is_flag=True, help="Stop once all messages that the logs hold now are processed.")
@click.option("--accept-gap", is_flag=True, help="Go on although events were lost from a log; the gap is recorded.")
@click.option(
    "--patience", type=click.FloatRange(min=0), default=PATIENCE_S, show_default=True, metavar="SECONDS",
    help="How long to wait for a server that went away.",
)  # fmt: skip
@click.option("--metrics-port", type=click.IntRange(0, 65535), help="Serve Prometheus metrics of the logs there.")
@click.option("--metrics-host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="On which address.")
@pass_context
def run(
    context: CliContext,
    sources: tuple[str, ...],
    until_caught_up: bool,
    accept_gap: bool,
    patience: float,
    metrics_port: int | None,
    metrics_host: str,
) -> None:
    """Process events into the online store and the archive.

    All log sources, or SOURCES. Several workers share the partitions. Runs until Ctrl-C or SIGTERM, which let it
    finish what it holds; a second Ctrl-C stops it at once. Either way nothing is lost or counted twice. What it does
    it logs on stderr.
    """
    stop = threading.Event()
    context.begin_log(context.store.config.logging)
    with ExitStack() as until_done, stopped_by_signals(stop) as interrupted, context.progress() as progress:
        store = context.store
        if metrics_port is not None:
            from asof.server.telemetry.stream_metrics import serve_stream_metrics

            until_done.callback(serve_stream_metrics(store.stream_status, metrics_port, host=metrics_host))

        done = store.stream_run(
            list(sources) or None, until_caught_up=until_caught_up, accept_gap=accept_gap, progress=progress, stop=stop,
            patience_s=patience,
        )  # fmt: skip
    if interrupted.is_set():
        raise click.Abort
    context.output.details("counts", done, title="Processed")


@stream.command()
@click.argument("source", required=False)
@pass_context
def status(context: CliContext, source: str | None) -> None:
    """Show how far each partition is archived, how fresh and how late.

    Behind is the age of the oldest message that is not archived. Freshness is from the newest message's time to its
    being served; late, from the newest events' own times to that.
    """
    columns = [
        Column("source"), Column("partition"), Column("lag"), Column("behind_s"), Column("events_per_s"),
        Column("freshness_s"), Column("late_max_s"), Column("dead_letters", "dead letters"),
        Column("last_message", spare=True), Column("archived", spare=True), Column("next", spare=True),
        Column("late_p50_s", spare=True), Column("topic", spare=True), Column("first", spare=True),
    ]  # fmt: skip
    partitions = context.store.stream_status(source)
    context.output.records("partitions", partitions.to_dicts(), columns, empty="No log has anything yet.")
    for source, gaps in {each.source: each.gaps for each in partitions if each.gaps}.items():
        context.note(f"{source}: events were lost before they were read: {cell(gaps)}")
