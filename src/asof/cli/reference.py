"""The reference of the command line as Markdown, written from the commands themselves."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import cleandoc

import click

from asof.cli.app import COMMANDS, cli
from asof.cli.exit_codes import EXIT_CODES


def commands() -> Iterator[tuple[str, click.Context]]:
    """Every command, in the order of the help: its full name and a context that knows its usage."""
    root = click.Context(cli, info_name="asof", **cli.context_settings)
    yield "asof", root
    yield from _below(root, [name for section in COMMANDS.values() for name in section])


COMPLETION = {
    "bash": ("~/.bashrc", 'eval "$(_ASOF_COMPLETE=bash_source asof)"'),
    "zsh": ("~/.zshrc", 'eval "$(_ASOF_COMPLETE=zsh_source asof)"'),
    "fish": ("~/.config/fish/completions/asof.fish", "_ASOF_COMPLETE=fish_source asof | source"),
}
"""Shell → the file that it reads when it starts, and the line that completes commands and options there."""


def markdown() -> str:
    """The page: `asof` and its options, each command, then the exit codes."""
    lines = ["# Command line", ""]
    for command, context in commands():
        lines += [*([] if command == "asof" else [f"## {command}", ""]), *_described(command, context)]
    lines += [
        "## Shell completion",
        "",
        "Commands and options are completed by Tab once the shell has read this line:",
        "",
    ]
    lines += ["| shell | file | line |", "| --- | --- | --- |"]
    lines += [f"| {shell} | `{file}` | `{_cell(line)}` |" for shell, (file, line) in COMPLETION.items()] + [""]
    lines += ["## Exit codes", "", "| code | meaning |", "| ---: | --- |"]
    lines += [f"| {code} | {_cell(meaning)} |" for code, meaning in sorted(EXIT_CODES.items())]
    return "\n".join(lines) + "\n"


def _below(parent: click.Context, names: list[str]) -> Iterator[tuple[str, click.Context]]:
    assert isinstance(parent.command, click.Group)
    for name in names:
        command = parent.command.get_command(parent, name)
        assert command is not None
        context = click.Context(command, info_name=name, parent=parent, **command.context_settings)
        yield context.command_path, context
        if isinstance(command, click.Group):
            yield from _below(context, command.list_commands(context))


def _described(command: str, context: click.Context) -> list[str]:
    usage = context.get_usage().removeprefix("Usage: ")
    lines = ["```", " ".join(usage.split()), "```", ""]
    for paragraph in cleandoc(context.command.help or "").split("\n\n"):
        if paragraph.startswith("\b\n"):
            lines += ["```", paragraph.removeprefix("\b\n"), "```", ""]
        else:
            lines += [" ".join(paragraph.split()), ""]
    options = [
        each for each in context.command.get_params(context) if isinstance(each, click.Option) and not each.hidden
    ]
    rows = [row for option in options if (row := _option(command, option, context))]
    if rows:
        lines += ["| option | environment | meaning |", "| --- | --- | --- |", *rows, ""]
    return lines


def _option(command: str, option: click.Option, context: click.Context) -> str | None:
    record = option.get_help_record(context)
    if record is None or "--help" in option.opts:
        return None
    variable = "_".join([*command.split(), option.name or ""]).upper().replace("-", "_")
    environment = f"`{variable}`" if option.expose_value else ""
    return f"| `{_cell(record[0])}` | {environment} | {_cell(record[1])} |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
