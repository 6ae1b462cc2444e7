"""The protocol of online stores, and its types: table, row, version, token, condition.

Over 400 lines: a protocol is one class, whose methods are read together.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, Protocol, TypeAlias, cast

from asof.defaults import SCAN_ROWS
from asof.errors import StorageError
from asof.timing import Micros

Kind: TypeAlias = Literal["latest", "state"]
KINDS: tuple[Kind, ...] = ("latest", "state")


class OnlineTable(NamedTuple):
    """One generation of one view's online rows. (A named tuple, since it is hashed on each read.)

    Args:
        project: its project; compared exactly, so `prod` never matches `prod2`.
        view: the feature view's name.
        generation: the view's generation, such as `3f2a9c1d-2`.
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
    """Write a row if its key has none, or if `version >= the stored version`: among equal versions the last write wins.

    Args:
        versions: one per row, as bytes that sort like the rows (`pack_version`).
    """

    versions: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Unchanged:
    """Write a row if the stored token is still the one that was read; `NO_ROW` for a key without a row.

    Args:
        tokens: one per row.
        within: if given, the expected `incarnation`; a write to another one fails with `StoreReplaced`.
    """

    tokens: Sequence[int]
    within: str = ""


Condition: TypeAlias = Newest | Unchanged

NO_ROW = 0
"""The token of a key without a row; never the token of a stored row."""

Row: TypeAlias = tuple[bytes, bytes] | tuple[bytes, int]
"""(value, version) in a `latest` table, (value, token) in a `state` table."""

StateRow: TypeAlias = tuple[bytes, int]
"""A row of a `state` table."""

ScannedRow: TypeAlias = tuple[bytes, bytes, bytes] | tuple[bytes, bytes, int]
"""(key, value, version or token)."""

MarkedRows: TypeAlias = list[Row | None] | None
"""The rows of one lookup; None where the marker of its table is missing."""

Facts: TypeAlias = Mapping[str, str | int]
"""Progress of a table, by name: offsets of partitions, and other small facts."""


def state_rows(found: Sequence[Row | None]) -> Sequence[StateRow | None]:
    """Rows that were read from a `state` table, with their type; a cast without a check."""
    return cast("Sequence[StateRow | None]", found)


class StoreReplaced(StorageError):
    """The store may have lost acknowledged writes: its incarnation is not the one that the writer expects.

    Read progress again, catch the rows up, and continue from there.
    """

    may_pass = True


class Lookup(NamedTuple):
    """Keys to read from one table; keys may repeat."""

    table: OnlineTable
    keys: Sequence[bytes]


class PendingRead(Protocol):
    """A pending read. Call `rows` or `drop`."""

    def rows(self) -> list[list[Row | None]]:
        """Wait for the result, as `OnlineStore.read` returns it."""
        ...

    def drop(self) -> None:
        """Cancel the read."""
        ...


class Reply(Protocol):
    """Receives the reply to a request: a future, or a faster replacement of one."""

    def done(self) -> bool:
        """Whether the reply is not needed any more."""
        ...

    def set_result(self, result: Sequence[bytes | None], /) -> None:
        """Called with the reply."""
        ...

    def set_exception(self, exception: BaseException, /) -> None:
        """Called with the error."""
        ...


class NonBlockingReader(Protocol):
    """Reads an online store without blocking, for one event loop."""

    async def read(self, lookups: Sequence[Lookup]) -> list[MarkedRows]:
        """See `OnlineStore.read_marked`."""
        ...

    def asker(self, tables: Sequence[OnlineTable]) -> Callable[[Sequence[bytes], Reply], bool]:
        """A function (not a coroutine) that requests one row of each of these tables by its key.

        Its `Reply` gets the values (`packed` extracts the rows), or an error after which a retry may succeed. The
        function returns False without a connection.
        """
        ...

    def packed(self, tables: Sequence[OnlineTable], values: Sequence[bytes | None]) -> list[bytes | None]:
        """The packed rows in the values of a reply, a row of each table; none if a table's marker is missing."""
        ...

    async def close(self) -> None:
        """Close the connection; pending reads fail."""
        ...


