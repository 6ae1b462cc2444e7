"""Only faces ask the system for its clock and environment."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.unit.architecture.tree import ROOT, describe, modules, nodes, parsed

FACES = (
    "asof.store",
    "asof.open_store",
    "asof.config",
    "asof.opening",
    "asof.cli",
    "asof.server",
    "asof.catalog",
    "asof.demo",
)
"""The modules that may ask the system for its clock and environment; all others are given what they need."""

SYSTEM_ALLOWED: dict[str, str] = {
    "asof.offline.delta.lease": "leases and deleted files live by the clock of the machines, as Delta's own commits do; "
    "the store's clock may be another one, and stand still"
}
"""Module below `store` → why it may read the system's clock all the same."""

SYSTEM_READS = {
    "os": {"environ", "getenv"},
    "time": {"time", "time_ns"},
    "datetime": {"now", "utcnow", "today"},
    "date": {"today"},
}


def system_reads(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every use of the system's clock or environment: what is read, and the line."""
    for node in nodes(tree):
        if isinstance(node, ast.Attribute):
            owner = node.value
            name = owner.id if isinstance(owner, ast.Name) else owner.attr if isinstance(owner, ast.Attribute) else ""
            if node.attr in SYSTEM_READS.get(name, ()):
                yield f"{name}.{node.attr}", node.lineno
        elif isinstance(node, ast.ImportFrom) and node.module in ("os", "time"):
            for alias in node.names:
                if alias.name in SYSTEM_READS[node.module]:
                    yield f"{node.module}.{alias.name}", node.lineno


def test_nothing_below_the_store_reads_the_clock_or_the_environment() -> None:
    offences = [
        f"{path.relative_to(ROOT)}:{line}: {read}"
        for module, path in modules().items()
        if not module.startswith(FACES) and module not in SYSTEM_ALLOWED
        for read, line in system_reads(parsed(path))
    ]

    assert not offences, describe(offences)


@pytest.mark.parametrize(
    ("code", "read"),
    [
        ("import time\ntime.time()", "time.time"),
        ("from time import time_ns", "time.time_ns"),
        ("import os\nos.environ['A']", "os.environ"),
        ("from os import getenv", "os.getenv"),
        ("from datetime import datetime\ndatetime.now()", "datetime.now"),
        ("import datetime as dt\nx = dt.datetime.utcnow", "datetime.utcnow"),
        ("from datetime import date\ndate.today()", "date.today"),
    ],
)
def test_the_scan_sees_every_way_to_read_the_system(code: str, read: str) -> None:
    assert [found for found, _ in system_reads(ast.parse(code))] == [read]


def test_the_scan_leaves_stopwatches_alone() -> None:
    assert list(system_reads(ast.parse("import time\ntime.monotonic()\ntime.perf_counter()\nself.now()"))) == []
