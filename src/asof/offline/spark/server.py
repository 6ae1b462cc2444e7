"""What reads know of the server: its sessions, what it can do, and where rows for it are put."""

from __future__ import annotations

from asof.connections.duckdb import Evaluator
from asof.connections.spark import ServerSession, SessionPool
from asof.connections.spark.errors import DRIVER_ERRORS, unreachable_files
from asof.errors import AsofError
from asof.offline.spark.arrow import struct_of
from asof.offline.spark.executors import Executors
from asof.offline.spark.files import MAGIC, has_row_numbers, literal_path
from asof.offline.spark.staging import StagingFolder
from asof.sql.spark.capabilities import DECIMALS, HOT_KEY_ROWS, WINDOWS, Capabilities

_NO_FILE = "/asof/no/such/[[]folder/file.parquet"


class SparkServer:
    """A server, of which each thing is asked once.

    Args:
        upload_bytes: so many bytes of an input are sent in messages; larger inputs go through a file.
        hot_key_rows: see `HOT_KEY_ROWS`.
        piece_rows: of a piece of a table that the server writes.
    """

    def __init__(
        self,
        pool: SessionPool,
        staging: StagingFolder,
        *,
        upload_bytes: int,
        hot_key_rows: int = HOT_KEY_ROWS,
        piece_rows: int = 0,
    ) -> None:
        self.pool, self.staging, self.upload_bytes, self.hot_key_rows = pool, staging, upload_bytes, hot_key_rows
        self.piece_rows = piece_rows
        self.evaluator = Evaluator(threads=1)
        self.executors = Executors()
        self._capabilities: Capabilities | None = None
        self._ignores_missing_files: bool | None = None
        self._has_row_numbers: bool | None = None
        self._takes_brackets: bool | None = None

    def capabilities(self, session: ServerSession) -> Capabilities:
        """What decides between plans; the server is asked once."""
        if self._capabilities is None:
            windows = str(session.fetch(WINDOWS).column(0)[0].as_py())
            self._capabilities = Capabilities.found(windows=windows, decimals=_works(session, DECIMALS))
        return self._capabilities

    def ignores_missing_files(self, session: ServerSession) -> bool:
        """Whether a file that is not there has no rows, instead of being an error."""
        if self._ignores_missing_files is None:
            self._probe_paths(session)
        return bool(self._ignores_missing_files)

    def takes_brackets(self, session: ServerSession) -> bool:
        """Whether a character of a pattern stands for itself in brackets, as in `[[]`; otherwise behind a backslash."""
        if self._takes_brackets is None:
            self._probe_paths(session)
        return bool(self._takes_brackets)

    def _probe_paths(self, session: ServerSession) -> None:
        try:
            session.files([_NO_FILE], struct_of([("a", "int")])).count()
            self._ignores_missing_files = self._takes_brackets = True
        except DRIVER_ERRORS as error:
            self._ignores_missing_files = False
            self._takes_brackets = "pattern" not in str(error)

    def has_row_numbers(self, session: ServerSession, path: str) -> bool:
        """Whether the engine says which row of its file a row is."""
        if self._has_row_numbers is None:
            self._has_row_numbers = has_row_numbers(session, self.literal_path(session, path))
        return self._has_row_numbers

    def literal_path(self, session: ServerSession, path: str) -> str:
        """The path as a pattern that matches only it: a server treats every path as a pattern."""
        if not MAGIC.search(path):
            return path
        return literal_path(path, in_brackets=self.takes_brackets(session))

    def unreachable_files(self, what: str, problem: str) -> AsofError:
        """The error of files that this process sees, and the server does not."""
        return unreachable_files(what, self.pool.target, problem)


def _works(session: ServerSession, statement: str) -> bool:
    try:
        session.fetch(statement)
    except DRIVER_ERRORS:
        return False
    return True


__all__ = ["SparkServer"]
