"""What a registry keeps beside the definitions: which online rows readers use, how far runs came, what was lost.

It is kept as JSON, `{topic: …}`, in each version of a project's snapshot. `Facts` is the only code that knows the names
of topics and of their fields. What it does not know, because a newer Asof wrote it, it carries along unchanged.
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
    """Fields of one JSON object, and those that this version does not know."""

    left_out: ClassVar[tuple[str, ...]] = ()
    """Fields that are not written where they are None."""

    others: Content = {}

    @classmethod
    def of(cls: type[_R], content: Content) -> _R:
        """The record that `content()` wrote.

        Raises:
            msgspec.ValidationError: a field has another type than it was written with.
        """
        known = {name: content[name] for name in cls.__struct_fields__ if name in content and name != "others"}
        others = {name: value for name, value in content.items() if name not in known}
        # The keys of JSON objects are text; partitions are read as the numbers that they are.
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
        current: the one that readers use; None before the first one stands.
        building: the one that is being built beside it, if any.
        count: how many were ever begun; their names end in it.
    """

    current: str | None = None
    building: str | None = None
    count: int = 0

    @property
    def named(self) -> set[str]:
        """The generations that are in use or under way."""
        return {each for each in (self.current, self.building) if each}


class StagedApply(_StoredRecord, frozen=True, kw_only=True):
    """An apply that is under way, or was broken off.

    Args:
        token: of the apply that may switch to it.
        project: the definitions that online rows are built for, as `Project.content` has them.
    """

    token: str
    project: Content


