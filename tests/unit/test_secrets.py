"""An address whose password is not escaped is refused without a part of the password."""

from __future__ import annotations

from typing import Any

import pytest

from asof.connections.postgres.database import Postgres
from asof.connections.schema_registry import SchemaRegistry
from asof.errors import ConfigError
from asof.online.redis.settings import settings_of
from asof.secrets import masked

BROKEN = [
    "me:12/hunter2@host:1", "me:pw/hunter2@host:1", "me:12#hunter2@host:1", "me:12?hunter2@host:1",
    "me:pw@hunter2@host:1", "me:[hunter2@host:1",
]  # fmt: skip


def schema_registry(user_info: str) -> str:
    return SchemaRegistry(f"http://{user_info}").address.netloc


def redis(user_info: str) -> str:
    return settings_of(url=f"redis://{user_info}").place


def postgres(user_info: str) -> str:
    return Postgres(f"postgresql://{user_info}/db").place.address


@pytest.mark.parametrize("open_it", [schema_registry, redis, postgres])
@pytest.mark.parametrize("address", BROKEN)
def test_an_unescaped_password_is_never_repeated(open_it: Any, address: str) -> None:
    try:
        shown = open_it(address)
    except ConfigError as error:
        shown = str(error)
        assert "%40" in error.hint

    assert "hunter2" not in shown


def test_a_url_without_its_scheme_is_refused_without_its_password() -> None:
    with pytest.raises(ConfigError) as caught:
        SchemaRegistry("me:hunter2@host:8081")

    assert "hunter2" not in str(caught.value)


def test_a_user_before_a_host_of_a_connection_string_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        settings_of(connection_string="me:hunter2@host:6379")

    assert "hunter2" not in str(caught.value)
    assert "separate options" in caught.value.hint


def test_a_password_that_holds_any_character_is_accepted_where_it_is_escaped() -> None:
    assert schema_registry("me:a%2Fb%40c%23d@host:1") == "host:1"
    assert settings_of(url="redis://me:a%2Fb%40c%23d@host:1").password == "a/b@c#d"
    assert postgres("me:a%2Fb%40c%23d@host:1") == "PostgreSQL at host:1, database 'db'"


@pytest.mark.parametrize("address", BROKEN)
def test_what_is_shown_of_the_configuration_has_no_part_of_it(address: str) -> None:
    assert masked({"url": f"redis://{address}"}) == {"url": "redis://***@host:1"}


def test_a_socket_of_postgres_without_a_file_is_a_host() -> None:
    assert Postgres("postgresql://me@/db?host=@shop").place.address == "PostgreSQL at @shop, database 'db'"
