"""The snapshot in use and its decided requests: bounded, kept while readers read alike, and told when there is newer."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from asof import Entity, FeatureService, FeatureView, Field, FileSource
from asof.applied import AppliedDefinitions, DecidedRequest, DecidedRequests, FeatureRequest
from asof.definitions import Project, Snapshot, project_of
from asof.errors import NotFound, RegistryError, RequestError
from asof.types import Int64

USER = Entity("user", join_keys=["user_id"])
VIEW = FeatureView(
    "profile", entities=[USER], source=FileSource("rows.parquet", timestamp_field="at"),
    schema=[Field("user_id", Int64), Field("age", Int64), Field("size", Int64)],
)  # fmt: skip
SERVICE = FeatureService("model", features=[VIEW])
PROJECT = project_of([VIEW, SERVICE])


class Registry:
    """Holds one snapshot, and counts what it is asked."""

    def __init__(self) -> None:
        self.newest = Snapshot(1, "shop", PROJECT)
        self.loads = 0
        self.is_away = False

    def commit(self, *, project: Project | None = None, generation: str = "") -> None:
        facts = self.newest.facts.with_current("profile", generation) if generation else self.newest.facts
        snapshot = Snapshot(self.newest.version + 1, "shop", project or self.newest.project)
        self.newest = snapshot.with_facts(facts)

    def version(self, project: str) -> int:
        if self.is_away:
            raise RegistryError("the registry is away")
        return self.newest.version

    def load(self, project: str) -> Snapshot:
        if self.is_away:
            raise RegistryError("the registry is away")
        self.loads += 1
        return self.newest


@pytest.fixture
def registry() -> Registry:
    return Registry()


def decide(snapshot: Snapshot, request: FeatureRequest) -> DecidedRequest:
    """A request of as many features as it has references, read from the snapshot's current generation."""
    if "nothing" in request.features:
        raise NotFound("nothing of that name")
    generation = snapshot.facts.generations_of("profile").current
    selection: Any = SimpleNamespace(outputs=tuple(request.features))
    reader: Any = SimpleNamespace(generations=[generation], snapshot=snapshot)
    return DecidedRequest(request, selection, lambda: reader)


def applied(registry: Any, **options: Any) -> AppliedDefinitions[DecidedRequest]:
    return AppliedDefinitions("shop", lambda: registry, decide, **options)


AGE = FeatureRequest(("profile:age",), False)


@pytest.mark.parametrize(
    ("one", "other", "are_equal"),
    [
        (["profile:age"], ("profile:age",), True), ("profile:age", ["profile:age"], False),
        ([VIEW[["age"]]], [VIEW[["age"]]], True), ([VIEW[["age"]]], [VIEW[["size"]]], False),
        ([VIEW[["age"]].with_name("other")], [VIEW[["age"]]], False), ([VIEW], [VIEW], True),
        ([VIEW[["age"]].with_join_key_map({"user_id": "friend"})], [VIEW[["age"]]], False),
        (SERVICE, FeatureService("model", features=[VIEW[["age"]]]), True), (SERVICE, "model", False),
        ([VIEW], ["profile"], False),
    ],
)  # fmt: skip
def test_requests_are_equal_where_they_ask_for_the_same(one: Any, other: Any, are_equal: bool) -> None:
    assert (FeatureRequest(one, False).key == FeatureRequest(other, False).key) is are_equal
    assert FeatureRequest(one, False).key != FeatureRequest(one, True).key


@pytest.mark.parametrize("features", [3, None, 1.5])
def test_what_are_no_references_is_refused(features: Any) -> None:
    with pytest.raises(RequestError, match="features is"):
        FeatureRequest(features, False).key  # noqa: B018


def test_a_request_is_decided_once_for_a_snapshot(registry: Registry) -> None:
    made = applied(registry)

    assert made.decided(AGE) is made.decided(FeatureRequest(["profile:age"], False))
    assert made.decided(AGE) is not made.decided(FeatureRequest(("profile:age",), True))
    assert registry.loads == 1


def test_the_oldest_requests_are_dropped_where_they_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asof.applied.REQUESTS", 3)
    requests: DecidedRequests[DecidedRequest] = DecidedRequests(Snapshot(1, "shop", PROJECT))
    made = [decide(requests.snapshot, FeatureRequest((f"profile:f{i}",), False)) for i in range(5)]
    for each in made:
        requests.keep(each)

    assert list(requests) == made[2:]
    assert requests.dropped == 2
    assert requests.get(made[0].request.key) is None


@pytest.mark.parametrize("sizes", [[4, 4, 4, 4], [1, 9, 1], [20, 1], [3, 3, 3, 20]])
def test_requests_are_dropped_where_they_have_too_many_features(
    monkeypatch: pytest.MonkeyPatch, sizes: list[int]
) -> None:
    monkeypatch.setattr("asof.applied.OUTPUTS", 10)
    requests: DecidedRequests[DecidedRequest] = DecidedRequests(Snapshot(1, "shop", PROJECT))
    for place, size in enumerate(sizes):
        features = tuple(f"v{place}:{i}" for i in range(size))
        for _ in range(2):  # a request that is decided again counts once
            requests.keep(decide(requests.snapshot, FeatureRequest(features, False)))

        kept = [len(each.selection.outputs) for each in requests]
        assert kept[-1] == size
        assert sum(kept) <= 10 or len(kept) == 1


