"""The catalog's pages in Chromium over the demo on PostgreSQL, Kafka and Redis, shown by `asof serve`."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from asof.demo.stage import DemoServers
from tests.browser.shop import ShopStore, tell
from tests.browser.walk import CatalogWalk

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]


class TestServers(CatalogWalk):
    command = "serve"

    @pytest.mark.soak
    def test_every_page_is_whole(self, tab: Any, links: Any) -> None:
        super().test_every_page_is_whole(tab, links)

    @pytest.fixture(scope="class")
    @classmethod
    def shop(
        cls, tmp_path_factory: pytest.TempPathFactory, postgres: Any, kafka: Any, redis: Any
    ) -> Iterator[ShopStore]:
        project = f"demo_{uuid.uuid4().hex[:8]}"
        cls.archive = f"repo/data/archive/{project}/events/traffic"
        database = postgres.create_database(project)
        servers = DemoServers(database, kafka.bootstrap, redis.url, project=project)
        with pytest.MonkeyPatch.context() as environment:
            for name, value in servers.variables.items():
                environment.setenv(name, value)
            yield tell(tmp_path_factory.mktemp("shop"), servers)
        for topic in kafka.admin().list_topics(timeout=10).topics:
            if topic.startswith((f"{project}_", f"{project}.")):
                kafka.delete_topic(topic)
        with redis.client() as client:
            if keys := list(client.scan_iter(f"*{project}*")):
                client.delete(*keys)
        postgres.drop_database(project)
