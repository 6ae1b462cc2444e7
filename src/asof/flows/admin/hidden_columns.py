"""The columns of samples that are hidden, since they hold personal data."""

from __future__ import annotations

from typing import Any

from asof.definitions import Snapshot
from asof.lineage.pii import hides_column, hides_key, hides_values
from asof.selection import select


def hidden_columns(snapshot: Snapshot, name: str) -> set[str]:
    """The columns of a sample of a view, service or source that hold personal data."""
    project = snapshot.project
    if name in project.sources and name not in project.services and project.view(name) is None:
        source = project.sources[name]
        return {each.name for each in source.schema if hides_column(source, each.name)}
    selection = select(
        snapshot, name, full_feature_names=project.view(name) is None and needs_full_names(snapshot, name)
    )
    origin: dict[str, tuple[Any, str]] = {}
    keys: set[str] = set()
    for read in selection.reads:
        origin |= {each.output: (read.view, each.name) for each in read.features}
        keys |= set(read.keys) if hides_key(read.view) else set()
    for derivation in selection.derivations:
        origin |= {column: (derivation.view, feature) for feature, column in derivation.outputs}
    return keys | {each.name for each in selection.outputs if hides_values(*origin[each.column])}


def needs_full_names(snapshot: Snapshot, name: str) -> bool:
    """Whether features of a service share a name, so that full names are needed."""
    service = snapshot.project.services.get(name)
    if service is None:
        return False
    names = [feature for part in service.features for feature in part.features or part.view.feature_names]
    return len(set(names)) != len(names)


__all__ = ["hidden_columns", "needs_full_names"]
