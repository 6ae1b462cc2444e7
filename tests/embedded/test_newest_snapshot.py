"""The newest snapshot is decoded once per version, and never an old one is returned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from asof.flows.newest_snapshot import NewestSnapshot
from asof.registry.protocol import empty
from asof.registry.sqlite import SqliteRegistry
from asof.testing.registry import NOON, shop


@pytest.fixture
def other(tmp_path: Path) -> SqliteRegistry:
    """The registry as another process has it open."""
    return SqliteRegistry(tmp_path / "registry.db")


@pytest.fixture
def registry(tmp_path: Path) -> Any:
    class Counted(SqliteRegistry):
        loads = 0

        def load(self, project: str) -> Any:
            self.loads += 1
            return super().load(project)

    return Counted(tmp_path / "registry.db")


def test_a_version_is_decoded_once_and_another_one_at_once(registry: Any, other: SqliteRegistry) -> None:
    newest = NewestSnapshot(lambda: registry, "shop")
    assert newest.get() == empty("shop"), "nothing is applied yet"

    first = other.commit(shop(), expected=0, who="ann", when=NOON)
    registry.loads = 0
    assert newest.get() == first and newest.get() is newest.get()
    assert registry.loads == 1

    second = other.commit(replace(shop(), version=1), expected=1, who="bob", when=NOON)
    assert newest.get() == second and newest.get() is newest.get()
    assert registry.loads == 2


def test_a_project_that_is_dropped_and_applied_again_is_read_again(registry: Any, other: SqliteRegistry) -> None:
    newest = NewestSnapshot(lambda: registry, "shop")
    other.commit(shop(), expected=0, who="ann", when=NOON)
    assert newest.get().project.views

    other.drop("shop")
    assert newest.get().version == 0
    again = other.commit(empty("shop"), expected=0, who="ann", when=NOON + 1)

    assert newest.get() == again and again.version == 1 and not newest.get().project.views
