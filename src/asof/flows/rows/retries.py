"""The optimistic retry: rows that others changed between their read and their write are read and written again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from asof.errors import StorageError

ATTEMPTS = 100
"""How often rows may change under us before we give up."""

_T = TypeVar("_T")


def write_until_kept(
    todo: Sequence[_T], write: Callable[[Sequence[_T]], Sequence[_T]], *, whose: str, what: str, hint: str
) -> None:
    """Write rows that are read, changed, and written back if unchanged, until each was kept.

    Args:
        todo: what stands for the rows, such as their keys.
        write: reads, changes and writes the rows of some of them once; returns those whose rows others had changed.
        whose, what: whose rows they are, and what they are called, for the error.

    Raises:
        StorageError: some changed under each of `ATTEMPTS` attempts.
    """
    for _ in range(ATTEMPTS):
        if not len(todo):
            return
        todo = write(todo)
    if len(todo):
        raise StorageError(
            f"{whose}: {len(todo)} {what} changed under each of {ATTEMPTS} attempts to write them", hint=hint
        )
