"""Opening Delta tables. The driver has threads that no child of a fork has: it works in the process that began it."""

from __future__ import annotations

import os
from pathlib import Path

from deltalake import DeltaTable

from asof.errors import StorageError

_begun_in: list[int] = []
"""The process that began the driver's threads."""


def open_table(path: Path | str, options: dict[str, str] | None = None) -> DeltaTable:
    """The table in a folder, or at an address in object storage, at its newest version.

    Args:
        options: how object storage is reached.

    Raises:
        StorageError: this process is a fork of one that has used Delta tables.
        deltalake.exceptions.DeltaError, OSError: as the driver raises them.
    """
    if not _begun_in:
        _begun_in.append(os.getpid())
    if _begun_in[0] != os.getpid():
        raise _forked(path)
    try:
        return DeltaTable(path, storage_options=options)
    except BaseException as error:
        # Where the parent used the driver without Asof, it panics, which is no Exception.
        if "orked process" in str(error) and type(error).__name__ == "PanicException":
            raise _forked(path) from error
        raise


def _forked(path: Path | str) -> StorageError:
    return StorageError(
        f"Delta table {path} cannot be opened in process {os.getpid()}: its parent used Delta tables before the fork, "
        "and their driver works in one process only",
        hint='start processes with multiprocessing.get_context("spawn"), or fork before the first use of archives and '
        "Delta sources; online reads work in both",
    )


__all__ = ["open_table"]
