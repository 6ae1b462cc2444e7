"""Apply and archive the messages of a log that are not in the archive, outside of its consumer group."""

from __future__ import annotations

from asof.flows.stores import Stores
from asof.flows.stream.ingest import Ingest


def take_in(stores: Stores, ingest: Ingest) -> int:
    """Apply and archive the messages of a source's log that are not in its archive; returns their number.

    Safe while workers run: online rows and the archive ignore messages that they have.
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
