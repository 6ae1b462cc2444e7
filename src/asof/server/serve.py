"""Start a server from the configuration and the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from asof.config import load_config
from asof.display import counted
from asof.errors import MissingExtra
from asof.server.process.supervisor import Supervisor
from asof.server.security.binding import cleartext_note, refuse_open
from asof.server.settings import ServerSettings


def serve(
    repo: Path | None,
    *,
    config_file: Path | None = None,
    env: str | None,
    options: Mapping[str, Any],
    insecure: bool,
    say: Callable[[str], None],
    log_as: tuple[str, str] | None = None,
    shows_pages: Callable[[str], object] | None = None,
) -> int:
    """Serve a repository's features until SIGTERM or SIGINT.

    Args:
        config_file: its configuration file, instead of its `feature_store.yaml`.
        options: override settings of `server:`; None keeps a setting.
        insecure: listen on a public address although no authentication is configured.
        say: called with the address, and what is to be known of it.
        log_as: form and level of the workers' log.
        shows_pages: serve for the catalog's pages; called with their address as soon as it can be opened.

    Returns:
        An exit code.

    Raises:
        ConfigError: a setting is invalid, or the address cannot be listened on.
        MissingExtra: the server's packages are not installed.
    """
    # Only workers import the server's packages: importing them here too would double the start.
    lacking = [name for name in ("orjson", "starlette", "uvicorn", "jinja2") if not find_spec(name)]
    if shows_pages is not None and lacking:
        raise MissingExtra("the catalog's pages", "catalog")
    if lacking and lacking != ["jinja2"]:
        raise MissingExtra("the feature server", "server")

    first = load_config(repo, file=config_file, env=env or "")

    def settings() -> ServerSettings:
        config = load_config(first.path, file=first.file or None, env=env or "")
        chosen = ServerSettings().with_options(config.server).with_options(options).checked()
        refuse_open(chosen.host, config.auth, insecure=insecure)
        return chosen

    given = {name: value for name, value in options.items() if value is not None}
    supervisor = Supervisor(
        first.path, config_file=first.file, env=env, options=given, settings=settings, log_as=log_as
    )
    host, port = supervisor.address
    chosen = supervisor.settings
    scheme = "https" if chosen.tls_cert else "http"
    address = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
    if shows_pages is None:
        say(f"Serving on {address} with {counted(chosen.workers, 'worker')}; Ctrl-C stops.")
        if chosen.catalog and find_spec("jinja2"):
            say(f"The catalog is at {address}/ui/")
    else:
        say(f"The catalog is at {address}/ui/; Ctrl-C stops.")
        shows_pages(f"{address}/ui/")
    note = cleartext_note(chosen.host, first.auth, is_tls=bool(chosen.tls_cert))
    if note:
        say(note)
    return supervisor.run()
