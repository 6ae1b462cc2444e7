"""Online reads: one multi-key read at one time for all views, then the same on-demand step as in training.

Over 400 lines: a view's rows pass through one class, from packed to served.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

import pyarrow as pa

from asof.aggregation import NEVER, ROWS_AT_ONCE, RowLayout, answer, decode
from asof.definitions import Session, Snapshot
from asof.derive import derive_values
from asof.errors import EntityFrameError, RegistryError, StorageError
from asof.flows.generations.layout import GRACE, layout_of
from asof.flows.generations.markers import lost_among, rows_lost
from asof.flows.online.entity_rows import EntityRows
from asof.flows.stores import Stores, current_generation, table_of
from asof.online.protocol import Lookup, MarkedRows, Row
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

if TYPE_CHECKING:
    # It brings the engine with it, which most reads do not need.
    from asof.flows.online.history import History


class OnlineRequest(NamedTuple):
    """Checked entity rows, and the lookups for them.

    Args:
        columns: join keys and request values.
        n: number of entity rows.
        lookups: one per view.
    """

    columns: Columns
    n: int
    lookups: list[Lookup]


class WindowResults(NamedTuple):
    """Window values of some rows.

    Args:
        columns: one per feature; `times`: the time of each row's newest event.
        behind: indexes of rows that have merged events after the time of the read.
        incomplete: indexes of rows whose sessions a late event may have changed beyond what they hold.
    """

    columns: list[list[Any]]
    times: list[Micros | None]
    behind: list[int]
    incomplete: list[int]


def are_whole(rows: list[MarkedRows]) -> TypeGuard[list[list[Row | None]]]:
    """Whether the tables of all lookups have their markers."""
    return None not in rows


class OnlineReader:
    """Reads one selection from the online store; created once per selection and snapshot.

    Args:
        history: used for times before the newest event that a row has merged.
    """

    def __init__(self, stores: Stores, snapshot: Snapshot, selection: Selection, *, history: History) -> None:
        self.stores = stores
        self.snapshot = snapshot
        self.selection = selection
        self.views = [ViewReader(stores, snapshot, read, history) for read in selection.reads]
        alike: dict[Any, list[int]] = {}
        for place, view in enumerate(self.views):
            if view.alike is not None:
                alike.setdefault(view.alike, []).append(place)
        self._alike = [positions for positions in alike.values() if len(positions) > 1]
        self._entity_rows = EntityRows(selection)
        self.key_fields = self._entity_rows.key_fields

    @property
    def generations(self) -> list[str]:
        """The online generation of each view."""
        return [view.table.generation for view in self.views]

    def read(self, entity_rows: Any, *, at: Micros | None = None) -> tuple[OnlineResponse, bool]:
        """The features, and whether every row was found (a missing one may be in a newer generation).

        Args:
            entity_rows: dicts, a dict of columns, or a table, with the join keys and request values; other columns
                are ignored.
            at: the time of the read; None for the clock's, which is read after the rows, so that no row is later.
        """
        question = self.ask(entity_rows)
        rows = self.stores.online.read_marked(question.lookups) if question.lookups else []
        return self.answer(question, rows if are_whole(rows) else self.whole(question), at=at)

    def whole(self, question: OnlineRequest) -> list[list[Row | None]]:
        """The rows that a request reads where a marker is missing: the registry and the masters say what that means.

        Rows that are whole and from before there were markers get them, if this process may write.

        Raises:
            OnlineRowsLost: rows are lost, or readers have switched to others since this reader was made.
        """
        store = self.stores.online
        rows = store.read(question.lookups)
        tables = {view.table: view.view for view in self.views if view.is_built}
        try:
            snapshot = self.stores.registry.load(self.stores.project)
        except RegistryError:
            snapshot = self.snapshot
        if lost := lost_among(self.stores, tables, snapshot):
            raise rows_lost(list(lost.values()))
        # A replica may have been read before that was behind; now that there are markers it says so.
        marked = store.read_marked(question.lookups)
        return marked if are_whole(marked) else rows

    def ask(self, entity_rows: Any) -> OnlineRequest:
        """The lookups for `read`, for callers that run them themselves.

        Raises:
            EntityFrameError: a column is missing, a key is null, or a value does not fit its type.
        """
        columns, keys, n = self._entity_rows.columns(entity_rows)
        try:
            return OnlineRequest(columns, n, self._lookups(keys, n))
        except UnicodeEncodeError as error:
            raise EntityFrameError(
                f"a join key cannot be encoded as UTF-8: {error}", hint="remove such rows from the request"
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
            answers: the online store's results for `question.lookups`; they are consumed.
            derived: also run the on-demand functions; else call `derive` afterwards.
        """
        if at is None:
            at = self.stores.clock()
        columns, n, _ = question
        values: Columns = {}
        found = []
        complete = True
        windows = self._windows_together(answers, n, at)
        answers.reverse()
        for place, view in enumerate(self.views):
            # Release the rows of each view in turn: reused memory stays in the processor's cache.
            rows = answers.pop()
            if not all(rows):
                complete = False
            found.append(view.answer(rows, keys=columns, at=at, values=values, windows=windows.get(place)))
        response = OnlineResponse(self.selection, columns, values, found, at=at, rows=n)
        return self.derive(response) if derived and self.selection.derivations else response, complete

    def _windows_together(self, answers: list[list[Row | None]], n: int, at: Micros) -> dict[int, WindowResults]:
        """Compute views with the same windows together, for little more than the cost of one."""
        windows: dict[int, WindowResults] = {}
        for positions in self._alike:
            if n * len(positions) > ROWS_AT_ONCE:
                continue
            rows = [row for place in positions for row in answers[place]]
            columns, times, *marked = self.views[positions[0]].windows(rows, at)
            for i, place in enumerate(positions):
                start, end = i * n, (i + 1) * n
                mine = [[row - start for row in each if start <= row < end] for each in marked]
                windows[place] = WindowResults([column[start:end] for column in columns], times[start:end], *mine)
        return windows

    def derive(self, response: OnlineResponse) -> OnlineResponse:
        """Run the on-demand functions on the features read and the request values."""
        values, n = response.values, len(response)
        values |= derive_values({**response.keys, **values}, n, self.selection.derivations, response.at)
        return response

    def _lookups(self, keys: Columns, n: int) -> list[Lookup]:
        """The lookup of each view; keys that views share are packed once."""
        packed: dict[tuple[str, ...], list[bytes]] = {}
        lookups = []
        for view in self.views:
            names = view.read.keys
            if names not in packed:
                packed[names] = pack_keys([keys[name] for name in names]) if names else [key_bytes(())] * n
            lookups.append(Lookup(view.table, packed[names]))
        return lookups


