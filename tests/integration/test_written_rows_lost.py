"""Rows that were only ever written directly, in a server that has lost them: an error with the way back, not NOT_FOUND."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from asof import Entity, FeatureStore, FeatureView, Field, FileSource
from asof.errors import OnlineRowsLost
from asof.testing.clock import NOW
from asof.timing import moment
from asof.types import Int64

pytestmark = pytest.mark.integration

PEOPLE = FileSource("people.csv", name="people", timestamp_field="at")
PROFILE = FeatureView(
    "profile", entities=[Entity("user", join_keys=["user_id"])], source=PEOPLE, schema=[Field("age", Int64)]
)
WRITTEN = {"user_id": [1], "age": [31], "at": [moment(NOW)]}


def lost_and_back(tmp_path: Path, online: str, lose: Callable[[], None]) -> None:
    (tmp_path / "people.csv").write_text("user_id,age,at\n1,30,2020-01-01T00:00:00Z\n")
    (tmp_path / "feature_store.yaml").write_text(f"project: shop\nonline_store: {online}\n")
    with FeatureStore(tmp_path, clock=lambda: moment(NOW)) as store:
        store.apply([PROFILE])

        def served() -> Any:
            return store.get_online_features(["profile:age"], [{"user_id": 1}]).to_dict()["age"]

        store.write_to_online_store("profile", WRITTEN)
        assert served() == [31]
        lose()
        with pytest.raises(OnlineRowsLost, match="asof materialize profile"):
            served()
        with pytest.raises(OnlineRowsLost, match="asof materialize profile"):
            store.write_to_online_store("profile", WRITTEN)
        store.materialize()
        assert served() == [30]
        store.write_to_online_store("profile", WRITTEN)
        assert served() == [31]


def test_of_redis(tmp_path: Path, redis: Any, key_prefix: str) -> None:
    def lose() -> None:
        with redis.client() as client:
            keys = list(client.scan_iter(f"*{key_prefix}*"))
            assert keys
            client.delete(*keys)

    lost_and_back(tmp_path, f"{{type: redis, url: '{redis.url}', key_prefix: '{key_prefix}'}}", lose)


def test_of_postgres(tmp_path: Path, postgres_url: str) -> None:
    def lose() -> None:
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute("DROP SCHEMA asof CASCADE")

    lost_and_back(tmp_path, f"{{type: postgres, url: '{postgres_url}'}}", lose)
