"""The newest messages of a topic next to the columns that its source declares, as `doctor` compares them."""

from __future__ import annotations

import time

from asof.decoding import SchemaRegistryUnavailable
from asof.decoding.fields import MessageFields, fields_of_messages
from asof.definitions import LogSource, Snapshot
from asof.display import counted
from asof.errors import nearest, some
from asof.flows.stores import Stores
from asof.log.protocol import Log, Messages
from asof.planning.drift import columns_in_use

MOST_MESSAGES = 300
"""How many of a topic's newest messages are decoded, over all partitions."""

MOST_SECONDS = 5.0
MOST_BYTES = 32 * 1024 * 1024
_AT_A_TIME = 50


def messages_text(stores: Stores, snapshot: Snapshot, source: LogSource) -> tuple[bool, str, str]:
    """Whether the newest messages of a source's topic have its columns, a text, and a hint.

    Messages are not isolated here: those that ended a process are dead letters, and bounds hold before they are read.

    Raises:
        UnknownTopic: the topic does not exist.
        LogError: the log cannot be read.
        DefinitionError: the format of its messages cannot be used.
    """
    messages = _newest(stores.log_of(source), source.topic)
    if not len(messages):
        return True, "no messages", ""
    try:
        found = fields_of_messages(source, messages, schemas=stores.schemas_of(source), bounds=stores.bounds_of(source))
    except SchemaRegistryUnavailable as error:
        return False, error.message, error.hint
    newest = f"the last {counted(len(messages), 'message')}".replace("the last 1 message", "the last message")
    if not found.decoded:
        if not found.reasons:
            return True, f"no values in {newest}: tombstones", ""
        reason, _ = found.reasons.most_common(1)[0]
        return False, f"none of {newest} can be decoded: {reason}", f"run `asof dead-letters list {source.name}`"
    return _compared(source, found, snapshot, newest)


def _compared(source: LogSource, found: MessageFields, snapshot: Snapshot, newest: str) -> tuple[bool, str, str]:
    used = columns_in_use(source, snapshot.project.views_of(source.name))
    if source.transform is not None:
        # Which of a message's columns decide those that are read is the transform's affair.
        used = {each.name for each in source.message_fields}
    missing = [name for name in found.absent if name in used]
    others = [name for name in found.absent if name not in used]
    texts, hints = [], []
    if missing:
        texts.append(
            f"none of {newest} has {some(missing)}: what reads {'it' if len(missing) == 1 else 'them'} is null"
        )
        near = [(name, nearest(name, found.undeclared)) for name in missing]
        hints += [f"for {name!r} {hint}" for name, hint in near if hint]
        hints.append("change the messages back, or the source's schema= and run `asof apply`")
    else:
        texts.append(f"all columns that are read are in {newest}")
    if others:
        texts.append(f"{some(others)} in none, and no view reads that")
    if found.undeclared:
        fields = [f"{name!r} (in {count})" for name, count in sorted(found.undeclared.items())]
        more = f" and {len(fields) - 8} more" if len(fields) > 8 else ""
        texts.append(f"not declared: {', '.join(fields[:8])}{more}")
    if found.reasons:
        texts.append(f"{counted(found.reasons.total(), 'message')} cannot be decoded")
    return not missing, "; ".join(texts), "; ".join(hints)


def _newest(log: Log, topic: str) -> Messages:
    """The newest messages of each partition, within bounds of number, bytes and time."""
    until = time.monotonic() + MOST_SECONDS
    held = {number: bounds for number, bounds in log.bounds(topic).items() if bounds[1] > bounds[0]}
    share = max(MOST_MESSAGES // len(held), 1) if held else 0
    found: list[Messages] = []
    count = size = 0
    for number, (first, after) in held.items():
        at = max(first, after - share)
        while at < after and count < MOST_MESSAGES and size < MOST_BYTES and time.monotonic() < until:
            messages = log.read(topic, number, at, stop=after, max_messages=min(_AT_A_TIME, after - at))
            if not len(messages):
                break
            found.append(messages)
            count += len(messages)
            size += sum(len(value) for value in messages.values if value is not None)
            at = int(messages.offsets[-1]) + 1
    return Messages.concat(found)


__all__ = ["messages_text"]
