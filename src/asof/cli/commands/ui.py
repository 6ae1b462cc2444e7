"""`asof ui`: the catalog in a browser."""

from __future__ import annotations

import click

from asof.cli.context import CliContext, pass_context
from asof.cli.options import Command


@click.command(cls=Command)
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default="a free one", help="The port.")
@click.option("--no-browser", is_flag=True, help="Only say the address.")
@pass_context
def ui(context: CliContext, port: int, no_browser: bool) -> None:
    """Open the catalog in a browser.

    Its pages show what is applied, how fresh and how trustworthy it is, how it is used, and what depends on it, from
    the live store. They are served to this machine only, until Ctrl-C. `asof serve` has the same pages at /ui/, for all
    who may read.
    """
    import webbrowser

    from asof.server.serve import serve

    options = {"host": "127.0.0.1", "port": port, "workers": 1, "catalog": True, "access_log": "none"}
    code = serve(
        context.repo, config_file=context.feature_store_yaml, env=context.env, options=options, insecure=False,
        say=context.note, shows_pages=(lambda address: None) if no_browser else webbrowser.open,
    )  # fmt: skip
    if code:
        raise click.exceptions.Exit(code)
