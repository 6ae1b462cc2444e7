"""The records' section of the registries' conformance suite: what happened, and how often, next to the snapshots."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from threading import Barrier, Thread

import pytest

from asof.definitions import Project, Snapshot
from asof.registry.protocol import Registry
from asof.registry.records import KEPT_COUNT_DAYS, RegistryRecord

NOON = 1_600_000_000_000_000
TODAY = date(2020, 9, 13)


def records_of(*subjects: str, kind: str = "run", when: int = NOON) -> list[RegistryRecord]:
    """One record of each subject, a microsecond after the other, numbered in the body."""
    return [RegistryRecord(kind, subject, when + n, {"n": n}) for n, subject in enumerate(subjects)]


def numbers(records: list[RegistryRecord]) -> list[object]:
    """The numbers in the bodies of records."""
    return [each.body["n"] for each in records]


class RegistryRecords:
    """What every registry promises of records and counts."""

    def test_a_registry_without_records_has_none_and_makes_nothing_to_say_so(self, registry: Registry) -> None:
        assert registry.records("shop", "run") == []
        assert registry.counts("shop", "served") == {}
        registry.prune_records("shop", "run", keep=1)
        registry.drop("shop")
        assert registry.projects() == []

    def test_records_are_read_back_by_others_as_they_were_newest_first(
        self, open_registry: Callable[[], Registry]
    ) -> None:
        body = {
            "text": "naïve \0 'quoted' 😀 \ud83d", "number": 0.1, "whole": 2**60, "none": None, "yes": True,
            "list": [1, [2, {}]], "within": {"": {"deep": [None]}},
        }  # fmt: skip
        first, second = RegistryRecord("run", "materialize", NOON, body), RegistryRecord("run", "rebuild", NOON + 1)
        open_registry().append_records("shop", [second, first])

        assert open_registry().records("shop", "run") == [second, first]
        assert open_registry().records("shop", "run", "materialize") == [first]
        assert open_registry().records("shop", "run", "compact") == open_registry().records("shop", "audit") == []

    def test_of_one_time_the_record_that_was_appended_last_comes_first(self, registry: Registry) -> None:
        for n in range(3):
            registry.append_records("shop", [RegistryRecord("run", "materialize", NOON, {"n": n})])

        assert numbers(registry.records("shop", "run")) == [2, 1, 0]

    def test_records_are_narrowed_by_time_number_and_number_of_each_subject(self, registry: Registry) -> None:
        registry.append_records("shop", records_of("a", "b", "a", "a", "b"))

        assert numbers(registry.records("shop", "run")) == [4, 3, 2, 1, 0]
        assert numbers(registry.records("shop", "run", since=NOON + 3)) == [4, 3]
        assert numbers(registry.records("shop", "run", limit=2)) == [4, 3]
        assert numbers(registry.records("shop", "run", per_subject=1)) == [4, 3]
        assert numbers(registry.records("shop", "run", per_subject=2)) == [4, 3, 2, 1]
        assert numbers(registry.records("shop", "run", per_subject=2, limit=3)) == [4, 3, 2]
        assert numbers(registry.records("shop", "run", "a", since=NOON + 1, limit=1)) == [3]

    def test_records_are_no_version_and_outlive_the_versions(self, registry: Registry) -> None:
        registry.append_records("shop", records_of("a"))
        registry.add_counts("shop", "served", TODAY, {"view:a": 1})
        assert (registry.version("shop"), registry.history("shop"), registry.projects()) == (0, [], [])

        registry.commit(Snapshot(0, "shop", Project()), expected=0, who="ana", when=NOON)
        registry.append_records("shop", records_of("b"))

        assert registry.version("shop") == 1
        assert len(registry.records("shop", "run")) == 2

    def test_pruning_keeps_the_newest_of_each_subject_and_touches_no_other_kind(self, registry: Registry) -> None:
        registry.append_records("shop", [*records_of("a", "b", "a", "a", "b"), *records_of("a", "a", kind="audit")])

        registry.prune_records("shop", "run", keep=2)
        assert numbers(registry.records("shop", "run")) == [4, 3, 2, 1]

        registry.prune_records("shop", "run", before=NOON + 3)
        assert numbers(registry.records("shop", "run")) == [4, 3]

        registry.prune_records("shop", "run", keep=0)
        assert registry.records("shop", "run") == []
        assert len(registry.records("shop", "audit")) == 2

    def test_a_body_that_is_no_json_is_refused_and_nothing_of_its_batch_is_kept(self, registry: Registry) -> None:
        good = RegistryRecord("run", "a", NOON)
        for body in ({"bad": float("nan")}, {"bad": float("inf")}, {"bad": b"bytes"}, {"bad": {1, 2}}):
            with pytest.raises((ValueError, TypeError)):
                registry.append_records("shop", [good, RegistryRecord("run", "b", NOON, body)])

        assert registry.records("shop", "run") == []

    def test_counts_of_several_writers_add_up(self, open_registry: Callable[[], Registry]) -> None:
        writers, rounds = 4, 10
        start = Barrier(writers)

        def count(number: int) -> None:
            registry = open_registry()
            start.wait()
            for _ in range(rounds):
                # In different orders, as two processes count.
                names = ["view:a", "view:b", f"view:{number}"]
                registry.add_counts("shop", "served", TODAY, dict.fromkeys(names[:: 1 if number % 2 else -1], 2))

        threads = [Thread(target=count, args=(number,)) for number in range(writers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        each = rounds * 2
        expected = {"view:a": writers * each, "view:b": writers * each, **{f"view:{n}": each for n in range(writers)}}
        assert open_registry().counts("shop", "served") == {TODAY: expected}

    def test_no_record_of_several_writers_is_lost(self, open_registry: Callable[[], Registry]) -> None:
        writers, rounds = 4, 10
        start = Barrier(writers)

        def write(number: int) -> None:
            registry = open_registry()
            start.wait()
            for n in range(rounds):
                registry.append_records("shop", [RegistryRecord("run", f"{number}", NOON + n, {"n": n})])
                registry.prune_records("shop", "run", keep=rounds)

        threads = [Thread(target=write, args=(number,)) for number in range(writers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        registry = open_registry()
        for number in range(writers):
            found = registry.records("shop", "run", f"{number}")
            assert numbers(found) == list(range(rounds))[::-1]

    def test_counts_are_kept_per_day_kind_and_subject_and_old_days_are_dropped(self, registry: Registry) -> None:
        yesterday, old = TODAY - timedelta(days=1), TODAY - timedelta(days=KEPT_COUNT_DAYS + 1)
        registry.add_counts("shop", "served", old, {"view:a": 9})
        registry.add_counts("shop", "saved", old, {"view:a": 8})
        assert registry.counts("shop", "served") == {old: {"view:a": 9}}

        registry.add_counts("shop", "served", yesterday, {"view:a": 1})
        registry.add_counts("shop", "served", TODAY, {"view:a": 2, "view:b": 2**40})
        registry.add_counts("shop", "served", TODAY, {})

        today = {"view:a": 2, "view:b": 2**40}
        assert registry.counts("shop", "served") == {yesterday: {"view:a": 1}, TODAY: today}
        assert list(registry.counts("shop", "served")) == [yesterday, TODAY]
        assert registry.counts("shop", "served", since=TODAY) == {TODAY: today}
        assert registry.counts("shop", "saved") == {old: {"view:a": 8}}

    def test_a_project_that_is_dropped_loses_its_records_and_counts_and_no_other_does(self, registry: Registry) -> None:
        for name in ("shop", "shop_eu", "Shop"):
            registry.append_records(name, records_of("a"))
            registry.add_counts(name, "served", TODAY, {"view:a": 1})

        registry.drop("shop")

        assert registry.records("shop", "run") == [] and registry.counts("shop", "served") == {}
        for name in ("shop_eu", "Shop"):
            assert len(registry.records(name, "run")) == 1
            assert registry.counts(name, "served") == {TODAY: {"view:a": 1}}

    def test_records_of_a_registry_that_was_closed_can_be_read_again(self, registry: Registry) -> None:
        registry.append_records("shop", records_of("a"))
        registry.close()

        assert len(registry.records("shop", "run")) == 1
