"""Names for users' columns in relations that an engine makes: such that none is taken for another, or for its own."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

_OF_ENGINES = {
    "rowid", "filename", "file_index", "file_row_number", "file_size",
    "ctid", "oid", "tableoid", "xmin", "xmax", "cmin", "cmax",
}  # fmt: skip
"""Columns that DuckDB's relations, its readers of files, and Postgres' tables have without saying so."""

_PREFIX = "asof_"
"""What plans name their own columns with."""

_LONGEST = 63
"""Bytes of a name that Postgres keeps; it cuts the rest off without an error."""


def safe_names(columns: Iterable[str], *, kept: Collection[str] = ()) -> dict[str, str]:
    """Column → its name in a relation: mostly its own, another where that could be mistaken.

    That is where names differ by case alone, which are one name to DuckDB, and where a name is one of an engine's or of
    a plan's.

    Args:
        kept: columns that are a plan's own.
    """
    columns = list(columns)
    lower = [name.lower() for name in columns]
    names = {}
    for place, (name, folded) in enumerate(zip(columns, lower)):
        is_own = folded in _OF_ENGINES or folded.startswith(_PREFIX)
        is_safe = lower.count(folded) == 1 and not is_own and name.isprintable() and len(name.encode()) <= _LONGEST
        names[name] = name if name in kept or is_safe else f"{_PREFIX}c{place}"
    return names


def are_safe(names: Mapping[str, str]) -> bool:
    """Whether every column keeps its own name."""
    return all(name == own for name, own in names.items())


def alike(columns: Iterable[str]) -> tuple[str, str] | None:
    """Two names that differ by case alone; None where there are none."""
    seen: dict[str, str] = {}
    for name in columns:
        if seen.setdefault(name.lower(), name) != name:
            return seen[name.lower()], name
    return None


def free_name(wanted: str, taken: Collection[str]) -> str:
    """The name, with underscores after it until no other column has it."""
    lower = {name.lower() for name in taken}
    while wanted.lower() in lower:
        wanted += "_"
    return wanted


__all__ = ["alike", "are_safe", "free_name", "safe_names"]
