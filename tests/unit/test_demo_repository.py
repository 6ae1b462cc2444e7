"""The demo's feature repository is one that a user could have written, and fits the shop's sources."""

from __future__ import annotations

import runpy
from functools import cache
from pathlib import Path

import pytest
import yaml

from asof.definitions import Definition, Project, Session, Sliding, Snapshot, project_of
from asof.demo.repository import SERVICE, TRAINING_COLUMNS, write_repository, write_server_repository
from asof.demo.shop import ORDERS_SCHEMA, START, TRAFFIC_SCHEMA, USERS_SCHEMA, simulate
from asof.timing import DAY, HOUR, MINUTE, micros

TEMPLATE = Path(__file__).parents[2] / "src" / "asof" / "demo" / "template"


@cache
def project() -> Project:
    names = runpy.run_path(str(TEMPLATE / "features.py"))
    return project_of(each for each in names.values() if isinstance(each, Definition))


def test_the_repository_is_written_with_its_clock_and_is_complete(tmp_path) -> None:
    written = write_repository(tmp_path / "repo", clock=1_600_000_060_500_000)
    settings = yaml.safe_load((tmp_path / "repo" / "feature_store.yaml").read_text(encoding="utf-8"))

    assert [path.name for path in written] == ["feature_store.yaml", "features.py"]
    assert settings["project"] == "shop"
    assert micros(settings["clock"]) == 1_600_000_060_500_000
    assert {key: settings[key]["type"] for key in ("offline_store", "online_store", "log")} == {
        "offline_store": "duckdb",
        "online_store": "sqlite",
        "log": "file",
    }
    assert settings["registry"]["registry_type"] == "sqlite"
    assert written[1].read_text(encoding="utf-8") == (TEMPLATE / "features.py").read_text(encoding="utf-8")


def test_the_templates_own_clock_is_the_end_of_the_default_shop() -> None:
    settings = yaml.safe_load((TEMPLATE / "feature_store.yaml").read_text(encoding="utf-8"))

    assert micros(settings["clock"]) == micros(START) + 50_000 * MINUTE == simulate(users=1).ends_at


def test_writing_again_leaves_other_files_alone(tmp_path) -> None:
    (tmp_path / "mine.py").write_text("x = 1\n")
    write_repository(tmp_path, clock=0)
    write_repository(tmp_path, clock=60_000_000)

    assert (tmp_path / "mine.py").read_text() == "x = 1\n"
    assert "clock: 1970-01-01T00:01:00Z" in (tmp_path / "feature_store.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("message_format", ["json", "avro"])
@pytest.mark.parametrize("offline", ["duckdb", "postgres"])
def test_on_servers_only_the_sources_and_the_settings_are_others(tmp_path, offline, message_format) -> None:
    options = {"project": "mine", "offline": offline, "message_format": message_format}
    settings, features = write_server_repository(tmp_path, clock=60_000_000, **options)
    there = project_of(each for each in runpy.run_path(str(features)).values() if isinstance(each, Definition))
    store = yaml.safe_load(settings.read_text(encoding="utf-8"))

    assert [each.content() for each in there.on_demand_views.values()] == [
        each.content() for each in project().on_demand_views.values()
    ]
    for name, view in project().views.items():
        ours, theirs = view.content(), there.views[name].content()
        assert theirs == ours
    assert {name: source.type for name, source in there.sources.items()} == {
        "users": "postgres", "orders": "postgres", "traffic": "kafka",
    }  # fmt: skip
    assert there.sources["traffic"].message_format.name == message_format
    assert there.sources["traffic"].topic == "mine_traffic"
    assert (store["project"], store["offline_store"]["type"], store["online_store"]["type"]) == (
        "mine",
        offline,
        "redis",
    )
    assert store["registry"]["schema"] == "mine" and "asof_demo" not in settings.read_text(encoding="utf-8")
    assert micros(store["clock"]) == 60_000_000
    assert all(len(line) <= 120 for path in (settings, features) for line in path.read_text().splitlines())


def test_each_definition_is_found_without_a_note() -> None:
    assert list(project().views) == ["user_profile", "user_traffic"]
    assert list(project().sources) == ["orders", "traffic", "users"]
    assert list(project().on_demand_views) == ["browsing_ratios"]
    assert list(project().services) == [SERVICE]
    assert [note for each in project() for note in each.notes] == []


def test_the_windows_are_those_of_the_story() -> None:
    view = project().views["user_traffic"]

    assert {each.name: (each.function, each.window) for each in view.aggregations} == {
        "session_listing_page_views": ("count", Session.of_micros(HOUR)),
        "session_product_page_views": ("count", Session.of_micros(HOUR)),
        "session_photo_page_views": ("count", Session.of_micros(HOUR)),
        "views_1d": ("count", Sliding.of_micros(DAY)),
        "views_7d": ("count", Sliding.of_micros(7 * DAY)),
        "last_page_1h": ("last", Sliding.of_micros(HOUR)),
    }


def test_the_sources_name_columns_that_the_shop_writes() -> None:
    sources = project().sources

    assert sources["users"].timestamp_field in USERS_SCHEMA.names
    assert sources["orders"].timestamp_field in ORDERS_SCHEMA.names
    assert [field.name for field in sources["traffic"].schema] == TRAFFIC_SCHEMA.names
    assert {field.name for field in project().views["user_profile"].schema} <= set(USERS_SCHEMA.names)


def test_the_service_answers_all_training_columns() -> None:
    features = [name for part in project().services[SERVICE].features for name in part.view.feature_names]

    assert sorted(features) == sorted(TRAINING_COLUMNS[3:])


@pytest.mark.parametrize(
    ("views", "ratios"),
    [((2, 5, 1), (2.5, 0.125)), ((0, 3, 1), (None, 0.25)), ((0, 0, 0), (None, None)), ((4, 0, 0), (0.0, 0.0))],
)
def test_ratios_are_null_where_there_is_nothing_to_divide_by(views: tuple, ratios: tuple) -> None:
    view = project().on_demand_views["browsing_ratios"]
    answer = view.function(dict(zip(TRAINING_COLUMNS[3:6], views, strict=True)))

    assert tuple(answer[name] for name in view.feature_names) == ratios


def test_the_repository_survives_the_registry() -> None:
    snapshot = Snapshot(1, "shop", project())

    assert Snapshot.decode(snapshot.encode()).project.content() == project().content()
