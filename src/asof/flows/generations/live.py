"""The generations that one source's events belong into: which there are, how far each is, and what each is fed.

A row is right if it has been given its key's events of each partition in order and without a gap. So a generation is
fed a partition live only from the moment at which it has been brought up to the archive, and nothing lies in between.
Two processes may feed the same rows at once, also one that lost its partitions and does not know it yet: each of them
goes through the log in order and without a gap, and a row drops what it has seen.

A store that failed over may have lost rows' last events, and a row that went on without them would never get them. So
a write is for the store's incarnation that progress was read of; where there is another one, the generation is left,
and taken up again at a flush: from the progress that the store has by then, out of the archive.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import pyarrow as pa

from asof.definitions import FeatureView, LogSource, Snapshot
from asof.errors import StorageError
from asof.flows.generations.names import Name
from asof.flows.generations.progress import TableProgress, progress_of, write_progress
from asof.flows.generations.writer import GenerationWriter
from asof.flows.rows.archive import archived_after
from asof.flows.rows.batch import RowBatch, batch_of_archive, counted
from asof.flows.rows.newest import NewestPackedRows
from asof.flows.rows.pushed import AppendedRows
from asof.flows.stores import Parts, building_generation, current_generation, online_views, staged_project
from asof.online.protocol import Lookup, PendingRead, Row, StoreReplaced


class PendingPush:
    """Pushed rows on their way to the log, and what was found out about them meanwhile.

    Attributes:
        newest: per generation that takes the rows as they are, its keys' newest rows.
        asked: what its keys have stored, on its way.
    """

    def __init__(self, arrived: AppendedRows) -> None:
        self.arrived = arrived
        self.newest: dict[Name, NewestPackedRows] = {}
        self.asked: PendingRead | None = None
        self._found: dict[Name, list[Row | None]] | None = None

    def found(self, name: Name) -> list[Row | None] | None:
        """What a generation's keys have stored; None where that was not asked for."""
        if self.asked is None:
            return None
        if self._found is None:
            self._found = dict(zip(self.newest, self.asked.rows(), strict=True))
        return self._found[name]

    def drop(self) -> None:
        """Let go of what was asked for and is not read."""
        if self.asked is not None:
            self.asked.drop()


