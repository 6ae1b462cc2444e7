"""What every online store does: its words (table, row, version, token, condition) and its verbs."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, Protocol, TypeAlias, cast

from asof.defaults import SCAN_ROWS
from asof.errors import StorageError
from asof.timing import Micros

Kind: TypeAlias = Literal["latest", "state"]


class OnlineTable(NamedTuple):
    """One generation of one view's online rows. (A named tuple, since it is hashed on each read.)

    Args:
        project: the project it belongs to; compared exactly, so `prod` has nothing to do with `prod2`.
        view: the feature view's name.
        generation: which build of the view, like `3f2a9c1d-2`.
        kind: `latest`: a row is a key's newest values, written under `Newest`. `state`: a row is packed
            aggregation state, read, merged and written back under `Unchanged`.
    """

    project: str
    view: str
    generation: str
    kind: Kind = "latest"

    def __str__(self) -> str:
        return f"{self.project}/{self.view}@{self.generation}"


@dataclass(frozen=True, slots=True)
class Newest:
    """Keep a row iff its key has none, or `version >= the stored version`: of equals the later write wins.

    Args:
        versions: one per row: bytes that sort as the order of rows does (`pack_version`).
    """

    versions: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Unchanged:
    """Keep a row iff the stored token is still the one that was read; `NO_ROW` where there was no row.

    Args:
        tokens: one per row.
        within: if given, the `incarnation` that the writer knows; another one refuses the write with `StoreReplaced`.
    """

    tokens: Sequence[int]
    within: str = ""


Condition: TypeAlias = Newest | Unchanged

NO_ROW = 0
"""The token of a key without a row; no stored row ever has it."""

Row: TypeAlias = tuple[bytes, bytes] | tuple[bytes, int]
"""(value, version) in a `latest` table, (value, token) in a `state` table."""

StateRow: TypeAlias = tuple[bytes, int]
"""A row of a `state` table."""

ScannedRow: TypeAlias = tuple[bytes, bytes, bytes] | tuple[bytes, bytes, int]
"""(key, value, version or token)."""

Facts: TypeAlias = Mapping[str, str | int]
"""Progress: a partition's name → its offset, and small facts beside it, such as a topic's id."""


def state_rows(found: Sequence[Row | None]) -> Sequence[StateRow | None]:
    """What was read of one `state` table as the rows that it is; looks at none of them."""
    return cast("Sequence[StateRow | None]", found)


class StoreReplaced(StorageError):
    """The store may have lost what it had acknowledged: it is another incarnation than the writer knows.

    Read progress again, bring the rows up to it, and go on from there.
    """

    may_pass = True


class Lookup(NamedTuple):
    """The keys that one table is asked for; a key may come more than once."""

    table: OnlineTable
    keys: Sequence[bytes]


class PendingRead(Protocol):
    """A read on its way. Either its rows are read or it is dropped."""

    def rows(self) -> list[list[Row | None]]:
        """What `OnlineStore.read` returns; waits for it."""
        ...

    def drop(self) -> None:
        """Let go of it."""
        ...


class Reply(Protocol):
    """What is told the reply to a request: a future, or what is quicker than one."""

    def done(self) -> bool:
        """Whether no reader waits any more."""
        ...

    def set_result(self, result: Sequence[bytes | None], /) -> None:
        """The reply."""
        ...

    def set_exception(self, exception: BaseException, /) -> None:
        """Why there is none."""
        ...


class NonBlockingReader(Protocol):
    """Reads an online store without blocking, for one event loop."""

    async def read(self, lookups: Sequence[Lookup]) -> list[list[Row | None]]:
        """See `OnlineStore.read`."""
        ...

    def asker(self, tables: Sequence[OnlineTable]) -> Callable[[Sequence[bytes], Reply], bool]:
        """What asks for one row of each of these `latest` tables by its key, and tells a reply; not a coroutine.

        The reply gets values, whose rows are `packed`, or a failure after which another try may well succeed. The
        function returns whether it could ask at all: not while there is no connection.
        """
        ...

    def packed(self, values: Sequence[bytes | None]) -> list[bytes | None]:
        """The packed rows in what a reply was told."""
        ...

    async def close(self) -> None:
        """Close the connection; reads that wait fail."""
        ...


class OnlineStoreDefaults:
    """What a store may do without; `OnlineStore` says what each means."""

    takes_clock: ClassVar[bool] = False
    is_local: ClassVar[bool] = False

    def ask(self, lookups: Sequence[Lookup]) -> PendingRead | None:
        return None

    def async_reader(self) -> NonBlockingReader | None:
        return None


class OnlineStore(Protocol):
    """Keeps one row per table and key, and answers many lookups at once.

    Any number of threads and processes may use one store at the same time; each of its answers is as if the writes
    to a row had come one after the other. All failures to read or write are `StorageError`s that name the setting.
    What a store may do without is in `OnlineStoreDefaults`, to inherit.
    """

    @property
    def takes_clock(self) -> bool:
        """Of the class: whether it is made with `clock=`.

        A store that removes expired rows by itself has to know a clock that is not the system's.
        """
        ...

    @property
    def is_local(self) -> bool:
        """Whether a read takes microseconds and waits for no one, so that an event loop may do it."""
        ...

    def ask(self, lookups: Sequence[Lookup]) -> PendingRead | None:
        """Begin a `read` of rows that are written afterwards; None where the store only reads while it is waited for.

        So a push does something else while a store behind a network looks.
        """
        ...

    def async_reader(self) -> NonBlockingReader | None:
        """What reads the same rows without blocking, for one event loop; None where the store has no such way."""
        ...

    def prepare(self, table: OnlineTable) -> None:
        """Make `table` ready for rows. Calling it again changes nothing.

        Raises:
            StorageError: the table exists with the other kind.
        """
        ...

    def write(
        self,
        table: OnlineTable,
        keys: Sequence[bytes],
        values: Sequence[bytes],
        *,
        condition: Condition,
        expires_at: Sequence[Micros | None] | None = None,
    ) -> list[bool]:
        """Keep each row whose condition holds; say for each whether it was kept.

        Rows are decided one by one, in order, as if written alone: a key that comes twice meets its first row. The
        rows of a call need not become visible together, and after an error any of them may have been kept. A kept
        row of a `state` table gets a new token, different from all that its key ever had, deleted rows included.

        Args:
            keys, values: n of each; a value may be empty.
            condition: `Newest` for a `latest` table, `Unchanged` for a `state` table, with n entries.
            expires_at: per row when `delete_expired` may remove it; None is never. A kept row's replaces the old one.

        Returns:
            n answers, in order. Once returned, rows outlive a crash of any process that is not the store itself.

        Raises:
            StorageError: the table was never prepared, or cannot be written.
            ValueError: the lengths differ, or the condition is not the one of the table's kind.
        """
        ...

    def read(self, lookups: Sequence[Lookup]) -> list[list[Row | None]]:
        """Answer every lookup in one round trip: a list per lookup, a row per key, in order.

        An unknown key is None, and so is every key of a table that does not exist (any more). What is read is one
        moment of the store as far as it can tell one (one file, one database, one shard).
        """
        ...

    def scan(self, table: OnlineTable, *, after: bytes | None = None, limit: int = SCAN_ROWS) -> list[ScannedRow]:
        """A page of rows in ascending order of keys, those greater than `after`; fewer than `limit` only at the end."""
        ...

    def delete(self, table: OnlineTable, keys: Sequence[bytes]) -> int:
        """Forget the keys; say how many had a row. A later write meets no row, as for a new key."""
        ...

    def delete_expired(self, project: str, now_us: Micros) -> int:
        """Remove the project's rows with `expires_at <= now_us` (a store may do so by itself, too); say how many."""
        ...

    def write_progress(self, table: OnlineTable, facts: Facts, *, within: str = "") -> None:
        """Set these facts, all or none, and leave the table's others.

        A reader that sees them also sees every row whose write had returned before.

        Args:
            within: as in `Unchanged`.

        Raises:
            StorageError: the table was never prepared, or cannot be written.
            StoreReplaced: the store is another incarnation.
        """
        ...

    def progress(self, table: OnlineTable) -> dict[str, str | int]:
        """All facts of the table; none for one that does not exist."""
        ...

    def incarnation(self) -> str:
        """A name for what the store is now; it changes where acknowledged writes may have been lost.

        So after a restart, and after a fail-over to a replica that may lack the last seconds. Where a store cannot lose
        what it has acknowledged, or tells the loss in another way (the table is gone), it is always the same.
        """
        ...

    def tables(self, project: str) -> list[OnlineTable]:
        """The project's tables, sorted."""
        ...

    def drop(self, table: OnlineTable) -> None:
        """Remove the table, its rows and its progress; nothing happens where there is none."""
        ...

    def drop_project(self, project: str) -> None:
        """Remove all tables of exactly this project."""
        ...

    def ping(self) -> str:
        """Reach the store; describe it in one line, without secrets.

        Raises:
            StorageError: it cannot be reached or used.
        """
        ...

    def warnings(self) -> list[str]:
        """How the store is set up in a way that may lose rows, each with the setting; none where all is well."""
        ...

    def close(self) -> None:
        """Give back connections. The store must not be used afterwards; a second call does nothing."""
        ...


