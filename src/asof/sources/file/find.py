"""Which files a path means: data alone, none that a writer left behind, and the partition columns in their folders."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatch
from pathlib import Path
from urllib.parse import unquote

from asof.connections.csv_files import ENDINGS as CSV_ENDINGS
from asof.definitions import FileSource
from asof.errors import SourceError
from asof.values.legible import is_unicode

ENDINGS = {"parquet": (".parquet", ".pq"), "csv": CSV_ENDINGS}

_NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"
_PARTITION = re.compile(r"([^=/]+)=(.*)", re.DOTALL)


@dataclass(frozen=True)
class SourceFiles:
    """The files of a source, in the order of their paths.

    Args:
        partitions: column → its value for each file as text, None for null: of folders named `column=value`.
    """

    paths: tuple[str, ...]
    partitions: dict[str, tuple[str | None, ...]]


def find_files(source: FileSource, root: Path, path: str) -> SourceFiles:
    """The data files of a Parquet or CSV source.

    Args:
        root: what relative paths are relative to.
        path: of the source; a file, a folder, or a pattern.

    Raises:
        SourceError: there are none, or they are the files of a table format, of which only its log knows the rows.
    """
    place = root / path
    if place.is_file():
        found, top = [str(place)], place.parent
        if not place.stat().st_size:
            raise refused(source, f"file {place} is empty (0 bytes)", hint="write the file first")
    else:
        top = place if place.is_dir() else _top(root, path)
        given = sorted(_below(place, source.file_format) if place.is_dir() else _matches(source, root, path, top))
        for each in given:
            if not os.path.exists(each):
                raise refused(source, f"{each} is a symbolic link to nothing", hint="remove it, or write what it names")
        found = [each for each in given if os.path.getsize(each)]
        if not found:
            raise _nothing(source, place, path, given)
    if odd := [each for each in found if not is_unicode(each)]:
        raise refused(source, f"the name of file {ascii(odd[0])[1:-1]} is not UTF-8", hint="rename it")
    _refuse_table_formats(source, found, top)
    return SourceFiles(tuple(found), _partitions(found, top))


def is_hidden(name: str) -> bool:
    """Whether a file or folder is a writer's own: begins with a dot, or with `_` and names no partition column."""
    return name.startswith(".") or (name.startswith("_") and "=" not in name)


def _below(place: Path, file_format: str) -> Iterator[str]:
    """The data files in a folder and the folders in it, symbolic links followed."""
    seen: set[str] = set()
    for folder, folders, names in os.walk(place, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not is_hidden(name)]
        for name in names:
            if name.lower().endswith(ENDINGS[file_format]) and not is_hidden(name):
                yield str(Path(folder) / name)


def _top(root: Path, path: str) -> Path:
    """The last folder of a pattern before its first wildcard."""
    parts = Path(path).parts
    plain = next((at for at, part in enumerate(parts) if glob.has_magic(part)), len(parts) - 1)
    return root.joinpath(*parts[:plain])


def _matches(source: FileSource, root: Path, path: str, top: Path) -> Iterator[str]:
    """The data files that a pattern matches, and those in folders that it matches."""
    pattern = path if os.path.isabs(path) else os.path.join(glob.escape(str(root)), path)
    named = [part for part in Path(path).parts if is_hidden(part)]
    any_name = set(Path(path).name) <= {"*"}
    for match in glob.iglob(pattern, recursive=True):
        place = Path(match)
        below = place.relative_to(top).parts if place.is_relative_to(top) else place.parts[-1:]
        # What begins with `_` is left out, unless the pattern itself asks for such a name.
        if any(is_hidden(part) and not any(fnmatch(part, each) for each in named) for part in below):
            continue
        if place.is_file() or not place.exists():
            if not any_name or place.name.lower().endswith(ENDINGS[source.file_format]):
                yield str(place)
        elif "**" not in path and place.is_dir():
            yield from _below(place, source.file_format)


def _nothing(source: FileSource, place: Path, path: str, empty: Sequence[str]) -> SourceError:
    if empty:
        return refused(source, f"all files of {place} are empty (0 bytes), {empty[0]} first", hint="write them first")
    if place.is_dir():
        other = "csv" if source.file_format == "parquet" else "parquet"
        if (place / "_delta_log").is_dir():
            return refused(source, f"folder {place} is a Delta table", hint='give file_format="delta"')
        if any(True for _ in _below(place, other)):
            return refused(source, f"folder {place} has no {source.file_format} files, but {other} files",
                           hint=f'give file_format="{other}"')  # fmt: skip
        return refused(
            source, f"folder {place} has no {source.file_format} files ({', '.join(ENDINGS[source.file_format])})"
        )
    what = f"no file matches {place}" if glob.has_magic(path) else f"there is no file {place}"
    near = (
        get_close_matches(place.name, [each.name for each in place.parent.iterdir()], n=1)
        if place.parent.is_dir()
        else []
    )
    return refused(source, what, hint=f"did you mean {near[0]!r}?" if near else "check path=, or write the file first")


def _refuse_table_formats(source: FileSource, paths: Sequence[str], top: Path) -> None:
    """Refuse files of Delta, Iceberg and Hudi tables: deleted and replaced rows are in them, too."""
    folders: set[Path] = set()
    for path in paths:
        folder = Path(path).parent
        while folder not in folders:
            folders.add(folder)
            # Above the source, partition folders and `data/` are still inside of a table.
            if not (folder != top and folder.is_relative_to(top)) and "=" not in folder.name and folder.name != "data":
                break
            folder = folder.parent
    for folder in sorted(folders):
        if (folder / "_delta_log").is_dir():
            raise refused(
                source, f"{folder} is a Delta table: its files hold deleted rows as well",
                hint=f'give path={str(folder)!r} and file_format="delta"',
            )  # fmt: skip
        kind = (
            "a Hudi table" if (folder / ".hoodie").is_dir()
            else "an Iceberg table" if any((folder / "metadata").glob("*.metadata.json")) else ""
        )  # fmt: skip
        if kind:
            raise refused(
                source, f"{folder} is {kind}: its files hold deleted rows as well",
                hint="export its rows to Parquet files, or keep them in a Delta table",
            )  # fmt: skip


def _partitions(paths: Sequence[str], top: Path) -> dict[str, tuple[str | None, ...]]:
    """The columns that folders between `top` and each file give; none where some file has others."""
    values = [partition_values(Path(path).relative_to(top).parts[:-1]) for path in paths]
    if any(each.keys() != values[0].keys() for each in values):
        return {}
    return {name: tuple(each[name] for each in values) for name in values[0]}


def partition_values(folders: Sequence[str]) -> dict[str, str | None]:
    """The columns that folders named `column=value` give; percent signs are escapes in them."""
    found = [match for folder in folders if (match := _PARTITION.fullmatch(folder))]
    return {
        unquote(match[1]): None if match[2] == _NULL_PARTITION else unquote(match[2], errors="strict")
        for match in found
    }


def refused(source: FileSource, problem: str, *, hint: str = "check path= and file_format=") -> SourceError:
    """The error of a source that cannot be read."""
    return SourceError(f"source {source.name!r}: {problem}", hint=hint, where=source.where)


__all__ = ["SourceFiles", "find_files", "is_hidden", "partition_values", "refused"]
