"""The architecture as DESIGN has it: import-linter's contracts, and the rules that they cannot say."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_STATEMENT = re.compile(r"\s*(SELECT\s+\S|DELETE FROM|INSERT INTO|UPDATE \w+ SET|WITH \w+ AS)")
SOURCE = ROOT / "src"

FAMILIES = ("registry", "sources", "offline", "online", "log")

SHARED_IN_FAMILY: dict[str, tuple[str, ...]] = dict.fromkeys(FAMILIES, ("protocol",))
"""Modules of a family that belong to no product: its words, which all of them use."""

DRIVERS: dict[str, tuple[str, ...]] = {
    "adbc_driver_postgresql": ("asof.*.postgres*",),
    "click": ("asof.cli*", "asof.demo*"),
    "confluent_kafka": ("asof.*.kafka*",),
    "deltalake": ("asof.offline.delta*", "asof.sources.file*"),
    "duckdb": ("asof.offline.duckdb*", "asof.connections.duckdb*"),
    "fastavro": ("asof.*.kafka*", "asof.*.avro*"),
    "google": ("asof.*.kafka*", "asof.*.protobuf*"),
    "hiredis": ("asof.*.redis*",),
    "httpx": ("asof.client*",),
    "jinja2": ("asof.catalog*",),
    "jwt": ("asof.server*",),
    "matplotlib": ("asof.demo*",),
    "opentelemetry": ("asof.server*", "asof.telemetry*"),
    "orjson": ("asof.server*",),
    "prometheus_client": ("asof.server*", "asof.telemetry*"),
    "psycopg": ("asof.*.postgres*",),
    "psycopg_pool": ("asof.*.postgres*",),
    "pyspark": ("asof.*.spark*",),
    "redis": ("asof.*.redis*",),
    "rich": ("asof.cli*", "asof.demo*"),
    "sqlglot": ("asof.*.postgres*",),
    "sqlite3": ("asof.*.sqlite*",),
    "starlette": ("asof.server*",),
    "uvicorn": ("asof.server*",),
    "yaml": ("asof.config*", "asof.demo*"),
}
"""Driver → the modules that may import it, also inside a function."""

HEAVY = (
    "adbc_driver_postgresql",
    "click",
    "deltalake",
    "duckdb",
    "matplotlib",
    "numpy",
    "pandas",
    "polars",
    "pyarrow",
    "rich",
    "sqlite3",
    "yaml",
)
"""What `import asof` must not load."""

VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}

FACES = ("asof.store", "asof.config", "asof.backends", "asof.cli", "asof.server", "asof.catalog", "asof.demo")
"""The modules that may ask the system for its clock and environment; all others are given what they need."""

SYSTEM_ALLOWED: dict[str, str] = {}
"""Module below `store` → why it may read the system's clock all the same. None has needed to so far."""

SYSTEM_READS = {
    "os": {"environ", "getenv"},
    "time": {"time", "time_ns"},
    "datetime": {"now", "utcnow", "today"},
    "date": {"today"},
}


