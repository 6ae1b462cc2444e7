"""What options mean: moments, keys and feature lists as typed; and the options of `asof` behind any command."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import click

from asof.cli.arguments import spelled_for
from asof.cli.context import CliContext
from asof.errors import AsofError
from asof.process_log import LEVELS
from asof.timing import EARLIEST, LATEST, micros, moment
from asof.values.exact_floats import exact_float
from asof.values.local_paths import NotLocal, local_path


class Command(click.Command):
    """A command behind which the options of `asof` itself may also stand: `asof list views --output json`."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        own = super().get_params(ctx)
        taken = {name for param in own for name in param.opts}
        return [*own, *(option for option in _repeated_options() if not taken & set(option.opts))]

    def invoke(self, ctx: click.Context) -> Any:
        """Run it; what an error says of arguments, it says of this command's options."""
        try:
            return super().invoke(ctx)
        except AsofError as error:
            error.spell_arguments(partial(spelled_for, self))
            raise


class Group(click.Group):
    """A group of such commands."""

    command_class = Command


def _repeated_options() -> list[click.Option]:
    def set_on(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
        def take(ctx: click.Context, param: click.Parameter, value: Any) -> None:
            context = ctx.find_object(CliContext)
            if context is None or value is None or value is False:
                return
            if name == "output":
                context.write_as(value)
                ctx.find_root().params["output"] = value
            else:
                setattr(context, name, Path(value) if name in ("repo", "feature_store_yaml") else value)

        return take

    def option(*names: str, **settings: Any) -> click.Option:
        # Hidden, as the help of `asof` has them; their environment variables are read there too.
        settings |= {"expose_value": False, "hidden": True, "allow_from_autoenv": False}
        return click.Option(names, callback=set_on(names[0].lstrip("-").replace("-", "_")), **settings)

    return [
        option("--repo", "-C", type=LOCAL_PATH, is_eager=True),
        option("--feature-store-yaml", type=LOCAL_PATH, is_eager=True),
        option("--env", is_eager=True),
        option("--output", type=click.Choice(["text", "json"]), is_eager=True),
        option("--debug", is_flag=True, is_eager=True),
        option("--quiet", "-q", is_flag=True, is_eager=True),
        option("--log-format", type=click.Choice(["text", "json"]), is_eager=True),
        option("--log-level", type=click.Choice(list(LEVELS)), is_eager=True),
    ]


def misused(message: str) -> click.UsageError:
    """The error of a command line that is not well formed in a way that click does not see."""
    return click.UsageError(message, click.get_current_context())


class LocalPath(click.ParamType):  # type: ignore[type-arg]  # generic in newer releases only, and click 8.2 will do
    """A path on this machine, as text or as a `file://` URL; no other URL is taken for one."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return local_path(str(value))
        except NotLocal as error:
            self.fail(f"{error}; write a path, or file:///…", param, ctx)


LOCAL_PATH = LocalPath()


class ObjectPrefix(click.ParamType):  # type: ignore[type-arg]  # generic in newer releases only, and click 8.2 will do
    """An address in object storage that needs no quoting in any file."""

    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value).rstrip("/")
        if not re.fullmatch(r"(s3|gs|az)://[\w.-]+(/[\w.=-]+)*", text, re.ASCII):
            self.fail("write s3://BUCKET/PREFIX (or gs://, az://), of letters, digits and . _ = -", param, ctx)
        return text


class Moment(click.ParamType):  # type: ignore[type-arg]  # generic in newer releases only, and click 8.2 will do
    """A time in ISO 8601; without an offset it is UTC.

    Args:
        or_row: the keyword `row` is a value too: True, for each row's own time.
    """

    name = "time"

    def __init__(self, *, or_row: bool = False) -> None:
        self._or_row = or_row

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime | bool:
        if self._or_row and value == "row":
            return True
        try:
            us = micros(value)
            if EARLIEST <= us <= LATEST:
                return moment(us)
        except (ValueError, OverflowError):
            pass
        self.fail(f"{value!r} is not a time like 2026-11-23T12:00:00Z", param, ctx)


MOMENT = Moment()
MOMENT_OR_ROW = Moment(or_row=True)


def feature_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--features and --service: what is asked for."""
    command = click.option(
        "--service", metavar="NAME", help="The features of a service, in its order."
    )(command)  # fmt: skip
    command = click.option(
        "--features", "-f", multiple=True, metavar="VIEW:FEATURE,…", help="Features by name; may be repeated."
    )(command)  # fmt: skip
    return click.option("--full-feature-names", is_flag=True, help="Name the columns view__feature.")(command)


def requested_features(context: CliContext, features: Sequence[str], service: str | None) -> Any:
    """What the store is asked for: a list of references, or a feature service.

    Raises:
        click.UsageError: neither or both are given.
    """
    if bool(features) == bool(service):
        raise misused("give either --features view:feature,… or --service NAME")
    if service:
        return context.store.get_feature_service(service)
    return [name.strip() for part in features for name in part.split(",") if name.strip()]


SHOWN_ROWS = 20
"""How many rows text shows; a JSON document has all."""

shown_rows_option = click.option(
    "--limit", "-n", type=click.IntRange(min=1), help=f"Show so many rows. [default: {SHOWN_ROWS} as text, all as JSON]"
)  # fmt: skip
"""--limit of commands that show a result's rows."""


def key_option(*, multiple_rows: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """--key name=value."""
    text = "A join key or request value; may be repeated." + (
        " A name that comes again begins the next row." if multiple_rows else ""
    )
    return click.option("--key", "-k", multiple=True, metavar="NAME=VALUE", help=text)


def read_rows(keys: Sequence[str], types: Mapping[str, str]) -> list[dict[str, Any]]:
    """`("user_id=7", "user_id=8")` as rows: `[{"user_id": 7}, {"user_id": 8}]`.

    Args:
        types: the declared type of each name that is known; text stays text where text is declared.

    Raises:
        click.UsageError: a key is not `name=value`.
    """
    rows: list[dict[str, Any]] = []
    for key in keys:
        name, equals, text = key.partition("=")
        name = name.strip()
        if not equals or not name:
            raise misused(f"--key {key!r}: expected NAME=VALUE, such as user_id=7")
        if not rows or name in rows[-1]:
            rows.append({})
        rows[-1][name] = text if types.get(name) in ("String", "Json", "Timestamp", "Date") else _value_of(text)
    return rows


def read_key(keys: Sequence[str], types: Mapping[str, str]) -> dict[str, Any]:
    """The one key that is given.

    Raises:
        click.UsageError: none is given, or more than one.
    """
    rows = read_rows(keys, types)
    if len(rows) != 1:
        raise misused(f"expected one key, found {len(rows)}: give --key NAME=VALUE")
    return rows[0]


def key_types(context: CliContext) -> dict[str, str]:
    """The type of each join key and request value that an applied view declares."""
    types: dict[str, str] = {}
    for view in context.store.list_feature_views():
        types |= {field.name: str(field.dtype) for field in view.key_fields}
    for view in context.store.list_on_demand_feature_views():
        types |= {field.name: str(field.dtype) for field in view.request_fields}
    return types


def _value_of(text: str) -> Any:
    try:
        return json.loads(text, parse_float=exact_float)
    except ValueError:
        return text
