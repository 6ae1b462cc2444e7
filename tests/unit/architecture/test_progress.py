"""What online tables keep as their progress has its names and types in one module."""

from __future__ import annotations

import ast

from tests.unit.architecture.tree import modules, nodes, parsed

LOOKED_AT = ("asof.flows", "asof.server", "asof.store", "asof.open_store", "asof.cli", "asof.catalog", "asof.demo")


def progress_as_text(tree: ast.AST) -> list[int]:
    """The lines that ask an online store itself for a table's progress, or hand it one."""
    return [
        node.lineno
        for node in nodes(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("progress", "write_progress")
        and ast.unparse(node.func.value).rpartition(".")[2] == "online"
    ]


def test_the_progress_of_online_tables_is_read_and_written_in_one_module() -> None:
    found = {
        module: lines
        for module, path in modules().items()
        if module.startswith(LOOKED_AT) and (lines := progress_as_text(parsed(path)))
    }

    assert set(found) == {"asof.flows.generations.progress"}, f"{found}: give `TableProgress` a field for it"


def test_the_scan_sees_progress_that_is_read_past_its_module() -> None:
    code = "stores.online.progress(table)\nself.stores.online.write_progress(table, {})\nprogress(name, 1, None)"

    assert progress_as_text(ast.parse(code)) == [1, 2]
