"""Whether the rows of a log source's batch source are in its archive."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence

from asof.definitions import FeatureView, LogSource, OnDemandFeatureView, Projection, Snapshot, Source
from asof.errors import HistoryNotLoaded
from asof.flows.stores import Stores
from asof.sql.partitions import HISTORY
from asof.timing import iso

_KEPT_S = 1.0
"""How long a look at the registry and the archive counts."""


def is_loaded(stores: Stores, snapshot: Snapshot, source: LogSource) -> bool:
    """Whether a load has ended that left rows in the archive; rows written later may still be missing."""
    known = snapshot.facts.histories.get(source.name)
    if known is not None:
        return known.ended is not None
    # Earlier versions of Asof recorded no loads.
    return stores.offline.offsets(stores.archive_of(source), [HISTORY])[HISTORY] >= 0


def not_loaded(stores: Stores, snapshot: Snapshot, source: LogSource) -> str:
    """What is missing of a source's history, as a sentence; empty if nothing is, as far as the registry tells."""
    batch = source.batch_source
    if batch is None or is_loaded(stores, snapshot, source):
        return ""
    before = f" before {iso(source.stream_from)}" if source.stream_from is not None else ""
    return f"no rows of its batch source {batch.name!r}{before} are loaded, so training and serving lack them"


def logs_with_history(snapshot: Snapshot, name: str) -> list[LogSource]:
    """The logs with a batch source that a view, a service or a source of this name reads."""
    project = snapshot.project
    sources: list[Source] = [project.sources[name]] if name in project.sources else []
    if name in project.services:
        sources = [each for part in project.services[name].features for each in _sources_of(part.view)]
    elif (view := project.view(name)) is not None:
        sources = _sources_of(view)
    logs = {each.name: each for each in sources if isinstance(each, LogSource) and each.batch_source is not None}
    return list(logs.values())


def _sources_of(view: object) -> list[Source]:
    """The source of a view; of an on-demand view those of the views that it is made of, at any depth.

    No names of columns are looked at: what collides in a training set does not in a sample.
    """
    if isinstance(view, FeatureView):
        return [view.source]
    if not isinstance(view, OnDemandFeatureView):
        return []
    return [each for part in view.sources if isinstance(part, Projection) for each in _sources_of(part.view)]


class LoadedHistories:
    """Tells readers of history that is not loaded; thread-safe.

    Args:
        stores, snapshot: return those in use.
    """

    def __init__(self, stores: Callable[[], Stores], snapshot: Callable[[], Snapshot]) -> None:
        self._stores, self._snapshot = stores, snapshot
        self._loaded: set[str] = set()
        self._missing: dict[str, tuple[float, str]] = {}

    def missing(self, sources: Sequence[LogSource]) -> list[str]:
        """What is missing of the sources' history, a text each; looked at again after a while."""
        texts = []
        for source in sources:
            if source.name in self._loaded:
                continue
            now = time.monotonic()
            until, text = self._missing.get(source.name, (now, ""))
            if now >= until:
                text = not_loaded(self._stores(), self._snapshot(), source)
                self._missing[source.name] = now + _KEPT_S, text
                if not text:
                    self._loaded.add(source.name)
            if text:
                texts.append(f"source {source.name!r}: {text} (next: run `asof backfill {source.name}`)")
        return texts

    def warn(self, sources: Sequence[LogSource]) -> None:
        """Warn the caller of the store's method about what is missing."""
        for text in self.missing(sources) if sources else ():
            warnings.warn(text, HistoryNotLoaded, stacklevel=4)


__all__ = ["LoadedHistories", "is_loaded", "logs_with_history", "not_loaded"]
