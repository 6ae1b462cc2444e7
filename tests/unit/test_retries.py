"""The optimistic retry: what lost a race is written again, and only that, up to a limit."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from asof.errors import StorageError
from asof.flows.rows.retries import ATTEMPTS, write_until_kept

WORDS = {"whose": "feature view 'seen'", "what": "row", "hint": "see which other workers feed it"}


@pytest.mark.parametrize(
    ("todo", "lost", "attempts"),
    [
        ([], [], []),
        ([1, 2, 3], [[]], [[1, 2, 3]]),
        ([1, 2, 3], [[3, 1], [1], []], [[1, 2, 3], [3, 1], [1]]),
        (range(2), [(1,), ()], [range(2), (1,)]),
    ],
)
def test_what_lost_a_race_is_written_again_and_nothing_else(
    todo: Sequence[int], lost: list[Sequence[int]], attempts: list[Sequence[int]]
) -> None:
    seen: list[Sequence[int]] = []

    def write(part: Sequence[int]) -> Sequence[int]:
        seen.append(part)
        return lost[len(seen) - 1]

    write_until_kept(todo, write, **WORDS)

    assert seen == attempts


def test_the_last_attempt_may_succeed() -> None:
    left = [["row"]] * (ATTEMPTS - 1) + [[]]

    write_until_kept(["row"], lambda _: left.pop(0), **WORDS)

    assert left == []


def test_rows_that_change_under_every_attempt_are_an_error_that_names_them() -> None:
    with pytest.raises(StorageError) as caught:
        write_until_kept(["a", "b"], lambda _: ["b"], **WORDS)

    assert f"feature view 'seen': other writers changed 1 row during each of {ATTEMPTS} attempts" in str(caught.value)
    assert caught.value.hint == WORDS["hint"]
