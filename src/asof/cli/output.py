"""Results on stdout, in one of two forms: text for people, one JSON document for programs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import click

from asof.cli.values import plain

if TYPE_CHECKING:
    import pyarrow as pa

    from asof.cli.tables import Column

WIDTH_OF_NO_TERMINAL = 120
"""The width of tables that go into a file or a pipe, where COLUMNS does not say it."""


class Output(Protocol):
    """What a command can say about its results; both forms say the same."""

    form: str

    def records(
        self, name: str, records: Iterable[Mapping[str, Any]], columns: Sequence[Column], *, empty: str
    ) -> None:
        """Several things of one kind.

        Args:
            name: the key of the list in the document.
            columns: what the text shows of them; the document has all.
            empty: what the text says where there are none.
        """
        ...

    def rows(self, name: str, table: pa.Table, *, empty: str = "No rows.", spare: Collection[str] = ()) -> None:
        """Data: rows of an Arrow table.

        Args:
            spare: columns that the text may leave out where the width does not suffice.
        """
        ...

    def details(self, name: str, values: Mapping[str, Any], *, title: str = "") -> None:
        """One thing, value by value; a title stands above them."""
        ...

    def lines(self, name: str, lines: Sequence[str], content: Any, *, wrap: bool = False) -> None:
        """Lines that were made elsewhere, and the same as content for the document.

        Args:
            wrap: the text may break long lines at spaces.
        """
        ...

    def said(self, text: str, **content: Any) -> None:
        """What was done, as a sentence and as keys of the document."""
        ...

    def noted(self, **content: Any) -> None:
        """Facts that the text shows elsewhere, or not at all."""
        ...

    def finish(self) -> None:
        """The command has said all."""
        ...


class TextOutput:
    """Results as they come, as text and tables."""

    form = "text"

    def records(
        self, name: str, records: Iterable[Mapping[str, Any]], columns: Sequence[Column], *, empty: str
    ) -> None:
        from asof.cli.tables import lines_of

        found = list(records)
        self._write(lines_of(found, columns, width=width()) if found else [empty])

    def rows(self, name: str, table: pa.Table, *, empty: str = "No rows.", spare: Collection[str] = ()) -> None:
        from asof.cli.tables import Column

        columns = [
            Column(column, column, null="null", prose=_is_text(table, column), spare=column in spare)
            for column in table.column_names
        ]
        self.records(name, table.to_pylist(), columns, empty=empty)

    def details(self, name: str, values: Mapping[str, Any], *, title: str = "") -> None:
        from asof.cli.tables import pairs

        lines = pairs(values, width=width(), indent="  " if title else "")
        self._write([*([f"{title}:"] if title else []), *lines] if lines else [f"{title or name}: nothing"])

    def lines(self, name: str, lines: Sequence[str], content: Any, *, wrap: bool = False) -> None:
        from asof.cli.tables import wrapped

        self._write([part for line in lines for part in wrapped(line, width=width())] if wrap else lines)

    def said(self, text: str, **content: Any) -> None:
        self._write([text])

    def noted(self, **content: Any) -> None:
        pass

    def finish(self) -> None:
        pass

    def _write(self, lines: Sequence[str]) -> None:
        if lines:
            click.echo("\n".join(lines))


class JsonOutput:
    """One JSON document, written when the command has said all: a failed command leaves stdout empty."""

    form = "json"

    def __init__(self) -> None:
        self._document: dict[str, Any] = {}

    def records(
        self, name: str, records: Iterable[Mapping[str, Any]], columns: Sequence[Column], *, empty: str
    ) -> None:
        self._document[name] = [plain(record) for record in records]

    def rows(self, name: str, table: pa.Table, *, empty: str = "No rows.", spare: Collection[str] = ()) -> None:
        self._document[name] = plain(table.to_pylist())

    def details(self, name: str, values: Mapping[str, Any], *, title: str = "") -> None:
        self._document[name] = plain(values)

    def lines(self, name: str, lines: Sequence[str], content: Any, *, wrap: bool = False) -> None:
        self._document[name] = plain(content)

    def said(self, text: str, **content: Any) -> None:
        self._document.update(plain(content))

    def noted(self, **content: Any) -> None:
        self._document.update(plain(content))

    def finish(self) -> None:
        if self._document:
            click.echo(json.dumps(self._document, indent=2, ensure_ascii=False))
            self._document = {}


def width() -> int:
    """How many cells a line may take: COLUMNS, else the terminal's, else `WIDTH_OF_NO_TERMINAL`."""
    return max(shutil.get_terminal_size((WIDTH_OF_NO_TERMINAL, 24)).columns, 40)


def _is_text(table: pa.Table, column: str) -> bool:
    return str(table.schema.field(column).type) in ("string", "large_string", "string_view")
