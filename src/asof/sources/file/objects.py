"""Which objects an address means: as `find` decides of files, from one listing of what is below its plain part."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch, translate

from asof.connections.object_storage import ObjectStorage, StoredObject
from asof.definitions import FileSource
from asof.sources.file.find import ENDINGS, SourceFiles, is_hidden, partition_values, refused

_MAGIC = re.compile(r"[*?\[]")


def find_objects(source: FileSource, storage: ObjectStorage, address: str) -> SourceFiles:
    """The data objects of a Parquet or CSV source.

    Args:
        address: an object, what is below a prefix, or a pattern.

    Raises:
        SourceError: there are none, or they are of a table format, of which only its log knows the rows.
        StorageError: the bucket cannot be read.
    """
    address = address.rstrip("/")
    pattern = address if _MAGIC.search(address) else ""
    single = None if pattern else storage.head(address)
    if single is not None:
        top = address.rpartition("/")[0]
        if not single.size:
            raise refused(source, f"{address} is empty (0 bytes)", hint="write it first")
        found = [single]
    else:
        top = _plain_part(address) if pattern else address
        listed = list(storage.objects_below(top))
        named = [each for each in listed if _is_data(source, each.address[len(top) + 1 :], pattern, top)]
        found = [each for each in named if each.size]
        _refuse_tables(source, listed, top)
        if not found:
            raise _nothing(source, address, listed, named, top)
    if single is not None:
        _refuse_tables(source, _table_marks(storage, top), top)
    storage.files.remember(found)
    paths = tuple(sorted(each.address for each in found))
    return SourceFiles(paths, _partitions(paths, top))


def _plain_part(pattern: str) -> str:
    """The address up to the last slash before the first wildcard."""
    first = _MAGIC.search(pattern)
    assert first is not None
    return pattern[: first.start()].rpartition("/")[0]


def _is_data(source: FileSource, below: str, pattern: str, top: str) -> bool:
    """Whether an object is one of the source's.

    Args:
        below: its name below `top`.
    """
    parts = below.split("/")
    has_ending = below.lower().endswith(ENDINGS[source.file_format])
    if not pattern:
        return has_ending and not any(map(is_hidden, parts))
    wanted = pattern[len(top) + 1 :].split("/")
    # What begins with `_` or a dot is left out, unless the pattern itself asks for such a name.
    named = [each for each in wanted if is_hidden(each)]
    if any(is_hidden(part) and not any(fnmatch(part, each) for each in named) for part in parts):
        return False
    if _matches(parts, wanted):
        return has_ending or not set(wanted[-1]) <= {"*"}
    # A pattern may match a folder: what is below it counts.
    return has_ending and "**" not in pattern and any(_matches(parts[:end], wanted) for end in range(1, len(parts)))


def _matches(parts: Sequence[str], wanted: Sequence[str]) -> bool:
    """Whether a path matches a pattern, part by part; `**` is any number of folders."""
    if not wanted:
        return not parts
    if wanted[0] == "**":
        return any(_matches(parts[at:], wanted[1:]) for at in range(len(parts) + 1))
    return bool(parts) and re.match(translate(wanted[0]), parts[0]) is not None and _matches(parts[1:], wanted[1:])


def _table_marks(storage: ObjectStorage, top: str) -> Iterator[StoredObject]:
    """The first objects that would show that a single object is of a table."""
    folder = top
    while folder.count("/") > 2:
        for mark in ("_delta_log", ".hoodie", "metadata"):
            for each in storage.objects_below(f"{folder}/{mark}"):
                yield each
                break
        name = folder.rpartition("/")[2]
        # Above it, partition folders and `data/` are still inside of a table.
        if "=" not in name and name != "data":
            return
        folder = folder.rpartition("/")[0]


def _refuse_tables(source: FileSource, listed: Sequence[StoredObject] | Iterator[StoredObject], top: str) -> None:
    """Refuse objects of Delta, Iceberg and Hudi tables: deleted and replaced rows are in them, too."""
    for each in listed:
        for mark in ("/_delta_log/", "/.hoodie/", "/metadata/"):
            folder, found, name = each.address.partition(mark)
            if not found or (mark == "/metadata/" and not name.endswith(".metadata.json")):
                continue
            if mark == "/_delta_log/":
                raise refused(
                    source, f"{folder} is a Delta table: its files hold deleted rows as well",
                    hint=f'give path={folder!r} and file_format="delta"',
                )  # fmt: skip
            kind = "a Hudi table" if mark == "/.hoodie/" else "an Iceberg table"
            raise refused(
                source, f"{folder} is {kind}: its files hold deleted rows as well",
                hint="export its rows to Parquet files, or keep them in a Delta table",
            )  # fmt: skip


def _nothing(
    source: FileSource, address: str, listed: Sequence[StoredObject], empty: Sequence[StoredObject], top: str
) -> Exception:
    if empty:
        first = empty[0].address
        return refused(source, f"all objects of {address} are empty (0 bytes), {first} first", hint="write them first")
    other = "csv" if source.file_format == "parquet" else "parquet"
    if any(each.address.lower().endswith(ENDINGS[other]) for each in listed):
        return refused(source, f"{address} has no {source.file_format} files, but {other} files",
                       hint=f'give file_format="{other}"')  # fmt: skip
    if listed:
        return refused(
            source, f"{address} has no {source.file_format} files ({', '.join(ENDINGS[source.file_format])})"
        )
    return refused(source, f"there is nothing at {address}", hint="check path=, or write the files first")


def _partitions(paths: Sequence[str], top: str) -> dict[str, tuple[str | None, ...]]:
    """The columns that folders between `top` and each object give; none where some object has others."""
    values = [partition_values(path[len(top) + 1 :].split("/")[:-1]) for path in paths]
    if any(each.keys() != values[0].keys() for each in values):
        return {}
    return {name: tuple(each[name] for each in values) for name in values[0]}


__all__ = ["find_objects"]
