"""What every command is given: the store, opened when first asked for, the output, and the ways to speak to people."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from asof.cli.exit_codes import FAILED, FOUND
from asof.cli.interrupts import Interrupts
from asof.cli.output import JsonOutput, Output, TextOutput

if TYPE_CHECKING:
    from asof.cli.progress import Progress
    from asof.config.sections import LoggingSection


def open_feature_store(repo: Path | None, env: str | None, config_file: Path | None = None) -> Any:
    """The store of the repository in `repo`."""
    from asof.store import FeatureStore

    return FeatureStore(repo, fs_yaml_file=config_file, env=env)


class CliContext:
    """The options of `asof` itself, and what they lead to.

    Args:
        open_store: opens the store of a folder, an environment and a configuration file; tests give a store of their
            own.
    """

    def __init__(self, open_store: Callable[..., Any] = open_feature_store) -> None:
        self._open_store = open_store
        self._until_closed = ExitStack()
        self.repo: Path | None = None
        self.feature_store_yaml: Path | None = None
        self.env: str | None = None
        self.output: Output = TextOutput()
        self.debug = False
        self.quiet = False
        self.log_format: str | None = None
        self.log_level: str | None = None
        self.logs_as: tuple[str, str] | None = None
        self._end_log: Callable[[], None] = lambda: None
        self.interrupts = Interrupts()

    def write_as(self, form: str) -> None:
        """Choose how results are written: `text` or `json`."""
        self.output = JsonOutput() if form == "json" else TextOutput()

    @cached_property
    def store(self) -> Any:
        from asof.store import open_store_of

        if self.output.form == "json":
            # What a user's own code prints must not stand inside the document.
            self._until_closed.enter_context(redirect_stdout(sys.stderr))
        if self.feature_store_yaml is None:
            store = self._open_store(self.repo or Path("."), self.env)
        else:
            store = self._open_store(self.repo, self.env, self.feature_store_yaml)
        self._until_closed.callback(store.close)
        if note := open_store_of(store).clock_note:
            self.note(note)
        return store

    def end_log(self) -> None:
        """Write no log any more, if a command wrote one."""
        self._end_log()

    def close(self) -> None:
        """Close the store, if a command opened it."""
        self._until_closed.close()

    def note(self, text: str) -> None:
        """Say something in addition to the result, on stderr; --quiet leaves it out."""
        if self.logs_as is not None:
            logging.getLogger("asof.cli").info(text)
        elif not self.quiet:
            click.echo(text, err=True)

    def begin_log(self, settings: LoggingSection) -> tuple[str, str]:
        """Write a log on stderr from now on, as long-running commands do; returns its form and its level.

        Args:
            settings: of the configuration; the options win, and --quiet leaves warnings.
        """
        from asof.process_log import begin_log

        level = self.log_level or ("warning" if self.quiet else settings.level)
        self.logs_as = self.log_format or settings.format, level
        self._end_log = begin_log(*self.logs_as)
        return self.logs_as

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """Something to report progress to, shown on stderr until the block ends."""
        from asof.cli.progress import shown_progress

        # A log has lines of its own; bars are only for a terminal.
        with shown_progress(quiet=self.quiet or (self.logs_as is not None and not sys.stderr.isatty())) as progress:
            yield self.interrupts.raised_again(progress)

    def ask(self, question: str, *, yes: bool) -> None:
        """Go on only after a yes: given as --yes, or typed.

        Raises:
            click.exceptions.Exit: the user said no.
            click.UsageError: stdin has no line to read.
        """
        if yes:
            return
        try:
            agreed = click.confirm(question, err=True)
        except click.Abort:
            if sys.stdin.isatty():
                raise
            click.echo(err=True)  # the question is on this line
            raise click.UsageError(
                "this asks for a confirmation, and stdin gives none: add --yes", click.get_current_context()
            ) from None
        if not agreed:
            self.note("Nothing was changed.")
            raise click.exceptions.Exit(FAILED)

    def found_problems(self) -> None:
        """Leave with the exit code of a command that ran and found what needs attention."""
        raise click.exceptions.Exit(FOUND)


pass_context = click.make_pass_decorator(CliContext)
