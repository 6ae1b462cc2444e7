"""The architecture as DESIGN has it: import-linter's contracts, and the rules that they cannot say."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"

FAMILIES = ("registry", "sources", "offline", "online", "log")

SHARED_IN_FAMILY: dict[str, tuple[str, ...]] = dict.fromkeys(FAMILIES, ("protocol",))
"""Modules of a family that belong to no product: its words, which all of them use."""

DRIVERS: dict[str, tuple[str, ...]] = {
    "adbc_driver_postgresql": ("asof.*.postgres*",),
    "click": ("asof.cli*", "asof.demo*"),
    "confluent_kafka": ("asof.*.kafka*",),
    "deltalake": ("asof.offline.delta.archives*", "asof.sources.file*"),
    "duckdb": ("asof.offline.duckdb.engine*", "asof.connections.duckdb*"),
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

FACES = ("asof.store", "asof.config", "asof.opening.products", "asof.cli", "asof.server", "asof.catalog", "asof.demo")
"""The modules that may ask the system for its clock and environment; all others are given what they need."""

SYSTEM_ALLOWED: dict[str, str] = {}
"""Module below `store` → why it may read the system's clock all the same. None has needed to so far."""

SYSTEM_READS = {
    "os": {"environ", "getenv"},
    "time": {"time", "time_ns"},
    "datetime": {"now", "utcnow", "today"},
    "date": {"today"},
}

SQL_FREE = ("asof.flows", "asof.cli", "asof.server", "asof.catalog", "asof.demo")
"""Where neither SQL nor a product's name belongs: flows and faces."""

STATEMENT = re.compile(
    r"""\s*\(*\s*(?:
        (?:SELECT|INSERT|UPDATE|DELETE|CREATE|DROP|ALTER|COPY|DESCRIBE|SET|WITH|MERGE|TRUNCATE|PRAGMA|ATTACH|EXPLAIN
        |VALUES|BEGIN|COMMIT|ROLLBACK|GRANT|VACUUM|ANALYZE|FROM|WHERE|HAVING|JOIN|LIMIT|(?:GROUP|ORDER)\ BY)[\s(]
        |select\s.+\sfrom\s|insert\s+into\s|update\s+\S+\s+set\s|delete\s+from\s
        |(?:create|drop|alter)\s+(?:table|schema|view|index)\s|set\s+\w+\s+=\s|with\s+\w+\s+as\s*\(
    )""",
    re.VERBOSE | re.DOTALL,
)
"""A string that begins as a statement or one of its clauses does. In capitals one word is enough; else it may be prose."""

CLAUSE = re.compile(
    r"\s(?:WHERE|(?:GROUP|ORDER) BY)\s|\bIS (?:NOT )?NULL\b|\bCAST\(|\bcount\(\*\)|\bPRIMARY KEY\b"
    r'|"offset" [<>=]|^\s*(?:AND|OR)\s*$'
)
"""What no string has in it but a piece of a statement, or a hint that spells one out."""

PRODUCT = re.compile(
    r"(?i:duckdb|postgres|psycopg|redis(?!t)|redshift|valkey|kafka|confluent|sqlite|deltalake|pyspark|snowflake"
    r"|bigquery|mysql|dynamodb)"
    r"|(?<![A-Za-z])(?i:adbc|delta|spark)(?![a-z])|(?<=[a-z])(?:Adbc|Delta|Spark)(?![a-z])"
)
"""A product's name, also inside of a longer name (`KafkaSource`, `redis_url`)."""

SQL_LEFT: dict[str, tuple[int, str]] = {
    "asof.demo.postgres": (11, "makes and fills the shop's own database, which is no store of Asof's"),
    "asof.demo.repository": (1, "the query of a source, as a user would define it"),
    "asof.flows.apply.checks": (1, "a hint shows a CAST"),
    "asof.flows.offline.entity_frame": (1, "a hint shows a CAST"),
}
"""Module of a flow or a face → how many of its strings are SQL, and what they do. It must only get shorter."""

