"""A repository's Python files: the definitions that they hold, and the functions of on-demand views and transforms."""

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

# Modules are the process's: of two loads at once, one would see the other's.
_LOCK = threading.RLock()
_LOADING = threading.local()


class Repository:
    """A repository's definitions as they were last read, for the functions: no registry keeps those.

    Args:
        root: the folder with the Python files.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._views: dict[str, OnDemandFeatureView] = {}
        self._sources: dict[str, Source] = {}

    def definitions(self) -> Project:
        """The definitions of the files, which are read again; see `collect` for what may be wrong with them."""
        return self.remember(collect(self.root))

    def remember(self, project: Project) -> Project:
        """Keep the functions of these definitions, which may be in no file."""
        self._views |= project.on_demand_views
        self._sources |= project.sources
        return project

    def transform_of(self, source: LogSource) -> MessageTransform | None:
        """The transform of a source's messages with its function; None where the repository has none."""
        own = self._transform(source.name)
        if own is None or (source.transform is not None and own.fingerprint != source.transform.fingerprint):
            # Perhaps applied by someone else since the files were read.
            self.definitions()
            own = self._transform(source.name)
        return own

    def _transform(self, name: str) -> MessageTransform | None:
        source = self._sources.get(name)
        return source.transform if isinstance(source, LogSource) else None

    def with_functions(self, selection: Selection) -> Selection:
        """The selection with the functions of its on-demand views at hand, as they were applied.

        Raises:
            NotFound, RequestError: the repository does not have a function, or has another one.
        """
        if not selection.derivations:
            return selection
        made = [replace(each, view=self._with_function(each.view)) for each in selection.derivations]
        return replace(selection, derivations=tuple(made))

    def _with_function(self, view: OnDemandFeatureView) -> OnDemandFeatureView:
        own = self._views.get(view.name)
        if own is None or own.fingerprint != view.fingerprint:
            # Perhaps applied by someone else since the files were read.
            self.definitions()
            own = self._views.get(view.name)
        if own is None or own.function is None:
            raise NotFound(
                f"on-demand feature view {view.name!r} is applied, but the repository at {self.root} does not define "
                "it any more",
                hint="run `asof apply`, or bring its file back",
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
    """Import the `*.py` files below `root`, in the order of their paths, and answer all that they define.

    Definitions are found in the modules' globals, and in lists, tuples, sets and dicts there. Left out are hidden
    folders, virtual environments, `data/` at the root, tests, and what `.asofignore` or `.feastignore` name. The files
    may import one another from the root, at their top. No module stays behind, so that repositories with equal file
    names load side by side.

    Args:
        ignore: more patterns, as in `.asofignore`: `scratch.py`, `old/`, `*/drafts/*.py`.

    Returns:
        The project; each definition's `where` is relative to the root.

    Raises:
        RepositoryError: there is no such folder, or a file of it cannot be imported.
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
    """`file:line` relative to the root where the file is below it. The one place that shortens them."""
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
        # Without a slash a pattern is about a name at any depth, as in a .gitignore; `**/` may stand for nothing.
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
    """Compiles from the text each time: bytecode is matched by its second, and a quick edit may keep that."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


class _Finder(MetaPathFinder):
    """Finds the repository's modules, for the thread that loads it, before any others."""

    def __init__(self, root: Path, files: Mapping[str, Path]) -> None:
        self.root, self.files = root, files
        self.thread = threading.get_ident()
        # A folder without Python files of ours must not hide an installed package of its name.
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
    """While inside, the repository's modules are imported under their names; afterwards nothing of them is left."""
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
            f"{type(error).__name__}: {error.msg}", hint="mend the file", where=f"{file}:{error.lineno or 1}"
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
            f"{type(error).__name__}: {problem}", hint="mend the file", where=_place(error, path, root)
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
