"""What a registry keeps in addition to definitions: generations in use, progress of runs, accepted losses.

Facts are stored as JSON, `{topic: …}`, in each version of a project's snapshot. Only `Facts` knows the names of topics
and of their fields. Unknown topics and fields, written by a newer Asof, are kept unchanged.

Over 400 lines: one record for each topic, and the one class that reads and writes them all.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import ClassVar, TypeVar

import msgspec
from msgspec.structs import replace

from asof.results import Record
from asof.timing import Micros

Content = Mapping[str, object]
"""JSON as it is kept: what `json.loads` returns for an object."""


_T = TypeVar("_T")
_R = TypeVar("_R", bound="_StoredRecord")


class _StoredRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of one JSON object; unknown ones are kept in `others`."""

    left_out: ClassVar[tuple[str, ...]] = ()
    """Fields that are omitted from JSON where they are None."""

    others: Content = {}

    @classmethod
    def of(cls: type[_R], content: Content) -> _R:
        """The record that `content()` wrote.

        Raises:
            msgspec.ValidationError: a field has another type than it was written with.
        """
        known = {name: content[name] for name in cls.__struct_fields__ if name in content and name != "others"}
        others = {name: value for name, value in content.items() if name not in known}
        # Keys of JSON objects are text: `str_keys` turns partition numbers back into integers.
        return msgspec.convert({**known, "others": others}, cls, str_keys=True)

    def content(self) -> dict[str, object]:
        """The record ready for JSON."""
        own = {name: getattr(self, name) for name in self.__struct_fields__ if name != "others"}
        return {
            **self.others,
            **{name: value for name, value in own.items() if value is not None or name not in self.left_out},
        }


class ViewGenerations(_StoredRecord, frozen=True, kw_only=True):
    """The generations of a view's online rows.

    Args:
        current: the one that readers use; None until the first one is complete.
        building: the one under construction, if any.
        count: how many were ever started; their names end in this number.
        written: the last one that rows were written to directly, which no run of `materialize` would tell of.
    """

    left_out = ("written",)

    current: str | None = None
    building: str | None = None
    count: int = 0
    written: str | None = None

    @property
    def named(self) -> set[str]:
        """Names of the generation in use and of the one under construction."""
        return {each for each in (self.current, self.building) if each}


class StagedApply(_StoredRecord, frozen=True, kw_only=True):
    """An apply that is running or was interrupted.

    Args:
        token: identifies the apply that may switch to these definitions.
        project: the definitions that online rows are built for, as `Project.content` has them.
    """

    token: str
    project: Content


class LastRun(_StoredRecord, frozen=True, kw_only=True):
    """Progress of `materialize` for one generation of a view, and its last run. Times in microseconds.

    Args:
        generation: the generation that the rows were written to.
        started: when the last run began.
        start, end: the requested interval.
        rows, overflowed: number of rows written, and of those that exceeded their size limit.
        until, created_until: every row with an event time before `until` and a created time before `created_until` has
            been read; None until a run without an explicit interval has ended.
        as_of: the latest time as of which rows were computed; None in facts of older versions of Asof.
    """

    left_out = ("started", "until", "created_until", "as_of")

    generation: str
    started: Micros | None = None
    start: Micros | None = None
    end: Micros | None = None
    rows: int = 0
    overflowed: int = 0
    until: Micros | None = None
    created_until: Micros | None = None
    as_of: Micros | None = None


class LoadedHistory(_StoredRecord, frozen=True, kw_only=True):
    """What is loaded of a log source's batch source into its archive. Times in microseconds.

    Args:
        batch: identifies the batch source and the times that were asked for; another one is read from its beginning.
        ended: when the last load ended that left rows in the archive; None before.
        until: when the last load of all rows began: rows written before that time, minus the source's `lag`, are
            loaded; None before.
        columns: first offset in the archive → the source's columns when rows were loaded from that offset on.
    """

    left_out = ("ended", "until")

    batch: str = ""
    ended: Micros | None = None
    until: Micros | None = None
    columns: Mapping[int, Sequence[str]] = {}

    def content(self) -> dict[str, object]:
        return {**super().content(), "columns": {str(first): names for first, names in self.columns.items()}}