class OnlineStoreDefaults:
    """Defaults for optional members of `OnlineStore`, to inherit."""

    takes_clock: ClassVar[bool] = False
    is_local: ClassVar[bool] = False
    has_markers: ClassVar[bool] = False

    def mark(self, table: OnlineTable, *, within: str = "") -> None:
        pass

    def read_marked(self, lookups: Sequence[Lookup]) -> list[MarkedRows]:
        rows: list[list[Row | None]] = self.read(lookups)  # type: ignore[attr-defined]  # of the store that inherits this
        return list(rows)

    def unmarked(self, tables: Sequence[OnlineTable]) -> list[OnlineTable]:
        return []

    def check(self: OnlineStore) -> None:
        self.ping()

    def evicts(self) -> str:
        return ""

    def ask(self, lookups: Sequence[Lookup]) -> PendingRead | None:
        return None

    def async_reader(self) -> NonBlockingReader | None:
        return None


class OnlineStore(Protocol):
    """Stores one row per table and key, and reads many keys at once.

    Any number of threads and processes may use a store concurrently; writes to a row are serializable. All failures
    are `StorageError`s that name the setting. Optional members have defaults in `OnlineStoreDefaults`, to inherit.

    Rows as the flows pack them:

        latest   value:    msgpack [format, event time, value, …]; of a log source, also [created, offset, partition]
                           and the versions that are not due yet
                 version:  32 bytes, drawn at `pack_version`
        state    value:    header, records, pool of objects, drawn in asof.aggregation.rows
                 token:    another one at each write
    """

    @property
    def takes_clock(self) -> bool:
        """Of the class: whether it is created with `clock=`.

        A store that removes expired rows by itself needs to know a clock that is not the system's.
        """
        ...

    @property
    def is_local(self) -> bool:
        """Whether a read takes microseconds without blocking, so that it may run on an event loop."""
        ...

    @property
    def has_markers(self) -> bool:
        """Of the class: whether a read detects that a table was built, and lost since.

        Each shard keeps a marker of each table: what loses its rows loses it, too. Else all tables count as marked.
        """
        ...

    def mark(self, table: OnlineTable, *, within: str = "") -> None:
        """Mark a table whose build is finished, after its rows and its progress. Never part of a live write.

        Args:
            within: as in `Unchanged`.

        Raises:
            StorageError: the table was never prepared, or cannot be written.
            StoreReplaced: the store is another incarnation.
        """
        ...

    def read_marked(self, lookups: Sequence[Lookup]) -> list[MarkedRows]:
        """Like `read`, but None for tables without their marker; it is read after the rows, in the same round trip."""
        ...

    def unmarked(self, tables: Sequence[OnlineTable]) -> list[OnlineTable]:
        """Those of the tables whose marker is missing in a shard; asks masters, never replicas."""
        ...

    def check(self) -> None:
        """Check that the store can be reached and used, as `plan` does; creates nothing.

        Raises:
            StorageError: it is unreachable or unusable.
        """
        ...

    def evicts(self) -> str:
        """Name and value of the setting by which the store removes rows before they expire; empty if none does."""
        ...

    def ask(self, lookups: Sequence[Lookup]) -> PendingRead | None:
        """Start a `read` of rows that the caller will write; None if the store only reads synchronously.

        A push does other work during the round trip.
        """
        ...

    def async_reader(self) -> NonBlockingReader | None:
        """A non-blocking reader of the same rows, for one event loop; None if the store has none."""
        ...

    def prepare(self, table: OnlineTable) -> None:
        """Create `table`. Idempotent.

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
        """Write each row whose condition holds; returns for each row whether it was written.

        Rows are decided one by one, in order, as if written alone: the second row of a repeated key is compared with
        the first one. The rows of a call may become visible separately, and after an error any of them may have been
        written. A written row of a `state` table gets a new token, different from all earlier ones of its key, those of
        deleted rows included.

        Args:
            keys, values: n of each; a value may be empty.
            condition: `Newest` for a `latest` table, `Unchanged` for a `state` table, with n entries.
            expires_at: per row, when `delete_expired` may remove it; None for never. It replaces the stored row's.

        Returns:
            n flags, in order. Written rows survive a crash of any process other than the store.

        Raises:
            StorageError: the table is not prepared, or cannot be written.
            ValueError: the lengths differ, or the condition does not match the table's kind.
        """
        ...

    def read(self, lookups: Sequence[Lookup]) -> list[list[Row | None]]:
        """Read all lookups in one round trip: a list per lookup, a row per key, in order.

        Unknown keys are None, and so are all keys of a table that does not exist. Reads are consistent as far as the
        store supports it (within one file, one database, one shard).
        """
        ...

    def scan(self, table: OnlineTable, *, after: bytes | None = None, limit: int = SCAN_ROWS) -> list[ScannedRow]:
        """A page of rows with keys greater than `after`, ordered by key; fewer than `limit` only at the end."""
        ...

    def delete(self, table: OnlineTable, keys: Sequence[bytes]) -> int:
        """Delete the keys' rows; returns the number of rows deleted. Later writes find no row, as for new keys."""
        ...

    def delete_expired(self, project: str, now_us: Micros) -> int:
        """Delete the project's rows with `expires_at <= now_us`; returns their number. A store may also expire rows."""
        ...

    def write_progress(self, table: OnlineTable, facts: Facts, *, within: str = "") -> None:
        """Set these facts atomically; the table's other facts stay.

        A reader that sees them also sees every row whose write had returned before.

        Args:
            within: as in `Unchanged`.

        Raises:
            StorageError: the table is not prepared, or cannot be written.
            StoreReplaced: the store has another incarnation.
        """
        ...

    def progress(self, table: OnlineTable) -> dict[str, str | int]:
        """All facts of the table; empty if it does not exist."""
        ...

    def incarnation(self) -> str:
        """The store's incarnation, which changes whenever acknowledged writes may have been lost.

        That is after a restart, or a fail-over to a replica that may lack the last seconds. It is constant for a store
        that cannot lose acknowledged writes, or whose loss is visible otherwise (the table is missing).
        """
        ...

    def tables(self, project: str) -> list[OnlineTable]:
        """The project's tables, sorted."""
        ...

    def drop(self, table: OnlineTable) -> None:
        """Drop the table with its rows and progress; ignored if it does not exist."""
        ...

    def drop_project(self, project: str) -> None:
        """Drop all tables of exactly this project."""
        ...

    def ping(self) -> str:
        """Connect to the store, and describe it in one line, without secrets.

        Raises:
            StorageError: it is unreachable or unusable.
        """
        ...

    def warnings(self) -> list[str]:
        """Warnings about settings of the store that may lose rows."""
        ...

    def close(self) -> None:
        """Close all connections. The store must not be used afterwards. Idempotent."""
        ...


