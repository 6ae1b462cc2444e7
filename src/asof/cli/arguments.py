"""Arguments of the store's methods as a command's options: `limit=0` of an error is `--limit 0` on a command line."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

import click

from asof.errors import Argument

NAMES: Mapping[str, tuple[str, ...]] = {
    "df": ("rows", "file"),
    "end_date": ("end",),
    "entity_df": ("entities", "sql"),
    "entity_rows": ("key", "rows"),
    "feature_view": ("view",),
    "feature_views": ("views",),
    "features": ("features", "service"),
    "n": ("limit",),
    "names": ("names",),
    "patience_s": ("patience",),
    "push_source_name": ("source",),
    "start_date": ("start",),
}
"""Parameter of a method → the parameters of commands that stand for it, where they are called otherwise."""


def spelled_for(command: click.Command, argument: Argument) -> str:
    """The argument as the command's user writes it; as Python has it where the command has nothing of the kind."""
    names = NAMES.get(argument.name, (argument.name,))
    found = [each for name in names for each in command.params if each.name == name]
    return " or ".join(_spelled(each, argument.value) for each in found) or str(argument)


def _spelled(param: click.Parameter, value: object) -> str:
    if not isinstance(param, click.Option):
        return param.human_readable_name
    name = max(param.opts, key=len)
    return name if value is None or param.is_flag else f"{name} {shlex.quote(str(value))}"
