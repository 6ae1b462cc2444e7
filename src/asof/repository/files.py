"""A repository's Python files, and the definitions in them."""

from __future__ import annotations

import importlib
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from types import ModuleType
from typing import Any

from asof.definitions import LogSource, OnDemandFeatureView
from asof.definitions.base import Definition
from asof.definitions.identity import KnownFunction
from asof.definitions.project import Project, _named_by, project_of
from asof.errors import AsofError, DefinitionError, RepositoryError
from asof.repository.modules import importable

IGNORE_FILES = (".asofignore", ".feastignore")
SKIPPED = ("__pycache__", "node_modules", "site-packages")
TEST_FILES = ("test_*.py", "*_test.py", "conftest.py", "setup.py")

# Modules are global to the process: concurrent loads would see each other's.
_LOCK = threading.RLock()
_LOADING = threading.local()


def collect(root: Path | str, *, ignore: Sequence[str] = ()) -> Project:
    """Import the `*.py` files below `root`, in the order of their paths, and return all their definitions.

    Definitions are found in the modules' globals, and in lists, tuples, sets and dicts there. Hidden folders, virtual
    environments, `data/` at the root, tests, and files named in `.asofignore` or `.feastignore` are skipped. The files
    may import one another from the root, at their top. Their modules are removed afterwards, so that repositories with
    equal file names can be loaded in one process.

    What a store returned (`get_feature_view`, `list_entities`, …) is no definition of the module that holds it.

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
    with _LOCK, importable(root, files):
        before, _LOADING.root = getattr(_LOADING, "root", None), root
        try:
            found = [each for name in files for each in _definitions(_load(name, files[name], root))]
            for code in functions_of(found):
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
            # Some editors begin a file with a byte order mark.
            lines = (line.strip() for line in path.read_text(encoding="utf-8-sig", errors="replace").splitlines())
            yield from (line for line in lines if line and not line.startswith("#"))


def _is_ignored(path: str, patterns: Sequence[str]) -> bool:
    """Whether the last pattern that matches leaves the path out; one that begins with `!` takes it in again."""
    found = False
    for pattern in patterns:
        is_kept, pattern = pattern.startswith("!"), pattern.removeprefix("!")
        pattern = pattern.strip("/").removeprefix("./").removesuffix("/**").removesuffix("/*")
        # A pattern without a slash matches at any depth, as in a .gitignore; `**/` may match nothing.
        name = path if "/" in pattern else path.rpartition("/")[2]
        if fnmatchcase(name, pattern) or (pattern.startswith("**/") and fnmatchcase(path, pattern[3:])):
            found = not is_kept
    return found


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


def _load(name: str, path: Path, root: Path) -> ModuleType:
    try:
        return importlib.import_module(name)
    except AsofError as error:
        error.where = relative(error.where, root) or _place(error, path, root)
        if not isinstance(error, DefinitionError) and ".asofignore" not in error.hint:
            # A script's own work with a store, which the next step of that error may be no help for.
            error.hint = "; ".join(filter(None, (error.hint, _ignored(path, root))))
        raise
    except SyntaxError as error:
        file = relative(error.filename or str(path), root)
        raise RepositoryError(
            f"{type(error).__name__}: {error.msg}", hint=f"fix the file, or {_ignored(path, root)}",
            where=f"{file}:{error.lineno or 1}",
        ) from error  # fmt: skip
    except SystemExit as error:
        raise RepositoryError(
            f"the file ends the process (SystemExit: {error.code})",
            hint=f"keep what a script does under `if __name__ == '__main__':`, or {_ignored(path, root)}",
            where=_place(error, path, root),
        ) from error
    except ImportError as error:
        missing = error.name or ""
        step = "check the name that is imported"
        if isinstance(error, ModuleNotFoundError):
            step = f"install the package that has {missing!r}, or write the file {missing.replace('.', '/')}.py"
        raise RepositoryError(
            f"{type(error).__name__}: {error}", hint=f"{step}, or {_ignored(path, root)}",
            where=_place(error, path, root),
        ) from error  # fmt: skip
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # as pytest's `skip` is
        problem = " ".join(str(error).split()) or "without a message"
        raise RepositoryError(
            f"{type(error).__name__}: {problem}",
            hint=f"fix the file, or {_ignored(path, root)}",
            where=_place(error, path, root),
        ) from error


def _ignored(path: Path, root: Path) -> str:
    """The next step where the file is a script that defines nothing."""
    return f"if it holds no definitions, add {path.relative_to(root).as_posix()} to .asofignore"


def _place(error: BaseException, path: Path, root: Path) -> str:
    """The innermost line of the repository that the error passed through."""
    frames = traceback.extract_tb(error.__traceback__)
    for frame in reversed(frames):
        if frame.filename.startswith(f"{root}/"):
            return f"{relative(frame.filename, root)}:{frame.lineno}"
    return f"{relative(str(path), root)}:1"


def _definitions(module: ModuleType) -> Iterator[Definition]:
    for value in list(vars(module).values()):
        if isinstance(value, Definition) and not value.is_applied:
            yield value
        elif isinstance(value, list | tuple | set | frozenset):
            yield from _among(value)
        elif isinstance(value, dict):
            yield from _among(value.values())


def functions_of(found: Iterable[Definition]) -> Iterator[KnownFunction]:
    """The functions of on-demand views and transforms among these definitions and those that they name."""
    for each in found:
        if isinstance(each, OnDemandFeatureView):
            yield each.code
        elif isinstance(each, LogSource) and each.transform is not None:
            yield each.transform.code
        yield from functions_of(_named_by(each))


def _among(values: Iterable[Any]) -> Iterator[Definition]:
    yield from (each for each in values if isinstance(each, Definition) and not each.is_applied)


def _shorten(each: Definition, root: Path) -> None:
    each._set(where=relative(each.where, root))
    for needed in _named_by(each):
        _shorten(needed, root)


__all__ = ["IGNORE_FILES", "collect", "functions_of", "python_files", "relative"]
