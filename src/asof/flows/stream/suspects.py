"""Messages that may kill the process: found by a process of its own that takes them, first together and then alone.

Nothing can be caught of a crash in native code, or of a user's function that ends the process. So each worker writes
down, when it begins a partition, from which offset it goes on, and when it leaves the partition, that it did. Of a
worker that died there is only the beginning. After two deaths at one offset what the log holds from there on goes to a
child process first, bounded in memory and time: if that dies on a batch, halves of it go to another one, down to the
message that is to blame. A message on which two children died, alone, is a dead letter. A child that is killed from
outside (SIGKILL, so also by the system that is out of memory) says nothing about its message.
"""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Mapping
from contextlib import closing

import numpy as np

from asof.definitions import LogSource
from asof.errors import StorageError
from asof.flows.generations.progress import PartitionStart, start_of, write_start
from asof.flows.stores import ChildDeath, MessageProcess, Stores
from asof.flows.stream.event_ids import EVENTS
from asof.log.protocol import Messages
from asof.online.protocol import OnlineTable
from asof.timing import Micros

DEATHS = 2
"""Number of deaths of workers at one offset, and of children on one message, until it is not chance any more."""

MOST_KILLS = 3
"""Number of times that a batch is taken again by a child after the last one was killed from outside."""

FATAL = "it ends the process that takes it"
"""Begins the reason of such a dead letter: a message with that verdict is never decoded again."""

log = logging.getLogger("asof.stream")


class Suspects:
    """The partitions of one source at which workers have died, and the messages that are to blame.

    Args:
        counts: gets what was found out.
    """

    def __init__(self, stores: Stores, source: LogSource, *, counts: Counter[str]) -> None:
        self.stores = stores
        self._source = source.name
        self.counts = counts
        # With the tables of event IDs, whose name no view can have. It has facts only, and no rows.
        self._table = OnlineTable(stores.project, f"{source.name}{EVENTS}", "begun", "state")
        self._until: dict[int, int] = {}
        self._begun: dict[int, PartitionStart] = {}
        self._process: MessageProcess | None = None

    def begin(self, partition: int, *, position: int, after: int) -> None:
        """Note that this process begins a partition (numbered as in the archive) at an offset.

        Args:
            after: the log's end: no process has taken what comes later.
        """
        self.stores.online.prepare(self._table)
        last = start_of(self.stores.online, self._table, partition)
        deaths = 0
        if last.is_open:
            deaths = 1 + (last.deaths if last.position == position else 0)
        start = self._begun[partition] = PartitionStart(position, deaths, is_open=True)
        write_start(self.stores.online, self._table, partition, start)
        if deaths >= DEATHS and self.stores.can_isolate:
            self._until[partition] = after
            self.counts["partitions looked at in a child process"] += 1
            log.warning(
                "source %r: workers died %d times at offset %d of partition %d: a child process looks at it first",
                self._source, deaths, position, partition,
            )  # fmt: skip

    def release(self, partition: int) -> None:
        """Note that this process leaves a partition alive."""
        self._until.pop(partition, None)
        begun = self._begun.pop(partition, None)
        if begun is not None:
            # A store that is away, or lost the table, must not stop this: it counts as one death more.
            with contextlib.suppress(StorageError):
                write_start(self.stores.online, self._table, partition, begun._replace(is_open=False))

    def lose(self, partitions: set[int]) -> None:
        """Forget partitions that another process owns by now: what is noted of them is that one's."""
        for partition in partitions:
            self._until.pop(partition, None)
            self._begun.pop(partition, None)

    def fatal(
        self, source: LogSource, messages: Messages, *, base: int, now: Micros, known: Mapping[int, str]
    ) -> dict[int, str]:
        """The messages that end the process which takes them: index → reason.

        Args:
            known: those of these messages that were found before; no process takes them again.
        """
        found = dict(known)
        if not self._until:
            return found
        untils = np.array([self._until.get(number + base, -1) for number in messages.partitions.tolist()])
        suspects = [place for place in np.flatnonzero(messages.offsets < untils).tolist() if place not in known]
        for partition, until in list(self._until.items()):
            mine = messages.offsets[messages.partitions == partition - base]
            if len(mine) and int(mine.max()) + 1 >= until:
                del self._until[partition]
        if suspects:
            self._process = self._process or self.stores.isolated(source.name)
            self._look(messages, suspects, found, now=now)
            self.counts["messages that end a process"] += len(found) - len(known)
        if not self._until:
            self.close()
        return found

    def _look(self, messages: Messages, positions: list[int], found: dict[int, str], *, now: Micros) -> None:
        """Find the fatal messages among those at these indexes."""
        death = self._death_on(messages.select(positions), now=now)
        if death is None:
            return
        if len(positions) > 1:
            middle = len(positions) // 2
            self._look(messages, positions[:middle], found, now=now)
            self._look(messages, positions[middle:], found, now=now)
            return
        again = self._death_on(messages.select(positions), now=now)
        if again is not None:
            found[positions[0]] = f"{FATAL}: alone in a child process, which {again.reason}, {DEATHS} times"

    def _death_on(self, messages: Messages, *, now: Micros) -> ChildDeath | None:
        """How a child ended on these messages; None if it survived, or was only killed from outside."""
        assert self._process is not None
        for _ in range(MOST_KILLS):
            death = self._process.take(messages, now=now)
            if death is None or not death.is_outside:
                return death
            self.counts["child processes killed from outside"] += 1
            log.warning("a child process that takes %d messages %s", len(messages), death.reason)
        return None

    def close(self) -> None:
        """End the child process, if there is one."""
        process, self._process = self._process, None
        if process is not None:
            process.close()


def still_fatal(stores: Stores, source: LogSource, messages: Messages, *, now: Micros) -> dict[int, str]:
    """Those of some messages, found to be fatal before, that still are, or cannot be tried: index → reason."""
    if not stores.can_isolate:
        return dict.fromkeys(range(len(messages)), f"{FATAL}, and there is no child process to try it again")
    found = {}
    with closing(stores.isolated(source.name)) as process:
        for i in range(len(messages)):
            death = None
            for _ in range(MOST_KILLS):
                death = process.take(messages.select([i]), now=now)
                if death is None or not death.is_outside:
                    break
            if death is not None:
                found[i] = f"{FATAL}: tried again, alone in a child process, which {death.reason}"
    return found


__all__ = ["FATAL", "Suspects", "still_fatal"]
