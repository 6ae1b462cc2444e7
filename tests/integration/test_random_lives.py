"""Random lives of stores on three offline × three online set-ups; ten million answers of them in `make soak`."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lives.life import Life, SetUp

pytestmark = pytest.mark.integration

OFFLINE = ("files", "federated", "postgres")
"""DuckDB over Delta tables and files; the same with batch rows in Postgres; everything in Postgres."""
ONLINE = ("sqlite", "redis", "postgres")
ANSWERS, LIVES = 1_200_000, 12
"""At least so many of each of the nine set-ups, in `make soak`."""

Make = Callable[[str, str], SetUp]


@pytest.fixture
def set_up(postgres, redis, key_prefix: str) -> Iterator[Make]:
    name = f"lives_{uuid.uuid4().hex}"
    url = postgres.create_database(name)

    def make(offline: str, online: str) -> SetUp:
        sections = [f'connections: {{warehouse: {{type: postgres, url: "{url}"}}}}'] if offline != "files" else []
        if offline == "postgres":
            sections.append("offline_store: {type: postgres, connection: warehouse}")
        if online == "redis":
            sections.append(f'online_store: {{type: redis, url: "{redis.url}", key_prefix: "{key_prefix}:"}}')
        elif online == "postgres":
            sections.append(f'online_store: {{type: postgres, url: "{url}"}}')
        return SetUp("\n".join(sections) + "\n", "" if offline == "files" else url)

    yield make
    with redis.client() as client:
        for key in client.scan_iter(f"{key_prefix}*", 1000):
            client.unlink(key)
    postgres.drop_database(name)


@pytest.mark.parametrize(
    ("offline", "online", "seed"), [("postgres", "redis", 3), ("federated", "postgres", 4), ("postgres", "sqlite", 5)]
)
def test_a_random_life_returns_what_the_oracle_says(
    set_up: Make, tmp_path: Path, offline: str, online: str, seed: int
) -> None:
    life = Life(tmp_path / "life", set_up(offline, online), seed, spawned=seed == 4)

    assert life.live(10) > 500


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("online", ONLINE)
@pytest.mark.parametrize("offline", OFFLINE)
def test_a_million_answers_of_random_lives_are_the_oracles(
    set_up: Make, tmp_path: Path, offline: str, online: str, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = lives = 0
    first = 10_000 * (1 + 3 * OFFLINE.index(offline) + ONLINE.index(online))
    for seed in itertools.count(first):
        life = Life(
            tmp_path / f"life{seed}", set_up(offline, online), seed, spawned=seed % 4 == 0, spines=(1, 60, 2000, 5000)
        )
        answers += life.live(40)
        lives += 1
        if answers >= ANSWERS and lives >= LIVES:
            break
    with capsys.disabled():
        print(f"\n{offline} × {online}: {answers:,} answers of {lives} lives from seed {first} on, none wrong")
