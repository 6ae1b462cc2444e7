"""A repository's Python files: their definitions, and the functions of on-demand views and transforms."""

from __future__ import annotations

import builtins
import importlib
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import decode_source, resolve_name, spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from asof.definitions import LogSource, OnDemandFeatureView, Source
from asof.definitions.base import Definition
from asof.definitions.identity import KnownFunction, what_differs
from asof.definitions.project import Project, _named_by, project_of
from asof.definitions.transforms import MessageTransform
from asof.errors import AsofError, FunctionChanged, NotFound, RepositoryError
from asof.selection import Selection

IGNORE_FILES = (".asofignore", ".feastignore")
SKIPPED = ("__pycache__", "node_modules", "site-packages")
TEST_FILES = ("test_*.py", "*_test.py", "conftest.py", "setup.py")

# Modules are global to the process: concurrent loads would see each other's.
_LOCK = threading.RLock()
_LOADING = threading.local()


@dataclass(frozen=True)
class FunctionDifference:
    """How the function of a view or source differs from the one that was applied.

    Args:
        meaning: what of it is another one, in words; none where it answers the same.
        packages: which packages are here in other versions, in words.
    """

    title: str
    meaning: tuple[str, ...]
    packages: tuple[str, ...]


class Repository:
    """A repository's definitions as last loaded, for their functions, which no registry stores.

    Args:
        root: the folder with the Python files.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._views: dict[str, OnDemandFeatureView] = {}
        self._sources: dict[str, Source] = {}
        self._given: set[str] = set()

    def definitions(self) -> Project:
        """Load the files again and return their definitions; raises as `collect`."""
        project = collect(self.root)
        self._given -= set(project.on_demand_views)
        return self.remember(project)

    def remember(self, project: Project) -> Project:
        """Keep the functions of these definitions."""
        self._views |= project.on_demand_views
        self._sources |= project.sources
        return project

    def remember_given(self, project: Project) -> Project:
        """Keep the functions of definitions that are objects of this process, whatever file they are from.

        Their constants may be set anew while they are used.
        """
        for code in _functions(project):
            code.settle(self.root)
        self._given |= set(project.on_demand_views)
        return self.remember(project)

    def check_given(self, selection: Selection) -> None:
        """Whether the functions that were given as objects still are as they were applied.

        Raises:
            FunctionChanged: one is not.
        """
        for each in selection.derivations:
            own = self._views.get(each.view.name)
            if own is not None and each.view.name in self._given:
                own.code.look_again()
                self._refuse_changed(own, each.view)

    def differences(self, project: Project) -> list[FunctionDifference]:
        """Where functions here differ from those of an applied project; of files that were read, none is read again."""
        pairs: list[tuple[Definition, KnownFunction, KnownFunction]] = []
        for name, view in project.on_demand_views.items():
            if name in self._views:
                pairs.append((view, self._views[name].code, view.code))
        for name, source in project.sources.items():
            own = self._transform(name)
            if own is not None and isinstance(source, LogSource) and source.transform is not None:
                pairs.append((source, own.code, source.transform.code))
        return [
            FunctionDifference(f"{each.kind} {each.name!r}", tuple(meaning), tuple(packages))
            for each, own_code, applied in pairs
            if (meaning := own_code.differences(applied)) + (packages := own_code.package_differences(applied))
        ]

    def transform_of(self, source: LogSource) -> MessageTransform | None:
        """The transform of a source with its function; None where the repository has none."""
        own = self._transform(source.name)
        if own is None or (source.transform is not None and own.differences(source.transform)):
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
            NotFound, FunctionChanged: the repository lacks a function, or has a different one.
        """
        if not selection.derivations:
            return selection
        made = [replace(each, view=self._with_function(each.view)) for each in selection.derivations]
        return replace(selection, derivations=tuple(made))

    def _with_function(self, view: OnDemandFeatureView) -> OnDemandFeatureView:
        own = self._views.get(view.name)
        if own is None or own.code.differences(view.code):
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
        self._refuse_changed(own, view)
        return view.with_function(own.function)

    def _refuse_changed(self, own: OnDemandFeatureView, applied: OnDemandFeatureView) -> None:
        if differences := own.code.differences(applied.code):
            raise FunctionChanged(
                f"the function of on-demand feature view {applied.name!r} differs from the applied one: "
                f"{what_differs(differences)}",
                hint="run `asof apply`, or update the files here",
                where=own.where,
            )


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
            for code in _functions(found):
                # While their modules can be imported, and before any call changes what they hold.
                code.settle(root)
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
            finder.loaded[name] = sys.modules.pop(name)
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


def _functions(found: Iterable[Definition]) -> Iterator[KnownFunction]:
    """The functions of on-demand views and transforms among these definitions and those that they name."""
    for each in found:
        if isinstance(each, OnDemandFeatureView):
            yield each.code
        elif isinstance(each, LogSource) and each.transform is not None:
            yield each.transform.code
        yield from _functions(_named_by(each))


def _among(values: Iterable[Any]) -> Iterator[Definition]:
    yield from (each for each in values if isinstance(each, Definition))


def _shorten(each: Definition, root: Path) -> None:
    each._set(where=relative(each.where, root))
    for needed in _named_by(each):
        _shorten(needed, root)
