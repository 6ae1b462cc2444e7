import os
import socket

import pytest

from tests.services import unavailable
from tests.services.processes import Process, free_port


def test_a_missing_service_skips_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)

    with pytest.raises(pytest.skip.Exception, match="Kafka cannot be had: no broker"):
        unavailable("Kafka", "no broker")


def test_a_missing_service_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")

    with pytest.raises(pytest.fail.Exception, match="Kafka cannot be had: no broker"):
        unavailable("Kafka", "no broker")


def test_a_process_is_told_from_a_later_one_of_the_same_pid() -> None:
    here = Process.of(os.getpid())

    assert here is not None and here.is_alive
    assert not Process(here.pid, str(int(here.started) + 1)).is_alive


def test_a_wished_port_is_taken_if_it_is_free() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        assert free_port(port) != port
    assert free_port(port) == port
