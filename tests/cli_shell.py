"""Command lines run in this process, against a small store object."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
from click.testing import CliRunner, Result

from asof.cli.app import cli
from asof.cli.context import CliContext
from asof.config import Auth
from asof.config.sections import LoggingSection
from asof.definitions.facts import Facts
from asof.definitions.project import Project, Snapshot
from asof.results import TableResult

RESULTS = ("dead_letters", "history", "runs", "sample", "stream_status", "training_sets")
"""Verbs that return rows of one kind."""


def result(answer: Any) -> TableResult:
    """Rows as the store's verbs return them."""
    return TableResult(answer if isinstance(answer, pa.Table) else pa.Table.from_pylist(answer), "Rows")


class EmptyRegistry:
    """A registry that keeps no records and no counts."""

    def records(self, *args: Any, **options: Any) -> list[Any]:
        return []

    def counts(self, *args: Any, **options: Any) -> dict[Any, Any]:
        return {}


class FakeStore:
    """Answers as a store does, and remembers what it was asked."""

    project = "shop"

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.config = SimpleNamespace(
            path="/shop",
            notes=["provider has no meaning in Asof and is ignored"],
            auth=Auth(),
            server={},
            logging=LoggingSection(),
        )
        self._open = SimpleNamespace(clock_note="")
        self.closed = False
        self.fails: BaseException | None = None
        self.answers: dict[str, Any] = {}

    def note_of_clock(self, text: str) -> None:
        self._open.clock_note = text

    def keep(self, facts: Facts) -> None:
        """Have the registry hold these."""
        self._open.snapshot = lambda: SimpleNamespace(facts=facts)

    def apply_project(self, project: Project) -> None:
        """Have the registry hold these definitions."""
        self._open.snapshot = lambda: Snapshot(1, self.project, project)
        self._open.stores = SimpleNamespace(project=self.project, clock=lambda: 0, registry=EmptyRegistry())
        self.answers |= {"runs": [], "now": datetime(2026, 1, 1, tzinfo=UTC)}

    def close(self) -> None:
        self.closed = True

    def __getattr__(self, name: str) -> Any:
        if name not in self.answers:
            raise AttributeError(name)

        def call(*args: Any, **options: Any) -> Any:
            self.calls.append((name, args, options))
            if self.fails is not None:
                raise self.fails
            answer = self.answers[name]
            answer = answer(*args, **options) if callable(answer) else answer
            return result(answer) if name in RESULTS else answer

        return call


class Shell:
    """Runs command lines against a fake store."""

    def __init__(self, store: FakeStore) -> None:
        self.store = store
        self.opened: list[tuple[Any, ...]] = []

    def __call__(
        self, *args: str, width: int = 80, input: str | None = None, env: dict[str, str] | None = None
    ) -> Result:
        def open_store(*place: Any) -> FakeStore:
            self.opened.append(place)
            return self.store

        return CliRunner().invoke(
            cli, args, obj=CliContext(open_store), input=input, env={"COLUMNS": str(width), **(env or {})}
        )
