"""Names like Asof's own, an engine's or SQL's: through online stores on servers, HTTP and Kafka."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from asof import Client, FeatureStore, KafkaSource
from asof.server.app import App
from asof.server.process.service import Service
from tests.embedded.test_client import Bridge, client_over
from tests.embedded.test_hostile_names import (
    LATER,
    NAMES,
    PARTS,
    HostileNamesSuite,
    Roles,
    all_roles,
    looked_up,
    push_source,
    trained,
)

pytestmark = pytest.mark.integration

LOGGED = [each for each in all_roles(NAMES) if not any(name.lower().startswith("asof_") for name in each.names)]
"""What logs may have: their archives keep names that begin with asof_ for themselves."""
IN_POSTGRES = [each for each in LOGGED if not any(name in ("ctid", "xmin") or len(name) > 63 for name in each.names)]
SET_UPS = {
    "redis": "online_store: {{type: redis, url: '{redis}'}}\n",
    "postgres": "online_store: {{type: postgres, url: '{url}'}}\n",
    "all in postgres": "offline_store: {{type: postgres, url: '{url}'}}\nonline_store: {{type: postgres, url: '{url}'}}\n",
}


def served_over_http(client: Client, roles: Roles) -> Any:
    answer = client.get_online_features(roles.features(), {roles.key: [1, 2, 3]}, full_feature_names=True).to_dict()
    expected = roles.expected()
    found = {name: answer[name] for name in expected}
    return None if found == expected else found


def wrong_answers(store: FeatureStore, client: Client, roles: Roles) -> dict[Any, Any]:
    wrong = {}
    for side, ask in (
        ("trained", lambda: trained(store, roles)), ("served", lambda: looked_up(store, roles)),
        ("over HTTP", lambda: served_over_http(client, roles)),
    ):  # fmt: skip
        try:
            found = ask()
        except Exception as error:
            found = error
        if found is not None:
            wrong[(side, *roles.names)] = found
    return wrong


class OnlineNames(HostileNamesSuite):
    """Pushes by the store and over HTTP, in part each, and what both serve."""

    @pytest.fixture(params=SET_UPS)
    def set_up(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.fixture
    def store(self, tmp_path: Path, postgres_url: str, redis: Any, set_up: str) -> Iterator[FeatureStore]:
        sections = SET_UPS[set_up].format(url=postgres_url, redis=redis.url)
        yaml = f"project: names_{uuid.uuid4().hex}\n{sections}"
        (tmp_path / "feature_store.yaml").write_text(yaml, encoding="utf-8")
        with FeatureStore(tmp_path, clock=lambda: LATER) as store:
            yield store
            store.teardown(purge=True)

    @pytest.fixture
    def over_http(self, tmp_path: Path) -> Iterator[Callable[[], Client]]:
        loop = asyncio.new_event_loop()
        services: list[Service] = []

        def opened() -> Client:
            services.append(Service(FeatureStore(tmp_path, clock=lambda: LATER)))
            loop.run_until_complete(services[0].start())
            return client_over(Bridge(App(services[0]), loop))

        yield opened
        for service in services:
            loop.run_until_complete(service.stop())
        loop.close()


class TestPushes(OnlineNames):
    @pytest.mark.parametrize("part", range(PARTS))
    def test_values_are_right_whatever_the_names(  # type: ignore[override]
        self, store: FeatureStore, over_http: Callable[[], Client], set_up: str, part: int
    ) -> None:
        mine = (IN_POSTGRES if set_up == "all in postgres" else LOGGED)[part::PARTS][::2]
        store.apply([each for roles in mine for each in roles.views(push_source(roles))])
        wrong: dict[Any, Any] = {}
        with over_http() as client:
            for roles in mine:
                rows = roles.rows().select(roles.names)
                store.push(roles.source, rows.slice(0, 2).to_pylist())
                client.push(roles.source, rows.slice(2).to_pylist())
                wrong |= wrong_answers(store, client, roles)
        assert wrong == {}


class TestKafka(OnlineNames):
    @pytest.fixture
    def set_up(self) -> str:
        return "redis"

    def test_values_are_right_whatever_the_names(  # type: ignore[override]
        self, store: FeatureStore, over_http: Callable[[], Client], kafka: Any
    ) -> None:
        mine = LOGGED[::6]
        sources = {roles: kafka_source(roles, f"{store.project}.{roles.place}", kafka) for roles in mine}
        for source in sources.values():
            # The times of messages are those of the clock, which is older than a broker keeps by itself.
            kafka.create_topic(source.topic, **{"retention.ms": -1})
        store.apply([each for roles, source in sources.items() for each in roles.views(source)])
        for roles, source in sources.items():
            store.send(source.name, [message_of(row) for row in roles.rows().select(roles.names).to_pylist()])
        store.stream_run([source.name for source in sources.values()], until_caught_up=True)
        wrong: dict[Any, Any] = {}
        with over_http() as client:
            for roles in mine:
                wrong |= wrong_answers(store, client, roles)
        assert wrong == {}


def kafka_source(roles: Roles, topic: str, kafka: Any) -> KafkaSource:
    pushed: Any = push_source(roles)
    return KafkaSource(
        roles.source, topic=topic, bootstrap_servers=kafka.bootstrap, schema=list(pushed.schema),
        timestamp_field=roles.time, created_timestamp_column=roles.created, message_format="json",
    )  # fmt: skip


def message_of(row: dict[str, Any]) -> bytes:
    return json.dumps(
        {name: value.isoformat() if isinstance(value, datetime) else value for name, value in row.items()}
    ).encode()
