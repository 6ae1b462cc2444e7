"""Stores one below the other: what is removed of one touches nothing of the other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from asof.offline.duckdb.engine import DuckDBOffline
from asof.offline.protocol import Archive
from asof.online.protocol import OnlineTable
from asof.online.redis.keys import RedisNames
from asof.testing.archive import clicks

NEIGHBOURS = ("eu", "clicks", "events", "letters", "tables", "shop")
"""Projects in the folder of project `shop`; most are called like something of its own."""


def filled(store: DuckDBOffline, project: str) -> None:
    for kind in ("events", "letters"):
        archive = Archive(project, "clicks", kind)  # type: ignore[arg-type]  # one of its kinds
        store.create(archive, clicks(0, 0, 1).schema)
        store.append(archive, clicks(0, 0, 1), {0: 0})
    store.save_table(project, "trained", pa.table({"n": [1]}).to_reader())


@pytest.fixture(params=["folder", "bucket"])
def roots(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, str]]:
    below = str(tmp_path) if request.param == "folder" else tmp_path.as_uri()
    yield below, f"{below}/shop"


def test_a_purge_leaves_stores_below_its_own_folder(roots: tuple[str, str]) -> None:
    outer, inner = DuckDBOffline(roots[0]), DuckDBOffline(roots[1])
    filled(outer, "shop")
    filled(outer, "shop_2")
    for project in NEIGHBOURS:
        filled(inner, project)

    outer.drop_project("shop")

    assert outer.load_table("shop", "trained") is None
    assert outer.version(Archive("shop", "clicks")) == -1
    assert outer.version(Archive("shop_2", "clicks")) >= 1
    for project in NEIGHBOURS:
        for kind in ("events", "letters"):
            assert inner.version(Archive(project, "clicks", kind)) >= 1  # type: ignore[arg-type]  # one of its kinds
        table = inner.load_table(project, "trained")
        assert table is not None and table.read_all().num_rows == 1
    for project in NEIGHBOURS:
        inner.drop_project(project)
    outer.drop_project("shop_2")
    if "://" not in roots[0]:
        assert [each for each in Path(roots[0]).rglob("*") if each.is_file()] == []


PREFIXES = ["asof:shop:", "asof:shop:v:", "asof:shop:v:1-1:", "asof:shop:eu:v:", "asof:sh?p:", "asof:*:", "asof:shop"]


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("project", ["eu", "shop", "v", "1", "a:b", "a_b"])
def test_names_of_a_store_with_a_longer_prefix_are_not_a_projects_own(prefix: str, project: str) -> None:
    names, others = RedisNames("asof:"), RedisNames(prefix)
    mine = OnlineTable("shop", "v", "1-1", "latest")
    table = OnlineTable(project, "v", "1-1", "latest")
    theirs = [
        others.rows(table) + b"k:{x!facts}", others.facts(table, b"{3}"), others.marker(table, b""),
        others.tables(project, b"{1}"), others.dropping(project, b""),
    ]  # fmt: skip
    own = [names.rows(mine) + b"a:b{c!d}}", names.facts(mine, b"{3}"), names.marker(mine, b"")]

    assert names.own("shop", [*theirs, *own]) == own
    assert {names.field_of("shop", each) for each in own} == {names.field(mine)}
