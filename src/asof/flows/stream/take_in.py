"""Take in what stands in a source's log and not in its archive, beside the members of its group."""

from __future__ import annotations

from asof.flows.stores import Stores
from asof.flows.stream.ingest import Ingest


def take_in(stores: Stores, ingest: Ingest) -> int:
    """Apply and archive what stands in a source's log and not in its archive, without its group; how many messages.

    Safe beside living owners: an online row drops what it has seen, and the archive drops what it holds.
    """
    topic, log = ingest.source.topic, stores.log_of(ingest.source)
    ingest.flush()
    taken = 0
    for number, (first, after) in sorted(log.bounds(topic).items()):
        position = ingest.begin(topic, number, first=first)
        while position < after:
            messages = log.read(topic, number, position, stop=after)
            if not len(messages):
                break
            ingest.take(topic, messages)
            position = int(messages.offsets[-1]) + 1
            taken += len(messages)
        ingest.passed(topic, {number: max(position, after)})
    ingest.flush()
    return taken