class FileMark(_StoredRecord, frozen=True, kw_only=True):
    """Identifies a file, to notice whether it has changed since it was read.

    Args:
        changed_ns: its time of change in nanoseconds.
        hashed: `whole`, `both ends` of a big one, or `etag`: the tag that object storage gives to its content.
    """

    path: str
    bytes: int
    changed_ns: int
    sha256: str
    hashed: str


class SourceMark(_StoredRecord, frozen=True, kw_only=True):
    """The rows of a source that were read.

    Args:
        kind: `archive`, `files`, or `query` for a source that cannot be pinned to a version.
        version, offsets: the archive's version, and partition → the last offset that was read.
        files: the marks that identify them.
    """

    left_out = ("version", "offsets", "files")

    kind: str
    version: int | None = None
    offsets: Mapping[int, int] | None = None
    files: Sequence[FileMark] | None = None

    @classmethod
    def of(cls, content: Content) -> SourceMark:
        mark = super().of({**content, "files": None})
        files = msgspec.convert(content.get("files"), list[dict[str, object]] | None)
        return mark if files is None else replace(mark, files=[FileMark.of(each) for each in files])

    def content(self) -> dict[str, object]:
        kept = super().content()
        if self.offsets is not None:
            kept["offsets"] = {str(partition): offset for partition, offset in self.offsets.items()}
        if self.files is not None:
            kept["files"] = [each.content() for each in self.files]
        return kept


class SavedProjection(_StoredRecord, frozen=True, kw_only=True):
    """One view's share of a request, as `Projection.content` writes it.

    Args:
        features: their names; None for all.
        alias: the view's name in the request, where it differs.
        join_key_map: view's key → entity frame's column, where they differ.
    """

    left_out = ("features", "alias", "join_key_map")

    view: str
    features: Sequence[str] | None = None
    alias: str | None = None
    join_key_map: Mapping[str, str] | None = None


