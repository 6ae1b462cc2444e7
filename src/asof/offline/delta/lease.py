"""The lease of a compaction: one process at a time compacts an archive, and a dead one does not keep others from it.

It is a transaction version in the table's own log: the time until which the lease is held, in microseconds. Each change
of it is a commit at the next version or none, so of two processes that want it one gets it, on every kind of storage.
It only saves work: two compactions at once would lose and double nothing, since each commit checks its files.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.exceptions import CommitFailedError

from asof.timing import SECOND, Micros

LEASE_US = 300 * SECOND
"""A lease that was not renewed for so long has expired: its holder is taken for dead."""

COMMIT_ATTEMPTS = 50
"""How often a commit is tried again while others write the table at the same time."""

_NAME = "asof compaction until"

Open: TypeAlias = Callable[[], DeltaTable]
"""Opens the table at its newest version."""


def system_us() -> Micros:
    """The system's time. The store's clock may be another, and stand still; leases and files live by the system's."""
    return time.time_ns() // 1000


def pause(attempt: int) -> None:
    """Wait before the next attempt of a commit that another writer was faster than."""
    time.sleep(min(0.001 * 2**attempt, 0.2))


def held_until(table: DeltaTable) -> Micros:
    """Until when some process has the lease; 0 where none ever had it, or it was given back."""
    return table.transaction_version(_NAME) or 0


@dataclass
class Lease:
    """The right to compact one table. `take` returns one."""

    _open: Open
    _now: Callable[[], Micros] = field(repr=False)
    _until: Micros

    @classmethod
    def take(cls, open_table: Open, *, now: Callable[[], Micros] | None = None) -> Lease | None:
        """The lease; None while another process has it, or where all writers were faster."""
        now = now or system_us
        for attempt in range(COMMIT_ATTEMPTS):
            table, moment = open_table(), now()
            if held_until(table) > moment:
                return None
            if _commit(table, moment + LEASE_US):
                return cls(open_table, now, moment + LEASE_US)
            pause(attempt)
        return None

    def renew(self) -> bool:
        """Hold it for longer, where that is due; False where it expired and another process took it."""
        if self._until - self._now() > LEASE_US // 2:
            return True
        return self._set(lambda: self._now() + LEASE_US)

    def release(self) -> None:
        """Give it back, if it is still this one's."""
        self._set(lambda: 0)

    def _set(self, until: Callable[[], Micros]) -> bool:
        for attempt in range(COMMIT_ATTEMPTS):
            table, wanted = self._open(), until()
            if held_until(table) != self._until:
                return False
            if _commit(table, wanted):
                self._until = wanted
                return True
            pause(attempt)
        return False


def _commit(table: DeltaTable, until: Micros) -> bool:
    try:
        table.create_write_transaction(
            [], "append", table.schema(), partition_by=table.metadata().partition_columns,
            commit_properties=CommitProperties(app_transactions=[Transaction(_NAME, until)], max_commit_retries=0),
        )  # fmt: skip
    except CommitFailedError:
        return False
    return True


__all__ = ["COMMIT_ATTEMPTS", "LEASE_US", "Lease", "Open", "held_until", "pause", "system_us"]
