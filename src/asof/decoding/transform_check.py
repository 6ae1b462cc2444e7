"""Checks that a message transform depends on one message at a time, by running it on generated messages."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import pyarrow as pa

from asof.decoding.transforming import Transform, checked_rows
from asof.definitions import LogSource
from asof.definitions.transforms import KEEP
from asof.derive.generated import generated_rows
from asof.display import counted
from asof.errors import DerivationError
from asof.values.fit import fit_values
from asof.values.legible import shown, why

ROWS = 24


class TransformFinding(NamedTuple):
    """A finding of the check; an `error` where the source cannot be applied."""

    severity: Literal["error", "warning"]
    text: str
    hint: str = ""


class _TransformError(Exception):
    """The transform failed on messages: each such message would be a dead letter."""


def check_transform(source: LogSource, transform: Transform, *, seed: int = 0) -> list[TransformFinding]:
    """Run a source's transform on generated messages one by one, together, again and shuffled.

    Messages on which it fails alone are passed over: they would be dead letters, and what real ones look like is not
    known. The same seed makes the same messages.

    Returns:
        Errors: it does not return one row per message, or rows differ. A warning: it failed on all messages, so that
        nothing could be compared.
    """
    try:
        return _compared(source, transform, _generated(source, seed))
    except DerivationError as error:
        return [TransformFinding("error", error.message.removeprefix(f"source {source.name!r}: "), error.hint)]


def _generated(source: LogSource, seed: int) -> pa.Table:
    fields = source.message_fields
    rows = generated_rows([field.dtype for field in fields], ROWS, random.Random(seed))
    return pa.table(
        {field.name: fit_values([row.values[i] for row in rows], field.dtype)[0] for i, field in enumerate(fields)}
    )


def _compared(source: LogSource, transform: Transform, messages: pa.Table) -> list[TransformFinding]:
    assert source.transform is not None
    name, hint = source.transform.name, "let each row depend on its own message only"
    alone: list[tuple[Any, ...]] = []
    good: list[int] = []
    reason = ""
    for place in range(messages.num_rows):
        try:
            alone += _run(source, transform, messages.slice(place, 1))
            good.append(place)
        except _TransformError as failure:
            reason = reason or str(failure)
    if not good:
        text = f"{name} failed on all {counted(messages.num_rows, 'generated message')} ({reason})"
        return [TransformFinding("warning", f"{text}, so it could not be checked", "try it on real messages")]
    messages = messages.take(good)
    order = random.Random(0).sample(range(len(good)), len(good))
    try:
        whole, again = _run(source, transform, messages), _run(source, transform, messages)
        by_place = dict(zip(order, _run(source, transform, messages.take(order)), strict=True))
    except _TransformError as failure:
        text = f"{name} fails on {counted(len(good), 'message')} of which each succeeds alone: {failure}"
        return [TransformFinding("error", text, hint)]
    shuffled = [by_place[place] for place in range(len(good))]
    for other, how in (
        (again, "in a second run"),
        (alone, "for the message alone"),
        (shuffled, "after shuffling them"),
    ):
        if (found := _difference(source, whole, other)) is not None:
            column, one, another = found
            text = f"{name} returns {shown(one)} in column {column!r} among {counted(len(good), 'message')}"
            return [TransformFinding("error", f"{text}, and {shown(another)} {how}", hint)]
    return []


def _run(source: LogSource, transform: Transform, messages: pa.Table) -> list[tuple[Any, ...]]:
    """Whether each message is kept, and its row."""
    try:
        answer = transform(messages)
    except (Exception, SystemExit) as error:  # a user's function may raise anything
        cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
        raise _TransformError(f"{type(cause).__name__}: {why(cause)}") from error
    rows = checked_rows(source, answer, messages.num_rows)
    count = messages.num_rows
    names = [field.name for field in source.schema]
    is_filter = KEEP in rows.column_names and KEEP not in names
    keep = [value is True for value in rows[KEEP].to_pylist()] if is_filter else [True] * count
    columns = [rows[name].to_pylist() for name in names]
    # What a message that is left out would have become is of no interest.
    return [
        (kept, *values) if kept else (kept, *[None] * len(names)) for kept, *values in zip(keep, *columns, strict=True)
    ]


def _difference(
    source: LogSource, left: Sequence[tuple[Any, ...]], right: Sequence[tuple[Any, ...]]
) -> tuple[str, Any, Any] | None:
    names = [KEEP, *(field.name for field in source.schema)]
    for one, other in zip(left, right, strict=True):
        for name, a, b in zip(names, one, other, strict=True):
            # By text, as NaN in lists and floats is equal to itself.
            if a != b and repr(a) != repr(b):
                return name, a, b
    return None


__all__ = ["TransformFinding", "check_transform"]
