"""Historical reads in Postgres against the brute-force oracle, on generated histories full of ties and edges."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest
from adbc_driver_postgresql import dbapi as adbc
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asof.offline.postgres.engine import PostgresOffline
from asof.sources.protocol import Relation
from asof.timing import SECOND
from tests.embedded.test_point_in_time import (
    ARCHIVES,
    SHOP,
    START,
    USER,
    check_archive,
    compare,
    events,
    files_of,
    latest_view,
    some_views,
    spine_rows,
    table_of,
    views_of_every_kind,
)
from tests.oracle import arrival_by_columns

pytestmark = pytest.mark.integration

FEW = settings(
    max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.fixture(scope="module")
def url(postgres) -> Iterator[str]:
    name = f"point_in_time_{uuid.uuid4().hex}"
    yield postgres.create_database(name)
    postgres.drop_database(name)


@pytest.fixture(scope="module")
def engine(url: str) -> Iterator[PostgresOffline]:
    engine = PostgresOffline(url=url)
    yield engine
    engine.close()


def table_in(url: str, rows: pa.Table, *indexes: str) -> Relation:
    """The rows as a table of the database."""
    with adbc.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS stored")
        cursor.adbc_ingest("stored", rows, mode="create")
        for columns in indexes:
            cursor.execute(f"CREATE INDEX ON stored ({columns})")
        cursor.execute("ANALYZE stored")
        connection.commit()
    return Relation('"public"."stored"')


@FEW
@given(seed=st.integers(0, 2**32))
def test_every_view_answers_like_the_oracle(engine: PostgresOffline, tmp_path_factory: Any, seed: int) -> None:
    rng = random.Random(seed)
    rows, spine = events(rng, 90), spine_rows(rng, 60)

    compare(engine, some_views(rng), rows, spine, files_of(tmp_path_factory.mktemp("rows"), rows))


@FEW
@given(seed=st.integers(0, 2**32))
def test_only_what_was_known_counts(engine: PostgresOffline, tmp_path_factory: Any, seed: int) -> None:
    rng = random.Random(seed)
    rows, spine = events(rng, 60), spine_rows(rng, 37)
    files = files_of(tmp_path_factory.mktemp("rows"), rows)

    compare(engine, some_views(rng), rows, spine, files, known_at=True)
    compare(engine, some_views(rng), rows, spine, files, known_at=START + rng.randrange(-5, 70) * SECOND)


def test_every_kind_of_view_and_every_function_answers_like_the_oracle(engine: PostgresOffline, tmp_path: Any) -> None:
    rng = random.Random(11)
    rows, spine = events(rng, 90), spine_rows(rng, 60)

    compare(engine, views_of_every_kind(), rows, spine, files_of(tmp_path, rows))


@pytest.mark.parametrize("known", [None, True])
@pytest.mark.parametrize(
    "indexes", [(), ('"user", happened', "shop, happened DESC", '"shop", "user", happened', "happened")]
)
def test_an_index_changes_no_answer(
    engine: PostgresOffline, url: str, indexes: tuple[str, ...], known: bool | None
) -> None:
    rng = random.Random(5)
    rows, spine = events(rng, 90), spine_rows(rng, 60)
    stored = table_in(url, table_of(rows), *indexes)
    views = [
        latest_view("forever", [USER]), latest_view("late", [USER], ttl="5s", delay="2s"),
        latest_view("both", [USER, SHOP]), latest_view("all", []), latest_view("shop", [SHOP]),
    ]  # fmt: skip

    for each in views:
        # Between rows that are equal so far a view's own columns decide, and so may differ from another view's.
        compare(engine, [each], arrival_by_columns(rows, each.feature_names), spine, stored, known_at=known)


@pytest.mark.parametrize("seed", [7, 8])
@pytest.mark.parametrize("kind", ARCHIVES)
def test_archives_are_ordered_by_arrival(engine: PostgresOffline, url: str, kind: str, seed: int) -> None:
    index = '"user", happened, "offset", "partition"'

    check_archive(engine, kind, seed, lambda table: table_in(url, table, index))
