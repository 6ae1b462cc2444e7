"""Limits of a request, each checked before the work that it bounds; and the error that names a limit."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator

from asof.server.http.errors import HttpError

SLICE_BYTES = 16 << 10
"""Bytes of a body that are searched for values between two turns of the event loop: up to a millisecond."""

CELL_BYTES = 32
"""Least size at which a value of a response counts: about that of its JSON with status and time, and of its object."""


def above(what: str, limit: int, setting: str) -> HttpError:
    """A request that is above a limit.

    Args:
        what: what it has, as in `the request has 11 entity rows`.
        setting: the option of `server:` that sets the limit.
    """
    return HttpError(
        413, f"{what}; the limit is {limit}", hint=f"split it into several requests, or raise server.{setting}"
    )


def refuse_wide(names: Collection[str], what: str, most: int) -> None:
    """Refuse more names than `server.max_features`.

    Args:
        what: what the names stand for, as in `columns`.

    Raises:
        HttpError: there are more.
    """
    if len(names) > most:
        raise above(f"the request has {len(names)} {what}", most, "max_features")


def may_have_more_values(body: bytes, most: int) -> bool:
    """Whether a JSON text may have more values than this; commas and brackets in strings count as well.

    Much cheaper than the exact number. Each value but the first follows a comma, or is the first in a list or object.
    """
    return len(body) > most and body.count(b",") + body.count(b"[") + body.count(b"{") >= most


async def refuse_many_values(body: bytes, most: int) -> None:
    """Refuse a JSON text with more values than `server.max_values`: each of a few bytes becomes an object of 60.

    Lists and objects are values, too; an empty one counts as two. The event loop goes on between slices of the text.

    Raises:
        HttpError: there are more.
    """
    counted = 1
    for text in outside_strings(body):
        counted += text.count(b",") + text.count(b"[") + text.count(b"{")
        if counted > most:
            raise above("the request's body has too many values", most, "max_values")
        await asyncio.sleep(0)


def outside_strings(body: bytes) -> Iterator[bytes]:
    """The parts of a JSON text that are in no string, slice by slice."""
    is_in_string = False
    at = 0
    while at < len(body):
        part = body[at : at + SLICE_BYTES]
        at += len(part)
        if b"\\" in part:
            if (len(part) - len(part.rstrip(b"\\"))) % 2:
                # What is escaped must be in the same slice.
                part += body[at : at + 1]
                at += 1
            part = part.replace(b"\\\\", b"").replace(b'\\"', b"")
        pieces = part.split(b'"')
        yield b"".join(pieces[is_in_string::2])
        is_in_string ^= len(pieces) % 2 == 0


__all__ = ["CELL_BYTES", "above", "may_have_more_values", "outside_strings", "refuse_many_values", "refuse_wide"]
