"""Definitions applied as objects, what a store returned, and scripts, in a repository of files."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from asof import Entity, FeatureStore
from asof.errors import RepositoryError
from asof.planning import Delete

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
FEATURES = """
from asof import *
from asof.types import *
user = Entity("user", join_keys=["user_id"])
sales = FileSource("sales.parquet", name="sales", timestamp_field="at")
latest = FeatureView("latest", entities=[user], source=sales, schema=[Field("price", Int64)])
"""
SCRIPT = """
from pathlib import Path
from asof import *
from asof.types import *
store = FeatureStore(Path(__file__).parent)
applied = store.get_feature_view("latest")
everything = store.list_entities()
cart = RequestSource("cart", schema=[Field("items", Int64)])

@on_demand_feature_view(sources=[applied, cart], schema=[Field("due", Int64)], mode="python")
def owed(row):
    return {"due": row["items"]}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "feature_store.yaml").write_text("project: shop\n")
    at = pa.array([NOON], pa.timestamp("us", "UTC"))
    pq.write_table(pa.table({"user_id": [1], "price": [1], "at": at}), tmp_path / "sales.parquet")
    (tmp_path / "features.py").write_text(FEATURES)
    with FeatureStore(tmp_path, clock=lambda: NOON) as store:
        store.apply()
    return tmp_path


@pytest.mark.parametrize("name", ["a_script.py", "z_script.py"])
def test_what_a_store_returned_is_no_second_definition(folder: Path, name: str) -> None:
    (folder / name).write_text(SCRIPT)
    # The file's definition has changed since, and counts.
    (folder / "features.py").write_text(
        FEATURES.replace("latest = FeatureView(", "latest = FeatureView(ttl='3d', name=")
    )
    with FeatureStore(folder, clock=lambda: NOON) as store:
        plan = store.plan()
        assert [each.kind for each in plan.changes if each.action == "create"] == [
            "request source", "on-demand feature view"
        ]  # fmt: skip
        assert [each.name for each in plan.changes if each.action == "update"] == ["latest"]
        assert not plan.errors


def test_a_script_that_fails_is_named_with_the_file_to_ignore_it_by(folder: Path) -> None:
    (folder / "jobs").mkdir()
    (folder / "jobs" / "nightly.py").write_text("raise ValueError('no database here')\n")
    with FeatureStore(folder, clock=lambda: NOON) as store:
        with pytest.raises(RepositoryError, match=r"jobs/nightly\.py:1: ValueError: no database here") as raised:
            store.plan()
        assert "add jobs/nightly.py to .asofignore" in raised.value.hint
        (folder / ".asofignore").write_text("jobs/nightly.py\n")
        assert store.plan().is_empty


def test_a_plan_of_the_files_says_that_it_removes_what_was_applied_as_an_object(folder: Path) -> None:
    with FeatureStore(folder, clock=lambda: NOON) as store:
        store.apply([Entity("shop", join_keys=["shop_id"])])
        plan = store.plan()
        assert plan.changes == (Delete("entity", "shop"),)
        (warning,) = [each for each in plan.findings if each.object == "entity 'shop'"]
        assert warning.severity == "warning"
        assert "was applied from Python" in warning.found
        assert "this plan removes it" in warning.found
        # What goes from a file is no surprise.
        (folder / "features.py").write_text(FEATURES.replace("latest =", "latest = None #"))
        (other,) = [each for each in store.plan().findings if "applied from Python" in each.found]
        assert other == warning
