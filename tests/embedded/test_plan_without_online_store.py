"""`plan` and `apply` while the online store is away: one clear finding, and nothing is changed, on each product."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from asof.errors import CheckFailed
from asof.store import FeatureStore

REPOSITORY = """
from asof import Entity, FeatureView, Field, PushSource
from asof.types import Int64, Timestamp

schema = [Field("user_id", Int64), Field("clicks", Int64), Field("ts", Timestamp)]
pushed = PushSource("pushed", schema=schema, timestamp_field="ts")
latest = FeatureView("latest", entities=[Entity("user", join_keys=["user_id"])], source=pushed)
"""
SQLITE = "{type: sqlite, path: data/online.db}"
FILE = Path("data", "online.db")


def no_database(root: Path) -> None:
    root.mkdir()
    (root / FILE.name).write_bytes(b"no database" * 1000)


def a_folder(root: Path) -> None:
    (root / FILE.name).mkdir(parents=True)


def another_database(root: Path) -> None:
    root.mkdir()
    with sqlite3.connect(root / FILE.name) as db:
        db.execute("CREATE TABLE other (x)")
    db.close()


def cut_short(root: Path) -> None:
    another_database(root)
    content = (root / FILE.name).read_bytes()
    (root / FILE.name).write_bytes(content[:3000])


def no_folder(root: Path) -> None:
    (root.parent / "file").write_text("")


def nothing(root: Path) -> None:
    pass


CASES: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "sqlite, no database": (SQLITE, no_database, "is damaged: file is not a database"),
    "sqlite, a folder": (SQLITE, a_folder, "cannot be opened"),
    "sqlite, of another program": (SQLITE, another_database, "not an Asof online store"),
    "sqlite, cut short": (SQLITE, cut_short, "is damaged"),
    "sqlite, in a file": ("{type: sqlite, path: file/online.db}", no_folder, "is not a directory"),
    "redis, down": ("{type: redis, url: 'redis://127.0.0.1:1'}", nothing, "127.0.0.1:1 cannot be reached"),
    "redis cluster, down": (
        "{type: redis, redis_type: redis_cluster, url: 'redis://127.0.0.1:1'}", nothing, "127.0.0.1:1 cannot be reached",
    ),
    "postgres, down": (
        "{type: postgres, url: 'postgresql://me:secret@127.0.0.1:1/db'}", nothing, "127.0.0.1:1, database 'db' cannot",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_plan_says_that_the_online_store_cannot_be_used(tmp_path: Path, case: str) -> None:
    online, make, expected = CASES[case]
    (tmp_path / "feature_store.yaml").write_text(f"project: shop\nonline_store: {online}\n", encoding="utf-8")
    (tmp_path / "features.py").write_text(REPOSITORY, encoding="utf-8")
    make(tmp_path / "data")
    with FeatureStore(tmp_path) as store:
        (finding,) = store.plan().findings
        assert (finding.severity, finding.object) == ("error", "online store")
        assert expected in finding.found and finding.hint and "secret" not in finding.message
        with pytest.raises(CheckFailed, match="nothing was changed"):
            store.apply()
        assert store.list_feature_views() == []


def test_plan_makes_no_online_store(tmp_path: Path) -> None:
    (tmp_path / "feature_store.yaml").write_text(f"project: shop\nonline_store: {SQLITE}\n", encoding="utf-8")
    (tmp_path / "features.py").write_text(REPOSITORY, encoding="utf-8")
    with FeatureStore(tmp_path) as store:
        assert store.plan().findings == ()
        assert not (tmp_path / FILE).exists()
        store.apply()
        assert (tmp_path / FILE).exists()
