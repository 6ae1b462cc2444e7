"""What libpq says of a connection that did not come about: whether to wait, or which setting to change."""

from __future__ import annotations

import psycopg
import pytest

from asof.connections.postgres.errors import ConnectionTarget, translate
from asof.errors import StorageError

PLACE = ConnectionTarget("offline_store", "PostgreSQL at 127.0.0.1:5432, database 'shop'", "asof", StorageError)


@pytest.mark.parametrize(
    "text",
    [
        'connection to server at "127.0.0.1", port 5432 failed: SSL error: unexpected eof while reading',
        'connection to server at "127.0.0.1", port 5432 failed: SSL SYSCALL error: EOF detected',
        'connection to server at "127.0.0.1", port 5432 failed: SSL SYSCALL error: Connection reset by peer',
        "SSL connection has been closed unexpectedly",
        "could not send SSL negotiation packet: Broken pipe",
        "server closed the connection unexpectedly",
        "terminating connection due to unexpected postmaster exit",
        "terminating connection due to administrator command",
        "terminating connection because of crash of another server process",
        "could not receive data from server: Connection reset by peer",
    ],
)
def test_a_server_that_dies_in_the_middle_is_waited_for_and_not_blamed_on_tls(text: str) -> None:
    error = translate(psycopg.OperationalError(text), "archive 'visits'", PLACE)

    assert error.may_pass
    assert "was cut" in str(error) and "sslmode" not in error.hint


@pytest.mark.parametrize(
    "text",
    [
        "server does not support SSL, but SSL was required",
        "SSL error: certificate verify failed",
        'root certificate file "/nowhere/root.crt" does not exist',
        "SSL error: tlsv1 alert unknown ca",
    ],
)
def test_wrong_settings_of_tls_are_named_and_not_waited_for(text: str) -> None:
    error = translate(psycopg.OperationalError(text), "archive 'visits'", PLACE)

    assert not error.may_pass
    assert "sslmode" in error.hint
