"""Keep records in the registry: bounded in number, and never a reason why the job that they are about fails."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from asof.errors import AsofError, RegistryError
from asof.flows.stores import Stores
from asof.registry.records import RegistryRecord

log = logging.getLogger("asof.records")

RUN, AUDIT, RESTORING = "run", "audit", "restoring"
"""Kinds of records. The subject of a run is its kind; that of an audit is the view; of a restore, the backup's ID."""

KEPT: Mapping[str, int] = MappingProxyType(
    {
        # Of each kind of run: a materialization every hour for four days, a nightly job for three months.
        RUN: 100,
        # Of each view: a nightly audit for a month.
        AUDIT: 31,
    }
)
"""How many records of each subject are kept."""


def keep_records(stores: Stores, records: Sequence[RegistryRecord]) -> None:
    """Append records, and drop the oldest of their kinds.

    What cannot be kept is logged as a warning: the job that it is about is done, or has an error of its own to raise.
    """
    try:
        stores.registry.append_records(stores.project, records)
        for kind in {each.kind for each in records}:
            stores.registry.prune_records(stores.project, kind, keep=KEPT[kind])
    except AsofError as error:
        what = ", ".join(sorted({f"{each.kind} of {each.subject!r}" for each in records}))
        text = f"{error.message}; {error.hint}" if error.hint else error.message
        log.warning("no record of this was kept (%s): %s", what, text)


def unfinished_restore(stores: Stores) -> str | None:
    """The place of the backup that was being restored into this project when the process died; None for none."""
    newest = stores.registry.records(stores.project, RESTORING, limit=1)
    if not newest or newest[0].body.get("is_done"):
        return None
    return str(newest[0].body.get("target", ""))


def refuse_unfinished_restore(stores: Stores) -> None:
    """Raise where a restore did not come to its end: a part of the history may be there.

    Raises:
        RegistryError: it did not.
    """
    target = unfinished_restore(stores)
    if target is not None:
        raise RegistryError(
            f"a restore of {target} into project {stores.project!r} has not come to its end; nothing was applied",
            hint=f"run `asof restore {target}` again, or drop what there is: asof teardown --purge",
        )


__all__ = [
    "AUDIT", "KEPT", "RESTORING", "RUN", "keep_records", "refuse_unfinished_restore", "unfinished_restore",
]  # fmt: skip
