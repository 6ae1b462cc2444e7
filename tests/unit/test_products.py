"""Products of other packages: found by their entry points, held to their family's protocol, closed where opened."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from asof.errors import ConfigError
from asof.flows.stores import Lazy, Stores
from asof.opening.products import PROTOCOLS, members_of, product, products

FAMILIES = sorted(PROTOCOLS)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Installs a package with one product, `fabric`, of every family."""

    def install(text: str) -> None:
        (tmp_path / "fabric_package.py").write_text(text)
        info = tmp_path / "fabric_package-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fabric-package\nVersion: 1.0\n")
        points = [f"[asof.{family}]\nfabric = fabric_package:Fabric\n" for family in FAMILIES]
        (info / "entry_points.txt").write_text("\n".join(points))
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, "fabric_package", raising=False)

    yield install
    sys.modules.pop("fabric_package", None)


def with_members(*names: str, base: str = "") -> str:
    module, _, name = base.rpartition(".")
    verbs = "".join(f"    def {each}(self, *a, **k): ...\n" for each in names)
    start = f"from {module} import {name}\n" if base else ""
    return f"{start}class Fabric{f'({name})' if base else ''}:\n    x = 1\n{verbs}"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_product_that_lacks_members_of_its_protocol_is_refused_and_they_are_named(package: Any, family: str) -> None:
    members = members_of(PROTOCOLS[family][0])
    package(with_members(*members[1:-1]))

    with pytest.raises(ConfigError) as refused:
        product(family, "fabric", where="feature_store.yaml:3")

    assert "fabric" in products(family)
    for part in (members[0], members[-1], "fabric_package.Fabric", f"asof.{family}.protocol."):
        assert part in str(refused.value)
    assert members[1] not in refused.value.message.partition(" lacks ")[2].split(" of ")[0]
    assert PROTOCOLS[family][1] in refused.value.hint


@pytest.mark.parametrize("family", FAMILIES)
def test_the_base_class_has_what_a_product_may_do_without(package: Any, family: str) -> None:
    protocol, defaults = PROTOCOLS[family]
    module, _, name = defaults.rpartition(".")
    given = members_of(getattr(sys.modules[module], name))
    assert given
    assert set(given) <= set(members_of(protocol))
    package(with_members(*(each for each in members_of(protocol) if each not in given), base=defaults))

    assert product(family, "fabric").__name__ == "Fabric"


@pytest.mark.parametrize("text", ["def Fabric(): ...", "Fabric = 3"])
def test_a_product_that_is_no_class_is_refused(package: Any, text: str) -> None:
    package(text)

    with pytest.raises(ConfigError, match="not a class"):
        product("online", "fabric")


class Store:
    """Counts how often it is opened and closed."""

    opened: list[Store] = []

    def __init__(self) -> None:
        self.closed = 0
        self.opened.append(self)

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def stores() -> Stores:
    Store.opened = []
    lazy: Any = [Lazy(Store) for _ in range(5)]
    return Stores("shop", *lazy[:4], {"file": lazy[4]}, clock=lambda: 0)


def test_nothing_is_opened_before_it_is_used_and_all_that_was_is_closed(stores: Stores) -> None:
    assert list(stores.readers) == ["file"]
    assert "file" in stores.readers
    stores.close()
    assert Store.opened == []

    used = [stores.online, stores.log, stores.readers["file"]]
    assert [stores.online, stores.log, stores.readers["file"]] == used == Store.opened
    stores.close()
    assert [each.closed for each in Store.opened] == [1, 1, 1]
    stores.close()
    assert [each.closed for each in Store.opened] == [1, 1, 1]


def test_what_was_closed_is_opened_again_when_it_is_used(stores: Stores) -> None:
    first = stores.offline
    stores.close()

    assert stores.offline is not first


def test_threads_that_ask_at_once_share_one_store(stores: Stores) -> None:
    start, found = threading.Barrier(8), []

    def use() -> None:
        start.wait()
        found.append(stores.registry)

    threads = [threading.Thread(target=use) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    assert found == [stores.registry] * 8
    assert len(Store.opened) == 1


def test_parts_with_another_store_share_the_rest(stores: Stores) -> None:
    other: Any = Store()
    small = stores.replaced(online=other, max_row_bytes=10)

    assert (small.online, small.max_row_bytes) == (other, 10)
    assert small.registry is stores.registry
    assert small.readers["file"] is stores.readers["file"]
    assert stores.online is not other
    assert stores.max_row_bytes > 10