def test_the_requests_most_used_are_decided_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    requests: DecidedRequests[DecidedRequest] = DecidedRequests(Snapshot(1, "shop", PROJECT))
    made = [decide(requests.snapshot, FeatureRequest((f"a:{i}", f"b:{i}"), False)) for i in range(6)]
    for each, used in zip(made, (3, 0, 1, 9, 2, 1), strict=True):
        each.used = used
        requests.keep(each)

    assert requests.in_use() == [made[5], made[2], made[4], made[0], made[3]]
    assert requests.in_use(5) == [made[0], made[3]]
    assert requests.in_use(1) == [made[3]]


def test_a_version_that_changes_nothing_that_is_read_keeps_what_was_decided(registry: Registry) -> None:
    made = applied(registry)
    before = made.decided(AGE)
    registry.commit()

    assert made.refresh() is False
    assert made.requests().snapshot.version == 2
    assert made.decided(AGE) is before


@pytest.mark.parametrize("change", [{"generation": "g-1"}, {"project": project_of([VIEW])}])
def test_what_is_read_in_another_way_is_decided_again(registry: Registry, change: dict[str, Any]) -> None:
    made = applied(registry)
    before = made.decided(AGE)
    registry.commit(**change)

    assert made.refresh() is True
    assert made.decided(AGE) is not before


def test_requests_in_use_are_decided_before_a_new_snapshot_is_seen_where_that_is_wanted(registry: Registry) -> None:
    made = applied(registry, decide_ahead=True)
    made.decided(AGE)
    registry.commit(generation="g-1")
    made.refresh()
    (ahead,) = made.requests()

    assert (ahead.request, ahead.reader.generations, ahead.used) == (AGE, ["g-1"], 0)
    registry.commit(generation="g-2")
    made.refresh()
    assert len(made.requests()) == 0  # nobody has asked for it since

    made = applied(registry)
    made.decided(AGE)
    registry.commit(generation="g-3")
    made.refresh()
    assert len(made.requests()) == 0


def test_a_newer_reader_is_there_only_where_another_generation_is_read(registry: Registry) -> None:
    made = applied(registry)
    first = made.decided(AGE)
    assert made.newer(first) is None
    registry.commit()
    assert made.newer(first) is None
    registry.commit(project=project_of([VIEW]))
    assert made.newer(first) is None

    registry.commit(generation="g-1")
    second = made.newer(first)
    assert second is not None
    assert second.reader.generations == ["g-1"]
    assert made.newer(second) is None


def test_a_request_that_was_dropped_is_not_newer_for_that(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asof.applied.REQUESTS", 1)
    made = applied(registry)
    first = made.decided(AGE)
    made.decided(FeatureRequest(("profile:size",), False))

    assert not made.is_current(first)
    assert made.superseding(first) is None


def test_while_the_registry_is_away_what_is_known_is_read(registry: Registry) -> None:
    made = applied(registry)
    first = made.decided(AGE)
    registry.commit(generation="g-1")
    registry.is_away = True

    assert made.newer(first) is None
    assert made.decided(AGE) is first
    with pytest.raises(RegistryError):
        made.refresh()
    registry.is_away = False
    assert made.newer(first) is not None


def test_after_forgetting_the_registry_is_read_again(registry: Registry) -> None:
    made = applied(registry)
    assert not made.is_known
    made.decided(AGE)
    made.forget()

    assert not made.is_known
    assert made.requests().snapshot.version == 1
    assert registry.loads == 2


def test_threads_that_refresh_and_ask_at_once_see_whole_snapshots(registry: Registry) -> None:
    made, wrong, stop = applied(registry), [], threading.Event()

    def ask() -> None:
        while not stop.is_set():
            decided = made.decided(AGE)
            made.refresh()
            if decided.reader.generations != [decided.reader.snapshot.facts.generations_of("profile").current]:
                wrong.append(decided)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for each in threads:
        each.start()
    for number in range(200):
        registry.commit(generation=f"g-{number}")
    stop.set()
    for each in threads:
        each.join()
    made.refresh()

    assert wrong == []
    assert made.decided(AGE).reader.generations == ["g-199"]


def decide_by_names(snapshot: Snapshot, request: FeatureRequest) -> DecidedRequest:
    if request.features not in snapshot.project.services:
        raise NotFound("no such service")
    return decide(snapshot, request)


def test_what_is_not_found_is_looked_for_again_in_what_is_applied_by_now(registry: Registry) -> None:
    applied = AppliedDefinitions("shop", lambda: registry, decide_by_names)
    applied.refresh()
    registry.commit(project=project_of([VIEW, FeatureService("later", features=[VIEW])]))

    assert applied.decided(FeatureRequest("later", False)).request.features == "later"


def test_requests_for_what_is_not_there_do_not_ask_the_registry_each_time(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("asof.applied.time", SimpleNamespace(monotonic=lambda: now))
    asked = []
    monkeypatch.setattr(registry, "version", lambda project: asked.append(project) or 1)
    applied = AppliedDefinitions("shop", lambda: registry, decide_by_names)
    applied.refresh()

    def ask(times: int) -> int:
        asked.clear()
        for number in range(times):
            with pytest.raises(NotFound):
                applied.decided(FeatureRequest(f"none {number}", False))
        return len(asked)

    assert ask(50) == 1
    now += 0.2
    assert ask(50) == 1


def test_while_the_registry_is_away_what_is_not_found_is_that(registry: Registry) -> None:
    applied = AppliedDefinitions("shop", lambda: registry, decide_by_names)
    applied.refresh()
    registry.is_away = True

    with pytest.raises(NotFound):
        applied.decided(FeatureRequest("later", False))