@lru_cache
def modules() -> dict[str, Path]:
    """Every module of the package: its dotted name and file."""
    found = {}
    for path in sorted((SOURCE / "asof").rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        # What the demo's template holds is a user's repository, not a part of the package.
        if "template" not in parts:
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@lru_cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every absolute import in the tree, also inside functions: dotted name (with the imported names) and line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            for alias in node.names:
                yield f"{node.module}.{alias.name}", node.lineno


def system_reads(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every use of the system's clock or environment: what is read, and the line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            owner = node.value
            name = owner.id if isinstance(owner, ast.Name) else owner.attr if isinstance(owner, ast.Attribute) else ""
            if node.attr in SYSTEM_READS.get(name, ()):
                yield f"{name}.{node.attr}", node.lineno
        elif isinstance(node, ast.ImportFrom) and node.module in ("os", "time"):
            for alias in node.names:
                if alias.name in SYSTEM_READS[node.module]:
                    yield f"{node.module}.{alias.name}", node.lineno


def product_of(module: str) -> tuple[str, str] | None:
    """The family and product that a module belongs to; None for protocols, packages and all else."""
    parts = module.split(".")
    if len(parts) < 3 or parts[1] not in FAMILIES or parts[2] in SHARED_IN_FAMILY.get(parts[1], ()):
        return None
    # `duckdb`, `duckdb_types` and `duckdb.query` are one product.
    return parts[1], parts[2].lstrip("_").split("_")[0]


def in_family(module: str, name: str) -> tuple[str, str] | None:
    """The product that the import `name` reaches, where it reaches one."""
    return product_of(name) if name in modules() else product_of(name.rpartition(".")[0])


def describe(offences: list[str]) -> str:
    return "\n".join(offences)


def test_arrows_point_down_only() -> None:
    run = subprocess.run(
        [
            sys.executable,
            "-c",
            "from importlinter.cli import lint_imports_command; lint_imports_command()",
            "--no-cache",
        ],
        cwd=ROOT,
        env={"PYTHONPATH": str(SOURCE), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == 0, run.stdout + run.stderr


def test_a_driver_is_imported_only_in_the_file_of_its_product() -> None:
    offences = [
        f"{path.relative_to(ROOT)}:{line}: {name} (allowed in {', '.join(DRIVERS[driver])})"
        for module, path in modules().items()
        for name, line in imports(parsed(path))
        if (driver := name.split(".")[0]) in DRIVERS
        and not any(fnmatch(module, pattern) for pattern in DRIVERS[driver])
    ]

    assert not offences, describe(offences)


def test_flows_and_pure_code_never_import_a_product() -> None:
    offences = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for module, path in modules().items()
        if not module.startswith((*FACES, "asof.testing")) and product_of(module) is None
        for name, line in imports(parsed(path))
        if in_family(module, name) is not None
    ]

    assert not offences, describe(offences)


def test_products_of_one_family_never_import_one_another() -> None:
    offences = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for module, path in modules().items()
        if (mine := product_of(module)) is not None
        for name, line in imports(parsed(path))
        if (other := in_family(module, name)) is not None
        and other[0] == mine[0]
        and other != mine
        # DuckDB computes over Delta tables: the two are one product in two parts.
        and {mine[1], other[1]} != {"duckdb", "delta"}
    ]

    assert not offences, describe(offences)


def test_nothing_below_the_store_reads_the_clock_or_the_environment() -> None:
    offences = [
        f"{path.relative_to(ROOT)}:{line}: {read}"
        for module, path in modules().items()
        if not module.startswith(FACES) and module not in SYSTEM_ALLOWED
        for read, line in system_reads(parsed(path))
    ]

    assert not offences, describe(offences)


def test_flows_and_faces_hold_no_sql() -> None:
    offences = []
    for module, path in modules().items():
        if module.split(".")[1:2] and module.split(".")[1] in ("flows", "server", "store"):
            for node in ast.walk(parsed(path)):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and _STATEMENT.match(node.value):
                    offences.append(f"{module}:{node.lineno}: {node.value[:40]!r} belongs into asof.sql, per dialect")
    assert not offences, describe(offences)


def test_importing_asof_loads_nothing_heavy() -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", f"import asof, sys; print([name for name in {HEAVY!r} if name in sys.modules])"],
        env={"PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()

    assert loaded == "[]"


def test_every_module_opens_with_one_line_on_what_it_is_for() -> None:
    offences = []
    for path in modules().values():
        text = ast.get_docstring(parsed(path))
        if (
            not text
            or not text.split("\n")[0].strip().endswith((".", "`", ":"))
            or text.split("\n")[1:2] not in ([], [""])
        ):
            offences.append(f"{path.relative_to(ROOT)}: {text.splitlines()[:2] if text else 'no docstring'}")

    assert not offences, describe(offences)


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert [name for name in modules() if VAGUE_NAMES & set(name.split(".")[-1].split("_"))] == []


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


def test_the_scan_sees_imports_inside_functions() -> None:
    tree = ast.parse("def read():\n    import duckdb\n    from deltalake import DeltaTable\n    from . import near")

    assert list(imports(tree)) == [("duckdb", 2), ("deltalake.DeltaTable", 3)]


def test_the_scan_tells_products_from_protocols() -> None:
    assert product_of("asof.offline.duckdb_types") == ("offline", "duckdb")
    assert product_of("asof.online.protocol") is None
    assert product_of("asof.online") is None
    assert product_of("asof.flows.historical") is None
