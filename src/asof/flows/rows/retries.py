"""The optimistic retry: a row that another writer changed between read and write is read and written again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from asof.display import counted
from asof.errors import StorageError

ATTEMPTS = 100
"""Attempts before giving up."""

_T = TypeVar("_T")


def write_until_kept(
    todo: Sequence[_T], write: Callable[[Sequence[_T]], Sequence[_T]], *, whose: str, what: str, hint: str
) -> None:
    """Retry a conditional read-modify-write until all rows are written.

    Args:
        todo: identifies the rows, such as their keys.
        write: one attempt for some of them; returns those whose rows another writer changed in between.
        whose, what: owner and kind of the rows, for the error.

    Raises:
        StorageError: other writers changed some rows during each of `ATTEMPTS` attempts.
    """
    for _ in range(ATTEMPTS):
        if not len(todo):
            return
        todo = write(todo)
    if len(todo):
        raise StorageError(
            f"{whose}: other writers changed {counted(len(todo), what)} during each of {ATTEMPTS} attempts to write",
            hint=hint,
        )
