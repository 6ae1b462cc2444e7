"""Which server a source is on: its own fields, its connection, or the one there is; secrets stay outside of definitions."""

from __future__ import annotations

from pathlib import Path

import pytest

from asof import PostgreSQLSource, PostgresSource
from asof.config import load_config
from asof.connections.postgres.database import Postgres
from asof.definitions.source_types import source_of
from asof.errors import ConfigError, DefinitionError
from asof.opening.products import opened
from asof.opening.servers import SourceConnections

ENVIRON = {"SHOP_DB": "postgresql://me:hunter2@db/shop"}


def connections(root: Path, text: str) -> SourceConnections:
    (root / "feature_store.yaml").write_text(f"project: shop\n{text}\n")
    return SourceConnections(load_config(root, environ={}), ENVIRON)


def test_a_variable_in_a_definition_is_read_when_the_connection_is_opened(tmp_path: Path) -> None:
    source = PostgresSource(table="orders", url="${SHOP_DB}")

    found = connections(tmp_path, "").of(source, "postgres")

    assert source.content()["url"] == "${SHOP_DB}"
    assert found.options["url"] == ENVIRON["SHOP_DB"]
    assert "hunter2" not in repr(found)


def test_a_source_takes_the_connection_that_it_names(tmp_path: Path) -> None:
    known = connections(tmp_path, "connections: {a: {type: postgres, host: one}, b: {type: postgres, host: two}}")

    found = known.of(PostgresSource(table="orders", connection_ref="b"), "postgres")

    assert (found.label, found.options["host"]) == ("connections.b", "two")
    assert found.where == "feature_store.yaml:2"


def test_a_source_without_a_connection_takes_the_offline_stores_else_the_only_one(tmp_path: Path) -> None:
    source = PostgresSource(table="orders")
    only = "connections: {a: {type: postgres, host: one}, k: {type: acme}}"

    assert connections(tmp_path, only).of(source, "postgres").options["host"] == "one"
    store = f"{only}\noffline_store: {{type: postgres, host: three}}"
    assert connections(tmp_path, store).of(source, "postgres").label == "offline_store"


@pytest.mark.parametrize(
    ("text", "ref", "problem", "hint"),
    [
        ("", "", "feature_store.yaml has no connection to one", "add `connections:"),
        ("connections: {a: {type: postgres}, b: {type: postgres}}", "", "'a', 'b'", "connection_ref="),
        ("connections: {shop: {type: postgres}}", "shp", "no connection 'shp'", "'shop'"),
        ("connections: {k: {type: acme}}", "k", "of type 'acme'", "'postgres'"),
    ],
)
def test_a_source_whose_server_is_not_known_is_refused(
    tmp_path: Path, text: str, ref: str, problem: str, hint: str
) -> None:
    source = PostgresSource(table="orders", connection_ref=ref)

    with pytest.raises(ConfigError) as caught:
        connections(tmp_path, text).of(source, "postgres")

    assert problem in caught.value.message
    assert hint in caught.value.hint
    assert "test_connections.py" in caught.value.where


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:hunter2@db/shop",
        "postgresql+psycopg2://me:hun@ter2@db/shop",
        "postgresql://db/shop?user=me&password=hunter2",
        "host=db user=me password=hunter2",
        "postgresql://me:${PW:-hunter2}@db/shop",
    ],
)
def test_a_password_in_a_definition_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        PostgresSource(table="orders", url=url)

    assert "url contains a secret" in caught.value.message
    assert "${VAR}" in caught.value.hint
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["${SHOP_DB}", "postgresql://me:${PW}@db/shop", "postgresql://me@db/shop?password=${PW}"]
)
def test_a_url_whose_secrets_are_variables_is_kept(url: str) -> None:
    source = PostgresSource(table="sales.orders", url=url, timestamp_field="at")

    assert source.name == "orders"
    assert source_of(source.content()) == source


def test_feasts_name_and_order_of_parameters_are_the_same_source() -> None:
    source = PostgreSQLSource("stats", "SELECT * FROM stats;", timestamp_field="at", connection_ref="shop")

    assert (source.name, source.query, source.connection_ref) == ("stats", "SELECT * FROM stats", "shop")
    assert isinstance(source, PostgresSource)


def test_a_source_needs_one_of_table_and_query() -> None:
    for wrong in ({}, {"table": "a", "query": "SELECT 1"}):
        with pytest.raises(DefinitionError, match="either a table or a query"):
            PostgresSource(name="orders", **wrong)
    with pytest.raises(DefinitionError, match="no name"):
        PostgresSource(query="SELECT 1")


@pytest.mark.parametrize(
    "url", ["postgresql://me:hun/ter2@db:1/shop", "postgresql://me:hunter2%zz@db/shop", "mysql://hunter2"]
)
def test_a_url_that_is_not_well_formed_is_not_repeated(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Postgres(url, label="connections.shop")

    assert "the url of connections.shop is not well formed" in caught.value.message
    assert "hunter2" not in str(caught.value) + str(caught.value.__cause__) + str(caught.value.__context__)


def test_replicas_come_first_for_reads_that_may_be_stale_and_the_primary_last() -> None:
    database = Postgres("postgresql+psycopg://me:hunter2@db:5433/shop", replicas=["one", "two:5434"])

    assert "host=one,two,db" in database.conninfo(stale=True)
    assert "port=5433,5434,5433" in database.conninfo(stale=True)
    assert "host=db " in database.conninfo()
    assert "hunter2" not in repr(database.place)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("online_store: {type: redis, key_prefix: 'a{b'}", "key_prefix"),
        ("online_store: {type: redis, url: 'http://h'}", "scheme 'http'"),
        ("online_store: {type: redis, username: me}", "without a password"),
        ("online_store: {type: postgres, user: me}", "does not say where PostgreSQL is"),
    ],
)
def test_what_only_the_product_knows_of_its_options_is_named_with_their_line(
    tmp_path: Path, text: str, problem: str
) -> None:
    (tmp_path / "feature_store.yaml").write_text(f"project: shop\n{text}\n")
    part = load_config(tmp_path, environ={}).online_store

    with pytest.raises(ConfigError, match=problem) as caught:
        opened("online", part, tmp_path)

    assert caught.value.where == "feature_store.yaml:2"
