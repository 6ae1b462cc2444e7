"""The demo's feature repository is one that a user could have written, and fits the shop's sources."""

from __future__ import annotations

import re
import runpy
from functools import cache
from pathlib import Path

import pytest
import yaml

from asof.definitions import Definition, Project, Session, Sliding, Snapshot, project_of
from asof.demo.repository import (
    SERVICE,
    TRAINING_COLUMNS,
    write_bucket_repository,
    write_repository,
    write_server_repository,
)
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


@pytest.mark.parametrize("message_format", ["", "json", "avro"])
def test_in_a_bucket_only_the_sources_and_the_settings_are_others(tmp_path, message_format) -> None:
    servers = {"project": "mine", "message_format": message_format} if message_format else {}
    # A name that contains the demo's own project stays as it was given.
    address = "s3://asof_demo/x"
    settings, features = write_bucket_repository(
        tmp_path, clock=60_000_000, address=address, endpoint="http://s3.example:9000", **servers
    )
    there = project_of(each for each in runpy.run_path(str(features)).values() if isinstance(each, Definition))
    store = yaml.safe_load(settings.read_text(encoding="utf-8"))

    assert {name: view.content() for name, view in there.views.items()} == {
        name: view.content() for name, view in project().views.items()
    }
    assert [there.sources[name].path for name in ("users", "orders")] == [
        f"{address}/source/users.parquet",
        f"{address}/source/orders.parquet",
    ]
    assert store["registry"] == {"registry_type": "object", "path": f"{address}/registry"}
    assert store["offline_store"] == {"type": "duckdb", "path": f"{address}/history"}
    assert store["storage"] == {"endpoint": "http://s3.example:9000", "allow_http": True}
    assert "connections" not in store
    if servers:
        assert (store["project"], store["log"]["type"], store["online_store"]["type"]) == ("mine", "kafka", "redis")
        assert there.sources["traffic"].topic == "mine_traffic"
        assert there.sources["traffic"].message_format.name == message_format
    else:
        assert store["log"] == {"type": "file", "path": "data/log", "local": True}
        assert store["online_store"]["type"] == "sqlite"


def test_a_bucket_of_the_providers_own_needs_no_endpoint(tmp_path) -> None:
    settings, _ = write_bucket_repository(tmp_path, clock=0, address="gs://shop/demo")

    assert "storage" not in yaml.safe_load(settings.read_text(encoding="utf-8"))


def test_the_page_about_it_shows_the_settings_of_a_bucket(tmp_path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "real-stack.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"^```yaml\n(.*?)^```$", page.partition("## In a bucket")[2], re.MULTILINE | re.DOTALL)
    settings, _ = write_bucket_repository(tmp_path, clock=0, address="s3://asof/demo")
    written = yaml.safe_load(settings.read_text(encoding="utf-8"))

    for section, options in yaml.safe_load(shown).items():
        assert written[section] == options
