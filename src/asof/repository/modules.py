"""Imports a repository's modules, without leaving them among those of the process."""

from __future__ import annotations

import builtins
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import decode_source, resolve_name, spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any


class _ModuleLoader(SourceFileLoader):
    """Compiles from source each time: cached bytecode is matched by the file's second, which a quick edit may keep.

    Args:
        loaded: name → module, of all of the repository's files.

    Attributes:
        compiled_text: where functions' source text is taken from, as the file may be edited at any time.
    """

    compiled_text = ""

    def __init__(self, name: str, path: str, loaded: dict[str, ModuleType]) -> None:
        super().__init__(name, path)
        self._loaded = loaded

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        data = self.get_data(path)
        code = self.source_to_code(data, path)
        self.compiled_text = decode_source(data)
        return code

    def exec_module(self, module: ModuleType) -> None:
        self._loaded[module.__name__] = module
        # Functions may import their repository's modules when they run; by then those are not among the process's.
        vars(module)["__builtins__"] = {**vars(builtins), "__import__": partial(_import, self._loaded)}
        super().exec_module(module)


def _import(
    loaded: Mapping[str, ModuleType],
    name: str,
    globals: Mapping[str, object] | None = None,
    locals: Mapping[str, object] | None = None,
    fromlist: Sequence[str] = (),
    level: int = 0,
) -> ModuleType:
    """What an import statement in a repository's file calls: its own modules are those that it was loaded with."""
    package = str((globals or {}).get("__package__") or "")
    full = resolve_name("." * level + name, package) if level and package else name
    module = loaded.get(full)
    if module is None or sys.modules.get(full) is module:
        return builtins.__import__(name, globals, locals, fromlist, level)
    if not fromlist:
        return loaded.get(full.partition(".")[0], module)
    for each in fromlist:
        if f"{full}.{each}" in loaded and not hasattr(module, each):
            setattr(module, each, loaded[f"{full}.{each}"])
    return module


class _Finder(MetaPathFinder):
    """Finds the repository's modules first, only for the thread that loads it."""

    def __init__(self, root: Path, files: Mapping[str, Path]) -> None:
        self.root, self.files = root, files
        self.thread = threading.get_ident()
        self.loaded: dict[str, ModuleType] = {}
        # A folder without definitions must not hide an installed package of the same name.
        self.folders = {name.rpartition(".")[0] for name in files} | {
            name.split(".")[0] for name in files if "." in name
        }

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if threading.get_ident() != self.thread:
            return None
        base = self.root.joinpath(*name.split("."))
        file = self.files.get(name) or next(
            (each for each in (base / "__init__.py", base.with_name(f"{base.name}.py")) if each.is_file()), None
        )
        if file is not None:
            folder = [str(file.parent)] if file.name == "__init__.py" else None
            loader = _ModuleLoader(name, str(file), self.loaded)
            return spec_from_file_location(name, file, loader=loader, submodule_search_locations=folder)
        if base.is_dir() and any(each == name or each.startswith(f"{name}.") for each in self.folders):
            spec = ModuleSpec(name, None, is_package=True)
            spec.submodule_search_locations = [str(base)]
            return spec
        return None


@contextmanager
def importable(root: Path, files: Mapping[str, Path]) -> Iterator[None]:
    """Context in which the repository's modules can be imported; afterwards they are removed again."""
    finder = _Finder(root, files)
    tops = {name.split(".")[0] for name in files} | {
        path.stem if path.suffix == ".py" else path.name for path in root.iterdir() if path.suffix == ".py"
    }
    tops -= set(sys.stdlib_module_names) | {"asof"}
    # A copy, made at one go: other threads import meanwhile.
    before = {name: module for name, module in list(sys.modules.items()) if name.split(".")[0] in tops}
    for name in before:
        del sys.modules[name]
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name in list(sys.modules) if name.split(".")[0] in tops]:
            finder.loaded[name] = sys.modules.pop(name)
        sys.modules.update(before)


__all__ = ["importable"]