PRODUCTS_LEFT: dict[str, tuple[tuple[str, ...], str]] = {
    "asof.cli.commands.demo": (("duckdb", "kafka", "postgres", "redis"), "options say which servers the demo runs on"),
    "asof.demo.postgres": (("postgres", "psycopg"), "makes the shop's own database"),
    "asof.demo.repository": (("duckdb", "postgres"), "writes the configuration that a user would write"),
    "asof.demo.stage": (("duckdb", "kafka", "postgres", "redis"), "starts the shop on these servers"),
    "asof.flows.apply.checks": (("duckdb", "postgres"), "a hint on sources that the offline store does not reach"),
    "asof.flows.rows.archive": (("kafka",), "names the replay topic by the type of the source"),
    "asof.flows.admin.doctor": (("kafka",), "tells a topic that others have to make from one that Asof makes"),
    "asof.flows.stream.shared_logs": (("kafka",), "knows by the type of a source that its own topic is elsewhere"),
    "asof.flows.stream.numbering": (("kafka",), "tells a topic that others write to by the type of its source"),
    "asof.flows.stream.topics": (("kafka",), "tells a topic that others write to by the type of its source"),
}
"""Module of a flow or a face → the products that it names, and why. It must only get shorter."""


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


def imported_modules(module: str, tree: ast.AST, *, known: Mapping[str, object], is_package: bool) -> dict[str, int]:
    """The modules of ours that a module imports, wherever in it the import stands; each with its first line.

    A module inside of another package brings that package's `__init__` with it. One's own packages are there already;
    they count where they are imported by name. Where `import_module` is called, any string that names a module is taken
    for an import of it, and an f-string that it is given for imports of all that begin like it.
    """
    own = [*module.split("."), ""] if is_package else module.split(".")
    found: dict[str, int] = {}

    def add(name: str, line: int) -> None:
        parts = name.split(".")
        for size in range(1, len(parts) + 1):
            above = ".".join(parts[:size])
            if above in known and (size == len(parts) or parts[:size] != own[:size]):
                found.setdefault(above, line)

    nodes = list(ast.walk(tree))
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                add(alias.name, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            base = [*own[: len(own) - node.level]] if node.level else []
            home = ".".join([*base, *(node.module.split(".") if node.module else [])])
            for alias in node.names:
                add(f"{home}.{alias.name}" if f"{home}.{alias.name}" in known else home, node.lineno)
    calls = [node for node in nodes if isinstance(node, ast.Call) and _name_of(node.func) == "import_module"]
    for call in calls:
        if call.args and isinstance(call.args[0], ast.JoinedStr):
            prefix = next(strings(call.args[0]))[0].partition("{}")[0]
            for name in known:
                if prefix and name.startswith(prefix):
                    add(name, call.lineno)
    for text, line in strings(tree) if calls else ():
        if text in known and "." in text:
            add(text, line)
    return found


def _name_of(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def circles(graph: Mapping[str, Mapping[str, int]]) -> list[list[str]]:
    """The groups of modules that import one another, directly or by way of others (Tarjan's components)."""
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    waiting: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        order[module] = lowest[module] = len(order)
        waiting.append(module)
        for other in graph[module]:
            if other not in order:
                visit(other)
                lowest[module] = min(lowest[module], lowest[other])
            elif other in waiting:
                lowest[module] = min(lowest[module], order[other])
        if lowest[module] == order[module]:
            at = waiting.index(module)
            group, waiting[at:] = waiting[at:], []
            if len(group) > 1 or module in graph[module]:
                found.append(sorted(group))

    for module in graph:
        if module not in order:
            visit(module)
    return sorted(found)


def strings(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every string that is no docstring, and its line; what an f-string fills in is `{}`."""
    apart: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            # A string that stands alone is documentation, also behind an attribute.
            apart.add(id(node.value))
        elif isinstance(node, ast.JoinedStr):
            apart.update(map(id, node.values))
            pieces = [each.value if isinstance(each, ast.Constant) else "{}" for each in node.values]
            yield "".join(map(str, pieces)), node.lineno
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in apart:
            yield node.value, node.lineno


def statements(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every string that is SQL, or a piece of it, and its line."""
    for text, line in strings(tree):
        if STATEMENT.match(text) or CLAUSE.search(text):
            yield text, line


def products_named(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every product that a string or an import names, in small letters, and its line."""
    named = [*strings(tree)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            home = (node.module or "") if isinstance(node, ast.ImportFrom) else ""
            named += [(f"{home}.{alias.name}", node.lineno) for alias in node.names]
    for text, line in named:
        for product in PRODUCT.findall(text):
            yield product.lower(), line


def in_sql_free() -> dict[str, Path]:
    return {
        module: path
        for module, path in modules().items()
        if f"{module}.".startswith(tuple(f"{each}." for each in SQL_FREE))
    }


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


def test_modules_import_one_another_in_no_circle() -> None:
    graph = {
        module: imported_modules(module, parsed(path), known=modules(), is_package=path.name == "__init__.py")
        for module, path in modules().items()
    }
    offences = []
    for group in circles(graph):
        offences.append(f"a circle of {', '.join(group)}:")
        offences += [
            f"    {modules()[module].relative_to(ROOT)}:{line}: {other}"
            for module in group
            for other, line in graph[module].items()
            if other in group
        ]

    assert not offences, describe(offences)


def test_flows_and_faces_hold_no_sql_but_what_is_listed() -> None:
    offences = []
    for module, path in in_sql_free().items():
        found = list(statements(parsed(path)))
        allowed, reason = SQL_LEFT.get(module, (0, ""))
        if len(found) > allowed:
            offences.append(
                f"{path.relative_to(ROOT)}: {len(found)} strings are SQL, allowed are {allowed}; state it in asof.sql"
            )
            offences += [f"    line {line}: {' '.join(text.split())[:90]}" for text, line in found]
        elif len(found) < allowed or (module in SQL_LEFT and not (allowed and reason)):
            offences.append(
                f"SQL_LEFT[{module!r}] says {allowed}, but {len(found)} are left: lower it, or drop the line"
            )
    offences += [f"SQL_LEFT[{module!r}]: there is no such module" for module in SQL_LEFT.keys() - in_sql_free().keys()]

    assert not offences, describe(offences)


def test_flows_and_faces_name_no_product_but_what_is_listed() -> None:
    offences = []
    for module, path in in_sql_free().items():
        found = dict(reversed(list(products_named(parsed(path)))))
        allowed, reason = PRODUCTS_LEFT.get(module, ((), ""))
        offences += [
            f"{path.relative_to(ROOT)}:{line}: {product}; leave it to the product's own package"
            for product, line in found.items()
            if product not in allowed
        ]
        offences += [
            f"PRODUCTS_LEFT[{module!r}] has {product!r}, which the module names no more: drop it"
            for product in allowed
            if product not in found or not reason
        ]
    offences += [
        f"PRODUCTS_LEFT[{module!r}]: there is no such module" for module in PRODUCTS_LEFT.keys() - in_sql_free().keys()
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
    assert product_of("asof.flows.offline.read") is None


PACKAGE = dict.fromkeys(["a", "a.x", "a.y", "a.p", "a.p.deep", "a.p.other"])
"""A package as the scan of imports is shown it."""


@pytest.mark.parametrize(
    ("module", "code", "found"),
    [
        ("a.x", "from a.y import z", {"a.y": 1}),
        ("a.x", "from a import y", {"a.y": 1}),
        ("a.x", "import a.y as other", {"a.y": 1}),
        ("a.x", "from . import y", {"a.y": 1}),
        ("a.x", "from .y import z", {"a.y": 1}),
        ("a.p", "from ..y import z", {"a.y": 1}),
        ("a.p", "from .deep import z", {"a.p.deep": 1}),
        ("a.p.deep", "from ..y import z", {"a.y": 1}),
        ("a.p.deep", "from .other import z", {"a.p.other": 1}),
        ("a.x", "def read():\n    from a.y import z", {"a.y": 2}),
        ("a.x", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from a.y import Z", {"a.y": 3}),
        ("a.x", "try:\n    import a.y\nexcept ImportError:\n    pass", {"a.y": 2}),
        # Another package's `__init__` runs as well; one's own counts where it is asked for a name.
        ("a.x", "from a.p.deep import z", {"a.p": 1, "a.p.deep": 1}),
        ("a.x", "from a.p import z", {"a.p": 1}),
        ("a.x", "from a import z", {"a": 1}),
        ("a.x", "import a", {"a": 1}),
        ("a.p.deep", "from a.p import z", {"a.p": 1}),
        ("a.p.deep", "from . import z", {"a.p": 1}),
        ("a.x", "from importlib import import_module\nimport_module('a.y')", {"a.y": 2}),
        ("a.x", "import importlib\nimportlib.import_module(f'a.p.{name}')", {"a.p": 2, "a.p.deep": 2, "a.p.other": 2}),
        ("a.x", "import importlib\nHOMES = {'z': 'a.y'}\nimportlib.import_module(HOMES['z'])", {"a.y": 2}),
        ("a.x", "import sys, numpy\nfrom b import y", {}),
    ],
)  # fmt: skip
def test_the_scan_sees_every_way_to_import(module: str, code: str, found: dict[str, int]) -> None:
    assert imported_modules(module, ast.parse(code), known=PACKAGE, is_package=module == "a.p") == found


def test_a_package_that_takes_from_its_modules_is_seen_when_they_take_from_it() -> None:
    graph = {name: {} for name in PACKAGE} | {
        "a.p": imported_modules("a.p", ast.parse("from .deep import z"), known=PACKAGE, is_package=True),
        "a.p.deep": imported_modules(
            "a.p.deep", ast.parse("def read():\n    from a.p import z"), known=PACKAGE, is_package=False
        ),
    }

    assert circles(graph) == [["a.p", "a.p.deep"]]


@pytest.mark.parametrize(
    ("graph", "found"),
    [
        ({"a": {}, "b": {"a": 1}, "c": {"a": 1, "b": 1}}, []),
        ({"a": {"a": 1}}, [["a"]]),
        ({"a": {"b": 1}, "b": {"a": 1}}, [["a", "b"]]),
        ({"a": {"b": 1}, "b": {"c": 1}, "c": {"d": 1}, "d": {"b": 1}}, [["b", "c", "d"]]),
        (
            {"a": {"b": 1, "d": 1}, "b": {"a": 1}, "c": {"d": 1}, "d": {"c": 1, "e": 1}, "e": {}},
            [["a", "b"], ["c", "d"]],
        ),
        ({"a": {"b": 1, "c": 1}, "b": {"d": 1}, "c": {"d": 1}, "d": {"a": 1}}, [["a", "b", "c", "d"]]),
    ],
)
def test_circles_of_any_length_are_found(graph: dict[str, dict[str, int]], found: list[list[str]]) -> None:
    assert circles(graph) == found


@pytest.mark.parametrize(
    "code",
    [
        "'SELECT 1'",
        "'  (SELECT * FROM t)'",
        "f'SELECT {columns} FROM {table}'",
        "f'{head} WHERE x = 1'",
        "'select a from b'",
        "'WITH a AS (SELECT 1) SELECT 2'",
        "'INSERT INTO t VALUES (1)'",
        "'UPDATE t SET a = 1'",
        "'DELETE FROM t'",
        "'delete from t'",
        "'CREATE TABLE t (a int)'",
        "'create schema t'",
        "'DROP TABLE t'",
        "'COPY t FROM STDIN'",
        "'DESCRIBE t'",
        "'SET TimeZone = 1'",
        "'set timezone = 1'",
        "'ORDER BY a'",
        "' OR '.join(terms)",
        "f'{a} IS NOT NULL'",
        "f'(partition = {a} AND \"offset\" <= {b})'",
        "'SELECT ' + columns",
        "'''\n    SELECT a\n    FROM b'''",
    ],
)  # fmt: skip
def test_the_scan_sees_sql(code: str) -> None:
    assert len(list(statements(ast.parse(f"x = {code}")))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "SELECT", "give a table, a path, or a SELECT", "Select the features from a list", "Update the row", "set it to stop",
        "Create a topic", "copy it there", "delete it", "with its key", "WITHOUT a key", ", AND ALL ARCHIVES", "SETTINGS",
    ],
)  # fmt: skip
def test_the_scan_takes_no_prose_for_sql(text: str) -> None:
    assert list(statements(ast.parse(f"x = {text!r}"))) == []


def test_the_scan_takes_no_documentation_for_sql_or_products() -> None:
    tree = ast.parse(
        "'''SELECT 1 in DuckDB.'''\nx = 1\n'''SELECT 2 in Kafka.'''\ndef f():\n    '''SELECT 3'''\n    # redis\n"
    )

    assert list(statements(tree)) == list(products_named(tree)) == []


@pytest.mark.parametrize(
    ("code", "named"),
    [
        ("import duckdb", ["duckdb"]),
        ("def f():\n    from asof.sql.postgres.dialect import x", ["postgres"]),
        ("from asof.definitions import KafkaSource", ["kafka"]),
        ("from asof.online import redis_keys as keys", ["redis"]),
        ("x = 'sqlite:///a'", ["sqlite"]),
        ("x = f'Kafka at {y}'", ["kafka"]),
        ("x = 'PostgreSQL'", ["postgres"]),
        ("x = 'DeltaFormat', 'toDelta'", ["delta", "delta"]),
        ("import deltalake", ["deltalake"]),
        ("x = 'a Delta table'", ["delta"]),
        ("x = 'spark'", ["spark"]),
        ("import pyspark", ["pyspark"]),
        ("x = 'Spark SQL'", ["spark"]),
        ("from datetime import timedelta", []),
        ("x = 'deltas'", []),
        ("x = 'sparkline', 'sparks', 'sparse', 'redistribute', 'modelled'", []),
    ],
)
def test_the_scan_sees_products(code: str, named: list[str]) -> None:
    assert [product for product, _ in products_named(ast.parse(code))] == named
