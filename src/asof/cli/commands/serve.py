"""`asof serve`: the feature server."""

from __future__ import annotations

from pathlib import Path

import click

from asof.cli.context import CliContext, pass_context
from asof.cli.options import LOCAL_PATH, Command


@click.command(cls=Command)
@click.option("--host", metavar="ADDRESS", help="The address to listen on.  [default: server.host, else 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="The port; 0 takes a free one.  [default: 6566]")
@click.option("--workers", type=click.IntRange(1), metavar="N", help="How many processes serve requests.  [default: 1]")
@click.option("--access-log", type=click.Choice(["none", "errors", "all"]), help="Which requests to log on stderr.")
@click.option("--tls-cert", type=LOCAL_PATH, metavar="FILE", help="The server's certificate (PEM).")
@click.option("--tls-key", type=LOCAL_PATH, metavar="FILE", help="Its private key (PEM).")
@click.option("--insecure", is_flag=True, help="Let anyone who can reach the address read and write.")
@pass_context
def serve(
    context: CliContext,
    host: str | None,
    port: int | None,
    workers: int | None,
    access_log: str | None,
    tls_cert: str | None,
    tls_key: str | None,
    insecure: bool,
) -> None:
    """Serve features over HTTP.

    Runs until Ctrl-C or SIGTERM, and finishes open requests first. SIGHUP restarts its processes one by one, with the
    repository's files as they are then; no request is lost. What `asof apply` changes takes effect without a restart.
    The settings are those of `server:` in feature_store.yaml.
    """
    import logging

    from asof.config import load_config
    from asof.server.serve import serve as run

    settings = load_config(context.repo, file=context.feature_store_yaml, env=context.env or "").logging
    options = {
        "host": host, "port": port, "workers": workers, "access_log": access_log,
        "tls_cert": str(Path(tls_cert).resolve()) if tls_cert else None,
        "tls_key": str(Path(tls_key).resolve()) if tls_key else None,
    }  # fmt: skip
    code = run(
        context.repo, config_file=context.feature_store_yaml, env=context.env, options=options, insecure=insecure,
        say=logging.getLogger("asof.server").info, log_as=context.begin_log(settings),
    )  # fmt: skip
    if code:
        raise click.exceptions.Exit(code)
