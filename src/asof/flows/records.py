"""Keep records in the registry: bounded in number, and never a reason why the job that they are about fails."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from asof.errors import AsofError
from asof.flows.stores import Stores
from asof.registry.records import RegistryRecord

log = logging.getLogger("asof.records")

RUN, AUDIT = "run", "audit"
"""Kinds of records. The subject of a run is its kind; that of an audit is the view."""

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


__all__ = ["AUDIT", "KEPT", "RUN", "keep_records"]