class ViewReader:
    """Reads one view of the selection."""

    def __init__(self, stores: Stores, snapshot: Snapshot, read: ViewRead, history: History) -> None:
        view = read.view
        if not view.online:
            raise StorageError(
                f"feature view {view.name!r} is not online", hint="set online=True and apply", where=view.where
            )
        self.read = read
        self.view = view
        self.history = history
        generation = current_generation(snapshot, view)
        self.is_built = generation is not None
        self.table = table_of(stores.project, view, generation or "none")
        self.names = tuple(feature.name for feature in read.features)
        self.outputs = [feature.output for feature in read.features]
        self.defaults = [(each.output, plain_default(each)) for each in read.features if each.default is not None]
        self.layout: RowLayout | None = layout_of(view, self.table.generation) if view.is_aggregated else None
        self.is_log_fed = view.source.is_log
        windows = {each.name: each.window for each in view.aggregations}
        self._has_sessions = any(isinstance(windows.get(name), Session) for name in self.names)
        self._plain = [plainer(field.dtype) for field in view.key_fields]
        self._width = len(fields := [field.name for field in view.features])
        # A row is [format, event time, value, …]; of a log source also [created, arrived, within] and pending.
        self._formats = FORMATS if self.is_log_fed else {FORMAT}
        self._nothing = [FORMAT, None, *[None] * (self._width + (2 if self.is_log_fed else 0))]
        place_of = {name: place for place, name in enumerate(fields, start=2)}
        positions = [place_of[name] for name in self.names]
        self.pick = itemgetter(*positions) if len(positions) > 1 else lambda columns: (columns[positions[0]],)
        restorers = enumerate(restorer(feature.dtype) for feature in read.features)
        self._restore = [(place, restore) for place, restore in restorers if restore is not None]

    @property
    def is_plain(self) -> bool:
        """Whether packed values are returned unchanged: no windows, no defaults, no types that need a conversion."""
        plain_keys = all(plain is None for plain in self._plain)
        return self.layout is None and plain_keys and not self._restore and not self.defaults

    def known(self, packed: bytes, at: Micros) -> list[Any] | None:
        """The unpacked row if it is the view's value at that time; else None."""
        t = at - self.view.delay
        row = unpack_row(packed)
        time = row[1]
        if time is None or time > t or (self.is_log_fed and row[-1]) or row[0] not in self._formats:
            return None
        return None if self.view.ttl and time < t - self.view.ttl else row

    @property
    def alike(self) -> tuple[Any, ...] | None:
        """A key that is equal for views whose windows compute the same from the same rows; None without windows."""
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
        """Add this view's columns to `values`; returns statuses and times of its rows.

        Args:
            windows: the result of `windows` for these rows, if it is computed already.
        """
        needs: dict[int, Mapping[int, int]] = {}
        if self.layout is None:
            columns, answer, behind = self._latest(rows, at - self.view.delay)
        else:
            columns, times, behind, incomplete = self.windows(rows, at) if windows is None else windows
            answer = ViewMetadata(self.outputs, None, times)
            if incomplete:
                state = decode(self.layout, [row[0] if (row := rows[i]) is not None else None for i in incomplete])
                needs = {i: state.offsets_of(place) for place, i in enumerate(incomplete)}
                behind = sorted({*behind, *incomplete})
        if behind:
            self._from_history(behind, keys, at, columns, answer, n=len(rows), needs=needs)
        values.update(zip(self.outputs, columns))
        for name, default in self.defaults:
            if None in values[name]:
                answer.nulls[name] = values[name]
                values[name] = [default if value is None else value for value in values[name]]
        return answer

    def _latest(self, rows: Sequence[Row | None], t: Micros) -> tuple[list[list[Any]], ViewMetadata, list[int]]:
        """Values, statuses and times of the rows, and the indexes of rows that are newer than t."""
        if not rows:
            return [[] for _ in self.names], ViewMetadata(self.outputs, None, []), []
        oldest = t - self.view.ttl if self.view.ttl else EARLIEST
        if len(rows) == 1 and rows[0] is not None:
            # The most frequent request, without building columns.
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
        seen: list[Micros | None] | None = None
        marks: list[str] | None = None
        behind: list[int] = []
        if not _are_between(times, oldest, t):
            marks, seen = [], list(times)
            for i, time in enumerate(times):
                mark = ""
                if time is None:
                    mark = NOT_FOUND
                    # The row may be a tombstone after t: the key existed at t.
                    gone = gone_at(unpacked[i], self._width)
                    if gone is not None and gone > t:
                        behind.append(i)
                elif time > t:
                    behind.append(i)
                elif time < oldest:
                    mark = _mark_of_age(time, oldest)
                    seen[i] = time if mark == OUTSIDE_MAX_AGE else None
                marks.append(mark)
                if mark:
                    unpacked[i] = nothing
            columns = list(zip(*unpacked))
        metadata = ViewMetadata(self.outputs, marks, times if seen is None else seen)
        return self._restored(list(map(list, self.pick(columns)))), metadata, behind

    def _restored(self, columns: list[list[Any]]) -> list[list[Any]]:
        for place, restore in self._restore:
            columns[place] = [None if value is None else restore(value) for value in columns[place]]
        return columns

    def _due(self, packed: list[Any], t: Micros) -> list[Any]:
        """The newest version in a row that is not later than t, as a packed row, for a row that is later than t."""
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
            f"feature view {self.view.name!r}: its online rows have format {found[0]}; expected {max(self._formats)}",
            hint="upgrade asof, or run `asof rebuild`",
        )

    def windows(self, rows: Sequence[Row | None], at: Micros) -> WindowResults:
        """Window values of rows of this view, or of any view with the same windows (`alike`)."""
        layout = self.layout
        assert layout is not None
        blobs = [None if row is None else row[0] for row in rows]
        answers = answer(layout, blobs, at - self.view.delay, self.names)
        times = [None if time == NEVER else time for time in answers.newest]
        behind = [i for i, late in enumerate(answers.behind) if late] if True in answers.behind else []
        incomplete: list[int] = []
        if self._has_sessions and True in answers.incomplete:
            incomplete = [i for i, lacking in enumerate(answers.incomplete) if lacking]
        return WindowResults([answers.columns[name] for name in self.names], times, behind, incomplete)

    def _from_history(
        self, behind: list[int], keys: Columns, at: Micros, columns: list[list[Any]], answer: ViewMetadata, *, n: int,
        needs: Mapping[int, Mapping[int, int]],
    ) -> None:  # fmt: skip
        """Recompute from history the rows that have merged events after the time of the read, or are incomplete.

        Args:
            needs: incomplete row → the offsets that it has seen, which history has to cover.
        """
        wanted: dict[tuple[Any, ...], int] = {}
        positions = [wanted.setdefault(tuple(keys[key][i] for key in self.read.keys), len(wanted)) for i in behind]
        requested = {key: list(column) for key, column in zip(self.read.keys, zip(*wanted))}
        # Defaults are applied later: the status needs to know the nulls.
        features = tuple(FeatureOut(each.name, each.output, each.dtype) for each in self.read.features)
        read = ViewRead(self.view, self.read.keys, features)
        if needs:
            covering: list[Mapping[int, int]] = [{} for _ in wanted]
            for i, place in zip(behind, positions, strict=True):
                covering[place] = needs.get(i, covering[place])
            values, newest = self.history(read, requested, at, needs=covering)
        else:
            values, newest = self.history(read, requested, at)
        times = list(answer.times)
        marks = answer.marks or [""] * n
        oldest = at - self.view.delay - self.view.ttl if self.view.ttl else None
        for i, place in zip(behind, positions, strict=True):
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
                marks[i] = _mark_of_age(known, oldest)
                times[i] = known if marks[i] == OUTSIDE_MAX_AGE else None
        answer.times = times
        answer.marks = marks


def _are_between(times: Sequence[Any], oldest: Micros, newest: Micros) -> bool:
    """Whether none is null, or outside."""
    try:
        return oldest <= min(times) and max(times) <= newest
    except TypeError:  # None has no order: cheaper than to look for it in all of them
        return False


def _mark_of_age(time: Micros, oldest: Micros) -> str:
    """The status of a row older than its ttl. Stores remove rows after `GRACE`, or later, or not at all: beyond it the
    row is not found in any of them."""
    return OUTSIDE_MAX_AGE if time >= oldest - GRACE else NOT_FOUND


def plain_default(feature: FeatureOut) -> Any:
    """The default as the Python value that a historical read returns for the feature's type."""
    dtype = feature.dtype
    value = checker(dtype)(feature.default)
    if dtype.name in ("Array", "Embedding"):
        return in_utc(pa.scalar(value, dtype.arrow()).as_py())
    # Without Arrow, which imports pandas: that takes longer than the rest of a first read.
    plain, restore = plainer(dtype), restorer(dtype)
    value = value if plain is None else plain(value)
    return value if restore is None else restore(value)


__all__ = ["OnlineReader", "OnlineRequest", "OnlineResponse", "ViewMetadata", "ViewReader", "are_whole"]
