"""Applies one source's events to all generations of its views, and tracks their progress.

A row is correct if it gets its key's events of each partition in order and without a gap. So a generation gets a
partition's live events only once it has caught up with the archive, with no events in between. Two processes may write
the same rows at once, for example one that has lost its partitions without knowing it: each reads the log in order and
without a gap, and a row ignores events that it has seen.

After a fail-over the store may have lost the last events of some rows, and later events would leave a gap. So a write
is only for the store's incarnation that progress was read from. If the incarnation has changed, the generation is left,
and joined again at the next flush: it catches up from the archive, starting at the progress that the store still has.
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
from asof.flows.stores import Stores, building_generation, current_generation, online_views, staged_project
from asof.online.protocol import Lookup, PendingRead, Row, StoreReplaced


class PendingPush:
    """Pushed rows that are being written to the log, with the steps that are done meanwhile.

    Attributes:
        newest: for each generation of plain columns, the newest row per key.
        pending: the pending read of the keys' stored rows.
    """

    def __init__(self, arrived: AppendedRows) -> None:
        self.arrived = arrived
        self.newest: dict[Name, NewestPackedRows] = {}
        self.pending: PendingRead | None = None
        self._found: dict[Name, list[Row | None]] | None = None

    def found(self, name: Name) -> list[Row | None] | None:
        """The stored rows of a generation's keys; None if they were not requested."""
        if self.pending is None:
            return None
        if self._found is None:
            self._found = dict(zip(self.newest, self.pending.rows(), strict=True))
        return self._found[name]

    def drop(self) -> None:
        """Cancel the pending reads."""
        if self.pending is not None:
            self.pending.drop()


