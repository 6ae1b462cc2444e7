"""The one place where errors become messages on stderr and an exit code."""

from __future__ import annotations

import errno
import json
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import NoReturn

import click

from asof.cli.context import CliContext
from asof.cli.exit_codes import DONE, PIPE_CLOSED, STOPPED, UNEXPECTED, USAGE
from asof.errors import AsofError, HistoryNotLoaded, Interrupted, StorageError
from asof.process_log import facts

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


def run_bounded(call: Callable[[], object], context: CliContext) -> int:
    """Run a command, then write its results; return the exit code."""
    with context.interrupts.noticed(), warnings.catch_warnings():
        warnings.simplefilter("always", HistoryNotLoaded)
        warnings.showwarning = _warn(context, warnings.showwarning)
        try:
            return _run(call, context)
        finally:
            context.end_log()


def _warn(context: CliContext, otherwise: Callable[..., None]) -> Callable[..., None]:
    """Say the product's own warnings as notes, without a line of its code."""

    def shown(message: Warning | str, category: type[Warning], *place: object) -> None:
        if issubclass(category, HistoryNotLoaded):
            context.note(f"warning: {message}")
        else:
            otherwise(message, category, *place)

    return shown


def _run(call: Callable[[], object], context: CliContext) -> int:
    try:
        code = DONE
        try:
            call()
        except click.exceptions.Exit as leaving:
            code = leaving.exit_code
        finally:
            context.close()
        context.output.finish()
        sys.stdout.flush()
        return code
    except click.exceptions.NoArgsIsHelpError as error:
        # `asof get` alone: the help says what may follow.
        click.echo(error.ctx.get_help() if error.ctx is not None else error.message, err=True)
        return USAGE
    except click.UsageError as error:
        return _usage(error, context)
    except click.ClickException as error:
        message = error.format_message()
        return _report(error, _content(error, message), f"error: {message}", error.exit_code, context)
    except (click.Abort, KeyboardInterrupt, Interrupted) as error:
        return _stopped(error, context)
    except Exception as error:
        # After Ctrl-C any error may be its echo.
        return _stopped(error, context) if context.interrupts.came else _failed(error, context)


def _failed(error: Exception, context: CliContext) -> int:
    if isinstance(error, AsofError):
        return _report(error, error.to_dict(), f"error: {error}", error.exit_code, context)
    if isinstance(error, OSError):
        if error.errno == errno.EPIPE:
            return PIPE_CLOSED
        if not error.filename and error.errno not in _DISK:
            return _unexpected(error, context)
        # Without a file's name it is the output: what the stores write they report themselves.
        place = repr(str(error.filename)) if error.filename else "the output"
        wrapped = StorageError(f"{place}: {error.strerror}", hint="check the path, its rights and the disk")
        return _report(error, wrapped.to_dict(), f"error: {wrapped}", wrapped.exit_code, context)
    return _unexpected(error, context)


def leave_with(code: int) -> NoReturn:
    """End the process; a closed pipe at the very end is no error of ours."""
    unwritten = code == PIPE_CLOSED
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code, unwritten = PIPE_CLOSED, True
    except OSError:
        unwritten = True
    if unwritten:
        try:
            # Python flushes stdout once more while it ends, and would complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except (OSError, ValueError):
            pass
    sys.exit(code)


_CLICKS_TEXTS = {
    "is not a valid integer range": "is not a whole number", "is not a valid integer": "is not a whole number",
    "is not a valid float range": "is not a number", "is not a valid float": "is not a number",
}  # fmt: skip
"""What Click calls a value of an option that is no number, in plain English."""


def _usage(error: click.UsageError, context: CliContext) -> int:
    # A mistake in the options of `asof` itself comes before its callback could choose the form.
    root = error.ctx.find_root() if error.ctx is not None else None
    if root is not None and root.params.get("output"):
        context.write_as(root.params["output"])
    command = error.ctx.command_path if error.ctx is not None else "asof"
    message = error.format_message().rstrip(".")
    for clicks, ours in _CLICKS_TEXTS.items():
        message = message.replace(clicks, ours)
    hint = f"{command} --help"
    usage = error.ctx.get_usage() + "\n" if error.ctx is not None else ""
    return _report(
        error, _content("UsageError", message, hint), f"{usage}error: {message}\n  next: {hint}", USAGE, context
    )


def _stopped(error: BaseException, context: CliContext) -> int:
    # Where Ctrl-C hit text that Python compiled, as dataclasses do, it remembers it and would end the process by the
    # signal, whatever code we leave with; running some text again makes it forget.
    exec("")
    text = "stopped; what was done stands"
    return _report(error, _content("Stopped", text), text, STOPPED, context)


def _unexpected(error: Exception, context: CliContext) -> int:
    what = f"unexpected {type(error).__name__}: {error}".splitlines()[0]
    hint = "" if context.debug else ": report it, run again with --debug"
    return _report(error, _content(error, what, "report it, run again with --debug"), what + hint, UNEXPECTED, context)


def _content(error: BaseException | str, message: str, hint: str = "") -> dict[str, str]:
    name = error if isinstance(error, str) else type(error).__name__
    return {"error": name, "message": message, "where": "", "hint": hint}


def _report(error: BaseException, content: dict[str, str], text: str, code: int, context: CliContext) -> int:
    if context.debug:
        traceback.print_exception(error)
    if context.logs_as is not None and context.logs_as[0] == "json":
        # A log of JSON has no other lines.
        logging.getLogger("asof.cli").error(text.partition("\n")[0], extra=facts("exit", code=code, **content))
        return code
    try:
        click.echo(json.dumps(content, ensure_ascii=False) if context.output.form == "json" else text, err=True)
    except BrokenPipeError:
        return PIPE_CLOSED
    return code
