"""`asof run`: the jobs of the schedule."""

from __future__ import annotations

import threading
from contextlib import ExitStack

import click

from asof.cli.context import CliContext, pass_context
from asof.cli.interrupts import stopped_by_signals
from asof.cli.options import Command


@click.command(cls=Command)
@click.option("--once", is_flag=True, help="Run what is due now, then stop; nothing where another process leads.")
@click.option("--metrics-port", type=click.IntRange(0, 65535), help="Serve Prometheus metrics of the jobs there.")
@click.option("--metrics-host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="On which address.")
@pass_context
def run(context: CliContext, once: bool, metrics_port: int | None, metrics_host: str) -> None:
    """Work through `schedule:` of feature_store.yaml.

    Of several processes one leads, and the others stand by. Runs until Ctrl-C or SIGTERM, which stop a running job
    where it is; it goes on at the next start. What was due meanwhile runs once. Exits with code 10 if, with --once, a
    job failed or found what needs attention.
    """
    stop = threading.Event()
    context.begin_log(context.store.config.logging)
    with ExitStack() as until_done, stopped_by_signals(stop) as interrupted, context.progress() as progress:
        store = context.store
        if metrics_port is not None:
            from asof.server.telemetry.stream_metrics import serve_schedule_metrics

            until_done.callback(serve_schedule_metrics(store.schedule_status, metrics_port, host=metrics_host))
        done = store.run_schedule(once=once, stop=stop, progress=progress)
    if interrupted.is_set():
        raise click.Abort
    context.output.details("runs", done, title="Runs")
    if once and (done.get("failed") or done.get("found")):
        context.found_problems()
