"""Run by Feast's own Python, in an environment of its own: reads and writes through a server, and says what came out."""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
from feast import (
    Entity,
    FeatureService,
    FeatureStore,
    FeatureView,
    Field,
    FileSource,
    PushSource,
    RepoConfig,
    ValueType,
)
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.types import Array, Bool, Float32, Float64, Int64, String, UnixTimestamp


def main() -> None:
    folder, url = Path(sys.argv[1]), sys.argv[2]
    store = FeatureStore(
        config=RepoConfig(
            project="shop",
            provider="local",
            registry=str(folder / "registry.db"),
            online_store={"type": "remote", "path": url},
            entity_key_serialization_version=3,
        )
    )
    user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.INT64)
    shop = Entity(name="shop", join_keys=["shop_id"], value_type=ValueType.STRING)
    rows = FileSource(name="rows", path=str(folder / "none.parquet"), timestamp_field="at")
    fields = {
        "age": Int64,
        "score": Float64,
        "city": String,
        "is_new": Bool,
        "half": Float32,
        "seen": UnixTimestamp,
        "tags": Array(String),
        "ghost": Int64,
    }
    profile = FeatureView(
        name="profile",
        entities=[user],
        ttl=timedelta(days=30),
        source=rows,
        schema=[Field(name="user_id", dtype=Int64), *(Field(name=name, dtype=dtype) for name, dtype in fields.items())],
    )
    keys = [Field(name="user_id", dtype=Int64), Field(name="shop_id", dtype=String)]
    pair = FeatureView(
        name="pair", entities=[user, shop], source=rows, schema=[*keys, Field(name="visits", dtype=Int64)]
    )
    newest = FeatureView(
        name="newest",
        entities=[user],
        source=PushSource(name="clicks", batch_source=rows),
        schema=[keys[0], Field(name="page", dtype=String), Field(name="amount", dtype=Float64)],
    )
    plain = FeatureService(name="plain", features=[profile[["age", "city"]]])
    store.apply([user, shop, profile, pair, newest, plain])

    done: dict[str, object] = {}
    names = ["age", "score", "city", "is_new", "half", "seen"]
    done["read"] = store.get_online_features(
        [f"profile:{name}" for name in names], [{"user_id": 1}, {"user_id": 9}]
    ).to_dict()
    done["service"] = store.get_online_features(plain, [{"user_id": 1}]).to_dict()
    done["full names"] = store.get_online_features(["profile:age"], {"user_id": [1]}, full_feature_names=True).to_dict()
    done["pair"] = store.get_online_features(
        ["pair:visits"], [{"user_id": 1, "shop_id": "b"}, {"user_id": 1, "shop_id": "x"}]
    ).to_dict()
    key = EntityKey(join_keys=["user_id"], entity_values=[Value(int64_val=1)])
    ((at, values),) = store._get_provider().online_read(store.config, profile, [key], ["age", "seen"])
    done["online_read"] = [at.isoformat(), values["age"].int64_val, values["seen"].unix_timestamp_val]

    at = datetime(2026, 1, 1, 11, 0, tzinfo=UTC)
    store.push(
        "clicks",
        pd.DataFrame(
            {"user_id": [5, 5], "page": ["a", "b"], "amount": [1.0, 2.5], "at": [at, at + timedelta(minutes=1)]}
        ),
    )
    done["pushed"] = store.get_online_features(["newest:page", "newest:amount"], [{"user_id": 5}]).to_dict()
    store.write_to_online_store("pair", pd.DataFrame({"user_id": [8], "shop_id": ["z"], "visits": [77], "at": [at]}))
    done["written"] = store.get_online_features(["pair:visits"], [{"user_id": 8, "shop_id": "z"}]).to_dict()
    store.materialize(datetime(2025, 12, 1), datetime(2026, 1, 1, 12), feature_views=["profile"])
    store.materialize_incremental(datetime(2026, 1, 1, 12), feature_views=["profile"], run_async=True)

    def refused(work):
        began = time.monotonic()
        try:
            work()
            return ["answered", "", 0.0]
        except Exception as error:
            return [type(error).__name__, str(error), time.monotonic() - began]

    done["refused"] = {
        "unknown feature": refused(lambda: store.get_online_features(["profile:ghost"], [{"user_id": 1}])),
        "wrong type": refused(lambda: store.get_online_features(["profile:age"], [{"user_id": "x"}])),
        "missing key": refused(lambda: store.get_online_features(["pair:visits"], [{"user_id": 1}])),
    }
    print("\n" + json.dumps(done))


main()
