"""Online reads: one multi-key read at one moment for all views, then the same on-demand step as in training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import pyarrow as pa

from asof.aggregation import NEVER, ROWS_AT_ONCE, RowLayout, answer
from asof.definitions import Snapshot
from asof.derive import derive_values
from asof.errors import EntityFrameError, StorageError
from asof.flows.generations.layout import layout_of
from asof.flows.online.entity_rows import EntityRows
from asof.flows.stores import Parts, current_generation, table_of
from asof.online.protocol import Lookup, Row
from asof.online_response import NOT_FOUND, OUTSIDE_MAX_AGE, Columns, OnlineResponse, ViewMetadata
from asof.selection import FeatureOut, Selection, ViewRead
from asof.timing import EARLIEST, Micros
from asof.values.check import checker
from asof.values.from_arrow import in_utc
from asof.values.packing import (
    FORMAT,
    FORMATS,
    gone_at,
    key_bytes,
    pack_keys,
    plainer,
    restorer,
    unpack_row,
    versions_of,
)

Past = tuple[Columns, Sequence[Micros | None]]
History = Callable[[ViewRead, Columns, Micros], Past]
"""Answers a view's features for some keys as of a moment: outputs by name (nulls stay nulls), and per key the time of
its newest row up to then, if that is known."""


class OnlineRequest(NamedTuple):
    """The entity rows of a request, checked, and what has to be read for them.

    Args:
        columns: join keys and request values.
        n: how many entity rows.
        lookups: view by view.
    """

    columns: Columns
    n: int
    lookups: list[Lookup]


class WindowResults(NamedTuple):
    """What the windows of some rows hold.

    Args:
        columns: feature by feature; `times`: per row the time of its newest event.
        behind: the rows that have merged events later than the moment asked for.
    """

    columns: list[list[Any]]
    times: list[Micros | None]
    behind: list[int]


class OnlineReader:
    """Answers one selection from the online store; made once per selection and snapshot.

    Args:
        history: answers what an online row cannot: a moment before the newest event that the row has merged.
    """

    def __init__(self, parts: Parts, snapshot: Snapshot, selection: Selection, *, history: History) -> None:
        self.parts = parts
        self.snapshot = snapshot
        self.selection = selection
        self.views = [ViewReader(parts, snapshot, read, history) for read in selection.reads]
        alike: dict[Any, list[int]] = {}
        for place, view in enumerate(self.views):
            if view.alike is not None:
                alike.setdefault(view.alike, []).append(place)
        self._alike = [places for places in alike.values() if len(places) > 1]
        self._entity_rows = EntityRows(selection)
        self.key_fields = self._entity_rows.key_fields

    @property
    def generations(self) -> list[str]:
        """The online generations that are read, view by view."""
        return [view.table.generation for view in self.views]

    def read(self, entity_rows: Any, *, at: Micros | None = None) -> tuple[OnlineResponse, bool]:
        """The answer, and whether every row was found (a missing one may be in a newer generation).

        Args:
            entity_rows: dicts, a dict of columns, or a table, with the join keys and request values; what else is in
                there is passed over.
            at: the moment to answer for; the clock's where None. The clock is asked after the rows are read, so that
                a row which is written meanwhile is not later than the moment.
        """
        question = self.ask(entity_rows)
        return self.answer(question, self.parts.online.read(question.lookups) if question.lookups else [], at=at)

    def ask(self, entity_rows: Any) -> OnlineRequest:
        """What has to be read of the online store: for who reads it in another way than `read` does.

        Raises:
            EntityFrameError: a column is missing, a key is null, or a value does not fit its type.
        """
        columns, keys, n = self._entity_rows.columns(entity_rows)
        try:
            return OnlineRequest(columns, n, self._lookups(keys, n))
        except UnicodeEncodeError as error:
            raise EntityFrameError(
                f"a join key is text that has no UTF-8: {error}", hint="leave such rows out"
            ) from error

    def answer(
        self,
        question: OnlineRequest,
        answers: list[list[Row | None]],
        *,
        at: Micros | None = None,
        derived: bool = True,
    ) -> tuple[OnlineResponse, bool]:
        """See `read`.

        Args:
            answers: the online store's to `question.lookups`; they are consumed.
            derived: run the on-demand functions, too; else the answer is whole only after `derive`.
        """
        if at is None:
            at = self.parts.clock()
        columns, n, _ = question
        values: Columns = {}
        found = []
        complete = True
        windows = self._windows_together(answers, n, at)
        answers.reverse()
        for place, view in enumerate(self.views):
            # Let go of one view after the other: memory that is used again is in the processor's cache.
            rows = answers.pop()
            if None in rows:
                complete = False
            found.append(view.answer(rows, keys=columns, at=at, values=values, windows=windows.get(place)))
        response = OnlineResponse(self.selection, columns, values, found, at=at, rows=n)
        return self.derive(response) if derived and self.selection.derivations else response, complete

    def _windows_together(self, answers: list[list[Row | None]], n: int, at: Micros) -> dict[int, WindowResults]:
        """Answer views that have the same windows as if they were one: that costs little more than one of them."""
        windows: dict[int, WindowResults] = {}
        for places in self._alike:
            if n * len(places) > ROWS_AT_ONCE:
                continue
            rows = [row for place in places for row in answers[place]]
            columns, times, behind = self.views[places[0]].windows(rows, at)
            for i, place in enumerate(places):
                start, end = i * n, (i + 1) * n
                mine = [row - start for row in behind if start <= row < end]
                windows[place] = WindowResults([column[start:end] for column in columns], times[start:end], mine)
        return windows

    def derive(self, response: OnlineResponse) -> OnlineResponse:
        """Run the on-demand functions, over what was read and what came with the request."""
        values, n = response.values, len(response)
        values |= derive_values({**response.keys, **values}, n, self.selection.derivations, response.at)
        return response

    def _lookups(self, keys: Columns, n: int) -> list[Lookup]:
        """What to read of each view; the keys of views that share theirs are packed once."""
        packed: dict[tuple[str, ...], list[bytes]] = {}
        lookups = []
        for view in self.views:
            names = view.read.keys
            if names not in packed:
                packed[names] = pack_keys([keys[name] for name in names]) if names else [key_bytes(())] * n
            lookups.append(Lookup(view.table, packed[names]))
        return lookups


class ViewReader:
    """How one view of the selection is read."""

    def __init__(self, parts: Parts, snapshot: Snapshot, read: ViewRead, history: History) -> None:
        view = read.view
        if not view.online:
            raise StorageError(
                f"feature view {view.name!r} is not kept online", hint="set online=True and apply", where=view.where
            )
        self.read = read
        self.view = view
        self.history = history
        self.table = table_of(parts.project, view, current_generation(snapshot, view) or "none")
        self.names = tuple(feature.name for feature in read.features)
        self.outputs = [feature.output for feature in read.features]
        self.defaults = [(each.output, plain_default(each)) for each in read.features if each.default is not None]
        self.layout: RowLayout | None = layout_of(view, self.table.generation) if view.is_aggregated else None
        self.is_log_fed = view.source.is_log
        self._plain = [plainer(field.dtype) for field in view.key_fields]
        fields = [field.name for field in view.features]
        self._width = len(fields)
        # A row is [format, event time, value, …], and of a log [… , [created, arrived, within], pending] beside.
        self._formats = FORMATS if self.is_log_fed else frozenset((FORMAT,))
        self._nothing = [FORMAT, None, *[None] * (self._width + (2 if self.is_log_fed else 0))]
        places = [2 + fields.index(name) for name in self.names]
        self.pick = itemgetter(*places) if len(places) > 1 else lambda columns: (columns[places[0]],)
        restorers = enumerate(restorer(feature.dtype) for feature in read.features)
        self._restore = [(place, restore) for place, restore in restorers if restore is not None]

    @property
    def is_plain(self) -> bool:
        """Whether an answer has the row's values as they are packed: no windows, defaults, or values of other types."""
        plain_keys = all(plain is None for plain in self._plain)
        return self.layout is None and plain_keys and not self._restore and not self.defaults

    def known(self, packed: bytes, at: Micros) -> list[Any] | None:
        """The unpacked row where it is simply what a latest-value view answers at that moment; else None."""
        t = at - self.view.delay
        row = unpack_row(packed)
        time = row[1]
        if time is None or time > t or (self.is_log_fed and row[-1]) or row[0] not in self._formats:
            return None
        return None if self.view.ttl and time < t - self.view.ttl else row

    @property
    def alike(self) -> tuple[Any, ...] | None:
        """Equal for views whose windows hold the same of the same rows; None for a view without windows."""
        return None if self.layout is None else (self.layout, self.names, self.view.delay)

    def answer(
        self,
        rows: Sequence[Row | None],
        *,
        keys: Columns,
        at: Micros,
        values: Columns,
        windows: WindowResults | None = None,
    ) -> ViewMetadata:
        """Add this view's columns to `values`; what is known of its rows.

        Args:
            windows: what `windows` answered for these rows, if somebody asked already.
        """
        if self.layout is None:
            columns, answer, behind = self._latest(rows, at - self.view.delay)
        else:
            columns, times, behind = self.windows(rows, at) if windows is None else windows
            answer = ViewMetadata(self.outputs, None, times)
        if behind:
            self._from_history(behind, keys, at, columns, answer, n=len(rows))
        values.update(zip(self.outputs, columns))
        for name, default in self.defaults:
            if None in values[name]:
                answer.nulls[name] = values[name]
                values[name] = [default if value is None else value for value in values[name]]
        return answer

    def _latest(self, rows: Sequence[Row | None], t: Micros) -> tuple[list[list[Any]], ViewMetadata, list[int]]:
        """Values, what is known of the rows, and the rows that are newer than t."""
        if not rows:
            return [[] for _ in self.names], ViewMetadata(self.outputs, None, []), []
        oldest = t - self.view.ttl if self.view.ttl else EARLIEST
        if len(rows) == 1 and rows[0] is not None:
            # The most frequent request, without the way through columns.
            packed = unpack_row(rows[0][0])
            time = packed[1]
            is_known = time is not None and oldest <= time <= t and not (self.is_log_fed and packed[-1])
            if is_known and packed[0] in self._formats:
                picked = [[value] for value in self.pick(packed)]
                return self._restored(picked), ViewMetadata(self.outputs, None, (time,)), []
        nothing = self._nothing
        unpacked = [nothing if row is None else unpack_row(row[0]) for row in rows]
        columns = list(zip(*unpacked))
        if not self._formats.issuperset(columns[0]):
            raise self._foreign(columns[0])
        if self.is_log_fed and any(columns[-1]):
            unpacked = [self._due(each, t) if each[-1] else each for each in unpacked]
            columns = list(zip(*unpacked))
        times = columns[1]
        marks: list[str] | None = None
        behind: list[int] = []
        if None in times or max(times) > t or min(times) < oldest:
            marks = []
            for i, time in enumerate(times):
                mark = ""
                if time is None:
                    mark = NOT_FOUND
                    # A row may say that its key is no more, which it was before that moment.
                    gone = gone_at(unpacked[i], self._width)
                    if gone is not None and gone > t:
                        behind.append(i)
                elif time > t:
                    behind.append(i)
                elif time < oldest:
                    mark = OUTSIDE_MAX_AGE
                marks.append(mark)
                if mark:
                    unpacked[i] = nothing
            columns = list(zip(*unpacked))
        return self._restored(list(map(list, self.pick(columns)))), ViewMetadata(self.outputs, marks, times), behind

    def _restored(self, columns: list[list[Any]]) -> list[list[Any]]:
        for place, restore in self._restore:
            columns[place] = [None if value is None else restore(value) for value in columns[place]]
        return columns

    def _due(self, packed: list[Any], t: Micros) -> list[Any]:
        """The newest of a row's versions that is not later than t, as a packed row; the row itself is later then."""
        newest = packed[1] if packed[1] is not None else gone_at(packed, self._width)
        if newest is not None and newest > t:
            return packed
        due = [each for each in versions_of(packed, self._width) if each.event_time <= t]
        if not due or due[-1].values is None:
            return self._nothing
        return [FORMAT, due[-1].event_time, *due[-1].values, None, None]

    def _foreign(self, formats: Iterable[Any]) -> StorageError:
        found = sorted({each for each in formats if each not in self._formats}, key=str)
        return StorageError(
            f"feature view {self.view.name!r}: its online rows have format {found[0]}, and this Asof reads "
            f"{max(self._formats)}",
            hint="upgrade asof, or run `asof rebuild`",
        )

    def windows(self, rows: Sequence[Row | None], at: Micros) -> WindowResults:
        """What the windows of this view's rows hold, or of the rows of any view that has the same (`alike`)."""
        layout = self.layout
        assert layout is not None
        blobs = [None if row is None else row[0] for row in rows]
        answers = answer(layout, blobs, at - self.view.delay, self.names)
        times = [None if time == NEVER else time for time in answers.newest]
        behind = [i for i, late in enumerate(answers.behind) if late] if True in answers.behind else []
        return WindowResults([answers.columns[name] for name in self.names], times, behind)

    def _from_history(
        self, behind: list[int], keys: Columns, at: Micros, columns: list[list[Any]], answer: ViewMetadata, *, n: int
    ) -> None:
        """Answer rows from history that have merged events later than the moment asked for."""
        wanted: dict[tuple[Any, ...], int] = {}
        places = [wanted.setdefault(tuple(keys[key][i] for key in self.read.keys), len(wanted)) for i in behind]
        asked = {key: list(column) for key, column in zip(self.read.keys, zip(*wanted))}
        # Defaults come later, so that a null is still known as one.
        features = tuple(FeatureOut(each.name, each.output, each.dtype) for each in self.read.features)
        values, newest = self.history(ViewRead(self.view, self.read.keys, features), asked, at)
        times = list(answer.times)
        marks = answer.marks or [""] * n
        oldest = at - self.view.delay - self.view.ttl if self.view.ttl else None
        for i, place in zip(behind, places, strict=True):
            for column, output in zip(columns, self.outputs, strict=True):
                column[i] = values[output][place]
            times[i] = newest[place]
            if self.layout is not None:
                continue
            marks[i] = ""
            if any(values[output][place] is not None for output in self.outputs):
                continue
            known = newest[place]
            if known is None:
                marks[i] = NOT_FOUND
            elif oldest is not None and known < oldest:
                marks[i] = OUTSIDE_MAX_AGE
        answer.times = times
        answer.marks = marks


def plain_default(feature: FeatureOut) -> Any:
    """The default as a value of the feature's type comes out of Arrow, as in a historical read."""
    dtype = feature.dtype
    value = checker(dtype)(feature.default)
    if dtype.name in ("Array", "Embedding"):
        return in_utc(pa.scalar(value, dtype.arrow()).as_py())
    # Without Arrow, which looks for pandas and loads it: that takes longer than all else a first read does.
    plain, restore = plainer(dtype), restorer(dtype)
    value = value if plain is None else plain(value)
    return value if restore is None else restore(value)


__all__ = ["History", "OnlineReader", "OnlineRequest", "OnlineResponse", "ViewMetadata", "ViewReader"]
