import pytest

from tests.services import unavailable


def test_a_missing_service_skips_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)

    with pytest.raises(pytest.skip.Exception, match="Kafka cannot be had: no broker"):
        unavailable("Kafka", "no broker")


def test_a_missing_service_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")

    with pytest.raises(pytest.fail.Exception, match="Kafka cannot be had: no broker"):
        unavailable("Kafka", "no broker")
