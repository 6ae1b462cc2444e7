"""The `asof` command: its options, and its subcommands, each loaded when it is called for."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import click

from asof.cli.boundary import leave_with, run_bounded
from asof.cli.context import CliContext
from asof.cli.options import LOCAL_PATH
from asof.distribution import NOT_INSTALLED, installed_version
from asof.errors import nearest
from asof.process_log import LEVELS

COMMANDS: Mapping[str, Sequence[str]] = {
    "Define": ("init", "plan", "apply", "history", "teardown"),
    "Find": ("ui", "search", "list", "show", "lineage"),
    "Train and serve": ("get",),
    "Load": ("push", "materialize", "stream", "backfill", "dead-letters"),
    "Inspect": ("sample", "profile", "stats", "explain", "audit", "runs", "doctor"),
    "Maintain": ("run", "rebuild", "compact", "forget", "backup", "restore"),
    "Serve": ("serve", "keys"),
    "Learn": ("demo",),
}  # fmt: skip
"""Section of the help → its commands; each is in the module of `asof.cli.commands` with its name."""


def command_named(name: str) -> click.Command:
    """The command, out of its module."""
    module = import_module(f"asof.cli.commands.{name.replace('-', '_')}")
    return next(each for each in vars(module).values() if isinstance(each, click.Command) and each.name == name)


class LazyGroup(click.Group):
    """A group that imports a command's module only when the command, or the help, is asked for."""

    def __init__(self, *args: Any, sections: Mapping[str, Sequence[str]] = COMMANDS, **options: Any) -> None:
        super().__init__(*args, **options)
        self._sections = sections
        self._names = [name for commands in sections.values() for name in commands]

    def list_commands(self, ctx: click.Context) -> list[str]:
        return self._names

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return command_named(cmd_name) if cmd_name in self._names else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if not name.startswith("-") and name not in self._names and not ctx.resilient_parsing:
            near = nearest(name, self._names)
            raise click.UsageError(f"no command {name!r}" + (f": {near}" if near else ""), ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        widest = max(map(len, self._names))
        for section, commands in self._sections.items():
            with formatter.section(section):
                found = [(name, self.get_command(ctx, name)) for name in commands]
                formatter.write_dl(
                    [(name.ljust(widest), each.get_short_help_str(limit=100)) for name, each in found if each]
                )

    def main(  # type: ignore[override]  # it ends the process in every mode, so it has no overloads
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> NoReturn:
        """Run a command line to its end: every error becomes a message and an exit code here, and nowhere else."""
        prog_name = prog_name or "asof"
        if "_ASOF_COMPLETE" in os.environ:
            # A shell asks for completions.
            super().main(args, prog_name)
        context = extra.get("obj") or CliContext()

        def run() -> None:
            given = list(sys.argv[1:] if args is None else args)
            with self.make_context(prog_name, given, obj=context) as ctx:
                self.invoke(ctx)

        leave_with(run_bounded(run, context))


def _show_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    number = installed_version()
    click.echo(f"asof {number}" if number != NOT_INSTALLED else f"asof ({number}, run from its sources)")
    ctx.exit()


@click.group(
    "asof",
    cls=LazyGroup,
    context_settings={
        "auto_envvar_prefix": "ASOF",
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
    },
    epilog="Each option has an environment variable: ASOF_ and its name for those above (ASOF_REPO), with the command "
    "between for the others (ASOF_GET_ONLINE_FEATURES). The options above may also follow the command.",
)
@click.option("--repo", "-C", type=LOCAL_PATH, metavar="FOLDER", help="The feature repository. [default: this folder]")
@click.option(
    "--feature-store-yaml",
    type=LOCAL_PATH,
    metavar="FILE",
    help="The configuration, in place of feature_store.yaml; without --repo its folder is the repository.",
)
@click.option("--env", metavar="NAME", help="The environment: settings of feature_store.NAME.yaml.")
@click.option(
    "--output", type=click.Choice(["text", "json"]), default="text", show_default=True, help="How results are written."
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option("--quiet", "-q", is_flag=True, help="No notes and no progress on stderr; of a log, warnings only.")
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    help="How long-running commands write their log on stderr.  [default: logging.format, else text]",
)
@click.option(
    "--log-level",
    type=click.Choice(list(LEVELS)),
    help="The least severe lines of it.  [default: logging.level, else info]",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
@click.pass_obj
def cli(
    context: CliContext,
    repo: str | None,
    feature_store_yaml: str | None,
    env: str | None,
    output: str,
    debug: bool,
    quiet: bool,
    log_format: str | None,
    log_level: str | None,
) -> None:
    """Features as of any moment, for training and for serving, from tables and streams.

    \b
    Begin with   asof init shop && cd shop && asof apply
    or see       asof demo
    """
    context.repo, context.env = Path(repo) if repo else None, env or None
    context.feature_store_yaml = Path(feature_store_yaml) if feature_store_yaml else None
    context.debug, context.quiet = debug, quiet
    context.log_format, context.log_level = log_format, log_level
    context.write_as(output)


__all__ = ["COMMANDS", "LazyGroup", "cli", "command_named"]