class LiveGenerations:
    """Feeds the generations of one source, for the partitions that this process has.

    Args:
        source: the source's name.
    """

    def __init__(self, parts: Parts, source: str) -> None:
        self.parts = parts
        self.source_name = source
        self.feeders: dict[Name, GenerationWriter] = {}
        self.fed: dict[Name, set[int]] = {}
        self.counts: Counter[str] = Counter()
        self._wanted: dict[Name, FeatureView] = {}
        self._current: set[Name] = set()
        self._replaced: dict[Name, set[bytes]] = {}

    def read_registry(self, snapshot: Snapshot) -> None:
        """Take over what a new snapshot says; `take_up` acts on it."""
        self._current = set()
        self._wanted = {}
        source = snapshot.project.sources.get(self.source_name)
        if not isinstance(source, LogSource):
            return
        for view in online_views(snapshot, source):
            if generation := current_generation(snapshot, view):
                self._wanted[view.name, generation] = view
                self._current.add((view.name, generation))
        # What is being built follows the definitions that an apply has staged, else the applied ones.
        staged = staged_project(snapshot) or snapshot.project
        for view in staged.views_of(self.source_name):
            if view.online and (generation := building_generation(snapshot, view)):
                self._wanted[view.name, generation] = view

    @property
    def are_settled(self) -> bool:
        """Whether every generation that the registry names is fed."""
        return self._wanted.keys() == self.feeders.keys()

    @property
    def are_replaced(self) -> bool:
        """Whether a generation waits to be taken up again, since the store is another incarnation."""
        return bool(self._replaced)

    def look_at_store(self) -> None:
        """Leave the generations whose rows may have lost events since, also where no event comes in for them."""
        if self.feeders:
            now = self.parts.online.incarnation()
            for name in [name for name, feeder in self.feeders.items() if feeder.incarnation != now]:
                self._leave_replaced(name)

    def take_up(self, source: LogSource, archived: Mapping[int, int]) -> None:
        """Leave the generations that are gone, and begin to feed those whose base stands by now.

        Args:
            archived: this process's partitions → their last archived offset; nothing beyond it has been fed to anyone.
        """
        for name in self.feeders.keys() - self._wanted.keys():
            self.leave(name)
        for name in self._replaced.keys() - self._wanted.keys():
            del self._replaced[name]
        for name, view in self._wanted.items():
            known = self.feeders.get(name)
            if known is not None:
                known.view = view
                continue
            feeder = GenerationWriter(self.parts, view, name[1])
            built = progress_of(self.parts.online, feeder.table).is_built
            incomplete = self._replaced.pop(name, set())
            if built:
                self.feeders[name], self.fed[name] = feeder, set()
                # Those that are still to be recomputed; that there are some may be forgotten in the store.
                feeder.incomplete |= incomplete
                with self.while_there(name):
                    for partition, offset in archived.items():
                        self._catch_up(name, source, partition, offset)

    def lost(self) -> list[FeatureView]:
        """The views whose rows readers should find, and whose table the online store does not have any more.

        One that waits to be taken up again is none of them: whether its table is there is seen then.
        """
        return [self._wanted[name] for name in self._current - self.feeders.keys() - self._replaced.keys()]

    def begin(self, source: LogSource, partition: int, archived: int) -> None:
        """Bring every generation up to the archive for one partition; from then on it is fed live."""
        for name in list(self.feeders):
            with self.while_there(name):
                self._catch_up(name, source, partition, archived)

    def _catch_up(self, name: Name, source: LogSource, partition: int, archived: int) -> None:
        feeder = self.feeders[name]
        known = progress_of(self.parts.online, feeder.table)
        reached = known.offset_of(partition)
        if known.is_incomplete(partition):
            feeder.find_incomplete(partition)
        for rows in archived_after(self.parts, source, partition, after=reached, through=archived):
            batch = counted(feeder.view.source, batch_of_archive(feeder.view.source, rows))
            feeder.apply(batch, clock=self.parts.clock())
            # Step by step, so that whoever takes this over does not begin again.
            reached = int(rows["offset"][-1].as_py())
            step = TableProgress(reached={partition: reached})
            write_progress(self.parts.online, feeder.table, step, within=feeder.incarnation)
        caught_up = TableProgress(reached={partition: max(archived, reached)}, live={partition: True})
        write_progress(self.parts.online, feeder.table, caught_up, within=feeder.incarnation)
        self.fed[name].add(partition)

    def feed(self, source: LogSource, batch: RowBatch, raw: pa.Table) -> None:
        """Apply a batch to the rows of every generation that is fed its partitions.

        Args:
            batch: in the source's terms; raw: the same rows as they are archived.
        """
        clock = self.parts.clock()
        partitions = set(np.unique(batch.partition).tolist())
        by_source: dict[int, RowBatch] = {id(source): counted(source, batch)}
        for name in self._in_order():
            its_source = self.feeders[name].view.source
            if its_source == source:
                its_source = source
            part = by_source.get(id(its_source))
            if part is None:
                # A view that is being applied may see the columns in another way.
                part = by_source[id(its_source)] = counted(its_source, batch_of_archive(its_source, raw))
            live = self.fed[name]
            if not live >= partitions:
                part = part.take(np.flatnonzero(np.isin(part.partition, list(live))))
            with self.while_there(name):
                self.feeders[name].apply(part, clock=clock)

    def look_ahead(self, source: LogSource, arrived: AppendedRows) -> PendingPush:
        """Begin to apply pushed rows that are not in the log yet: pack them, and ask for what they are merged into."""
        clock = self.parts.clock()
        ahead = PendingPush(arrived)
        last = max(arrived.rows.event_time)
        chosen = {}
        for name, feeder in self.feeders.items():
            rows = feeder.pick(source)
            if rows is not None and arrived.partition in self.fed[name] and last <= clock - feeder.view.delay:
                chosen[name] = rows, rows.keys_of(arrived)
        if chosen:
            ahead.asked = self.parts.online.ask(
                [Lookup(self.feeders[name].table, list(dict.fromkeys(keys))) for name, (_, keys) in chosen.items()]
            )
        ahead.newest = {name: self.feeders[name].newest(rows, arrived, keys) for name, (rows, keys) in chosen.items()}
        return ahead

    def feed_pushed(self, source: LogSource, ahead: PendingPush) -> None:
        """Apply pushed rows, as `feed` does: where a view has columns of theirs as they are, without a table."""
        clock = self.parts.clock()
        arrived = ahead.arrived
        last = max(arrived.rows.event_time)
        for name in self._in_order():
            feeder = self.feeders[name]
            if arrived.partition not in self.fed[name]:
                continue
            its_source = feeder.view.source
            with self.while_there(name):
                newest = ahead.newest.get(name)
                if newest is not None and last <= clock - feeder.view.delay:
                    feeder.apply_newest(newest, clock=clock, found=ahead.found(name))
                elif its_source == source:
                    feeder.apply(counted(source, arrived.batch), clock=clock)
                else:
                    batch = batch_of_archive(its_source, arrived.archived)
                    feeder.apply(counted(its_source, batch), clock=clock)

    def _in_order(self) -> list[Name]:
        """Those that readers do not use yet go first, so that after a switch no one reads less than before it."""
        return sorted(self.feeders, key=self._current.__contains__)

    def write_progress(self, through: Mapping[int, int]) -> None:
        """Say how far the rows are; never less than someone has said before."""
        for name, feeder in list(self.feeders.items()):
            with self.while_there(name):
                known = progress_of(self.parts.online, feeder.table)
                further = {
                    each: offset for each, offset in through.items()
                    if each in self.fed[name] and offset > known.offset_of(each)
                }  # fmt: skip
                if not known.is_built:
                    self._leave_if_lost(name)
                elif further:
                    change = TableProgress(reached=further)
                    write_progress(self.parts.online, feeder.table, change, within=feeder.incarnation)

    def release(self, partitions: set[int], *, in_order: bool = True) -> None:
        """Feed these partitions no longer.

        Args:
            in_order: they are still this process's, so it can say that nobody feeds them now.
        """
        for name, live in self.fed.items():
            mine = partitions & live
            live -= partitions
            if in_order and mine:
                try:
                    change = TableProgress(live=dict.fromkeys(mine, False))
                    write_progress(self.parts.online, self.feeders[name].table, change)
                except StorageError:
                    pass  # a table that is gone says nothing either

    def leave(self, name: Name) -> None:
        """Feed a generation no longer."""
        self.counts.update(self.feeders.pop(name).counts)
        del self.fed[name]

    @contextmanager
    def while_there(self, name: Name) -> Iterator[None]:
        """Work on a generation's rows; leave it where its table turns out to be gone, by a switch or a loss.

        What comes in its place is taken up at a flush, where no event lies between the archive and the live feed.
        """
        try:
            yield
        except StoreReplaced:
            self._leave_replaced(name)
        except StorageError:
            if progress_of(self.parts.online, self.feeders[name].table).is_built:
                raise
            self._leave_if_lost(name)

    def _leave_replaced(self, name: Name) -> None:
        self.counts["fail-overs of the online store"] += 1
        self._replaced[name] = set(self.feeders[name].incomplete)
        self.leave(name)

    def _leave_if_lost(self, name: Name) -> None:
        self.counts["generations that went away"] += 1
        self.leave(name)


__all__ = ["LiveGenerations"]
