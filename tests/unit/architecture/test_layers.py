"""Arrows point down only, drivers stay in their product's files, and products know nothing of one another."""

from __future__ import annotations

import ast
import subprocess
import sys
from fnmatch import fnmatch

from tests.unit.architecture.test_system import FACES
from tests.unit.architecture.tree import FAMILIES, ROOT, SOURCE, describe, imports, modules, parsed

SHARED_IN_FAMILY: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(FAMILIES, ("protocol",)),
    "offline": ("protocol", "results", "files", "pruning", "frame_tables", "in_order", "needs", "snapshots"),
    "registry": ("protocol", "records"),
}
"""Modules of a family that belong to no product: its words, which all of them use."""

DRIVERS: dict[str, tuple[str, ...]] = {
    "adbc_driver_postgresql": ("asof.*.postgres*",),
    "click": ("asof.cli*", "asof.demo*"),
    "confluent_kafka": ("asof.*.kafka*",),
    "deltalake": ("asof.offline.delta*", "asof.sources.file*", "asof.connections.delta"),
    "grpc": ("asof.*.spark*",),
    "duckdb": ("asof.offline.duckdb*", "asof.connections.duckdb*"),
    "fastavro": ("asof.*.kafka*", "asof.*.avro*"),
    "fsspec": ("asof.connections.object_storage*",),
    "google": ("asof.*.kafka*", "asof.*.protobuf*"),
    "hiredis": ("asof.*.redis*",),
    "httpx": ("asof.client*",),
    "jinja2": ("asof.catalog*",),
    "jwt": ("asof.server*",),
    "matplotlib": ("asof.profiles.pictures",),
    "obstore": ("asof.connections.object_storage*",),
    "opentelemetry": ("asof.server*", "asof.telemetry*"),
    "orjson": ("asof.server*",),
    "prometheus_client": ("asof.server*", "asof.telemetry*"),
    "psycopg": ("asof.*.postgres*",),
    "psycopg_pool": ("asof.*.postgres*",),
    "pyspark": ("asof.*.spark*",),
    "redis": ("asof.*.redis*",),
    "rich": ("asof.cli*", "asof.demo*"),
    "sqlglot": ("asof.*.postgres*", "asof.*.spark*", "asof.offline.frame_tables"),
    "sqlite3": ("asof.*.sqlite*", "asof.connections.text_table"),
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
        # Both compute over Delta tables, which are a part of either product.
        and (mine[1], other[1]) not in {("duckdb", "delta"), ("spark", "delta")}
    ]

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


def test_the_scan_sees_imports_inside_functions() -> None:
    tree = ast.parse("def read():\n    import duckdb\n    from deltalake import DeltaTable\n    from . import near")

    assert list(imports(tree)) == [("duckdb", 2), ("deltalake.DeltaTable", 3)]


def test_the_scan_tells_products_from_protocols() -> None:
    assert product_of("asof.offline.duckdb_types") == ("offline", "duckdb")
    assert product_of("asof.online.protocol") is None
    assert product_of("asof.online") is None
    assert product_of("asof.flows.offline.read") is None