_VERSION = struct.Struct(">4Q")
_SIGN = 1 << 63


def pack_version(event_time: Micros, *, created: Micros = 0, offset: int = 0, partition: int = 0) -> bytes:
    """A row's version: 32 bytes that sort like `(event time, created time, offset, partition)`.

        ┌──────────────┬──────────────┬──────────────┬──────────────┐
        │ event time   │ created time │ offset       │ partition    │   4 × u64, big-endian, each plus 2**63,
        └──────────────┴──────────────┴──────────────┴──────────────┘   so that bytes sort like the numbers

    Args:
        created: 0 if the source has no created time.
        offset, partition: of the row in the log; 0 for batch sources.
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
    """Refuse a write whose columns differ in length, or whose condition does not match the table's kind.

    Raises:
        ValueError: names the difference.
    """
    if isinstance(condition, Newest) != (table.kind == "latest"):
        raise ValueError(
            f"table {table} of kind {table.kind!r} cannot be written with condition {type(condition).__name__}"
        )
    marks = condition.versions if isinstance(condition, Newest) else condition.tokens
    lengths = {"keys": len(keys), "values": len(values), "condition": len(marks)}
    if expires_at is not None:
        lengths["expires_at"] = len(expires_at)
    if len(set(lengths.values())) > 1:
        raise ValueError(f"the columns of a write to {table} differ in length: {lengths}")
