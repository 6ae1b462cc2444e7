"""The registry on a real PostgreSQL: many writers, a kill, and what users get wrong."""

from __future__ import annotations

import threading
import uuid

import psycopg
import pytest

from asof.errors import RegistryConflict, RegistryError
from asof.registry.postgres import PostgresRegistry
from asof.testing.registry import NOON, shop
from asof.testing.registry_records import TODAY, records_of

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def database_url(postgres):
    """One database for all tests of this module; each has a schema of its own."""
    name = f"registry_{uuid.uuid4().hex[:12]}"
    yield postgres.create_database(name)
    postgres.drop_database(name)


@pytest.fixture
def schema():
    return f"Test {uuid.uuid4().hex[:12]}"


@pytest.fixture
def execute(database_url, schema):
    def run(text, *arguments):
        with psycopg.connect(database_url, autocommit=True) as connection:
            cursor = connection.execute(text.replace("{schema}", f'"{schema}"'), *arguments)
            return cursor.fetchone() if cursor.description else None

    return run


@pytest.fixture
def open_registry(database_url, schema):
    opened = []

    def open_one(**options):
        opened.append(PostgresRegistry(database_url, schema=schema, **options))
        return opened[-1]

    yield open_one
    for registry in opened:
        registry.close()


@pytest.mark.parametrize("pgbouncer", [False, True])
def test_reading_makes_no_tables(open_registry, execute, schema, pgbouncer):
    registry = open_registry(pgbouncer=pgbouncer)
    registry.load("shop")
    registry.drop("shop")
    with pytest.raises(RegistryError, match="holds no version"):
        registry.load_version("shop", 1)

    assert execute("SELECT count(*) FROM pg_namespace WHERE nspname = %s", [schema]) == (0,)


def test_twenty_first_writers_at_once_make_the_tables_once_and_one_wins(open_registry):
    start, won, lost = threading.Barrier(20), [], []

    def write(number):
        registry = open_registry(max_connections=1)
        start.wait()
        try:
            registry.commit(shop(), expected=0, who=str(number), when=NOON)
            won.append(str(number))
        except RegistryConflict:
            lost.append(str(number))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (len(won), len(lost)) == (1, 19)
    assert [each.who for each in open_registry().history("shop")] == won


def test_a_damaged_version_names_the_last_good_one(open_registry, execute):
    registry = open_registry()
    registry.commit(shop(round=1), expected=0, who="ana", when=NOON)
    registry.commit(shop(round=2), expected=1, who="bo", when=NOON)
    execute("UPDATE {schema}.snapshots SET content = content || ' ' WHERE version = 2")

    with pytest.raises(RegistryError) as caught:
        registry.load("shop")

    assert "version 2 of project 'shop'" in caught.value.message and "damaged" in caught.value.message
    assert "version 1 by ana" in caught.value.hint
    assert registry.commit(shop(round=3), expected=2, who="cy", when=NOON).version == 3


def test_tables_of_a_newer_format_are_refused(open_registry, execute):
    registry = open_registry()
    registry.commit(shop(), expected=0, who="ana", when=NOON)
    execute("UPDATE {schema}.formats SET format = 9")

    with pytest.raises(RegistryError) as caught:
        registry.commit(shop(), expected=1, who="ana", when=NOON)

    assert "is 9; this Asof reads up to 1" in caught.value.message
    assert caught.value.hint == "upgrade asof"


def test_a_damaged_record_is_left_out_and_stops_nothing(open_registry, execute):
    registry = open_registry()
    registry.append_records("shop", records_of("a", "b"))
    execute("UPDATE {schema}.records SET body = '{' WHERE subject = 'a'")

    assert [each.subject for each in registry.records("shop", "run")] == ["b"]


@pytest.mark.parametrize("pgbouncer", [False, True])
def test_records_of_a_newer_format_are_refused_and_the_snapshots_stay_readable(open_registry, execute, pgbouncer):
    registry = open_registry(pgbouncer=pgbouncer)
    registry.commit(shop(), expected=0, who="ana", when=NOON)
    registry.append_records("shop", records_of("a"))
    execute("UPDATE {schema}.formats SET format = 9 WHERE part = 'registry records'")
    execute("ALTER TABLE {schema}.records RENAME COLUMN body TO content")

    for use in (lambda: registry.records("shop", "run"), lambda: registry.append_records("shop", records_of("b"))):
        with pytest.raises(RegistryError, match="is 9; this Asof reads up to 1"):
            use()
    assert registry.commit(registry.load("shop"), expected=1, who="bo", when=NOON).version == 2


def test_many_first_writers_of_records_make_the_tables_once_and_none_is_lost(open_registry):
    start, failed = threading.Barrier(10), []

    def write(number):
        registry = open_registry(max_connections=1)
        start.wait()
        try:
            registry.append_records("shop", records_of(str(number)))
            registry.add_counts("shop", "served", TODAY, {"view:a": 1})
        except RegistryError as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failed == []
    registry = open_registry()
    assert sorted(each.subject for each in registry.records("shop", "run")) == sorted(map(str, range(10)))
    assert registry.counts("shop", "served") == {TODAY: {"view:a": 10}}


def test_what_was_committed_outlives_a_kill_and_the_registry_heals(private_service):
    from tests.services import Postgres

    server = private_service(Postgres, fsync=True)
    registry = PostgresRegistry(server.create_database("meta"), connect_timeout_s=2)
    registry.commit(shop(), expected=0, who="ana", when=NOON)

    server.kill()
    with pytest.raises(RegistryError) as caught:
        registry.commit(shop(round=2), expected=1, who="ana", when=NOON)
    server.start()

    assert "PostgreSQL at 127.0.0.1" in caught.value.message
    assert registry.version("shop") == 1
    assert registry.commit(shop(round=2), expected=1, who="ana", when=NOON).version == 2
    registry.close()
