"""A column whose name has another case in some files: it is refused, since each half would be null in the others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from asof.definitions import FileSource
from asof.sources.file.find import refused


def refuse_split_columns(
    source: FileSource, columns: Iterable[str], of_files: Mapping[str, Collection[str]], read: Collection[str]
) -> None:
    """Refuse a column that is read under a name that differs by case alone from its name in other files.

    Two such names in one file are two columns, and stay so.

    Args:
        columns: of all files.
        of_files: path → names of its columns.
        read: the columns that are read.

    Raises:
        SourceError: names both columns, each with a file.
    """
    groups: dict[str, list[str]] = defaultdict(list)
    for name in columns:
        groups[name.lower()].append(name)
    for names in groups.values():
        if len(names) > 1 and not set(read).isdisjoint(names) and not _are_together(names, of_files):
            first, second = (f"{name!r} in {_file_of(name, of_files)}" for name in names[:2])
            raise refused(
                source, f"its files name a column in two ways: {first}, {second}",
                hint="write all files with one name; each would be null in the files of the other",
            )  # fmt: skip


def _are_together(names: Sequence[str], of_files: Mapping[str, Collection[str]]) -> bool:
    return any(sum(name in held for name in names) > 1 for held in of_files.values())


def _file_of(name: str, of_files: Mapping[str, Collection[str]]) -> str:
    return repr(next(Path(path).name for path, held in of_files.items() if name in held))


__all__ = ["refuse_split_columns"]
