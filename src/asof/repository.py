"""A repository's Python files: their definitions, and the functions of on-demand views and transforms."""

from __future__ import annotations

import importlib
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fnmatch import fnmatchcase
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from asof.definitions import LogSource, OnDemandFeatureView, Source
from asof.definitions.base import Definition
from asof.definitions.project import Project, _named_by, project_of
from asof.definitions.transforms import MessageTransform
from asof.errors import AsofError, NotFound, RepositoryError, RequestError
from asof.selection import Selection

IGNORE_FILES = (".asofignore", ".feastignore")
SKIPPED = ("__pycache__", "node_modules", "site-packages")
TEST_FILES = ("test_*.py", "*_test.py", "conftest.py", "setup.py")

# Modules are global to the process: concurrent loads would see each other's.
_LOCK = threading.RLock()
_LOADING = threading.local()


class Repository:
    """A repository's definitions as last loaded, for their functions, which no registry stores.

    Args:
        root: the folder with the Python files.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._views: dict[str, OnDemandFeatureView] = {}
        self._sources: dict[str, Source] = {}

    def definitions(self) -> Project:
        """Load the files again and return their definitions; raises as `collect`."""
        return self.remember(collect(self.root))

    def remember(self, project: Project) -> Project:
        """Keep the functions of these definitions, which may be from outside the files."""
        self._views |= project.on_demand_views
        self._sources |= project.sources
        return project

    def transform_of(self, source: LogSource) -> MessageTransform | None:
        """The transform of a source with its function; None where the repository has none."""
        own = self._transform(source.name)
        if own is None or (source.transform is not None and own.fingerprint != source.transform.fingerprint):
            # Another process may have applied it since the files were loaded.
            self.definitions()
            own = self._transform(source.name)
        return own

    def _transform(self, name: str) -> MessageTransform | None:
        source = self._sources.get(name)
        return source.transform if isinstance(source, LogSource) else None

    def with_functions(self, selection: Selection) -> Selection:
        """A copy of the selection with the functions of its on-demand views, which must be the applied ones.

        Raises:
            NotFound, RequestError: the repository lacks a function, or has a different one.
        """
        if not selection.derivations:
            return selection
        made = [replace(each, view=self._with_function(each.view)) for each in selection.derivations]
        return replace(selection, derivations=tuple(made))

    def _with_function(self, view: OnDemandFeatureView) -> OnDemandFeatureView:
        own = self._views.get(view.name)
        if own is None or own.fingerprint != view.fingerprint:
            # Another process may have applied it since the files were loaded.
            self.definitions()
            own = self._views.get(view.name)
        if own is None or own.function is None:
            raise NotFound(
                f"on-demand feature view {view.name!r} is applied, but the repository at {self.root} no longer "
                "defines it",
                hint="run `asof apply`, or restore its file",
                where=view.where,
            )
        if own.fingerprint != view.fingerprint:
            raise RequestError(
                f"the function of on-demand feature view {view.name!r} is not the one that was applied",
                hint="run `asof apply`",
                where=own.where,
            )
        return view.with_function(own.function)


def collect(root: Path | str, *, ignore: Sequence[str] = ()) -> Project:
    """Import the `*.py` files below `root`, in the order of their paths, and return all their definitions.

    Definitions are found in the modules' globals, and in lists, tuples, sets and dicts there. Hidden folders, virtual
    environments, `data/` at the root, tests, and files named in `.asofignore` or `.feastignore` are skipped. The files
    may import one another from the root, at their top. Their modules are removed afterwards, so that repositories with
    equal file names can be loaded in one process.

    Args:
        ignore: more patterns, as in `.asofignore`: `scratch.py`, `old/`, `*/drafts/*.py`.

    Returns:
        The project; each definition's `where` is relative to the root.

    Raises:
        RepositoryError: the folder does not exist, or a file in it cannot be imported.
        DefinitionError: a definition is not well formed.
        DuplicateDefinition: two definitions of one kind share a name.
    """
    root = Path(root).resolve()
    if not root.is_dir():
        raise RepositoryError(f"no folder {root}", hint="name the folder that holds feature_store.yaml")
    if getattr(_LOADING, "root", None) == root:
        raise RepositoryError(
            f"a file of the repository at {root} loads the repository itself while it is being imported",
            hint='put its own work under `if __name__ == "__main__":`, or name the file in .asofignore',
        )
    files = {_module_name(path, root): path for path in python_files(root, ignore=ignore)}
    with _LOCK, _importable(root, files):
        before, _LOADING.root = getattr(_LOADING, "root", None), root
        try:
            found = [each for name in files for each in _definitions(_load(name, files[name], root))]
        finally:
            _LOADING.root = before
    for each in found:
        _shorten(each, root)
    return project_of(found)


def python_files(root: Path, *, ignore: Sequence[str] = ()) -> list[Path]:
    """The files that `collect` imports, in its order."""
    patterns = [*ignore, *_ignore_patterns(root)]
    return sorted(_walk(root, root, patterns))


def relative(where: str, root: Path) -> str:
    """`file:line` relative to the root, if the file is below it."""
    prefix = f"{root}/"
    return where[len(prefix) :] if where.startswith(prefix) else where


def _walk(folder: Path, root: Path, patterns: Sequence[str]) -> Iterator[Path]:
    for path in folder.iterdir():
        shown = path.relative_to(root).as_posix()
        if path.name.startswith(".") or _is_ignored(shown, patterns):
            continue
        if path.is_dir():
            is_environment = (path / "pyvenv.cfg").exists()
            if path.name not in SKIPPED and shown != "data" and not is_environment and not path.is_symlink():
                yield from _walk(path, root, patterns)
        elif path.suffix == ".py" and not any(fnmatchcase(path.name, pattern) for pattern in TEST_FILES):
            yield path


def _ignore_patterns(root: Path) -> Iterator[str]:
    for name in IGNORE_FILES:
        path = root / name
        if path.is_file():
            lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
            yield from (line for line in lines if line and not line.startswith("#"))


def _is_ignored(path: str, patterns: Sequence[str]) -> bool:
    for pattern in patterns:
        pattern = pattern.strip("/").removeprefix("./").removesuffix("/**").removesuffix("/*")
        # A pattern without a slash matches at any depth, as in a .gitignore; `**/` may match nothing.
        name = path if "/" in pattern else path.rpartition("/")[2]
        if fnmatchcase(name, pattern) or (pattern.startswith("**/") and fnmatchcase(path, pattern[3:])):
            return True
    return False


def _module_name(path: Path, root: Path) -> str:
    parts = list(path.relative_to(root).with_suffix("").parts)
    if parts[0] in sys.stdlib_module_names or parts[0] == "asof":
        owner = "Asof's own package" if parts[0] == "asof" else "a module of Python's standard library"
        raise RepositoryError(
            f"its name hides {owner}, which other modules import",
            hint="rename it",
            where=path.relative_to(root).as_posix(),
        )
    if len(parts) > 1 and parts[-1] == "__init__":
        parts.pop()
    return ".".join(part.replace(".", "_") for part in parts)


class _ModuleLoader(SourceFileLoader):
    """Compiles from source each time: cached bytecode is matched by the file's second, which a quick edit may keep."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