class LiveGenerations:
    """Writes the generations of one source, for the partitions assigned to this process.

    Args:
        source: the source's name.
    """

    def __init__(self, stores: Stores, source: str) -> None:
        self.stores = stores
        self.source_name = source
        self.feeders: dict[Name, GenerationWriter] = {}
        self.fed: dict[Name, set[int]] = {}
        self.counts: Counter[str] = Counter()
        self._wanted: dict[Name, FeatureView] = {}
        self._current: set[Name] = set()
        self._replaced: dict[Name, set[bytes]] = {}

    def read_registry(self, snapshot: Snapshot) -> None:
        """Read the views and generations of a new snapshot; `take_up` acts on them."""
        self._current = set()
        self._wanted = {}
        source = snapshot.project.sources.get(self.source_name)
        if not isinstance(source, LogSource):
            return
        for view in online_views(snapshot, source):
            if generation := current_generation(snapshot, view):
                self._wanted[view.name, generation] = view
                self._current.add((view.name, generation))
        # Generations being built have the staged definitions of a running apply, if any, else the applied ones.
        staged = staged_project(snapshot) or snapshot.project
        for view in staged.views_of(self.source_name):
            if view.online and (generation := building_generation(snapshot, view)):
                self._wanted[view.name, generation] = view

    @property
    def are_settled(self) -> bool:
        """Whether every generation in the registry is being written."""
        return self._wanted.keys() == self.feeders.keys()

    @property
    def are_replaced(self) -> bool:
        """Whether a generation must be joined again because the store's incarnation changed."""
        return bool(self._replaced)

    def look_at_store(self) -> None:
        """Leave generations whose rows are lost, or may have lost events, even if no new event arrives for them."""
        if self.feeders:
            now = self.stores.online.incarnation()
            for name in [name for name, feeder in self.feeders.items() if feeder.incarnation != now]:
                self._leave_replaced(name)
            tables = {feeder.table: name for name, feeder in self.feeders.items()}
            for table in self.stores.online.unmarked(list(tables)):
                # Rows without a marker may also be just built, or from before there were markers.
                if not progress_of(self.stores.online, table).is_built:
                    self._leave_if_lost(tables[table])

    def take_up(self, source: LogSource, archived: Mapping[int, int]) -> None:
        """Leave generations that are gone, and join those whose base is complete.

        Args:
            archived: assigned partition → last archived offset; no generation has got events beyond it.
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
            feeder = GenerationWriter(self.stores, view, name[1])
            built = progress_of(self.stores.online, feeder.table).is_built
            incomplete = self._replaced.pop(name, set())
            if built:
                self.feeders[name], self.fed[name] = feeder, set()
                # Rows that are still to be recomputed: the store may have lost their flag.
                feeder.incomplete |= incomplete
                with self.while_there(name):
                    for partition, offset in archived.items():
                        self._catch_up(name, source, partition, offset)

    def lost(self) -> list[FeatureView]:
        """Views whose current table is missing in the online store.

        Generations that wait to be joined again are not included: they are checked then.
        """
        return [self._wanted[name] for name in self._current - self.feeders.keys() - self._replaced.keys()]

    def begin(self, source: LogSource, partition: int, archived: int) -> None:
        """Catch up all generations with the archive for one partition; then it is live."""
        for name in list(self.feeders):
            with self.while_there(name):
                self._catch_up(name, source, partition, archived)

    def _catch_up(self, name: Name, source: LogSource, partition: int, archived: int) -> None:
        feeder = self.feeders[name]
        known = progress_of(self.stores.online, feeder.table)
        reached = known.offset_of(partition)
        if known.is_incomplete(partition):
            feeder.find_incomplete(partition)
        for rows in archived_after(self.stores, source, partition, after=reached, through=archived):
            batch = counted(feeder.view.source, batch_of_archive(feeder.view.source, rows))
            feeder.apply(batch, clock=self.stores.clock())
            # Write progress after each step, so that a successor continues from there.
            reached = int(rows["offset"][-1].as_py())
            step = TableProgress(reached={partition: reached})
            write_progress(self.stores.online, feeder.table, step, within=feeder.incarnation)
        caught_up = TableProgress(reached={partition: max(archived, reached)}, live={partition: True})
        write_progress(self.stores.online, feeder.table, caught_up, within=feeder.incarnation)
        self.fed[name].add(partition)

    def feed(self, source: LogSource, batch: RowBatch, raw: pa.Table) -> None:
        """Apply a batch to the rows of all generations that are live for its partitions.

        Args:
            batch: the rows as a batch of the source; raw: the same rows with the archive's columns.
        """
        clock = self.stores.clock()
        partitions = set(np.unique(batch.partition).tolist())
        by_source: dict[int, RowBatch] = {id(source): counted(source, batch)}
        for name in self._in_order():
            its_source = self.feeders[name].view.source
            if its_source == source:
                its_source = source
            part = by_source.get(id(its_source))
            if part is None:
                # The new definition of a view that is being applied may map the columns differently.
                part = by_source[id(its_source)] = counted(its_source, batch_of_archive(its_source, raw))
            live = self.fed[name]
            if not live >= partitions:
                part = part.take(np.flatnonzero(np.isin(part.partition, list(live))))
            with self.while_there(name):
                self.feeders[name].apply(part, clock=clock)

    def look_ahead(self, source: LogSource, arrived: AppendedRows) -> PendingPush:
        """Prepare pushed rows before they are in the log: pack them, and request the stored rows of their keys."""
        clock = self.stores.clock()
        ahead = PendingPush(arrived)
        last = max(arrived.rows.event_time)
        chosen = {}
        for name, feeder in self.feeders.items():
            rows = feeder.pick(source)
            if rows is not None and arrived.partition in self.fed[name] and last <= clock - feeder.view.delay:
                chosen[name] = rows, rows.keys_of(arrived)
        if chosen:
            ahead.pending = self.stores.online.ask(
                [Lookup(self.feeders[name].table, list(dict.fromkeys(keys))) for name, (_, keys) in chosen.items()]
            )
        ahead.newest = {name: self.feeders[name].newest(rows, arrived, keys) for name, (rows, keys) in chosen.items()}
        return ahead

    def feed_pushed(self, source: LogSource, ahead: PendingPush) -> None:
        """Apply pushed rows like `feed`; for views of plain columns without an Arrow table."""
        clock = self.stores.clock()
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
        """Generations that are not in use yet first, so that readers never lose events by a switch."""
        return sorted(self.feeders, key=self._current.__contains__)

    def write_progress(self, through: Mapping[int, int]) -> None:
        """Write the rows' progress; it never goes back."""
        for name, feeder in list(self.feeders.items()):
            with self.while_there(name):
                known = progress_of(self.stores.online, feeder.table)
                further = {
                    each: offset for each, offset in through.items()
                    if each in self.fed[name] and offset > known.offset_of(each)
                }  # fmt: skip
                if not known.is_built:
                    self._leave_if_lost(name)
                elif further:
                    change = TableProgress(reached=further)
                    write_progress(self.stores.online, feeder.table, change, within=feeder.incarnation)

    def release(self, partitions: set[int], *, in_order: bool = True) -> None:
        """Stop applying these partitions.

        Args:
            in_order: they are still assigned to this process, so it can record that they are not live any more.
        """
        for name, live in self.fed.items():
            mine = partitions & live
            live -= partitions
            if in_order and mine:
                try:
                    change = TableProgress(live=dict.fromkeys(mine, False))
                    write_progress(self.stores.online, self.feeders[name].table, change)
                except StorageError:
                    pass  # the table is gone, and its progress with it

    def leave(self, name: Name) -> None:
        """Stop writing a generation."""
        self.counts.update(self.feeders.pop(name).counts)
        del self.fed[name]

    @contextmanager
    def while_there(self, name: Name) -> Iterator[None]:
        """Run a block on a generation's rows; leave the generation if its table is gone, by a switch or a loss.

        Its successor is joined at a flush, when no event is between the archive and the live events.
        """
        try:
            yield
        except StoreReplaced:
            self._leave_replaced(name)
        except StorageError:
            if progress_of(self.stores.online, self.feeders[name].table).is_built:
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
