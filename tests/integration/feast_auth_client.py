"""Run by Feast's own Python: reads and writes through a guarded server with a key in Feast's own configuration."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, PushSource, RepoConfig, ValueType
from feast.types import Float64, Int64, String


def main() -> None:
    folder, url, *keys = Path(sys.argv[1]), *sys.argv[2:]
    user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.INT64)
    rows = FileSource(name="rows", path=str(folder / "none.parquet"), timestamp_field="at")
    key = Field(name="user_id", dtype=Int64)
    profile = FeatureView(
        name="profile",
        entities=[user],
        ttl=timedelta(days=30),
        source=rows,
        schema=[key, Field(name="age", dtype=Int64)],
    )
    newest = FeatureView(
        name="newest",
        entities=[user],
        source=PushSource(name="clicks", batch_source=rows),
        schema=[key, Field(name="page", dtype=String), Field(name="amount", dtype=Float64)],
    )
    done = []
    for i, token in enumerate(keys):
        auth = {"auth": {"type": "oidc", "token": token}} if token else {}
        registry = {"registry_type": "file", "path": str(folder / f"registry{i}.db")}
        options = {
            "project": "shop",
            "provider": "local",
            "registry": registry,
            "online_store": {"type": "remote", "path": url},
            "entity_key_serialization_version": 3,
        }
        FeatureStore(config=RepoConfig(**options)).apply([user, profile, newest])
        store = FeatureStore(config=RepoConfig(**options, **auth))
        at = datetime(2026, 1, 1, 11, 0, tzinfo=UTC)
        row = pd.DataFrame({"user_id": [5], "page": ["a"], "amount": [1.0], "at": [at]})
        said = []
        for work in (
            lambda store=store: store.get_online_features(["profile:age"], [{"user_id": 1}]).to_dict(),
            lambda store=store, row=row: store.push("clicks", row),
        ):
            try:
                said.append(work())
            except Exception as error:
                said.append([type(error).__name__, str(error)])
        done.append(said)
    print(json.dumps(done))


main()