class _Finder(MetaPathFinder):
    """Finds the repository's modules first, only for the thread that loads it."""

    def __init__(self, root: Path, files: Mapping[str, Path]) -> None:
        self.root, self.files = root, files
        self.thread = threading.get_ident()
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
            loader = _ModuleLoader(name, str(file))
            return spec_from_file_location(name, file, loader=loader, submodule_search_locations=folder)
        if base.is_dir() and any(each == name or each.startswith(f"{name}.") for each in self.folders):
            spec = ModuleSpec(name, None, is_package=True)
            spec.submodule_search_locations = [str(base)]
            return spec
        return None


@contextmanager
def _importable(root: Path, files: Mapping[str, Path]) -> Iterator[None]:
    """Context in which the repository's modules can be imported; afterwards they are removed again."""
    finder = _Finder(root, files)
    tops = {name.split(".")[0] for name in files} | {
        path.stem if path.suffix == ".py" else path.name for path in root.iterdir() if path.suffix == ".py"
    }
    tops -= set(sys.stdlib_module_names) | {"asof"}
    before = {name: module for name, module in sys.modules.items() if name.split(".")[0] in tops}
    for name in before:
        del sys.modules[name]
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if name.split(".")[0] in tops]:
            del sys.modules[name]
        sys.modules.update(before)


def _load(name: str, path: Path, root: Path) -> ModuleType:
    try:
        return importlib.import_module(name)
    except AsofError as error:
        error.where = relative(error.where, root) or _place(error, path, root)
        raise
    except SyntaxError as error:
        file = relative(error.filename or str(path), root)
        raise RepositoryError(
            f"{type(error).__name__}: {error.msg}", hint="fix the file", where=f"{file}:{error.lineno or 1}"
        ) from error
    except SystemExit as error:
        raise RepositoryError(
            f"the file ends the process (SystemExit: {error.code})",
            hint="keep what a script does under `if __name__ == '__main__':`",
            where=_place(error, path, root),
        ) from error
    except ImportError as error:
        missing = error.name or ""
        raise RepositoryError(
            f"{type(error).__name__}: {error}",
            hint=f"install the package that has {missing!r}, or write the file {missing.replace('.', '/')}.py"
            if isinstance(error, ModuleNotFoundError) else "check the name that is imported",
            where=_place(error, path, root),
        ) from error  # fmt: skip
    except Exception as error:
        problem = " ".join(str(error).split()) or "without a message"
        raise RepositoryError(
            f"{type(error).__name__}: {problem}", hint="fix the file", where=_place(error, path, root)
        ) from error


def _place(error: BaseException, path: Path, root: Path) -> str:
    """The innermost line of the repository that the error passed through."""
    frames = traceback.extract_tb(error.__traceback__)
    for frame in reversed(frames):
        if frame.filename.startswith(f"{root}/"):
            return f"{relative(frame.filename, root)}:{frame.lineno}"
    return f"{relative(str(path), root)}:1"


def _definitions(module: ModuleType) -> Iterator[Definition]:
    for value in list(vars(module).values()):
        if isinstance(value, Definition):
            yield value
        elif isinstance(value, list | tuple | set | frozenset):
            yield from _among(value)
        elif isinstance(value, dict):
            yield from _among(value.values())


def _among(values: Iterable[Any]) -> Iterator[Definition]:
    yield from (each for each in values if isinstance(each, Definition))


def _shorten(each: Definition, root: Path) -> None:
    each._set(where=relative(each.where, root))
    for needed in _named_by(each):
        _shorten(needed, root)