_VERSION = struct.Struct(">4Q")
_SIGN = 1 << 63


def pack_version(event_time: Micros, *, created: Micros = 0, offset: int = 0, partition: int = 0) -> bytes:
    """The order of rows as 32 bytes that compare as `(event time, created time, offset, partition)` does.

    Args:
        created: 0 where the source names no created time.
        offset, partition: the arrival; 0 where the source has none.
    """
    return _VERSION.pack(event_time + _SIGN, created + _SIGN, offset + _SIGN, partition + _SIGN)


def unpack_version(version: bytes) -> tuple[Micros, Micros, int, int]:
    """`(event time, created time, offset, partition)` of a version."""
    event_time, created, offset, partition = _VERSION.unpack(version)
    return event_time - _SIGN, created - _SIGN, offset - _SIGN, partition - _SIGN


def check_write(
    table: OnlineTable,
    keys: Sequence[bytes],
    values: Sequence[bytes],
    condition: Condition,
    expires_at: Sequence[object] | None,
) -> None:
    """Refuse a write whose columns differ in length, or whose condition is not the one of the table's kind.

    Raises:
        ValueError: with what differs.
    """
    if isinstance(condition, Newest) != (table.kind == "latest"):
        raise ValueError(f"table {table} of kind {table.kind!r} is not written under {type(condition).__name__}")
    marks = condition.versions if isinstance(condition, Newest) else condition.tokens
    lengths = {"keys": len(keys), "values": len(values), "condition": len(marks)}
    if expires_at is not None:
        lengths["expires_at"] = len(expires_at)
    if len(set(lengths.values())) > 1:
        raise ValueError(f"the columns of a write to {table} differ in length: {lengths}")
