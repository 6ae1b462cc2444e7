"""The conformance suite of registries: a product's tests inherit `RegistrySuite` and give it `open_registry`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Barrier, Thread

import pytest

from asof.definitions import Aggregation, Entity, FeatureView, Field, LogSource, Session, Snapshot, project_of
from asof.definitions.facts import Facts, LastRun, ViewGenerations
from asof.errors import RegistryConflict, RegistryError
from asof.registry.protocol import KEPT_FACT_COMMITS, Registry
from asof.testing.registry_records import NOON, RegistryRecords
from asof.types import Int64, String

OpenRegistry = Callable[[], Registry]

user = Entity("user", ["user_id"])
traffic = LogSource(
    "traffic", schema=[Field("user_id", Int64), Field("page", String), Field("timestamp", Int64)],
    timestamp_field="timestamp", timestamp_unit="ms",
)  # fmt: skip
views = FeatureView(
    "user_traffic", entities=[user], source=traffic, schema=[Field("user_id", Int64)],
    aggregations=[
        Aggregation("", "count", where="page = 'listing'", window=Session("1h"), name="listing_views", dtype=Int64)
    ],
)  # fmt: skip


def shop(name: str = "shop", **facts: object) -> Snapshot:
    """A snapshot with an entity, a source, a view, and these facts by topic."""
    return Snapshot(0, name, project_of([views]), Facts.of(facts))


class RegistrySuite(RegistryRecords):
    """What every registry promises. Subclasses give the fixture `open_registry`: each call opens the same one again."""

    @pytest.fixture
    def open_registry(self) -> Iterator[OpenRegistry]:
        raise NotImplementedError("give the suite a fixture `open_registry`")

    @pytest.fixture
    def registry(self, open_registry: OpenRegistry) -> Registry:
        return open_registry()

    def test_a_project_never_applied_is_empty_and_of_version_0(self, registry: Registry) -> None:
        snapshot = registry.load("shop")

        assert (snapshot.version, snapshot.name, list(snapshot.project), snapshot.facts) == (0, "shop", [], Facts())
        assert (registry.version("shop"), registry.history("shop"), registry.projects()) == (0, [], [])

    def test_a_commit_is_read_back_by_others_as_it_was(self, open_registry: OpenRegistry) -> None:
        committed = open_registry().commit(
            shop(generations={"user_traffic": {"current": "ab12-1", "count": 1}}),
            expected=0,
            who="ana",
            when=NOON,
            note="first",
        )

        read = open_registry().load("shop")
        assert committed.version == read.version == 1
        assert read.project.content() == committed.project.content()
        assert read.facts == Facts(generations={"user_traffic": ViewGenerations(current="ab12-1", count=1)})

    def test_a_writer_that_read_an_older_version_is_told_who_wrote_the_newer_one(
        self, open_registry: OpenRegistry
    ) -> None:
        ana, bo = open_registry(), open_registry()
        ana.commit(shop(), expected=0, who="ana@laptop", when=NOON)

        with pytest.raises(RegistryConflict) as caught:
            bo.commit(shop(mine=1), expected=0, who="bo", when=NOON + 1)

        assert "ana@laptop committed version 1 at 2020-09-13T12:26:40Z" in str(caught.value)
        assert "nothing was written" in str(caught.value)
        assert bo.load("shop").facts == Facts()

    def test_a_commit_from_a_version_that_is_not_there_yet_is_a_conflict(self, registry: Registry) -> None:
        with pytest.raises(RegistryConflict, match="was dropped since version 3 was read"):
            registry.commit(shop(), expected=3, who="ana", when=NOON)

        assert registry.version("shop") == 0

    def test_of_many_writers_at_once_each_version_has_one_and_no_update_is_lost(
        self, open_registry: OpenRegistry
    ) -> None:
        writers, rounds = 4, 5
        start, wins = Barrier(writers), [0] * writers

        def write(number: int) -> None:
            registry = open_registry()
            start.wait()
            while wins[number] < rounds:
                snapshot = registry.load("shop")
                facts = snapshot.facts.with_gap("traffic", f"{number}")
                try:
                    registry.commit(
                        shop().with_facts(facts), expected=snapshot.version, who=str(number), when=NOON,
                        note=f"{number}",
                    )  # fmt: skip
                except RegistryConflict:
                    continue
                wins[number] += 1

        threads = [Thread(target=write, args=(number,)) for number in range(writers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        snapshot = open_registry().load("shop")
        assert (snapshot.version, len(snapshot.facts.gaps["traffic"])) == (writers * rounds, writers * rounds)

    def test_history_says_who_did_what_when_newest_first(self, registry: Registry) -> None:
        first = registry.commit(shop(), expected=0, who="ana", when=NOON, note="hello")
        materialized = first.facts.with_last_run("user_traffic", LastRun(generation="ab12-1"))
        second = registry.commit(first.with_facts(materialized), expected=1, who="bo", when=NOON + 1)
        registry.commit(Snapshot(2, "shop", project_of([user]), second.facts), expected=2, who="cy", when=NOON + 2)

        commits = registry.history("shop")
        assert [(each.version, each.who, each.when, each.note) for each in commits] == [
            (3, "cy", NOON + 2, ""), (2, "bo", NOON + 1, ""), (1, "ana", NOON, "hello"),
        ]  # fmt: skip
        assert [each.summary for each in commits] == [
            "deleted source 'traffic', feature view 'user_traffic'",
            "facts: materialized",
            "created entity 'user', source 'traffic', feature view 'user_traffic'",
        ]
        assert registry.history("shop", 1) == commits[:1]

    def test_older_versions_can_be_read(self, registry: Registry) -> None:
        registry.commit(shop(round=1), expected=0, who="ana", when=NOON)
        registry.commit(shop(round=2), expected=1, who="ana", when=NOON)

        assert registry.load_version("shop", 1).facts == Facts(others={"round": 1})
        assert registry.load_version("shop", 1).version == 1
        with pytest.raises(RegistryError, match="no version 7 of project 'shop'; it holds versions 1 to 2"):
            registry.load_version("shop", 7)

    def test_projects_do_not_touch_one_another_even_where_one_name_begins_with_the_other(
        self, registry: Registry
    ) -> None:
        for name in ("shop", "shop_eu", "shop%", "Shop"):
            registry.commit(shop(name), expected=0, who="ana", when=NOON)

        registry.drop("shop")
        registry.drop("never_there")

        assert registry.projects() == sorted(["Shop", "shop%", "shop_eu"])
        assert registry.version("shop") == 0
        assert [registry.load(name).version for name in ("shop_eu", "shop%", "Shop")] == [1, 1, 1]

    def test_versions_are_restored_under_their_numbers_into_a_project_without_any(self, registry: Registry) -> None:
        registry.commit(shop(), expected=0, who="ana", when=NOON, note="first")
        registry.commit(shop(round=1), expected=1, who="worker", when=NOON + 1)
        other = Snapshot(0, "shop", project_of([traffic]))
        registry.commit(other, expected=2, who="bo", when=NOON + 2, note="third")
        commits, snapshots = registry.history("shop"), [registry.load_version("shop", each) for each in (3, 2, 1)]
        definitions = registry.history("shop", facts=False)
        versions = list(zip(commits, snapshots, strict=True))

        with pytest.raises(RegistryConflict):
            registry.restore("shop", iter(versions))
        assert registry.history("shop") == commits
        registry.drop("shop")
        # A registry drops old commits of facts, so numbers may be missing.
        registry.restore("shop", iter([versions[0], versions[2]]))

        assert registry.history("shop") == [commits[0], commits[2]] and registry.version("shop") == 3
        assert registry.history("shop", facts=False) == definitions == [commits[0], commits[2]]
        for snapshot in (snapshots[0], snapshots[2]):
            again = registry.load_version("shop", snapshot.version)
            assert (again.version, again.project, again.facts) == (snapshot.version, snapshot.project, snapshot.facts)
        assert registry.load("shop").version == 3
        assert registry.commit(shop(), expected=3, who="ana", when=NOON).version == 4

    def test_a_registry_that_was_closed_can_be_used_again(self, registry: Registry) -> None:
        registry.commit(shop(), expected=0, who="ana", when=NOON)
        registry.close()

        assert registry.version("shop") == 1

    def test_old_commits_of_facts_are_dropped_and_those_of_definitions_kept(
        self, registry: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert KEPT_FACT_COMMITS >= 100
        monkeypatch.setattr(f"{type(registry).__module__}.KEPT_FACT_COMMITS", 3)
        registry.commit(shop(), expected=0, who="ana", when=NOON)
        for version in range(1, 8):
            registry.commit(shop(count=version), expected=version, who="ana", when=NOON)

        assert [each.version for each in registry.history("shop")] == [8, 7, 6, 1]

    def test_a_first_commit_of_facts_is_one_of_facts(self, registry: Registry) -> None:
        nothing = project_of([])
        registry.commit(Snapshot(0, "shop", nothing, Facts(epochs={"traffic": 1})), expected=0, who="ana", when=NOON)
        assert registry.history("shop", facts=False) == []

        registry.commit(Snapshot(1, "shop", nothing, Facts(epochs={"traffic": 2})), expected=1, who="ana", when=NOON)
        registry.commit(shop(), expected=2, who="ana", when=NOON, note="created last")

        assert [each.version for each in registry.history("shop", facts=False)] == [3]
        assert [each.version for each in registry.history("shop")] == [3, 2, 1]

    def test_commits_of_definitions_are_found_behind_any_number_of_commits_of_facts(self, registry: Registry) -> None:
        # As `apply` does: facts first, then the definitions that they were about.
        registry.commit(
            Snapshot(0, "shop", project_of([]), Facts(epochs={"traffic": 1})), expected=0, who="ana", when=NOON
        )
        registry.commit(shop(), expected=1, who="ana", when=NOON, note="first")
        for version in range(2, 30):
            registry.commit(shop(count=version), expected=version, who="worker", when=NOON)
        registry.commit(Snapshot(30, "shop", project_of([user])), expected=30, who="bo", when=NOON, note="second")
        for version in range(31, 70):
            after = Snapshot(version, "shop", project_of([user]), Facts(epochs={"traffic": version}))
            registry.commit(after, expected=version, who="worker", when=NOON)

        found = registry.history("shop", facts=False)
        assert [(each.version, each.who, each.note) for each in found] == [(31, "bo", "second"), (2, "ana", "first")]
        assert registry.history("shop", 1, facts=False) == found[:1]
        assert [each.version for each in registry.history("shop", 2)] == [70, 69]
        assert registry.history("sho", facts=False) == registry.history("shop%", facts=False) == []
