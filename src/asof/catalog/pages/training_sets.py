"""The pages of training sets: the list, one manifest, and two compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from asof.catalog.live import LiveValue
from asof.catalog.pages.page import Link, Page, PageRequest, missing
from asof.catalog.snippets import rebuild_training_set
from asof.catalog.urls import page_url, url_of
from asof.definitions.facts import SourceMark, TrainingSet
from asof.display import counted
from asof.timing import moment, moment_given

_SHOWN = 200
_BUDGET_S = 0.07


@dataclass(frozen=True)
class TrainingSetRow:
    """One training set of the list."""

    name: str
    url: str
    rows: int
    features: int
    created: datetime | None
    created_by: str
    reproducible: bool


@dataclass(frozen=True, kw_only=True)
class TrainingSetsPage(Page):
    """The page.

    Args:
        sets: the newest first.
        more: how many older ones are not shown.
    """

    sets: Sequence[TrainingSetRow]
    more: int


@dataclass(frozen=True)
class ColumnRow:
    """One column of a training set."""

    name: str
    type: str
    is_feature: bool
    hash: str


@dataclass(frozen=True)
class PinnedSource:
    """The rows of a source that were read, as text; `url` is empty where it is not applied any more."""

    name: str
    url: str
    pinned: str


@dataclass(frozen=True, kw_only=True)
class TrainingSetPage(Page):
    """The page.

    Args:
        features: link and reference; a reference without a page has no address.
        time_limit: what `known_at=` was, as text; empty for none.
        frame: the entity frame as text; None where the viewer may not see all of its sources.
        is_query: whether the frame is a SELECT.
        changes: what has changed since, by which its values may differ if it is made again; None where the viewer may
            not see all of its sources.
        rebuild: code that makes it again.
        others: the other training sets, to compare with.
    """

    name: str
    rows: int
    created: datetime | None
    created_by: str
    features: Sequence[Link]
    columns: Sequence[ColumnRow]
    time_limit: str
    time_range: str
    frame: str | None
    is_query: bool
    sources: Sequence[PinnedSource]
    content_hash: str
    registry_version: int
    asof_version: str
    reproducible: bool
    why: str
    changes: LiveValue[Sequence[str]] | None
    rebuild: str
    others: Sequence[str]


@dataclass(frozen=True)
class ManifestPair:
    """One thing that both manifests say, side by side."""

    name: str
    a: str
    b: str

    @property
    def is_same(self) -> bool:
        return self.a == self.b


@dataclass(frozen=True)
class ComparedColumn:
    """One column of both training sets.

    Args:
        a, b: its types; empty where one has no such column.
        verdict: `same values`, `other values`, `other type`, `only in A` or `only in B`; `other rows` where the sets
            have another number of rows, so that hashes say nothing of single values.
    """

    name: str
    a: str
    b: str
    verdict: str


@dataclass(frozen=True, kw_only=True)
class CompareTrainingSetsPage(Page):
    """The page.

    Args:
        names: the training sets that can be chosen.
        a, b: those that are compared; empty where none is chosen.
        is_identical: whether the hashes of all values are equal.
        facts: rows, times, frame and pinned sources of both.
        definitions: views and functions, by hash: `same`, `changed`, `only in A` or `only in B`.
        columns: the columns that differ, first.
    """

    names: Sequence[str]
    a: str
    b: str
    is_identical: bool
    facts: Sequence[ManifestPair]
    definitions: Sequence[ManifestPair]
    columns: Sequence[ComparedColumn]


def training_sets_page(request: PageRequest) -> TrainingSetsPage:
    found = sorted(_shown(request).values(), key=lambda each: each.created, reverse=True)
    rows = [
        TrainingSetRow(
            each.name, page_url("training-set", each.name), each.rows, len(each.features), _when(each.created),
            each.created_by, each.reproducible,
        )
        for each in found[:_SHOWN]
    ]  # fmt: skip
    return TrainingSetsPage(
        title="Training sets", above=[Link("Home", page_url())], sets=rows, more=max(len(found) - _SHOWN, 0)
    )


def training_set_page(request: PageRequest) -> TrainingSetPage:
    shown, (name,) = _shown(request), request.names
    found = _named(shown, name)
    may_see_frame = _may_see_frame(request, found)
    return TrainingSetPage(
        title=name, above=[Link("Home", page_url()), Link("Training sets", page_url("training-sets"))], name=name,
        rows=found.rows, created=_when(found.created), created_by=found.created_by,
        features=[Link(each, url_of("feature", each) if _is_applied(request, each) else "") for each in found.features],
        rebuild=rebuild_training_set(name),
        columns=[
            ColumnRow(
                each["name"], each["type"], each["name"] not in found.frame_columns,
                found.column_hashes.get(each["name"], ""),
            )
            for each in found.columns
        ],
        time_limit=_time_limit(found), time_range=_time_range(found),
        frame=found.entity_frame if may_see_frame else None, is_query=_is_query(found),
        sources=[
            PinnedSource(
                source, url_of("source", source) if request.index.source(source) is not None else "", _pinned(mark)
            )
            for source, mark in found.sources.items()
            if may_see_frame or request.index.shows_source(request.viewer, source)
        ],
        content_hash=found.content_hash, registry_version=found.registry_version, asof_version=found.asof_version,
        reproducible=found.reproducible, why=found.why if may_see_frame else "",
        changes=None if not may_see_frame else request.live.get(
            ("training set changes", name), lambda: request.store.training_set_changes(name), budget_s=_BUDGET_S
        ),
        others=[each for each in shown if each != name],
    )  # fmt: skip


def compare_page(request: PageRequest) -> CompareTrainingSetsPage:
    shown = _shown(request)
    a, b = request.text("a") or "", request.text("b") or ""
    known = {each: _named(shown, each) for each in (a, b) if each}
    one, other = known.get(a), known.get(b)
    both = (one, other) if one is not None and other is not None else None
    return CompareTrainingSetsPage(
        title=f"{a} and {b}" if both else "Compare training sets",
        above=[Link("Home", page_url()), Link("Training sets", page_url("training-sets"))],
        names=list(shown), a=a, b=b, is_identical=both is not None and both[0].content_hash == both[1].content_hash,
        facts=_facts(request, *both) if both else (), definitions=_definitions(*both) if both else (),
        columns=_columns(*both) if both else (),
    )  # fmt: skip


def _shown(request: PageRequest) -> dict[str, TrainingSet]:
    """The training sets of which the viewer may read all views, by name."""
    saved = request.index.snapshot.facts.training_sets
    if request.viewer.may("read"):
        return dict(sorted(saved.items()))
    index = request.index

    def may_see(each: TrainingSet) -> bool:
        views = [index.view(name) for name in {*each.definitions, *each.functions}]
        return bool(views) and all(view is not None and index.shows_view(request.viewer, view) for view in views)

    return {name: each for name, each in sorted(saved.items()) if may_see(each)}


def _named(shown: Mapping[str, TrainingSet], name: str) -> TrainingSet:
    if name not in shown:
        raise missing("training set", name, list(shown))
    return shown[name]


def _is_applied(request: PageRequest, reference: str) -> bool:
    name, _, feature = reference.partition(":")
    view = request.index.view(name)
    return view is not None and feature in view.feature_names


def _when(text: str) -> datetime | None:
    found = moment_given(text or None, "created")
    return None if found is None else moment(found)


def _time_limit(found: TrainingSet) -> str:
    if not found.known_at:
        return ""
    return "what was known at each row's time" if found.known_at is True else f"what was known at {found.known_at}"


def _time_range(found: TrainingSet) -> str:
    return "" if found.start is None and found.end is None else f"{found.start or '…'} to {found.end or '…'}"


def _is_query(found: TrainingSet) -> bool:
    return bool(found.entity_frame) and found.entity_frame != "a table" and " " in found.entity_frame


def _pinned(mark: SourceMark) -> str:
    """The version of a source that was read, as text."""
    if mark.kind == "archive":
        offsets = ", ".join(f"{partition}: {offset:,}" for partition, offset in sorted((mark.offsets or {}).items()))
        return f"archive version {mark.version}" + (f", up to offset {offsets}" if offsets else ", without rows")
    if mark.kind == "files":
        files = mark.files or ()
        names = ", ".join(f"{each.path.rpartition('/')[2]} (sha256 {each.sha256[:12]})" for each in files[:3])
        return f"{counted(len(files), 'file')}: {names}" + (" and more" if len(files) > 3 else "")
    return "not pinned: its rows may change unnoticed"


def _may_see_frame(request: PageRequest, found: TrainingSet) -> bool:
    """Whether the viewer may see the frame: a SELECT names sources, which may be others than those of the views."""
    return all(request.index.shows_source(request.viewer, each) for each in found.sources)


def _facts(request: PageRequest, a: TrainingSet, b: TrainingSet) -> Sequence[ManifestPair]:
    def said(each: TrainingSet) -> dict[str, str]:
        frame = each.entity_frame if _may_see_frame(request, each) else "hidden"
        return {
            "Rows": f"{each.rows:,}", "Saved": each.created, "By": each.created_by,
            "Entity frame": frame or ("all rows of a time range" if each.start or each.end else ""),
            "Time range": _time_range(each), "Time limit": _time_limit(each),
            "Registry version": str(each.registry_version), "Asof": each.asof_version, "Hash": each.content_hash[:16],
        }  # fmt: skip

    ours, theirs = said(a), said(b)
    found = [ManifestPair(name, ours[name], theirs[name]) for name in ours]
    for source in dict.fromkeys([*a.sources, *b.sources]):
        if not request.index.shows_source(request.viewer, source):
            continue
        pins = [_pinned(each.sources[source]) if source in each.sources else "" for each in (a, b)]
        found.append(ManifestPair(f"Source {source}", *pins))
    return [each for each in found if each.a or each.b]


def _definitions(a: TrainingSet, b: TrainingSet) -> Sequence[ManifestPair]:
    ours, theirs = {**a.definitions, **a.functions}, {**b.definitions, **b.functions}
    names = sorted({*ours, *theirs})
    return [ManifestPair(name, ours.get(name, "")[:12], theirs.get(name, "")[:12]) for name in names]


def _columns(a: TrainingSet, b: TrainingSet) -> Sequence[ComparedColumn]:
    ours, theirs = ({each["name"]: each["type"] for each in one.columns} for one in (a, b))
    found = []
    for name in dict.fromkeys([*ours, *theirs]):
        here, there = ours.get(name, ""), theirs.get(name, "")
        if not (here and there):
            verdict = "only in A" if here else "only in B"
        elif here != there:
            verdict = "other type"
        elif a.column_hashes.get(name) == b.column_hashes.get(name):
            verdict = "same values"
        else:
            verdict = "other values" if a.rows == b.rows else "other rows"
        found.append(ComparedColumn(name, here, there, verdict))
    return sorted(found, key=lambda each: each.verdict == "same values")
