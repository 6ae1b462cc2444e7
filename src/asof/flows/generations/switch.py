"""Switches between generations of online rows: announce a new one, switch readers, drop old tables."""

from __future__ import annotations

from collections.abc import Sequence

from asof.definitions import FeatureView, Snapshot
from asof.definitions.facts import Facts
from asof.display import counted
from asof.errors import RegistryConflict
from asof.flows.facts import change_facts
from asof.flows.generations.names import next_generation
from asof.flows.stores import Stores, building_generation
from asof.online.protocol import KINDS, OnlineTable


def announce(stores: Stores, view: FeatureView) -> str:
    """Record that a generation is being built, so that workers write to it; returns its name."""
    return announce_all(stores, [view])[view.name]


def announce_all(stores: Stores, views: Sequence[FeatureView]) -> dict[str, str]:
    """Record that a generation of each view is being built, in one commit; returns view → its name."""

    def building(facts: Facts) -> Facts:
        for view in views:
            facts = facts.with_building(view.name, next_generation(facts, view))
        return facts

    what = views[0].name if len(views) == 1 else counted(len(views), "feature view")
    after = change_facts(stores, building, note=f"building {what}")
    return {view.name: str(building_generation(after, view)) for view in views}


def flip(stores: Stores, view: FeatureView, generation: str) -> Snapshot:
    """Switch readers to a generation that `announce` named.

    Raises:
        RegistryConflict: the view changed, or another build of it started, since then.
    """
    note = f"{view.name} is read from generation {generation}"
    return change_facts(stores, lambda facts: switched(facts, view, generation), note=note)


def switched(facts: Facts, view: FeatureView, generation: str) -> Facts:
    """The facts once readers have switched to a generation that was announced.

    Raises:
        RegistryConflict: the view changed, or another build of it started, since then.
    """
    if facts.generations_of(view.name).building != generation:
        raise RegistryConflict(
            f"feature view {view.name!r} changed, or another build of it started, while generation {generation} "
            "was built; readers keep the current generation",
            hint="run it again once the other build has ended",
        )
    return facts.with_current(view.name, generation)


def drop_generations(stores: Stores, before: Snapshot, after: Snapshot) -> None:
    """Drop the online tables that the older snapshot uses and the newer one does not."""
    gone = before.facts.named_generations() - after.facts.named_generations()
    for table in stores.online.tables(stores.project):
        if (table.view, table.generation) in gone:
            stores.online.drop(table)
            gone.remove((table.view, table.generation))
    for view, generation in gone:
        # A store of several shards does not list a table that one of them has lost; the others still have its rows.
        for kind in KINDS:
            stores.online.drop(OnlineTable(stores.project, view, generation, kind))


__all__ = ["announce", "announce_all", "drop_generations", "flip", "switched"]
