"""The child process that takes messages which may kill it: `python -m asof.opening.message_child`.

It opens what a configuration names, loads the repository's transforms, and decodes the messages as a worker does. It
returns only whether it survived: the worker then decodes them itself.
"""

from __future__ import annotations

import os
import pickle
import resource
import sys
from pathlib import Path
from typing import Any

from asof.decoding import decode_messages
from asof.definitions import LogSource
from asof.errors import AsofError
from asof.flows.stores import Stores, log_source_named, raw_keys
from asof.flows.stream.transforms import transform_of
from asof.log.protocol import Messages
from asof.opening.clock import system_clock, user_and_host
from asof.opening.message_process import MEMORY, READY, SIZE, SURVIVED
from asof.opening.stores import open_stores
from asof.repository import Repository
from asof.timing import Micros


def main() -> None:
    """The child: take messages until there are no more."""
    answers = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    config, name, memory_bytes = pickle.loads(_received())
    stores = open_stores(
        config, clock=system_clock, system_clock=system_clock, who=user_and_host(),
        functions=Repository(config.path).transform_of,
    )  # fmt: skip
    source = log_source_named(stores.registry.load(stores.project), name)
    # What is loaded now does not count as memory of a message.
    _take(stores, name, Messages.empty(), 0)
    transform_of(stores, source)
    _limit_memory(memory_bytes)
    os.write(answers, READY)
    while data := _received():
        messages, now = pickle.loads(data)
        os.write(answers, MEMORY if _take(stores, name, messages, now) else SURVIVED)


def _take(stores: Stores, name: str, messages: Messages, now: Micros) -> bool:
    """Decode messages; whether the memory was not enough. An error is no death: the worker meets it, too."""
    snapshot = stores.registry.load(stores.project)
    source: LogSource = log_source_named(snapshot, name)
    try:
        decoded = decode_messages(
            source, messages, keys=raw_keys(source, snapshot.project.views_of(name)), clock=now,
            schemas=stores.schemas_of(source), transform=transform_of(stores, source),
            bounds=stores.bounds_of(source),
        )  # fmt: skip
    except MemoryError:
        return True
    except AsofError:
        return False
    return any(
        "MemoryError" in dead_letter.reason or "OutOfMemory" in dead_letter.reason
        for dead_letter in decoded.dead_letters
    )


def _limit_memory(more_bytes: int) -> None:
    """Limit the address space to what it is now and so much more, where the system says how much that is."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError):
        return
    limit = pages * resource.getpagesize() + more_bytes
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard == resource.RLIM_INFINITY or limit <= hard:
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def _received() -> bytes:
    """The next job; empty at the end."""
    stream: Any = sys.stdin.buffer
    head = stream.read(SIZE.size)
    return stream.read(SIZE.unpack(head)[0]) if len(head) == SIZE.size else b""


if __name__ == "__main__":
    main()