class LastRun(_StoredRecord, frozen=True, kw_only=True):
    """How far `materialize` came with one generation of a view, and what its last run did. Times in microseconds.

    Args:
        generation: whose rows were written.
        started: when the last run began.
        start, end: the interval that it was asked for.
        rows, overflowed: how many rows it wrote, and how many of them passed their limit.
        until, created_until: all rows with an event time before `until` that were written down before `created_until`
            have been looked at; None where no plain run has ended.
        as_of: the latest moment as of which rows were computed; None in what was written before runs recorded it.
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


class FileMark(_StoredRecord, frozen=True, kw_only=True):
    """What tells whether a file is still the one that was read.

    Args:
        changed_ns: its time of change in nanoseconds.
        hashed: `whole`, or `both ends` of a big one.
    """

    path: str
    bytes: int
    changed_ns: int
    sha256: str
    hashed: str


class SourceMark(_StoredRecord, frozen=True, kw_only=True):
    """Which rows of a source were read.

    Args:
        kind: `archive`, `files`, or `query` for what cannot be pinned.
        version, offsets: the archive's version, and partition → the last offset that was read.
        files: what tells whether they are the same.
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
    """What was asked of one view, as `Projection.content` has it.

    Args:
        features: their names; None for all.
        alias: the name that the view had in the request, where it was another one.
        join_key_map: the view's key → the frame's column, where it was another one.
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
        features: what was asked for, as `view:feature`.
        known_at, known_at_cut: the moment whose knowledge counts, as text and in microseconds; False for none.
        start, end: the time range, as text, where no entity frame was given.
        entity_frame: the SELECT, or what else the frame was; empty for a time range.
        frame_columns: those that are the frame's own.
        columns: name and type of each.
        column_hashes, content_hash: hashes of each column's values, and of all.
        definitions, functions: view → hash of its definition, or of its function.
        sources: source → which of its rows were read.
        reproducible, why: whether the rows can be made again, and what stands in the way.
        table: under which the offline store keeps its rows.
        projections: the features, view by view in their order.
        by_arrival: whether rows of logs were ordered by their arrival; earlier versions did by offset and partition.
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
    """All that is kept beside one version of the definitions; each change returns a copy.

    Args:
        generations: view → the generations of its online rows.
        staged: the apply that is under way, if any.
        materialized: view → how far it is materialized.
        topics: source → the id of the topic under it.
        epochs: source → how often its topic was made again, and the gap accepted.
        starts: source → partition → the first offset that counts, of topics that have a past of their own.
        gaps: source → what was lost and accepted, in words.
        replaying: source → the token of whoever replays its dead letters.
        training_sets: name → manifest.
        where: kind/name → file:line of a definition.
        others: topics that this version does not know.
    """

    generations: Mapping[str, ViewGenerations] = {}
    staged: StagedApply | None = None
    materialized: Mapping[str, LastRun] = {}
    topics: Mapping[str, str] = {}
    epochs: Mapping[str, int] = {}
    starts: Mapping[str, Mapping[int, int]] = {}
    gaps: Mapping[str, tuple[str, ...]] = {}
    replaying: Mapping[str, str] = {}
    training_sets: Mapping[str, TrainingSet] = {}
    where: Mapping[str, str] = {}
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
        # The keys of JSON objects are text; partitions are read as the numbers that they are.
        return msgspec.convert({**known, "others": others}, cls, str_keys=True)

    def content(self) -> dict[str, object]:
        """The facts by topic, ready for JSON; a topic of which nothing is known is left out."""
        kept: dict[str, object] = {
            **{name: getattr(self, name) for name in _TOPICS},
            "generations": {view: each.content() for view, each in self.generations.items()},
            "staged": self.staged.content() if self.staged else None,
            "materialized": {view: each.content() for view, each in self.materialized.items()},
            "training_sets": {name: each.content() for name, each in self.training_sets.items()},
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
        """View and generation of all online rows that are in use or under way."""
        return {(view, generation) for view, each in self.generations.items() for generation in each.named}

    def with_building(self, view: str, generation: str) -> Facts:
        """A generation is being built beside the one that readers use."""
        known = self.generations_of(view)
        return self._with_generations(view, replace(known, building=generation, count=known.count + 1))

    def with_current(self, view: str, generation: str) -> Facts:
        """Readers use this generation, which was built."""
        return self._with_generations(view, replace(self.generations_of(view), current=generation, building=None))

    def _with_generations(self, view: str, generations: ViewGenerations) -> Facts:
        return replace(self, generations=_with(self.generations, view, generations))

    def with_staged(self, token: str, project: Content) -> Facts:
        """An apply builds online rows for these definitions."""
        return replace(self, staged=StagedApply(token=token, project=project))

    def with_applied(self, online_views: Collection[str], where: Mapping[str, str]) -> Facts:
        """The staged definitions are the applied ones; of views that are not kept online no generation is."""
        kept = {view: each for view, each in self.generations.items() if view in online_views}
        return replace(self, staged=None, generations=kept, where=where)

    # -- materialize ---------------------------------------------------------------------------------------------------

    def last_run(self, view: str, generation: str) -> LastRun | None:
        """How far this generation of a view is materialized; None where it never was."""
        run = self.materialized.get(view)
        return run if run is not None and run.generation == generation else None

    def with_last_run(self, view: str, run: LastRun) -> Facts:
        """A view is materialized so far."""
        return replace(self, materialized=_with(self.materialized, view, run))

    # -- logs ----------------------------------------------------------------------------------------------------------

    def epoch_of(self, source: str) -> int:
        """How often a source's topic was made again, and the gap accepted."""
        return self.epochs.get(source, 0)

    def with_topic(self, source: str, topic_id: str, *, starts: Mapping[int, int]) -> Facts:
        """A source's topic is the one of this id, and begins at these offsets, where its past does not count."""
        known = _with(self.starts, source, starts) if starts else self.starts
        return replace(self, topics=_with(self.topics, source, topic_id), starts=known)

    def with_topic_again(self, source: str, topic_id: str, *, epoch: int) -> Facts:
        """A source's topic was made again, or lost its end, and its offsets are those of a new epoch."""
        topics, epochs = _with(self.topics, source, topic_id), _with(self.epochs, source, epoch)
        return replace(self, topics=topics, epochs=epochs)

    def with_gap(self, source: str, gap: str) -> Facts:
        """This was lost and accepted, in words."""
        return replace(self, gaps=_with(self.gaps, source, (*self.gaps.get(source, ()), gap)))

    def with_replay(self, source: str, token: str) -> Facts:
        """The one with this token replays a source's dead letters."""
        return replace(self, replaying=_with(self.replaying, source, token))

    def without_replay(self, source: str, token: str) -> Facts:
        """The one with this token does not replay any more; another one's replay goes on."""
        replaying = {name: each for name, each in self.replaying.items() if (name, each) != (source, token)}
        return replace(self, replaying=replaying)

    # -- training sets -------------------------------------------------------------------------------------------------

    def with_training_set(self, saved: TrainingSet) -> Facts:
        """A training set is saved under its name."""
        return replace(self, training_sets=_with(self.training_sets, saved.name, saved))


_NO_GENERATIONS = ViewGenerations()
_RECORDS: tuple[tuple[str, type[_StoredRecord]], ...] = (
    ("generations", ViewGenerations), ("materialized", LastRun), ("training_sets", TrainingSet)
)  # fmt: skip
_TOPICS = tuple(name for name in Facts.__struct_fields__ if name != "others")


def _with(mapping: Mapping[str, _T], name: str, value: _T) -> dict[str, _T]:
    return {**mapping, name: value}


__all__ = [
    "Content", "Facts", "FileMark", "LastRun", "SavedProjection", "SourceMark", "StagedApply", "TrainingSet",
    "ViewGenerations",
]  # fmt: skip