class TrainingSet(Record, _StoredRecord, frozen=True, kw_only=True):
    """The manifest of a saved training set.

    Args:
        created, created_by: when it was saved, as text, and by whom.
        features: the requested features, as `view:feature`.
        known_at, known_at_cut: the time limit of `known_at=`, as text and in microseconds; False for none.
        start, end: the time range, as text, where no entity frame was given.
        entity_frame: the SELECT, or a description of the frame; empty for a time range.
        frame_columns, columns: those that come from the entity frame; name and type of each.
        column_hashes, content_hash: hashes of each column's values, and of all.
        definitions, functions: view → hash of its definition, or of its function.
        sources: source → which of its rows were read.
        reproducible, why: whether the rows can be rebuilt, and if not, why.
        table: name of the offline store's table with the rows.
        projections: the features, view by view in their order.
        by_arrival: whether rows of logs were ordered by their arrival, and not by offset and partition.
    """

    left_out = ("by_arrival",)
    name: str
    rows: int = 0
    created: str = ""
    created_by: str = ""
    features: Sequence[str] = ()
    full_feature_names: bool = False
    known_at: str | bool | None = None
    known_at_cut: Micros | bool | None = None
    start: str | None = None
    end: str | None = None
    entity_frame: str = ""
    time_column: str = ""
    frame_columns: Sequence[str] = ()
    columns: Sequence[Mapping[str, str]] = ()
    column_hashes: Mapping[str, str] = {}
    content_hash: str = ""
    definitions: Mapping[str, str] = {}
    functions: Mapping[str, str] = {}
    sources: Mapping[str, SourceMark] = {}
    reproducible: bool = False
    why: str = ""
    registry_version: int = 0
    asof_version: str = ""
    table: str
    projections: Sequence[SavedProjection] = ()
    by_arrival: bool | None = None

    @classmethod
    def of(cls, content: Content) -> TrainingSet:
        sources = msgspec.convert(content.get("sources", {}), dict[str, dict[str, object]])
        projections = msgspec.convert(content.get("projections", ()), list[dict[str, object]])
        return super().of(
            {
                **content,
                "sources": {name: SourceMark.of(each) for name, each in sources.items()},
                "projections": [SavedProjection.of(each) for each in projections],
            }
        )

    def content(self) -> dict[str, object]:
        return {
            **super().content(),
            "sources": {name: each.content() for name, each in self.sources.items()},
            "projections": [each.content() for each in self.projections],
        }

    def to_dict(self) -> dict[str, object]:
        """The manifest by the names of its fields."""
        return dict(sorted(self.content().items()))


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """All facts kept with one version of the definitions; each change returns a copy.

    Args:
        generations: view → the generations of its online rows.
        staged: the apply that is running or was interrupted, if any.
        materialized: view → its materialize progress.
        topics: source → ID of its topic.
        epochs: source → how often its topic was recreated and the gap accepted.
        starts: source → partition → the first offset that counts, for topics that existed before the source.
        gaps: source → description of accepted losses.
        histories: source → what is loaded of its batch source.
        replaying: source → token of the process that replays its dead letters.
        training_sets: name → manifest.
        where: kind/name → file:line of a definition.
        environment: random text that tells this store from others with the project's name; empty in those that earlier
            versions of Asof began.
        others: topics that this version does not know.
    """

    generations: Mapping[str, ViewGenerations] = {}
    staged: StagedApply | None = None
    materialized: Mapping[str, LastRun] = {}
    topics: Mapping[str, str] = {}
    epochs: Mapping[str, int] = {}
    starts: Mapping[str, Mapping[int, int]] = {}
    gaps: Mapping[str, tuple[str, ...]] = {}
    histories: Mapping[str, LoadedHistory] = {}
    replaying: Mapping[str, str] = {}
    training_sets: Mapping[str, TrainingSet] = {}
    where: Mapping[str, str] = {}
    environment: str = ""
    others: Content = {}

    @classmethod
    def of(cls, content: Content) -> Facts:
        """The facts that `content()` wrote.

        Raises:
            msgspec.ValidationError: a topic has another shape than it was written with.
        """
        known = {name: content[name] for name in cls.__struct_fields__ if content.get(name) and name != "others"}
        for name, record in _RECORDS:
            objects = msgspec.convert(known.get(name, {}), dict[str, dict[str, object]])
            known[name] = {key: record.of(each) for key, each in objects.items()}
        if "staged" in known:
            known["staged"] = StagedApply.of(msgspec.convert(known["staged"], dict[str, object]))
        others = {name: value for name, value in content.items() if name == "others" or name not in _TOPICS}
        # Keys of JSON objects are text: `str_keys` turns partition numbers back into integers.
        return msgspec.convert({**known, "others": others}, cls, str_keys=True)

    def content(self) -> dict[str, object]:
        """The facts by topic, ready for JSON; empty topics are omitted."""
        kept: dict[str, object] = {
            **{name: getattr(self, name) for name in _TOPICS},
            "generations": {view: each.content() for view, each in self.generations.items()},
            "staged": self.staged.content() if self.staged else None,
            "materialized": {view: each.content() for view, each in self.materialized.items()},
            "training_sets": {name: each.content() for name, each in self.training_sets.items()},
            "histories": {source: each.content() for source, each in self.histories.items()},
            "starts": {
                source: {str(number): offset for number, offset in offsets.items()}
                for source, offsets in self.starts.items()
            },
            "gaps": {source: list(gaps) for source, gaps in self.gaps.items()},
        }
        return {**self.others, **{topic: value for topic, value in kept.items() if value}}

    # -- online rows ---------------------------------------------------------------------------------------------------

    def generations_of(self, view: str) -> ViewGenerations:
        """The generations of a view's online rows."""
        return self.generations.get(view, _NO_GENERATIONS)

    def named_generations(self) -> set[tuple[str, str]]:
        """View and generation of all online rows in use or under construction."""
        return {(view, generation) for view, each in self.generations.items() for generation in each.named}

    def with_building(self, view: str, generation: str) -> Facts:
        """Record a generation under construction; readers still use the current one."""
        known = self.generations_of(view)
        return self._with_generations(view, replace(known, building=generation, count=known.count + 1))

    def with_current(self, view: str, generation: str) -> Facts:
        """Switch readers to this generation."""
        return self._with_generations(view, replace(self.generations_of(view), current=generation, building=None))

    def with_written(self, view: str, generation: str) -> Facts:
        """Record that rows are written to a generation directly."""
        return self._with_generations(view, replace(self.generations_of(view), written=generation))

    def _with_generations(self, view: str, generations: ViewGenerations) -> Facts:
        return replace(self, generations=_with(self.generations, view, generations))

    def with_staged(self, token: str, project: Content) -> Facts:
        """Record the definitions that an apply builds online rows for."""
        return replace(self, staged=StagedApply(token=token, project=project))

    def with_applied(self, online_views: Collection[str], where: Mapping[str, str]) -> Facts:
        """Clear the staged apply, and the generations of views that are no longer online."""
        kept = {view: each for view, each in self.generations.items() if view in online_views}
        return replace(self, staged=None, generations=kept, where=where)

    def with_environment(self, environment: str) -> Facts:
        """Record what tells this store from others with the project's name."""
        return replace(self, environment=environment)

    # -- materialize ---------------------------------------------------------------------------------------------------

    def last_run(self, view: str, generation: str) -> LastRun | None:
        """Materialize progress of this generation of a view, else None."""
        run = self.materialized.get(view)
        return run if run is not None and run.generation == generation else None

    def with_last_run(self, view: str, run: LastRun) -> Facts:
        """Record a view's materialize progress."""
        return replace(self, materialized=_with(self.materialized, view, run))

    # -- logs ----------------------------------------------------------------------------------------------------------

    def epoch_of(self, source: str) -> int:
        """How often a source's topic was recreated and the gap accepted."""
        return self.epochs.get(source, 0)

    def with_topic(self, source: str, topic_id: str, *, starts: Mapping[int, int]) -> Facts:
        """Record the ID of a source's topic, and the offsets from which its events count."""
        known = _with(self.starts, source, starts) if starts else self.starts
        return replace(self, topics=_with(self.topics, source, topic_id), starts=known)

    def with_topic_again(self, source: str, topic_id: str, *, epoch: int) -> Facts:
        """Start a new epoch of a source's offsets: its topic was recreated or lost its end."""
        topics, epochs = _with(self.topics, source, topic_id), _with(self.epochs, source, epoch)
        return replace(self, topics=topics, epochs=epochs)

    def with_gap(self, source: str, gap: str) -> Facts:
        """Record a description of an accepted loss."""
        return replace(self, gaps=_with(self.gaps, source, (*self.gaps.get(source, ()), gap)))

    def with_history(self, source: str, loaded: LoadedHistory) -> Facts:
        """Record what is loaded of a source's batch source."""
        return replace(self, histories=_with(self.histories, source, loaded))

    def with_replay(self, source: str, token: str) -> Facts:
        """Record that the process with this token replays a source's dead letters."""
        return replace(self, replaying=_with(self.replaying, source, token))

    def without_replay(self, source: str, token: str) -> Facts:
        """Record the end of this token's replay; a replay of another process is left alone."""
        replaying = {name: each for name, each in self.replaying.items() if (name, each) != (source, token)}
        return replace(self, replaying=replaying)

    # -- training sets -------------------------------------------------------------------------------------------------

    def with_training_set(self, saved: TrainingSet) -> Facts:
        """Record a saved training set under its name."""
        return replace(self, training_sets=_with(self.training_sets, saved.name, saved))


_NO_GENERATIONS = ViewGenerations()
_RECORDS: tuple[tuple[str, type[_StoredRecord]], ...] = (
    ("generations", ViewGenerations), ("materialized", LastRun), ("training_sets", TrainingSet),
    ("histories", LoadedHistory),
)  # fmt: skip
_TOPICS = tuple(name for name in Facts.__struct_fields__ if name != "others")


def _with(mapping: Mapping[str, _T], name: str, value: _T) -> dict[str, _T]:
    return {**mapping, name: value}


__all__ = [
    "Content", "Facts", "FileMark", "LastRun", "LoadedHistory", "SavedProjection", "SourceMark", "StagedApply",
    "TrainingSet", "ViewGenerations",
]  # fmt: skip
